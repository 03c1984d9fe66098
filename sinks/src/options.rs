//! How a database is reached, and what is wrong with it.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

/// `database:` of a file, with its secrets read.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// `postgres://…`, `mysql://…`, `mariadb://…` or `sqlite://…`. It may hold a password, so it is never printed.
    pub url: SecretString,
    /// Overrides the user of the URL.
    pub username: Option<String>,
    /// Overrides the password of the URL.
    pub password: Option<SecretString>,
    /// None: as the URL says (`sslmode=`), else verified in full, but for a server on this machine.
    pub tls: Option<Tls>,
    /// Certificates to trust, instead of the system's.
    pub ca: Option<PathBuf>,
    /// The longest that one statement may run.
    pub statement_timeout: Duration,
    /// The schema of the bookkeeping tables: on PostgreSQL `oncesink` unless named, on MySQL and MariaDB the database of the targets.
    /// SQLite has none.
    pub bookkeeping: Option<String>,
    pub named_statements: NamedStatements,
}

impl DatabaseOptions {
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            username: None,
            password: None,
            tls: None,
            ca: None,
            statement_timeout: Duration::from_secs(30),
            bookkeeping: None,
            named_statements: NamedStatements::Auto,
        }
    }
}

/// Whether statements are prepared by name, and so parsed once a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamedStatements {
    /// But on PostgreSQL not any more once a connection pooler has given a transaction another session of the server.
    #[default]
    Auto,
    /// Behind a pooler that knows such statements.
    Always,
    Never,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    Disable,
    /// Encrypted if the server can; whoever answers.
    Prefer,
    /// Encrypted, but with whoever answers.
    Require,
    VerifyCa,
    VerifyFull,
}

/// Whether the URL itself says how the connection is protected.
pub(crate) fn is_tls_in_url(url: &str) -> bool {
    url.split_once('?').is_some_and(|(_, query)| query.split('&').any(|pair| pair.starts_with("sslmode=") || pair.starts_with("ssl-mode=")))
}

/// Whether a host is this machine.
pub(crate) fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.starts_with('/') || host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The settings name no database that can be opened. Never with the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("database.url has no scheme; write postgres://user@host/database, mysql://user@host/database or sqlite://path/to/file.db")]
    NoScheme,
    #[error("`{0}` is not a database that oncesink knows; database.url takes postgres://, mysql://, mariadb:// and sqlite://")]
    Unknown(String),
    #[error("database.url is not a valid {kind} address: {problem}")]
    Url { kind: &'static str, problem: String },
    #[error("an in-memory SQLite database is gone with its connection, and the checkpoint with it; name a file")]
    InMemory,
    #[error("database.{0} does not apply to SQLite")]
    NotForSqlite(&'static str),
    #[error("database.bookkeeping is not a schema name: 1 to 63 bytes (MySQL: 64 characters), without a NUL")]
    Bookkeeping,
}
