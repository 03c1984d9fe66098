use std::{fmt, str::FromStr, time::Duration};

use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions,
    mysql::{MySqlConnectOptions, MySqlSslMode},
};

use crate::{
    execute::backticked_text,
    options::{DatabaseOptions, NamedStatements, OpenError, Tls, is_here, is_tls_in_url},
};

/// How a MySQL or MariaDB server is reached. Its `Debug` shows no password.
#[derive(Clone)]
pub struct MySqlOptions {
    pub(super) connect: MySqlConnectOptions,
    pub(super) statement_timeout: Duration,
    /// The database of the bookkeeping tables, unquoted. That of the targets unless another is named: what is dumped and restored by itself
    /// then holds both, and a checkpoint is never newer than its rows.
    pub(super) bookkeeping: String,
    pub(super) named_statements: bool,
}

impl MySqlOptions {
    pub fn read(options: &DatabaseOptions) -> Result<Self, OpenError> {
        let url = options.url.expose_secret();
        // The parser's own message may quote a part of the URL.
        let problem = || OpenError::Url { kind: "MySQL", problem: "write mysql://user:password@host:3306/database".to_owned() };
        let mut connect = MySqlConnectOptions::from_str(url)
            .map_err(|_| problem())?
            // All that a session needs is set by us, and verified.
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(Some("+00:00".to_owned()))
            // Texts are sent as UTF-8, whatever the URL says.
            .charset("utf8mb4")
            .disable_statement_logging();
        if let Some(username) = &options.username {
            connect = connect.username(username);
        }
        if let Some(password) = &options.password {
            connect = connect.password(password.expose_secret());
        }
        let mode = match options.tls {
            Some(Tls::Disable) => Some(MySqlSslMode::Disabled),
            Some(Tls::Prefer) => Some(MySqlSslMode::Preferred),
            Some(Tls::Require) => Some(MySqlSslMode::Required),
            Some(Tls::VerifyCa) => Some(MySqlSslMode::VerifyCa),
            Some(Tls::VerifyFull) => Some(MySqlSslMode::VerifyIdentity),
            None if is_tls_in_url(url) => None,
            None if is_local(&connect) => Some(MySqlSslMode::Preferred),
            None => Some(MySqlSslMode::VerifyIdentity),
        };
        if let Some(mode) = mode {
            connect = connect.ssl_mode(mode);
        }
        if let Some(ca) = &options.ca {
            connect = connect.ssl_ca(ca);
        }
        let database = connect.get_database().map(str::to_owned).filter(|database| !database.is_empty()).ok_or_else(problem)?;
        let bookkeeping = options.bookkeeping.clone().unwrap_or(database);
        if bookkeeping.is_empty() || bookkeeping.chars().count() > 64 || bookkeeping.contains('\0') {
            return Err(OpenError::Bookkeeping);
        }
        Ok(Self {
            connect,
            statement_timeout: options.statement_timeout.max(Duration::from_millis(1)),
            bookkeeping,
            named_statements: options.named_statements != NamedStatements::Never,
        })
    }

    /// Without credentials: `db:3306/shop as shop_app`.
    #[must_use]
    pub fn address(&self) -> String {
        let place = match self.connect.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.connect.get_host(), self.connect.get_port()),
        };
        format!("{place}/{} as {}", self.database(), self.connect.get_username())
    }

    pub(super) fn database(&self) -> &str {
        self.connect.get_database().unwrap_or_default()
    }

    /// The database of the bookkeeping tables, quoted.
    pub(super) fn schema(&self) -> String {
        backticked_text(&self.bookkeeping)
    }

    /// Whether somebody on the way could read or answer in the server's place.
    pub(super) fn is_unprotected(&self) -> bool {
        !is_local(&self.connect) && !matches!(self.connect.get_ssl_mode(), MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity)
    }
}

fn is_local(connect: &MySqlConnectOptions) -> bool {
    connect.get_socket().is_some() || is_here(connect.get_host())
}

impl fmt::Debug for MySqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlOptions").field("address", &self.address()).field("bookkeeping", &self.bookkeeping).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, change: impl FnOnce(&mut DatabaseOptions)) -> MySqlOptions {
        let mut options = DatabaseOptions::new(url);
        change(&mut options);
        MySqlOptions::read(&options).unwrap()
    }

    #[test]
    fn tls_is_verified_unless_the_server_is_here_or_the_url_says_otherwise() {
        let mode = |url: &str, tls| format!("{:?}", read(url, |options| options.tls = tls).connect.get_ssl_mode());
        assert_eq!(mode("mysql://app@db/shop", None), "VerifyIdentity");
        assert_eq!(mode("mysql://app@db/shop?ssl-mode=REQUIRED", None), "Required");
        assert_eq!(mode("mariadb://app@db/shop", Some(Tls::Disable)), "Disabled");
        assert_eq!(mode("mysql://app@localhost/shop", None), "Preferred");
        assert_eq!(mode("mysql://app@[::1]/shop", None), "Preferred");
    }

    #[test]
    fn the_password_is_never_printed() {
        let options = read("mysql://app:hunter2@db:3307/shop", |_| {});
        assert_eq!(options.address(), "db:3307/shop as app");
        assert!(!format!("{options:?}").contains("hunter2"));
        let error = MySqlOptions::read(&DatabaseOptions::new("mysql://app:hunter2@db:port/shop")).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }

    #[test]
    fn bookkeeping_stands_beside_the_targets_unless_it_is_named() {
        assert_eq!(read("mysql://app@db/shop", |_| {}).schema(), "`shop`");
        assert_eq!(read("mysql://app@db/shop", |options| options.bookkeeping = Some("o`k".to_owned())).schema(), "`o``k`");
        assert!(MySqlOptions::read(&DatabaseOptions::new("mysql://app@db")).is_err(), "no database");
    }
}
