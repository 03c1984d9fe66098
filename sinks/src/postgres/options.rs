use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::pooler::StatementNames;
use crate::options::{DatabaseOptions, OpenError, Tls, is_here, is_tls_in_url};

/// How a PostgreSQL server is reached. Its `Debug` shows no password.
pub struct PostgresOptions {
    pub(super) connect: PgConnectOptions,
    pub(super) statement_timeout: Duration,
    /// The schema of the bookkeeping tables, unquoted.
    pub(super) bookkeeping: String,
    pub(super) names: StatementNames,
}

impl PostgresOptions {
    pub fn read(options: &DatabaseOptions) -> Result<Self, OpenError> {
        let url = options.url.expose_secret();
        let bookkeeping = options.bookkeeping.clone().unwrap_or_else(|| "oncesink".to_owned());
        if bookkeeping.is_empty() || bookkeeping.len() > 63 || bookkeeping.contains('\0') {
            return Err(OpenError::Bookkeeping);
        }
        // The parser's own message may quote a part of the URL.
        let problem = || OpenError::Url { kind: "PostgreSQL", problem: "write postgres://user:password@host:5432/database".to_owned() };
        let mut connect = PgConnectOptions::from_str(url).map_err(|_| problem())?.application_name("oncesink").disable_statement_logging();
        // The default since PostgreSQL 12 keeps every digit, and a pooler refuses parameters that it does not know.
        connect = connect.extra_float_digits(None);
        if let Some(username) = &options.username {
            connect = connect.username(username);
        }
        if let Some(password) = &options.password {
            connect = connect.password(password.expose_secret());
        }
        let mode = match options.tls {
            Some(Tls::Disable) => Some(PgSslMode::Disable),
            Some(Tls::Prefer) => Some(PgSslMode::Prefer),
            Some(Tls::Require) => Some(PgSslMode::Require),
            Some(Tls::VerifyCa) => Some(PgSslMode::VerifyCa),
            Some(Tls::VerifyFull) => Some(PgSslMode::VerifyFull),
            None if is_tls_in_url(url) => None,
            None if is_local(&connect) => Some(PgSslMode::Prefer),
            None => Some(PgSslMode::VerifyFull),
        };
        if let Some(mode) = mode {
            connect = connect.ssl_mode(mode);
        }
        if let Some(ca) = &options.ca {
            connect = connect.ssl_root_cert(PathBuf::from(ca));
        }
        Ok(Self {
            connect,
            statement_timeout: options.statement_timeout.max(Duration::from_millis(1)),
            bookkeeping,
            names: StatementNames::new(options.named_statements),
        })
    }

    /// Without credentials: `db:5432/shop as shop_app`.
    #[must_use]
    pub fn address(&self) -> String {
        let place = match self.connect.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.connect.get_host(), self.connect.get_port()),
        };
        format!("{place}/{} as {}", self.connect.get_database().unwrap_or_default(), self.connect.get_username())
    }

    /// Whether somebody on the way could read or answer in the server's place.
    pub(super) fn is_unprotected(&self) -> bool {
        !is_local(&self.connect) && !matches!(self.connect.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull)
    }
}

fn is_local(connect: &PgConnectOptions) -> bool {
    connect.get_socket().is_some() || is_here(connect.get_host())
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("address", &self.address()).field("bookkeeping", &self.bookkeeping).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, change: impl FnOnce(&mut DatabaseOptions)) -> PostgresOptions {
        let mut options = DatabaseOptions::new(url);
        change(&mut options);
        PostgresOptions::read(&options).unwrap()
    }

    #[test]
    fn tls_is_verified_unless_the_server_is_here_or_the_url_says_otherwise() {
        let mode = |url: &str, tls| format!("{:?}", read(url, |options| options.tls = tls).connect.get_ssl_mode());
        assert_eq!(mode("postgres://app@db/shop", None), "VerifyFull");
        assert_eq!(mode("postgres://app@db/shop?sslmode=require", None), "Require");
        assert_eq!(mode("postgres://app@db/shop?sslmode=require", Some(Tls::VerifyFull)), "VerifyFull");
        assert_eq!(mode("postgres://app@db/shop", Some(Tls::Disable)), "Disable");
        for here in ["postgres://app@localhost/shop", "postgres://app@127.0.0.1/shop", "postgres://app@[::1]/shop", "postgres://app@%2Ftmp/shop"] {
            assert_eq!(mode(here, None), "Prefer", "{here}");
        }
    }

    #[test]
    fn the_password_is_never_printed() {
        let options = read("postgres://app:hunter2@db:5433/shop", |_| {});
        assert_eq!(options.address(), "db:5433/shop as app");
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(!format!("{:?}", DatabaseOptions::new("postgres://app:hunter2@db/shop")).contains("hunter2"));
        let error = PostgresOptions::read(&DatabaseOptions::new("postgres://app:hunter2@db:port/shop")).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }

    #[test]
    fn user_and_password_override_the_url() {
        let options = read("postgres://app:hunter2@db/shop", |options| options.username = Some("other".to_owned()));
        assert_eq!(options.address(), "db:5432/shop as other");
    }
}
