//! Plain SQL on a SQLite file, for the demo alone: it prepares the tables and judges the outcome. It shares nothing with the sink that it judges.

use std::{path::Path, time::Duration};

use sqlx::{
    Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

/// One connection to a SQLite file, which is made if it is not there.
#[derive(Debug)]
pub struct PlainSql {
    connection: SqliteConnection,
}

#[derive(Debug, thiserror::Error)]
#[error("SQLite: {0}")]
pub struct PlainSqlError(#[from] sqlx::Error);

impl PlainSql {
    /// # Errors
    /// [`PlainSqlError`], if the file cannot be opened or made.
    pub async fn open(file: &Path) -> Result<Self, PlainSqlError> {
        let options =
            SqliteConnectOptions::new().filename(file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal).busy_timeout(Duration::from_secs(10));
        Ok(Self { connection: SqliteConnection::connect_with(&options).await? })
    }

    /// Runs statements that return nothing.
    ///
    /// # Errors
    /// [`PlainSqlError`], if one of them fails; those before it have taken effect.
    pub async fn execute(&mut self, script: &'static str) -> Result<(), PlainSqlError> {
        sqlx::raw_sql(script).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Runs one statement with one text for its `?`.
    ///
    /// # Errors
    /// [`PlainSqlError`], if it fails.
    pub async fn execute_with(&mut self, statement: &'static str, text: &str) -> Result<(), PlainSqlError> {
        sqlx::query(statement).bind(text).execute(&mut self.connection).await?;
        Ok(())
    }

    /// The one number that a query answers; 0 where it is NULL.
    ///
    /// # Errors
    /// [`PlainSqlError`], if it fails or does not answer one row that begins with a number.
    pub async fn number(&mut self, query: &'static str) -> Result<i64, PlainSqlError> {
        let row = sqlx::query(query).fetch_one(&mut self.connection).await?;
        Ok(row.try_get::<Option<i64>, _>(0)?.unwrap_or(0))
    }
}
