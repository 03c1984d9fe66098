//! A database for one test, asked by plain SQL.

use std::{fs, path::PathBuf};

use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection, Row, SqliteConnection};

use crate::{
    servers::{fresh_directory, shared_mariadb, shared_mysql, shared_postgres, unique},
    topic::block_on,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MySql,
    MariaDb,
    Sqlite,
}

#[derive(Clone, Debug)]
pub enum Database {
    Postgres { url: String },
    MySql { url: String },
    MariaDb { url: String },
    Sqlite { path: PathBuf },
}

/// One row, every value as the database itself prints it.
pub type TextRow = Vec<Option<String>>;

impl Database {
    pub fn create(kind: Kind, label: &str) -> Self {
        match kind {
            Kind::Postgres => Self::create_on(shared_postgres(), label),
            Kind::MySql => Self::create_on(shared_mysql(), label),
            Kind::MariaDb => Self::create_on(shared_mariadb(), label),
            Kind::Sqlite => {
                let database = Self::Sqlite { path: fresh_directory(label).join("target.db") };
                database.execute("PRAGMA journal_mode = WAL");
                database
            }
        }
    }

    /// A database of its own on a server, given by the superuser's URL.
    pub fn create_on(superuser: &str, label: &str) -> Self {
        let name = unique(label);
        let characters = if superuser.starts_with("postgres") { "" } else { " CHARACTER SET utf8mb4" };
        Self::on_server(superuser.to_owned()).execute(&format!("CREATE DATABASE {name}{characters}"));
        let server = superuser.rsplit_once('/').expect("a URL with a database").0;
        Self::on_server(format!("{server}/{name}"))
    }

    fn on_server(url: String) -> Self {
        match url.split(':').next() {
            Some("mysql") => Self::MySql { url },
            Some("mariadb") => Self::MariaDb { url },
            _ => Self::Postgres { url },
        }
    }

    /// Dropped and made again, empty, under the same name. Whoever is connected to it on PostgreSQL is cut off.
    pub fn recreate(&self) {
        if let Self::Sqlite { path } = self {
            for file in ["target.db", "target.db-wal", "target.db-shm"] {
                let _ = fs::remove_file(path.with_file_name(file));
            }
            self.execute("PRAGMA journal_mode = WAL");
            return;
        }
        let (server, name) = (self.url().rsplit_once('/').expect("a URL with a database").0.to_owned(), self.name());
        let (own, force, characters) = match self.kind() {
            Kind::Postgres => ("postgres", " WITH (FORCE)", ""),
            _ => ("mysql", "", " CHARACTER SET utf8mb4"),
        };
        let superuser = Self::on_server(format!("{server}/{own}"));
        superuser.execute(&format!("DROP DATABASE {name}{force}"));
        superuser.execute(&format!("CREATE DATABASE {name}{characters}"));
    }

    pub const fn kind(&self) -> Kind {
        match self {
            Self::Postgres { .. } => Kind::Postgres,
            Self::MySql { .. } => Kind::MySql,
            Self::MariaDb { .. } => Kind::MariaDb,
            Self::Sqlite { .. } => Kind::Sqlite,
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Postgres { url } | Self::MySql { url } | Self::MariaDb { url } => url.clone(),
            Self::Sqlite { path } => format!("sqlite://{}", path.display()),
        }
    }

    /// The same database as another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let superuser = if self.kind() == Kind::Postgres { "//postgres@" } else { "//root@" };
        self.url().replacen(superuser, &format!("//{user}:{password}@"), 1)
    }

    /// The name of a table that the worker keeps for itself.
    pub fn bookkeeping(&self, table: &str) -> String {
        match self {
            Self::Postgres { .. } => format!("oncesink.{table}"),
            Self::MySql { .. } | Self::MariaDb { .. } | Self::Sqlite { .. } => table.to_owned(),
        }
    }

    pub fn checkpoints(&self) -> String {
        self.bookkeeping("oncesink_checkpoint")
    }

    /// The database's name on its server.
    pub fn name(&self) -> String {
        self.url().rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// `host:port` of its server, and its name there.
    pub fn server_and_name(&self) -> (String, String) {
        let url = self.url();
        let address = url.rsplit('@').next().and_then(|address| address.split_once('/')).expect("a server's URL");
        (address.0.to_owned(), address.1.to_owned())
    }

    #[track_caller]
    pub fn execute(&self, sql: &str) {
        if let Err(error) = self.try_rows(sql) {
            panic!("{sql}: {error}");
        }
    }

    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<TextRow> {
        match self.try_rows(sql) {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// The first value of the first row as a number.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql);
        let value = rows.first().and_then(|row| row.first()).and_then(Clone::clone).unwrap_or_else(|| panic!("{sql}: no value"));
        value.parse().unwrap_or_else(|_| panic!("{sql}: {value} is no number"))
    }

    pub fn count(&self, table: &str) -> i64 {
        self.number(&format!("SELECT count(*) FROM {table}"))
    }

    /// Nothing where the database does not answer, or has no such table.
    pub fn try_count(&self, table: &str) -> Option<i64> {
        self.try_rows(&format!("SELECT count(*) FROM {table}")).ok()?.first()?.first()?.as_deref()?.parse().ok()
    }

    pub fn try_rows(&self, sql: &str) -> Result<Vec<TextRow>, sqlx::Error> {
        block_on(async {
            let mut session = self.connect().await?;
            let rows = session.try_rows(sql).await?;
            session.close().await?;
            Ok(rows)
        })
    }

    /// To ask more than once: a session of its own each time costs what a figure measures.
    pub async fn connect(&self) -> Result<Session, sqlx::Error> {
        Ok(match self {
            Self::Postgres { url } => Session::Postgres(PgConnection::connect(url).await?),
            Self::MySql { url } | Self::MariaDb { url } => Session::MySql(MySqlConnection::connect(url).await?),
            Self::Sqlite { path } => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true).busy_timeout(crate::wait::seconds(60));
                Session::Sqlite(SqliteConnection::connect_with(&options).await?)
            }
        })
    }
}

/// Open on a database.
#[derive(Debug)]
pub enum Session {
    Postgres(PgConnection),
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

impl Session {
    pub async fn try_rows(&mut self, sql: &str) -> Result<Vec<TextRow>, sqlx::Error> {
        // Raw SQL comes back as text, whatever its type: what is compared is what the database prints.
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        Ok(match self {
            Self::Postgres(connection) => connection.fetch_all(sql).await?.iter().map(texts).collect(),
            Self::MySql(connection) => connection.fetch_all(sql).await?.iter().map(texts).collect(),
            Self::Sqlite(connection) => connection.fetch_all(sql).await?.iter().map(texts).collect(),
        })
    }

    async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Postgres(connection) => connection.close().await,
            Self::MySql(connection) => connection.close().await,
            Self::Sqlite(connection) => connection.close().await,
        }
    }
}

fn texts<R: Row>(row: &R) -> TextRow
where
    usize: sqlx::ColumnIndex<R>,
    for<'r> Option<String>: sqlx::Decode<'r, R::Database>,
{
    (0..row.len()).map(|index| row.get_unchecked(index)).collect()
}

mod tests {
    use super::*;
    use crate::servers::Server;

    #[test]
    fn a_database_comes_back_with_its_rows() {
        let mut server = Server::postgres();
        let database = Database::create_on(server.get("url"), "comes_back");
        database.execute("CREATE TABLE numbers (id bigint); INSERT INTO numbers VALUES (1), (NULL)");
        server.stop();
        assert!(database.try_rows("SELECT 1").is_err(), "it is down");
        server.start();
        assert_eq!(database.rows("SELECT id FROM numbers ORDER BY id"), [vec![Some("1".to_owned())], vec![None]]);
    }
}
