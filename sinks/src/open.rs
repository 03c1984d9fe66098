//! From the settings of a database to the database. No connection is made here.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use crate::{postgres, session::Database, sqlite};

/// `database:` of a file, with its secrets read.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    /// `postgres://…` or `sqlite://…`. It may hold a password, so it is never printed.
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
    /// The schema of the bookkeeping tables. SQLite has none.
    pub bookkeeping: String,
    /// `false` behind a connection pooler that knows no prepared statements: every statement is then parsed again.
    pub named_statements: bool,
    /// How long a SQLite writer waits after a commit while others hold partitions in the same file, so that they get their turn.
    pub gap: Duration,
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
            bookkeeping: "oncesink".to_owned(),
            named_statements: true,
            gap: sqlite::GAP,
        }
    }
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    Disable,
    /// Encrypted, but with whoever answers.
    Require,
    VerifyCa,
    VerifyFull,
}

impl Tls {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tls {
    type Err = OpenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Disable, Self::Require, Self::VerifyCa, Self::VerifyFull]
            .into_iter()
            .find(|tls| tls.as_str() == text)
            .ok_or_else(|| OpenError::Tls(text.to_owned()))
    }
}

/// The settings name no database that can be opened. Never with the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("database.url has no scheme; write postgres://user@host/database or sqlite://path/to/file.db")]
    NoScheme,
    #[error("{0} is not supported yet (it comes later); database.url takes postgres:// and sqlite://")]
    Later(String),
    #[error("`{0}` is not a database that oncesink knows; database.url takes postgres:// and sqlite://")]
    Unknown(String),
    #[error("database.url is not a valid {kind} address: {problem}")]
    Url { kind: &'static str, problem: String },
    #[error("an in-memory SQLite database is gone with its connection, and the checkpoint with it; name a file")]
    InMemory,
    #[error("database.{0} does not apply to SQLite")]
    NotForSqlite(&'static str),
    #[error("database.bookkeeping is not a schema name: 1 to 63 bytes, without a NUL")]
    Bookkeeping,
    #[error("`{0}` is no TLS mode; verify-full, verify-ca, require or disable")]
    Tls(String),
}

/// Understands the settings; connects to nothing.
pub fn open(options: &DatabaseOptions) -> Result<Arc<dyn Database>, OpenError> {
    let (scheme, _) = options.url.expose_secret().split_once(':').ok_or(OpenError::NoScheme)?;
    // What precedes the first colon of something that is no URL may be a secret: only a plausible scheme is repeated.
    let plausible = !scheme.is_empty() && scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    match scheme {
        "postgres" | "postgresql" => Ok(Arc::new(postgres::Postgres::new(postgres::PostgresOptions::read(options)?))),
        "sqlite" => Ok(Arc::new(sqlite::Sqlite::new(sqlite::SqliteOptions::read(options)?))),
        "mysql" | "mariadb" => Err(OpenError::Later(scheme.to_owned())),
        other if plausible => Err(OpenError::Unknown(other.to_owned())),
        _ => Err(OpenError::NoScheme),
    }
}
