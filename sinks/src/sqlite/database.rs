//! A SQLite file as a database of the sink.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row;

use super::{
    SqliteOptions, bookkeeping, catalogue, checkpoint,
    session::{Hold, SqliteSession},
};
use crate::{
    checkpoint::{CheckpointRow, Held, StoredHalt},
    execute,
    fault::{During, Fault},
    model::{Coordinate, Partition, Table, TableName},
    session::{Bookkeeping, Database, DatabaseFacts, Session, Skip, SkipMode, finish},
    skip::skip,
    stored,
};

/// Opens the file; holds it not.
#[derive(Debug)]
pub struct Sqlite {
    options: Arc<SqliteOptions>,
}

impl Sqlite {
    #[must_use]
    pub fn new(options: SqliteOptions) -> Self {
        Self { options: Arc::new(options) }
    }

    /// A transaction of its own connection, which is closed with it.
    async fn transaction(&self, hold: Hold) -> Result<SqliteSession, Fault> {
        let mut session = SqliteSession::connect(self.options.clone()).await?;
        session.begin_holding(hold).await?;
        Ok(session)
    }

    /// Without the lock that migrations take: where nothing is to be done, nobody is kept waiting.
    async fn is_current(&self) -> Result<bool, Fault> {
        let mut session = self.transaction(Hold::Nothing).await?;
        let is_current = bookkeeping::is_current(&mut session).await?;
        finish(&mut session).await?;
        Ok(is_current)
    }
}

#[async_trait]
impl Database for Sqlite {
    fn kind(&self) -> &'static str {
        "SQLite"
    }

    async fn connect(&self) -> Result<Box<dyn Session>, Fault> {
        Ok(Box::new(SqliteSession::connect(self.options.clone()).await?))
    }

    async fn describe(&self, table: &TableName) -> Result<Table, Fault> {
        let mut session = self.transaction(Hold::Nothing).await?;
        let table = catalogue::describe(&mut session, table).await?;
        finish(&mut session).await?;
        Ok(table)
    }

    async fn facts(&self) -> Result<DatabaseFacts, Fault> {
        let mut session = self.transaction(Hold::Nothing).await?;
        let versions = session.fetch(sqlx::query("SELECT sqlite_version()"), During::Catalogue, |row| row.try_get::<String, _>(0)).await?;
        finish(&mut session).await?;
        let version = versions.first().map_or("of unknown version", String::as_str);
        Ok(DatabaseFacts { address: self.options.path.display().to_string(), version: format!("SQLite {version}"), warnings: Vec::new() })
    }

    async fn bookkeeping(&self) -> Result<Bookkeeping, Fault> {
        let mut session = self.transaction(Hold::Nothing).await?;
        let found = bookkeeping::bookkeeping(&mut session).await?;
        finish(&mut session).await?;
        Ok(found)
    }

    async fn migrate(&self) -> Result<(), Fault> {
        if self.is_current().await? {
            return Ok(());
        }
        let mut session = self.transaction(Hold::All).await?;
        bookkeeping::migrate(&mut session).await?;
        finish(&mut session).await
    }

    fn grants(&self, _role: &str, _targets: &[TableName]) -> Vec<String> {
        Vec::new()
    }

    async fn checkpoints(&self, pipeline: &str) -> Result<Vec<CheckpointRow>, Fault> {
        let mut session = self.transaction(Hold::Nothing).await?;
        let rows = session.fetch(sqlx::query(execute::once(checkpoint::read())).bind(pipeline), During::Bookkeeping, stored::read).await?;
        finish(&mut session).await?;
        Ok(rows)
    }

    async fn others_of(&self, pipeline: &str, topic: &str) -> Result<Vec<(String, i64)>, Fault> {
        let mut session = self.transaction(Hold::Nothing).await?;
        let query = sqlx::query(checkpoint::OTHERS).bind(pipeline).bind(topic);
        let others = session.fetch(query, During::Bookkeeping, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?;
        finish(&mut session).await?;
        Ok(others)
    }

    async fn database_id(&self) -> Result<Arc<str>, Fault> {
        let mut session = self.transaction(Hold::Nothing).await?;
        let id = bookkeeping::database_id(&mut session).await?;
        finish(&mut session).await?;
        Ok(id.into())
    }

    async fn note_halt(&self, pipeline: &str, partition: &Partition, held: Option<Held>, halt: Option<&StoredHalt>) -> Result<(), Fault> {
        let mut session = self.transaction(Hold::Write).await?;
        let query = sqlx::query(checkpoint::NOTE_HALT)
            .bind(halt.map(|halt| halt.reason.as_str()))
            .bind(halt.map(|halt| halt.detail.as_str()))
            .bind(halt.map(|halt| halt.offset))
            .bind(halt.map(|halt| halt.at))
            .bind(pipeline)
            .bind(&*partition.topic)
            .bind(partition.index)
            .bind(held.map(|held| held.claim.epoch.0))
            .bind(held.map(|held| held.claim.id.0))
            .bind(held.map(|held| held.next.get()));
        session.execute(query, During::Bookkeeping).await?;
        finish(&mut session).await
    }

    async fn skip(&self, pipeline: &str, coordinate: &Coordinate, who: &str, mode: SkipMode) -> Result<Skip, Fault> {
        let mut session = self.transaction(Hold::Write).await?;
        skip(&mut session, pipeline, coordinate, who, mode).await
    }
}
