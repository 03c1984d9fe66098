//! What PostgreSQL's errors mean. No text of an error is repeated that could hold a value of a record.

use std::io;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::array::ArrayError;
use crate::{
    execute::{qualified, quoted_text},
    fault::{During, Fault, FaultClass, reason, untrusted},
};

/// Class and reason of a SQLSTATE.
fn classify(code: &str) -> (FaultClass, &'static str) {
    use FaultClass::{Changed, Halt, Pause, Poison, Retry};
    match code {
        "40P01" => (Retry, "deadlock"),
        "55P03" => (Retry, "lock-timeout"),
        "25006" => (Retry, reason::READ_ONLY),
        "25P04" => (Retry, "transaction-timeout"),
        "25P03" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => (Retry, "connection"),
        "53100" => (Pause, "disk-full"),
        "53300" => (Pause, "too-many-connections"),
        "57014" => (Pause, reason::STATEMENT_TIMEOUT),
        // A key that PostgreSQL holds equal where its bytes are not (citext, numeric): alone each row passes.
        "21000" => (Poison, "same-key-twice"),
        "22003" | "22008" | "22015" => (Poison, "out-of-range"),
        "22001" | "22026" => (Poison, "too-long"),
        "22P02" | "22P03" | "22P05" | "22007" | "22021" => (Poison, "invalid-text"),
        "23502" => (Poison, reason::NOT_NULL),
        "23503" => (Poison, "foreign-key"),
        "23514" | "44000" => (Poison, "check"),
        "23505" => (Poison, "unique"),
        "23P01" => (Poison, "exclusion"),
        // A trigger or function of the user refused the row.
        "P0001" => (Poison, "raised"),
        "42501" => (Halt, "permission"),
        "3D000" => (Halt, "missing-database"),
        "42P01" | "3F000" => (Changed, "missing-table"),
        "42703" => (Changed, "missing-column"),
        "42P10" => (Changed, "missing-key"),
        "0A000" | "42804" | "42704" | "42846" | "42883" | "428C9" => (Changed, "type-changed"),
        "26000" | "42P05" => (Halt, "statement-names"),
        _ => match code.get(..2) {
            Some("40") => (Retry, "serialization"),
            Some("08") => (Retry, "connection"),
            Some("53") => (Pause, "resources"),
            Some("58") => (Pause, "io-error"),
            // An index entry or a nesting that is too large: the row's fault.
            Some("54") => (Poison, "too-large"),
            Some("22") => (Poison, "data"),
            Some("23") => (Poison, "constraint"),
            Some("28") => (Halt, "password"),
            _ => (Halt, "unknown"),
        },
    }
}

/// Whether the connection is gone, or no longer known to be at a point between two statements.
pub(super) fn ends_session(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.try_downcast_ref::<PgDatabaseError>().is_none_or(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
        }
        sqlx::Error::Encode(_) | sqlx::Error::RowNotFound => false,
        _ => true,
    }
}

/// The error for people and for the engine. `role` is named in grants.
pub(super) fn fault(error: &sqlx::Error, during: During<'_>, role: &str) -> Fault {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => of_server(error, during, role),
            None => Fault::new(FaultClass::Halt, "unknown", "an error of another database"),
        },
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => untrusted(&error.to_string()),
        sqlx::Error::Io(error) => Fault::new(FaultClass::Retry, "connection", format!("PostgreSQL cannot be reached: {error}")),
        sqlx::Error::Tls(error) => untrusted(&error.to_string()),
        sqlx::Error::Encode(error) => match error.downcast_ref::<ArrayError>() {
            Some(ArrayError::WrongKind) => Fault::new(FaultClass::Changed, "type-changed", ArrayError::WrongKind.to_string()),
            Some(error) => Fault::new(FaultClass::Poison, "out-of-range", error.to_string()),
            None => Fault::new(FaultClass::Poison, "too-large", "a batch does not fit into one message of PostgreSQL"),
        },
        sqlx::Error::Protocol(_) => Fault::new(FaultClass::Retry, "connection", "PostgreSQL's answer was not understood; the connection is closed"),
        sqlx::Error::Configuration(_) => Fault::new(FaultClass::Halt, "settings", "the connection's settings are not accepted"),
        // The bookkeeping rows are the only ones that are read back.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            Fault::new(FaultClass::Halt, "unknown", "a row of the catalogue or of the bookkeeping tables could not be read")
        }
        _ => Fault::new(FaultClass::Halt, "unknown", "an error that oncesink does not know"),
    }
}

fn of_server(error: &PgDatabaseError, during: During<'_>, role: &str) -> Fault {
    let code = error.code();
    let (class, reason) = classify(code);
    let mut detail = format!("PostgreSQL {code}");
    if let Some(table) = error.table() {
        detail.push_str(&format!(", table {}", error.schema().map_or_else(|| table.to_owned(), |schema| format!("{schema}.{table}"))));
    } else if let During::Write { table } = during {
        detail.push_str(&format!(", table {table}"));
    }
    if let Some(column) = error.column() {
        detail.push_str(&format!(", column {column}"));
    }
    if let Some(constraint) = error.constraint() {
        detail.push_str(&format!(", constraint {constraint}"));
    }
    if names_only(code) && error.r#where().is_none() {
        detail.push_str(&format!(": {}", error.message()));
    }
    let mut fault = Fault::new(class, reason, detail);
    fault.column = error.column().map(str::to_owned);
    fault.mend = mend(reason, during, role);
    fault.met(during)
}

/// Errors whose text names tables, columns, roles and settings, never a value. With a context it may be a user's own text.
fn names_only(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "25" | "28" | "3D" | "3F" | "42" | "53" | "57")) || code == "55P03"
}

fn mend(reason: &str, during: During<'_>, role: &str) -> Option<String> {
    let role = quoted_text(role);
    Some(match (reason, during) {
        ("permission", During::Write { table }) => format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {role};", qualified(table)),
        ("permission", During::Bookkeeping) => "oncesink migrate --grants prints the grants that are needed".to_owned(),
        ("missing-table" | "missing-column" | "type-changed", During::Bookkeeping) => "oncesink migrate makes the bookkeeping tables".to_owned(),
        ("missing-table", During::Write { table }) => format!("create table {table}, or correct `table` in the route"),
        ("missing-column", During::Write { table }) => format!("add the column to {table}, or leave it out of the route"),
        ("missing-key", During::Write { table }) => format!("give {table} a primary key or a unique constraint on the key columns"),
        ("password", _) => "correct database.username and database.password, or pg_hba.conf".to_owned(),
        ("missing-database", _) => "create the database, or correct database.url".to_owned(),
        ("statement-names", _) => {
            "a connection pooler loses named statements: leave database.named_statements out, or set its max_prepared_statements (PgBouncer 1.21 and newer)"
                .to_owned()
        }
        ("too-many-connections", _) => "raise max_connections, or use fewer writers".to_owned(),
        ("disk-full", _) => "free some space on the database's disk".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_class_and_the_unknown_halt() {
        use FaultClass::{Changed, Halt, Pause, Poison, Retry};
        for (code, class, reason) in [
            ("40001", Retry, "serialization"),
            ("40P01", Retry, "deadlock"),
            ("55P03", Retry, "lock-timeout"),
            ("08006", Retry, "connection"),
            ("57P01", Retry, "connection"),
            ("25006", Retry, "read-only"),
            ("53100", Pause, "disk-full"),
            ("53200", Pause, "resources"),
            ("53300", Pause, "too-many-connections"),
            ("57014", Pause, "statement-timeout"),
            ("22003", Poison, "out-of-range"),
            ("22001", Poison, "too-long"),
            ("22P02", Poison, "invalid-text"),
            ("22012", Poison, "data"),
            ("23502", Poison, "not-null"),
            ("23503", Poison, "foreign-key"),
            ("23514", Poison, "check"),
            ("23505", Poison, "unique"),
            ("42501", Halt, "permission"),
            ("28P01", Halt, "password"),
            ("28000", Halt, "password"),
            ("3D000", Halt, "missing-database"),
            ("42P01", Changed, "missing-table"),
            ("42703", Changed, "missing-column"),
            ("0A000", Changed, "type-changed"),
            ("42804", Changed, "type-changed"),
            ("XX000", Halt, "unknown"),
            ("", Halt, "unknown"),
        ] {
            assert_eq!(classify(code), (class, reason), "{code}");
        }
    }
}
