//! A session of somebody else, in the middle of a transaction: what its statement locks stays locked until it is dropped.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{database::Database, topic::block_on, wait::seconds};

#[derive(Debug)]
pub struct Holder {
    _release: Sender<()>,
    holds: Receiver<()>,
}

impl Holder {
    /// Holds the locks when it returns.
    pub fn of(database: &Database, lock: &str) -> Self {
        let holder = Self::in_line(database, lock);
        holder.wait();
        holder
    }

    /// Waits for the locks, perhaps, when it returns: whoever asks later comes after it.
    pub fn in_line(database: &Database, lock: &str) -> Self {
        let (release, released) = channel::<()>();
        let (hold, holds) = channel();
        let (database, lock) = (database.clone(), AssertSqlSafe(lock.to_owned()));
        thread::spawn(move || {
            block_on(async {
                match &database {
                    Database::Postgres { url } => {
                        let mut connection = PgConnection::connect(url).await.expect("a connection");
                        connection.execute("BEGIN").await.expect("a transaction");
                        connection.execute(sqlx::raw_sql(lock)).await.expect("the lock");
                        let _ = hold.send(());
                        // Ends with the holder: both senders are dropped then.
                        let _ = released.recv();
                        let _ = connection.close().await;
                    }
                    Database::MySql { url } | Database::MariaDb { url } => {
                        let mut connection = MySqlConnection::connect(url).await.expect("a connection");
                        connection.execute("START TRANSACTION").await.expect("a transaction");
                        connection.execute(sqlx::raw_sql(lock)).await.expect("the lock");
                        let _ = hold.send(());
                        let _ = released.recv();
                        let _ = connection.close().await;
                    }
                    Database::Sqlite { path } => {
                        let options = SqliteConnectOptions::new().filename(path).busy_timeout(seconds(60));
                        let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
                        connection.execute(sqlx::raw_sql(lock)).await.expect("the lock");
                        let _ = hold.send(());
                        let _ = released.recv();
                        let _ = connection.close().await;
                    }
                }
            });
        });
        Self { _release: release, holds }
    }

    /// Returns once the locks are held.
    pub fn wait(&self) {
        self.holds.recv_timeout(seconds(60)).expect("the lock is held");
    }
}
