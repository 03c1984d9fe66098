//! A PostgreSQL server as a database of the sink.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row;

use super::{
    PostgresOptions, bookkeeping, catalogue,
    checkpoint::{CheckpointStatements, storable},
    processed_events::ProcessedEventStatements,
    session::PostgresSession,
    tombstones::TombstoneStatements,
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

/// Makes connections; holds none.
#[derive(Debug)]
pub struct Postgres {
    options: Arc<PostgresOptions>,
    statements: Arc<CheckpointStatements>,
    processed_events: Arc<ProcessedEventStatements>,
    tombstones: Arc<TombstoneStatements>,
}

impl Postgres {
    #[must_use]
    pub fn new(options: PostgresOptions) -> Self {
        let statements = Arc::new(CheckpointStatements::new(&options.bookkeeping));
        let processed_events = Arc::new(ProcessedEventStatements::new(&options.bookkeeping));
        let tombstones = Arc::new(TombstoneStatements::new(&options.bookkeeping));
        Self { options: Arc::new(options), statements, processed_events, tombstones }
    }

    async fn session(&self) -> Result<PostgresSession, Fault> {
        PostgresSession::connect(self.options.clone(), self.statements.clone(), self.processed_events.clone(), self.tombstones.clone()).await
    }

    /// A transaction of its own connection, which is closed with it.
    async fn transaction(&self) -> Result<PostgresSession, Fault> {
        let mut session = self.session().await?;
        session.begin().await?;
        Ok(session)
    }
}

#[async_trait]
impl Database for Postgres {
    fn kind(&self) -> &'static str {
        "PostgreSQL"
    }

    async fn connect(&self) -> Result<Box<dyn Session>, Fault> {
        Ok(Box::new(self.session().await?))
    }

    async fn describe(&self, table: &TableName) -> Result<Table, Fault> {
        let mut session = self.transaction().await?;
        let table = catalogue::describe(&mut session, table).await?;
        finish(&mut session).await?;
        Ok(table)
    }

    async fn facts(&self) -> Result<DatabaseFacts, Fault> {
        let mut session = self.transaction().await?;
        // `reset_val` is what the role and database say; the session's own value is already set for the transaction.
        let query = sqlx::query(
            "SELECT name, CASE name WHEN 'synchronous_commit' THEN reset_val ELSE setting END FROM pg_catalog.pg_settings \
             WHERE name IN ('server_version', 'fsync', 'full_page_writes', 'synchronous_commit')",
        );
        let settings = session.fetch(query, During::Catalogue, |row| Ok((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?))).await?;
        finish(&mut session).await?;
        let version = settings.iter().find(|(name, _)| name == "server_version").map_or("of unknown version", |(_, version)| version);
        let mut warnings: Vec<String> = settings
            .iter()
            .filter(|(_, value)| value == "off")
            .map(|(name, _)| match name.as_str() {
                "synchronous_commit" => "synchronous_commit = off for this role; oncesink sets it on in its own transactions".to_owned(),
                name => format!("{name} = off: a crash of the server can lose or damage what it has acknowledged"),
            })
            .collect();
        warnings.sort_unstable();
        if self.options.is_unprotected() {
            warnings.push("the server's certificate is not verified (database.tls)".to_owned());
        }
        let version = version.split(' ').next().unwrap_or(version);
        Ok(DatabaseFacts { address: self.options.address(), version: format!("PostgreSQL {version}"), warnings })
    }

    async fn bookkeeping(&self) -> Result<Bookkeeping, Fault> {
        let mut session = self.transaction().await?;
        let found = bookkeeping::bookkeeping(&mut session).await?;
        finish(&mut session).await?;
        Ok(found)
    }

    async fn migrate(&self) -> Result<(), Fault> {
        let mut session = self.transaction().await?;
        bookkeeping::migrate(&mut session).await?;
        finish(&mut session).await
    }

    fn grants(&self, role: &str, targets: &[TableName]) -> Vec<String> {
        bookkeeping::grants(&self.options, role, targets)
    }

    async fn checkpoints(&self, pipeline: &str) -> Result<Vec<CheckpointRow>, Fault> {
        let mut session = self.transaction().await?;
        let rows = session.fetch(sqlx::query(execute::text(&self.statements.read)).bind(pipeline), During::Bookkeeping, stored::read).await?;
        finish(&mut session).await?;
        Ok(rows)
    }

    async fn others_of(&self, pipeline: &str, topic: &str) -> Result<Vec<(String, i64)>, Fault> {
        let mut session = self.transaction().await?;
        let query = sqlx::query(execute::text(&self.statements.others)).bind(pipeline).bind(topic);
        let others = session.fetch(query, During::Bookkeeping, |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?;
        finish(&mut session).await?;
        Ok(others)
    }

    async fn database_id(&self) -> Result<Arc<str>, Fault> {
        let mut session = self.transaction().await?;
        let id = bookkeeping::database_id(&mut session).await?;
        finish(&mut session).await?;
        Ok(id.into())
    }

    async fn note_halt(&self, pipeline: &str, partition: &Partition, held: Option<Held>, halt: Option<&StoredHalt>) -> Result<(), Fault> {
        let mut session = self.transaction().await?;
        let query = sqlx::query(execute::text(&self.statements.note_halt))
            .bind(pipeline)
            .bind(&*partition.topic)
            .bind(partition.index)
            .bind(halt.map(|halt| storable(&halt.reason)))
            .bind(halt.map(|halt| storable(&halt.detail)))
            .bind(halt.map(|halt| halt.offset))
            .bind(halt.map(|halt| halt.at))
            .bind(held.map(|held| held.claim.epoch.0))
            .bind(held.map(|held| held.claim.id.0))
            .bind(held.map(|held| held.next.get()));
        session.execute(query, During::Bookkeeping).await?;
        finish(&mut session).await
    }

    async fn skip(&self, pipeline: &str, coordinate: &Coordinate, who: &str, mode: SkipMode) -> Result<Skip, Fault> {
        let mut session = self.transaction().await?;
        skip(&mut session, pipeline, coordinate, who, mode).await
    }
}
