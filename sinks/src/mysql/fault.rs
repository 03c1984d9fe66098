//! What the errors of MySQL and MariaDB mean. No text of an error is repeated that could hold a value of a record.

use std::io;

use sqlx::mysql::MySqlDatabaseError;

use super::{MySqlOptions, flavour::Flavour, statement::qualified};
use crate::fault::{During, Fault, FaultClass, reason, untrusted};

/// Class and reason of an error by its number, and by its SQLSTATE where that says enough.
fn classify(number: u16, state: &str) -> (FaultClass, &'static str) {
    use FaultClass::{Changed, Halt, Pause, Poison, Retry};
    match number {
        1213 | 1614 => (Retry, "deadlock"),
        1205 | 3572 => (Retry, "lock-timeout"),
        // read_only, super_read_only, a transaction or a server that only reads.
        1290 | 1792 | 1836 => (Retry, reason::READ_ONLY),
        1053 | 1077..=1080 | 1152 | 1154..=1161 | 1184 | 1189 | 1190 | 1927 | 2006 | 2013 | 2055 | 3169 | 4031 => (Retry, "connection"),
        // A cluster's node that does not take part; a member that was thrown out.
        1047 | 3100 | 3101 => (Retry, "not-in-cluster"),
        1317 | 1028 => (Retry, "interrupted"),
        1412 | 1615 => (Retry, "table-changed"),
        1021 | 1114 | 3675 => (Pause, "disk-full"),
        1040 | 1203 | 1226 => (Pause, "too-many-connections"),
        1969 | 3024 => (Pause, reason::STATEMENT_TIMEOUT),
        1037 | 1038 | 1041 | 1135 | 1206 | 1461 | 1637 => (Pause, "resources"),
        1030 | 1180 | 1181 | 1878 => (Pause, "io-error"),
        1264 | 1690 | 1416 => (Poison, "out-of-range"),
        1406 => (Poison, "too-long"),
        1265 | 1292 | 1366 | 1367 | 1411 | 1525 | 3140 | 3141 | 3144 | 3146 | 3854 | 3988 => (Poison, "invalid-text"),
        1048 | 1263 | 1364 | 1423 => (Poison, reason::NOT_NULL),
        1022 | 1062 | 1169 | 1586 => (Poison, "unique"),
        1216 | 1217 | 1451 | 1452 | 1761 | 1762 => (Poison, "foreign-key"),
        // The last two: no partition of the table takes the row.
        3819 | 4025 | 1526 | 1591 => (Poison, "check"),
        1118 | 1153 | 1301 | 1713 => (Poison, "too-large"),
        1365 => (Poison, "data"),
        1044 | 1142 | 1143 | 1227 | 1370 | 1419 => (Halt, reason::PERMISSION),
        1045 | 1251 | 1698 | 1820 | 1862 | 3118 | 3955 | 4151 => (Halt, "password"),
        1049 => (Halt, "missing-database"),
        1665 => (Halt, "binlog-format"),
        1146 | 1051 => (Changed, "missing-table"),
        1054 | 1072 | 1166 => (Changed, "missing-column"),
        1063 | 1110 | 1136 | 1176 | 4078 | 4079 => (Changed, "type-changed"),
        _ => match state.get(..2) {
            Some("08") => (Retry, "connection"),
            Some("40") => (Retry, "serialization"),
            Some("22") => (Poison, "data"),
            Some("23") => (Poison, "constraint"),
            Some("28") => (Halt, "password"),
            // A trigger or procedure of the user refused the row.
            Some("45") => (Poison, "raised"),
            _ => (Halt, "unknown"),
        },
    }
}

/// Whether the connection is gone, or no longer known to be at a point between two statements.
pub(super) fn ends_session(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.try_downcast_ref::<MySqlDatabaseError>().is_none_or(|error| {
            let (class, reason) = classify(error.number(), error.code().unwrap_or_default());
            // After a message that was too large the server closes the connection.
            (class == FaultClass::Retry && reason == "connection") || error.number() == 1153
        }),
        sqlx::Error::Encode(_) | sqlx::Error::RowNotFound => false,
        _ => true,
    }
}

/// Whether an error at COMMIT says that nothing took effect: all that a cluster or a deadlock refuses. An error in the middle of it does not.
pub(super) fn commit_is_refused(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.try_downcast_ref::<MySqlDatabaseError>().is_some_and(|error| matches!(error.number(), 1213 | 1205 | 1290 | 1792 | 1836 | 3101))
}

/// The unique key that a row met.
pub(super) fn met_key(error: &sqlx::Error) -> Option<String> {
    let sqlx::Error::Database(error) = error else { return None };
    let error = error.try_downcast_ref::<MySqlDatabaseError>()?;
    if error.number() == 1062 { constraint(1062, error.message()) } else { None }
}

/// The error for people and for the engine.
pub(super) fn fault(error: &sqlx::Error, during: During<'_>, flavour: Flavour, options: &MySqlOptions) -> Fault {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
            Some(error) => of_server(error, during, flavour, options),
            None => Fault::new(FaultClass::Halt, "unknown", "an error of another database"),
        },
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => untrusted(&error.to_string()),
        sqlx::Error::Io(error) => Fault::new(FaultClass::Retry, "connection", format!("{flavour} cannot be reached: {error}")),
        sqlx::Error::Tls(error) => untrusted(&error.to_string()),
        sqlx::Error::Encode(_) => Fault::new(FaultClass::Poison, "too-large", format!("a batch does not fit into one message of {flavour}")),
        sqlx::Error::Protocol(_) => Fault::new(FaultClass::Retry, "connection", format!("{flavour}'s answer was not understood; the connection is closed")),
        sqlx::Error::Configuration(error) if error.to_string().contains("RSA") => Fault::new(
            FaultClass::Halt,
            "password-needs-tls",
            format!("{flavour} wants the password of {} over a protected connection (caching_sha2_password)", options.connect.get_username()),
        )
        .with_mend("set database.tls to verify-full (with database.ca) or require, or give the user mysql_native_password"),
        sqlx::Error::Configuration(_) => Fault::new(FaultClass::Halt, "settings", "the connection's settings are not accepted"),
        // The bookkeeping rows are the only ones that are read back.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            Fault::new(FaultClass::Halt, "unknown", format!("a row of the catalogue or of the bookkeeping tables could not be read: {error}"))
        }
        _ => Fault::new(FaultClass::Halt, "unknown", "an error that oncesink does not know"),
    }
}

fn of_server(error: &MySqlDatabaseError, during: During<'_>, flavour: Flavour, options: &MySqlOptions) -> Fault {
    let (number, message) = (error.number(), error.message());
    let (class, reason) = classify(number, error.code().unwrap_or_default());
    let mut detail = format!("{flavour} {number}");
    if let During::Write { table } = during {
        detail.push_str(&format!(", table {table}"));
    }
    let column = column(number, message);
    if let Some(column) = &column {
        detail.push_str(&format!(", column {column}"));
    }
    if let Some(constraint) = constraint(number, message) {
        detail.push_str(&format!(", constraint {constraint}"));
    }
    if names_only(number) {
        detail.push_str(&format!(": {message}"));
    }
    let mut fault = Fault::new(class, reason, detail);
    fault.column = column;
    fault.mend = mend(reason, during, options);
    fault.met(during)
}

/// Errors whose text names tables, columns, users and settings, never a value.
fn names_only(number: u16) -> bool {
    matches!(number, 1044 | 1045 | 1049 | 1051 | 1054 | 1142 | 1143 | 1146 | 1205 | 1213 | 1227 | 1290 | 1665 | 1698 | 1792 | 1836 | 1969 | 3024)
        || matches!(number, 1021 | 1040 | 1053 | 1114 | 1203 | 1226)
}

/// The column that a text names at its end, behind whatever values it repeats: `… for column 'total' at row 3`.
fn column(number: u16, message: &str) -> Option<String> {
    let behind = match number {
        1048 => message.strip_prefix("Column ")?,
        1364 => message.strip_prefix("Field ")?,
        1263 | 1264 | 1265 | 1292 | 1366 | 1406 | 3140 => &message[message.rfind("column ")? + "column ".len()..],
        _ => return None,
    };
    last_name(behind)
}

/// The key or constraint that a text names: `Duplicate entry '…' for key 'orders.PRIMARY'`.
fn constraint(number: u16, message: &str) -> Option<String> {
    let word = match number {
        1062 | 1586 => "for key ",
        1216 | 1217 | 1451 | 1452 => "CONSTRAINT ",
        3819 => "Check constraint ",
        4025 => "CONSTRAINT ",
        _ => return None,
    };
    last_name(&message[message.rfind(word)? + word.len()..])
}

/// The last part of a quoted name that may be qualified: `total` of `` `shop`.`orders`.`total` `` and of `'total'`.
fn last_name(text: &str) -> Option<String> {
    let whole = text.split([' ', ',']).next()?;
    let name = whole.rsplit('.').next()?.trim_matches(['\'', '`', '"']);
    (!name.is_empty()).then(|| name.to_owned())
}

fn mend(reason: &str, during: During<'_>, options: &MySqlOptions) -> Option<String> {
    let user = options.connect.get_username();
    Some(match (reason, during) {
        ("permission", During::Write { table }) => format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO '{user}'@'%';", qualified(table)),
        ("permission", During::Bookkeeping) => "oncesink migrate --grants prints the grants that are needed".to_owned(),
        ("missing-table" | "missing-column" | "type-changed", During::Bookkeeping) => "oncesink migrate makes the bookkeeping tables".to_owned(),
        ("missing-table", During::Write { table }) => format!("create table {table}, or correct `table` in the route"),
        ("missing-column", During::Write { table }) => format!("add the column to {table}, or leave it out of the route"),
        ("password", _) => "correct database.username and database.password, or the user's host on the server".to_owned(),
        ("missing-database", _) => "create the database, or correct database.url".to_owned(),
        ("too-many-connections", _) => "raise max_connections, or use fewer writers".to_owned(),
        ("disk-full", _) => "free some space on the database's disk".to_owned(),
        ("binlog-format", _) => "set binlog_format = ROW on the server".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_class_and_the_unknown_halt() {
        use FaultClass::{Changed, Halt, Pause, Poison, Retry};
        for (number, state, class, reason) in [
            (1213, "40001", Retry, "deadlock"),
            (1205, "HY000", Retry, "lock-timeout"),
            (1290, "HY000", Retry, "read-only"),
            (1053, "08S01", Retry, "connection"),
            (4031, "HY000", Retry, "connection"),
            (1927, "70100", Retry, "connection"),
            (1114, "HY000", Pause, "disk-full"),
            (1040, "08004", Pause, "too-many-connections"),
            (1969, "70100", Pause, "statement-timeout"),
            (1264, "22003", Poison, "out-of-range"),
            (1406, "22001", Poison, "too-long"),
            (1366, "HY000", Poison, "invalid-text"),
            (1048, "23000", Poison, "not-null"),
            (1364, "HY000", Poison, "not-null"),
            (1062, "23000", Poison, "unique"),
            (1452, "23000", Poison, "foreign-key"),
            (3819, "HY000", Poison, "check"),
            (4025, "23000", Poison, "check"),
            (1644, "45000", Poison, "raised"),
            (1142, "42000", Halt, "permission"),
            (1045, "28000", Halt, "password"),
            (1049, "42000", Halt, "missing-database"),
            (1146, "42S02", Changed, "missing-table"),
            (1054, "42S22", Changed, "missing-column"),
            (1064, "42000", Halt, "unknown"),
        ] {
            assert_eq!(classify(number, state), (class, reason), "{number}");
        }
    }

    #[test]
    fn names_are_found_behind_the_values_of_a_text() {
        assert_eq!(column(1366, "Incorrect integer value: 'for column 'x'' for column `shop`.`orders`.`total` at row 3").as_deref(), Some("total"));
        assert_eq!(column(1406, "Data too long for column 'note' at row 1").as_deref(), Some("note"));
        assert_eq!(column(1364, "Field 'total' doesn't have a default value").as_deref(), Some("total"));
        assert_eq!(column(1048, "Column 'total' cannot be null").as_deref(), Some("total"));
        assert_eq!(constraint(1062, "Duplicate entry 'for key 'a'' for key 'orders.PRIMARY'").as_deref(), Some("PRIMARY"));
        assert_eq!(constraint(4025, "CONSTRAINT `positive` failed for `shop`.`orders`").as_deref(), Some("positive"));
    }
}
