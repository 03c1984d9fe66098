//! What SQLite's errors mean. No text of an error is repeated that could hold a value of a record.

use crate::fault::{During, Fault, FaultClass, reason};

/// The extended result code and the text, which is never shown unless it holds names only.
fn of_error(error: &sqlx::Error) -> Option<(i32, String)> {
    let error = error.as_database_error()?;
    Some((error.code()?.parse().ok()?, error.message().to_owned()))
}

/// Whether somebody else holds the file.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    of_error(error).is_some_and(|(code, _)| matches!(code & 0xff, 5 | 6))
}

/// Whether a rollback found that SQLite had already rolled back.
pub(super) fn is_without_transaction(error: &sqlx::Error) -> bool {
    of_error(error).is_some_and(|(code, text)| code == 1 && text.contains("no transaction is active"))
}

/// Whether the file below the connection is in doubt.
pub(super) fn ends_session(error: &sqlx::Error) -> bool {
    match of_error(error) {
        Some((1032, _)) => true,
        Some((code, _)) => matches!(code & 0xff, 10 | 11 | 14 | 26),
        None => true,
    }
}

/// Class and reason of a result code.
fn classify(code: i32, text: &str) -> (FaultClass, &'static str) {
    use FaultClass::{Changed, Halt, Pause, Poison, Retry};
    match (code, code & 0xff) {
        (1299, _) => (Poison, reason::NOT_NULL),
        (2067 | 1555 | 2579, _) => (Poison, "unique"),
        (275, _) => (Poison, "check"),
        (787, _) => (Poison, "foreign-key"),
        (3091, _) => (Poison, "data"),
        (1811, _) => (Poison, "raised"),
        (_, 19) => (Poison, "constraint"),
        (_, 20) => (Poison, "data"),
        (_, 18) => (Poison, "too-large"),
        (_, 5 | 6) => (Retry, "lock-timeout"),
        (_, 9) => (Retry, "interrupted"),
        (_, 17) => (Retry, "schema-changed"),
        // The file was moved or replaced below the connection: a new one sees the new file.
        (1032, _) => (Retry, "connection"),
        (_, 8) => (Halt, reason::READ_ONLY),
        (_, 7) => (Pause, "out-of-memory"),
        (_, 10) => (Pause, "io-error"),
        (_, 13) => (Pause, "disk-full"),
        (_, 11 | 26) => (Halt, "corrupt"),
        (_, 14) => (Halt, "missing-database"),
        (_, 3 | 23) => (Halt, "permission"),
        // Of a sum.
        (1, _) if text == "integer overflow" => (Poison, "out-of-range"),
        (1, _) if text.starts_with("no such table") => (Changed, "missing-table"),
        (1, _) if text.starts_with("no such column") || text.contains("has no column named") => (Changed, "missing-column"),
        (1, _) if text.starts_with("ON CONFLICT clause does not match") => (Changed, "missing-key"),
        (1, _) if text.contains("generated column") => (Changed, "type-changed"),
        _ => (Halt, "unknown"),
    }
}

pub(super) fn fault(error: &sqlx::Error, during: During<'_>) -> Fault {
    let Some((code, text)) = of_error(error) else {
        return match error {
            sqlx::Error::Io(error) => Fault::new(FaultClass::Pause, "io-error", format!("SQLite: {error}")),
            sqlx::Error::WorkerCrashed => Fault::new(FaultClass::Retry, "connection", "SQLite's thread is gone"),
            sqlx::Error::Configuration(_) => Fault::new(FaultClass::Halt, "settings", "the database's settings are not accepted"),
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
                Fault::new(FaultClass::Halt, "unknown", "a row of the catalogue or of the bookkeeping tables could not be read")
            }
            _ => Fault::new(FaultClass::Halt, "unknown", "an error that oncesink does not know"),
        };
    };
    let (class, reason) = classify(code, &text);
    let detail = if names_only(code, reason) { format!("SQLite {code}: {text}") } else { format!("SQLite {code}") };
    let mut fault = Fault::new(class, reason, detail);
    if code == 1299 {
        // `NOT NULL constraint failed: orders.total`
        fault.column = text.rsplit_once('.').map(|(_, column)| column.to_owned());
    }
    fault.mend = mend(reason, during).map(str::to_owned);
    fault.met(during)
}

/// Texts that SQLite makes of names alone.
fn names_only(code: i32, reason: &str) -> bool {
    matches!(code, 1299 | 2067 | 1555 | 275) || matches!(reason, "missing-table" | "missing-column" | "missing-key")
}

fn mend(reason: &str, during: During<'_>) -> Option<&'static str> {
    Some(match (reason, during) {
        ("missing-table" | "missing-column", During::Bookkeeping) => "oncesink migrate makes the bookkeeping tables",
        ("missing-table", _) => "create the table, or correct `table` in the route",
        ("missing-column", _) => "add the column to the table, or leave it out of the route",
        ("missing-key", _) => "give the table a primary key or a unique constraint on the key columns",
        ("missing-database", _) => "create the file, correct database.url, or append ?mode=rwc to it",
        (reason::READ_ONLY | "permission", _) => "let the process write the file and its directory",
        ("disk-full", _) => "free some space on the database's disk",
        ("corrupt", _) => "the file is damaged or no SQLite database: restore it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_class_and_the_unknown_halt() {
        use FaultClass::{Changed, Halt, Pause, Poison, Retry};
        for (code, text, class, reason) in [
            (5, "", Retry, "lock-timeout"),
            (517, "", Retry, "lock-timeout"),
            (6, "", Retry, "lock-timeout"),
            (13, "", Pause, "disk-full"),
            (8, "", Halt, "read-only"),
            (1032, "", Retry, "connection"),
            (1034, "", Pause, "io-error"),
            (778, "", Pause, "io-error"),
            (11, "", Halt, "corrupt"),
            (26, "", Halt, "corrupt"),
            (1299, "", Poison, "not-null"),
            (2067, "", Poison, "unique"),
            (1555, "", Poison, "unique"),
            (275, "", Poison, "check"),
            (787, "", Poison, "foreign-key"),
            (20, "", Poison, "data"),
            (18, "", Poison, "too-large"),
            (1, "no such table: orders", Changed, "missing-table"),
            (1, "table orders has no column named a", Changed, "missing-column"),
            (1, "near \"x\": syntax error", Halt, "unknown"),
        ] {
            assert_eq!(classify(code, text), (class, reason), "{code} {text}");
        }
    }
}
