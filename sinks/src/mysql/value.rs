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
    fault::{Fault, FaultClass},
    model::{Cell, Kind, TableColumn},
};

pub(super) type MySqlQuery<'q> = Query<'q, MySql, MySqlArguments>;

/// Adds a cell as the next parameter.
pub(super) fn bind<'q>(query: MySqlQuery<'q>, cell: Cell<'q>, column: &TableColumn) -> Result<MySqlQuery<'q>, Fault> {
    let bad = |rule: &str| Fault::new(FaultClass::Poison, "out-of-range", format!("column {}: {rule}", column.name)).with_column(column.name.as_str());
    Ok(match (cell, &column.kind) {
        (Cell::Absent | Cell::Null, _) => query.bind(None::<i64>),
        (Cell::Bool(value), _) => query.bind(i64::from(value)),
        (Cell::Int(days), Kind::Date) => query.bind(date(days).ok_or_else(|| bad("a date outside of the years 0 to 9999"))?),
        (Cell::Int(microseconds), Kind::Time { .. }) => query.bind(time(microseconds)),
        (Cell::Int(microseconds), Kind::Timestamp { .. } | Kind::TimestampTz { .. }) => {
            query.bind(timestamp(microseconds, "").ok_or_else(|| bad("a time outside of the years 0 to 9999"))?)
        }
        (Cell::Int(value), _) => query.bind(value),
        (Cell::Float(value), _) if !value.is_finite() => return Err(bad("the database has no NaN and no infinity")),
        (Cell::Float(value), _) => query.bind(value),
        (Cell::Text(value), _) => query.bind(value),
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
