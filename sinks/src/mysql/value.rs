//! What is bound for a value.
//!
//! | kind | bound as |
//! | --- | --- |
//! | bool, integer | BIGINT |
//! | float | DOUBLE |
//! | bytes | BLOB |
//! | date, time, timestamp | text, in UTC: `2026-11-21T01:02:03.000004` |
//! | everything else | text, which the column's type reads in full or refuses |

use sqlx::{MySql, mysql::MySqlArguments, query::Query};

use crate::{
    as_text::{date, time, timestamp, uuid},
    fault::{Fault, FaultClass, reason},
    model::{Cell, Kind, TableColumn},
};

pub(super) type MySqlQuery<'q> = Query<'q, MySql, MySqlArguments>;

/// Adds a cell as the next parameter.
pub(super) fn bind<'q>(query: MySqlQuery<'q>, cell: Cell<'q>, column: &TableColumn) -> Result<MySqlQuery<'q>, Fault> {
    let bad = |rule: &str| Fault::new(FaultClass::Poison, "out-of-range", format!("column {}: {rule}", column.name)).with_column(column.name.as_str());
    let is_unsigned = column.declared.contains("unsigned");
    Ok(match (cell, &column.kind) {
        // Some settings of the server make the present moment of it.
        (Cell::Null, Kind::TimestampTz { .. }) if !column.nullable => {
            let detail = format!("column {} may not be NULL", column.name);
            return Err(Fault::new(FaultClass::Poison, reason::NOT_NULL, detail).with_column(column.name.as_str()));
        }
        // MariaDB takes no number for a type of its own (`uuid`, `inet6`), not even the NULL of one.
        (Cell::Absent | Cell::Null, Kind::Uuid | Kind::Other) => query.bind(None::<&str>),
        (Cell::Absent | Cell::Null, _) => query.bind(None::<i64>),
        (Cell::Bool(value), _) => query.bind(i64::from(value)),
        (Cell::Int(days), Kind::Date) => query.bind(date(days).ok_or_else(|| bad("a date outside of the years 0 to 9999"))?),
        (Cell::Int(microseconds), Kind::Time { .. }) => query.bind(time(microseconds)),
        (Cell::Int(microseconds), Kind::Timestamp { .. } | Kind::TimestampTz { .. }) => {
            query.bind(timestamp(microseconds, "").ok_or_else(|| bad("a time outside of the years 0 to 9999"))?)
        }
        // The server would make 2024 of 24, and of a negative number beside an unsigned one another number.
        (Cell::Int(1..=99), _) if column.declared.starts_with("year") => return Err(bad("a year of two digits")),
        (Cell::Int(value), _) if is_unsigned && value < 0 => return Err(bad("a negative number")),
        (Cell::Int(value), _) => query.bind(value),
        (Cell::Float(value), _) if !value.is_finite() => return Err(bad("the database has no NaN and no infinity")),
        (Cell::Float(value), _) => query.bind(value),
        (Cell::Text(value), Kind::Decimal { .. }) if is_unsigned && value.starts_with('-') => return Err(bad("a negative number")),
        // As the server keeps it; beside the column it would be another text.
        (Cell::Text(value), Kind::Text { .. }) if column.declared.starts_with("char") => query.bind(value.trim_end_matches(' ')),
        (Cell::Text(value), _) => query.bind(value),
        // The server would fill it up with zeros, and not find it again by what was sent.
        (Cell::Bytes(value), Kind::Bytes { max_bytes: Some(bytes) }) if column.declared.starts_with("binary") && value.len() < *bytes as usize => {
            let detail = format!("column {}: fewer bytes than {}", column.name, column.declared);
            return Err(Fault::new(FaultClass::Poison, "not-exact", detail).with_column(column.name.as_str()));
        }
        (Cell::Bytes(value), _) => query.bind(value),
        (Cell::Uuid(value), _) => query.bind(uuid(value)),
    })
}

/// About how many bytes a cell takes in a message.
pub(super) fn size(cell: Cell<'_>) -> usize {
    match cell {
        Cell::Absent | Cell::Null => 0,
        Cell::Text(value) => value.len() + 9,
        Cell::Bytes(value) => value.len() + 9,
        Cell::Uuid(_) => 37,
        Cell::Bool(_) | Cell::Int(_) | Cell::Float(_) => 28,
    }
}
