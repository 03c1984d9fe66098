use std::{path::PathBuf, str::FromStr, time::Duration};

use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use crate::options::{DatabaseOptions, OpenError};

/// How long a writer waits after a commit while others hold partitions in the same file: the file's lock is not fair.
const GAP: Duration = Duration::from_millis(3);

/// How a SQLite file is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    pub(super) connect: SqliteConnectOptions,
    pub(super) path: PathBuf,
    /// How long a transaction waits for the others.
    pub lock_timeout: Duration,
    /// See [`GAP`].
    pub gap: Duration,
}

impl SqliteOptions {
    /// `sqlite:path`, `sqlite://path`; the file must be there, unless the URL says `?mode=rwc`.
    pub fn read(options: &DatabaseOptions) -> Result<Self, OpenError> {
        let given =
            [("username", options.username.is_some()), ("password", options.password.is_some()), ("tls", options.tls.is_some()), ("ca", options.ca.is_some())];
        if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(OpenError::NotForSqlite(key));
        }
        let url = options.url.expose_secret();
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(OpenError::InMemory);
        }
        let connect = SqliteConnectOptions::from_str(url)
            .map_err(|error| OpenError::Url { kind: "SQLite", problem: format!("{error}; write sqlite://path/to/file.db") })?;
        let path = connect.get_filename().to_path_buf();
        if path.as_os_str().is_empty() {
            return Err(OpenError::Url { kind: "SQLite", problem: "it names no file; write sqlite://path/to/file.db".to_owned() });
        }
        // Waiting is done in our own loop, whose steps are short and random: SQLite's own grows to 100 ms and starves.
        let connect = connect.busy_timeout(Duration::ZERO).foreign_keys(true).synchronous(SqliteSynchronous::Full).disable_statement_logging();
        Ok(Self { connect, path, lock_timeout: Duration::from_secs(10), gap: GAP })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file() {
        for url in ["sqlite:shop.db", "sqlite://shop.db", "sqlite://shop.db?mode=rwc"] {
            assert_eq!(SqliteOptions::read(&DatabaseOptions::new(url)).unwrap().path, PathBuf::from("shop.db"), "{url}");
        }
        for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite://x?mode=memory"] {
            assert_eq!(SqliteOptions::read(&DatabaseOptions::new(url)).unwrap_err(), OpenError::InMemory, "{url}");
        }
        let mut options = DatabaseOptions::new("sqlite:shop.db");
        options.username = Some("app".to_owned());
        assert_eq!(SqliteOptions::read(&options).unwrap_err(), OpenError::NotForSqlite("username"));
    }
}
