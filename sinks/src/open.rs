//! From the settings of a database to the database. No connection is made here.

use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::{
    mysql,
    options::{DatabaseOptions, OpenError},
    postgres,
    session::Database,
    sqlite,
};

/// Understands the settings; connects to nothing.
pub fn open(options: &DatabaseOptions) -> Result<Arc<dyn Database>, OpenError> {
    let (scheme, _) = options.url.expose_secret().split_once(':').ok_or(OpenError::NoScheme)?;
    // What precedes the first colon of something that is no URL may be a secret: only a plausible scheme is repeated.
    let plausible = !scheme.is_empty() && scheme.len() <= 16 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    match scheme {
        "postgres" | "postgresql" => Ok(Arc::new(postgres::Postgres::new(postgres::PostgresOptions::read(options)?))),
        "sqlite" => Ok(Arc::new(sqlite::Sqlite::new(sqlite::SqliteOptions::read(options)?))),
        "mysql" | "mariadb" => Ok(Arc::new(mysql::MySql::new(mysql::MySqlOptions::read(options)?))),
        other if plausible => Err(OpenError::Unknown(other.to_owned())),
        _ => Err(OpenError::NoScheme),
    }
}
