//! A MySQL or MariaDB server as a database of the sink.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row;

use super::{MySqlOptions, bookkeeping, catalogue, checkpoint::CheckpointStatements, session::MySqlSession};
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
pub struct MySql {
    options: Arc<MySqlOptions>,
    statements: Arc<CheckpointStatements>,
}

impl MySql {
    #[must_use]
    pub fn new(options: MySqlOptions) -> Self {
        let statements = Arc::new(CheckpointStatements::new(&options.schema()));
        Self { options: Arc::new(options), statements }
    }

    /// A transaction of its own connection, which is closed with it.
    async fn transaction(&self) -> Result<MySqlSession, Fault> {
        let mut session = MySqlSession::connect(self.options.clone(), self.statements.clone()).await?;
        session.begin().await?;
        Ok(session)
    }
}

#[async_trait]
impl Database for MySql {
    fn kind(&self) -> &'static str {
        "MySQL"
    }

    async fn connect(&self) -> Result<Box<dyn Session>, Fault> {
        Ok(Box::new(MySqlSession::connect(self.options.clone(), self.statements.clone()).await?))
    }

    async fn describe(&self, table: &TableName) -> Result<Table, Fault> {
        let mut session = self.transaction().await?;
        let table = catalogue::describe(&mut session, table).await?;
        finish(&mut session).await?;
        Ok(table)
    }

    async fn facts(&self) -> Result<DatabaseFacts, Fault> {
        let mut session = self.transaction().await?;
        let query = sqlx::query("SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@log_bin AS SIGNED), CAST(@@sync_binlog AS SIGNED)");
        let settings =
            session.fetch(query, During::Catalogue, |row| Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?))).await?;
        finish(&mut session).await?;
        let (flush, log, sync) = settings.into_iter().next().unwrap_or((1, 0, 1));
        let loses = "a crash of the machine can lose what the server has acknowledged";
        let mut warnings = Vec::new();
        if flush != 1 {
            warnings.push(format!("innodb_flush_log_at_trx_commit = {flush}: {loses}"));
        }
        if log == 1 && sync != 1 {
            warnings.push(format!("sync_binlog = {sync}: {loses}"));
        }
        if self.options.is_unprotected() {
            warnings.push("the server's certificate is not verified (database.tls)".to_owned());
        }
        let version = session.version.split('-').next().unwrap_or_default();
        Ok(DatabaseFacts { address: self.options.address(), version: format!("{} {version}", session.flavour), warnings })
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
        let rows = session.fetch(sqlx::query(execute::once(self.statements.read())).bind(pipeline), During::Bookkeeping, stored::read).await?;
        finish(&mut session).await?;
        Ok(rows)
    }

    async fn others_of(&self, pipeline: &str, topic: &str) -> Result<Vec<(String, i64)>, Fault> {
        let mut session = self.transaction().await?;
        let query = sqlx::query(execute::once(self.statements.others.clone())).bind(pipeline).bind(topic);
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
        let query = sqlx::query(execute::once(self.statements.note_halt.clone()))
            .bind(halt.map(|halt| halt.reason.as_str()))
            .bind(halt.map(|halt| halt.detail.as_str()))
            .bind(halt.map(|halt| halt.offset))
            .bind(halt.map(|halt| halt.at))
            .bind(pipeline)
            .bind(&*partition.topic)
            .bind(partition.index)
            .bind(held.is_none())
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
