//! What is bound for a value, so that its column's affinity leaves it as it is.
//!
//! | kind | bound as |
//! | --- | --- |
//! | bool, integer | INTEGER |
//! | float | REAL |
//! | text, JSON, anything else | TEXT |
//! | decimal | TEXT, which NUMERIC turns into a number; that it can, decoding has seen to |
//! | bytes | BLOB |
//! | uuid | TEXT, `67e55044-10b1-426f-9247-bb680e5fe0c8` |
//! | date, time | TEXT, `2026-11-21`, `01:02:03.000004` |
//! | timestamp | TEXT, `2026-11-21T01:02:03.000004`, with a zone in UTC and with `Z`: always as long, so that texts sort as times do |

use sqlx::{Sqlite, query::Query, sqlite::SqliteArguments};

use crate::{
    as_text::{date, time, timestamp, uuid},
    fault::{Fault, FaultClass},
    model::{Cell, Kind, TableColumn},
};

pub(super) type SqliteQuery<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Adds a cell as the next parameter.
pub(super) fn bind<'q>(query: SqliteQuery<'q>, cell: Cell<'q>, column: &TableColumn) -> Result<SqliteQuery<'q>, Fault> {
    let bad = |reason, rule: &str| Fault::new(FaultClass::Poison, reason, format!("column {}: {rule}", column.name)).with_column(column.name.as_str());
    Ok(match (cell, &column.kind) {
        (Cell::Absent | Cell::Null, _) => query.bind(None::<i64>),
        (Cell::Bool(value), _) => query.bind(i64::from(value)),
        (Cell::Int(days), Kind::Date) => query.bind(date(days).ok_or_else(|| bad("out-of-range", "a date outside of the years 0 to 9999"))?),
        (Cell::Int(microseconds), Kind::Time { .. }) => query.bind(time(microseconds)),
        (Cell::Int(microseconds), Kind::Timestamp { .. } | Kind::TimestampTz { .. }) => {
            let zone = if matches!(column.kind, Kind::TimestampTz { .. }) { "Z" } else { "" };
            query.bind(timestamp(microseconds, zone).ok_or_else(|| bad("out-of-range", "a time outside of the years 0 to 9999"))?)
        }
        (Cell::Int(value), _) => query.bind(value),
        // SQLite stores NULL in its place.
        (Cell::Float(value), _) if value.is_nan() => return Err(bad("out-of-range", "SQLite has no NaN")),
        (Cell::Float(value), _) => query.bind(value),
        (Cell::Text(value), Kind::Json) if changes_as_number(value) => {
            return Err(bad("not-exact", "a JSON number that SQLite's NUMERIC affinity would change; declare the column TEXT"));
        }
        (Cell::Text(value), _) => query.bind(value),
        (Cell::Bytes(value), _) => query.bind(value),
        (Cell::Uuid(value), _) => query.bind(uuid(value)),
    })
}

/// A column declared JSON has NUMERIC affinity, which makes a bare number of such a text. 15 digits survive that.
fn changes_as_number(json: &str) -> bool {
    let text = json.trim();
    let is_number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    is_number && (text.bytes().filter(u8::is_ascii_digit).count() > 15 || text.contains(['e', 'E']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_json_number_would_change() {
        assert!(changes_as_number("12345678901234567890") && changes_as_number("-1e400"));
        assert!(!changes_as_number("\"12345678901234567890\"") && !changes_as_number("1.50") && !changes_as_number("{}"));
    }
}
