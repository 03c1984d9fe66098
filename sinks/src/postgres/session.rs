//! One connection and the transaction on it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    Connection, Executor, Row,
    postgres::{PgArguments, PgConnection, Postgres},
    query::Query,
};

use super::{
    PostgresOptions,
    array::{ColumnArray, Element},
    checkpoint::{CheckpointStatements, storable},
    fault::{ends_session, fault},
    pooler::{self, Mark, SessionNames},
    processed_events::ProcessedEventStatements,
    statement::{Statement, Statements, statements},
    tombstones::TombstoneStatements,
};
use crate::{
    checkpoint::CheckpointRow,
    execute,
    fault::{During, Fault, FaultClass},
    model::{Operation, Partition, Shape, Target},
    nodelay::sending_at_once,
    session::{Audit, CommitError, LockWait, Session, Step, Written},
    session_state::SessionState,
    stored,
    within::{ANSWER_MARGIN, CONNECT_LIMIT, within},
    write_plan::RowsToWrite,
};

/// Shapes whose statements are kept for reuse; beyond them the oldest go.
const SHAPES: usize = 64;

pub(super) type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

/// A dedicated connection. Every statement on it runs inside BEGIN … COMMIT, so that it may lead through a transaction pooler.
pub(super) struct PostgresSession {
    connection: PgConnection,
    pub options: Arc<PostgresOptions>,
    pub statements: Arc<CheckpointStatements>,
    pub processed_events: Arc<ProcessedEventStatements>,
    pub tombstones: Arc<TombstoneStatements>,
    begin: Arc<str>,
    names: SessionNames,
    known: Vec<Known>,
    state: SessionState,
}

/// The statements of a shape.
struct Known {
    target: Arc<Target>,
    operation: Operation,
    shape: Shape,
    guard: Option<usize>,
    statements: Arc<Statements>,
}

impl PostgresSession {
    pub async fn connect(
        options: Arc<PostgresOptions>,
        statements: Arc<CheckpointStatements>,
        processed_events: Arc<ProcessedEventStatements>,
        tombstones: Arc<TombstoneStatements>,
    ) -> Result<Self, Fault> {
        let role = options.connect.get_username().to_owned();
        let connection =
            within(CONNECT_LIMIT, sending_at_once(options.connect.get_port(), PgConnection::connect_with(&options.connect))).await.map_err(|error| {
                let mut fault = fault(&error, During::Connect, &role);
                fault.detail = format!("{} ({})", fault.detail, options.address());
                fault
            })?;
        let statement_timeout = options.statement_timeout.as_millis();
        // One message. Limits are the transaction's, so that a pooler keeps them; a notice could carry values into our log. The
        // keepalive is for a line that dies between a statement and its Sync: no other limit of the server runs there, and the
        // locks on the checkpoint rows would stand for the two hours that TCP waits by default.
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {statement_timeout}; SET LOCAL lock_timeout = 10000; \
             SET LOCAL idle_in_transaction_session_timeout = 10000; SET LOCAL tcp_keepalives_idle = 10; \
             SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 2; SET LOCAL client_min_messages = error; \
             SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
        );
        let names = options.names.of_session(&begin);
        let (known, state) = (Vec::new(), SessionState::Idle);
        let mut session = Self { connection, options, statements, processed_events, tombstones, begin: begin.into(), names, known, state };
        if let SessionNames::Marked(Mark { set, .. }) = session.names.clone() {
            session.simple(&set).await.map_err(|error| session.failed(&error, During::Connect))?;
        }
        Ok(session)
    }

    fn answer_limit(&self) -> Duration {
        self.options.statement_timeout + ANSWER_MARGIN
    }

    /// Judges an error and remembers what it does to the session.
    fn failed(&mut self, error: &sqlx::Error, during: During<'_>) -> Fault {
        let mut fault = fault(error, during, self.options.connect.get_username());
        if fault.reason == "statement-names" && matches!(self.names, SessionNames::Marked(_)) {
            // Another client has named one of its own so, on the session that a pooler gives to both.
            self.options.names.met_pooler();
            fault.class = FaultClass::Retry;
        }
        self.state = if ends_session(error) { SessionState::Broken } else { SessionState::Failed(fault.class) };
        fault
    }

    async fn simple(&mut self, sql: &Arc<str>) -> Result<(), sqlx::Error> {
        within(self.answer_limit(), self.connection.execute(sqlx::raw_sql(execute::text(sql)))).await.map(|_| ())
    }

    /// Runs a statement for the number of rows it affected.
    pub async fn execute(&mut self, query: PgQuery<'_>, during: During<'_>) -> Result<u64, Fault> {
        self.state.ensure_open()?;
        let query = query.persistent(self.names.are_used());
        match within(self.answer_limit(), self.connection.execute(query)).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.failed(&error, during)),
        }
    }

    /// Runs a statement for its rows, each read by `read`.
    pub async fn fetch<T>(
        &mut self,
        query: PgQuery<'_>,
        during: During<'_>,
        read: impl Fn(&sqlx::postgres::PgRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, Fault> {
        self.state.ensure_open()?;
        let query = query.persistent(self.names.are_used());
        let rows = within(self.answer_limit(), self.connection.fetch_all(query)).await;
        rows.and_then(|rows| rows.iter().map(read).collect()).map_err(|error| self.failed(&error, during))
    }

    /// Runs a text without parameters, of several statements perhaps, for the rows of all of them.
    pub async fn fetch_text<T>(
        &mut self,
        sql: &Arc<str>,
        during: During<'_>,
        read: impl Fn(&sqlx::postgres::PgRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, Fault> {
        self.state.ensure_open()?;
        let rows = within(self.answer_limit(), self.connection.fetch_all(sqlx::raw_sql(execute::text(sql)))).await;
        rows.and_then(|rows| rows.iter().map(read).collect()).map_err(|error| self.failed(&error, during))
    }

    /// Runs a text without parameters and without an answer.
    pub async fn run(&mut self, sql: String, during: During<'_>) -> Result<(), Fault> {
        self.state.ensure_open()?;
        match self.simple(&sql.into()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(&error, during)),
        }
    }

    fn statements_of(&mut self, step: &Step<'_>) -> Arc<Statements> {
        let target = &step.rows.target;
        let known = self
            .known
            .iter()
            .find(|known| Arc::ptr_eq(&known.target, target) && known.operation == step.operation && known.guard == step.guard && known.shape == *step.shape);
        if let Some(known) = known {
            return known.statements.clone();
        }
        let statements = Arc::new(statements(RowsToWrite::of(step), step.operation));
        if self.known.len() == SHAPES {
            self.known.remove(0);
        }
        self.known.push(Known {
            target: target.clone(),
            operation: step.operation,
            shape: step.shape.clone(),
            guard: step.guard,
            statements: statements.clone(),
        });
        statements
    }

    async fn run_rows(&mut self, step: &Step<'_>, statement: &Statement, selection: &[u32]) -> Result<u64, Fault> {
        let during = During::Write { table: &step.rows.target.table.name };
        match bind(statement, step, selection) {
            Ok(query) => self.execute(query, during).await,
            Err(error) => Err(self.failed(&error, during)),
        }
    }

    /// Runs a statement on rows of a step, for the rows that it returns.
    pub async fn fetch_rows<T>(
        &mut self,
        step: &Step<'_>,
        statement: &Statement,
        read: impl Fn(&sqlx::postgres::PgRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, Fault> {
        let during = During::Write { table: &step.rows.target.table.name };
        match bind(statement, step, step.selection) {
            Ok(query) => self.fetch(query, during, read).await,
            Err(error) => Err(self.failed(&error, during)),
        }
    }

    /// Runs a statement that returns the numbers of rows of the selection; gives those rows and the others.
    async fn divide(&mut self, step: &Step<'_>, statement: &Statement, selection: &[u32]) -> Result<(Vec<u32>, Vec<u32>), Fault> {
        let during = During::Write { table: &step.rows.target.table.name };
        let query = match bind(statement, step, selection) {
            Ok(query) => query,
            Err(error) => return Err(self.failed(&error, during)),
        };
        let mut found = vec![false; selection.len()];
        for number in self.fetch(query, during, |row| row.try_get::<i64, _>(0)).await? {
            if let Some(found) = usize::try_from(number).ok().and_then(|number| found.get_mut(number.wrapping_sub(1))) {
                *found = true;
            }
        }
        let part = |wanted: bool| selection.iter().zip(&found).filter(|(_, found)| **found == wanted).map(|(row, _)| *row).collect();
        Ok((part(true), part(false)))
    }
}

fn bind<'q>(statement: &Statement, step: &Step<'q>, selection: &'q [u32]) -> Result<PgQuery<'q>, sqlx::Error> {
    let mut query = sqlx::query(execute::text(&statement.text));
    for position in &statement.parameters {
        let Some(column) = step.rows.columns.get(*position) else {
            return Err(sqlx::Error::Encode(Box::new(super::array::ArrayError::WrongKind)));
        };
        let element = Element::of(&step.rows.target.column(*position).kind);
        query.try_bind(ColumnArray { column, selection, element }).map_err(sqlx::Error::Encode)?;
    }
    Ok(query)
}

#[async_trait]
impl Session for PostgresSession {
    async fn begin(&mut self) -> Result<(), Fault> {
        self.state.ensure_idle()?;
        let mut begun = match &self.names {
            SessionNames::Marked(mark) => self.simple(&mark.begin.clone()).await,
            SessionNames::Named | SessionNames::Unnamed => self.simple(&self.begin.clone()).await,
        };
        if begun.as_ref().is_err_and(pooler::is_missing) {
            self.options.names.met_pooler();
            self.names = SessionNames::Unnamed;
            begun = match self.simple(&"ROLLBACK".into()).await {
                Ok(()) => self.simple(&self.begin.clone()).await,
                Err(error) => Err(error),
            };
        }
        match begun {
            Ok(()) => {
                self.state = SessionState::Open;
                Ok(())
            }
            Err(error) => Err(self.failed(&error, During::Connect)),
        }
    }

    async fn lock(&mut self, pipeline: &str, partitions: &[Partition], wait: LockWait) -> Result<Vec<CheckpointRow>, Fault> {
        let topics: Vec<&str> = partitions.iter().map(|partition| &*partition.topic).collect();
        let indexes: Vec<i32> = partitions.iter().map(|partition| partition.index).collect();
        let sql = self.statements.lock(wait).clone();
        let query = sqlx::query(execute::text(&sql)).bind(pipeline).bind(topics).bind(indexes);
        self.fetch(query, During::Bookkeeping, stored::read).await
    }

    async fn with_rows(&mut self, pipeline: &str, topics: &[Arc<str>]) -> Result<Vec<Partition>, Fault> {
        let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        let sql = self.statements.with_rows.clone();
        let query = sqlx::query(execute::text(&sql)).bind(pipeline).bind(names);
        self.fetch(query, During::Bookkeeping, stored::partition).await
    }

    async fn insert_absent(&mut self, pipeline: &str, rows: &[CheckpointRow]) -> Result<(), Fault> {
        let sql = self.statements.insert_absent.clone();
        self.execute(bind_rows(&sql, pipeline, rows), During::Bookkeeping).await.map(|_| ())
    }

    async fn save(&mut self, pipeline: &str, rows: &[CheckpointRow]) -> Result<(), Fault> {
        let sql = self.statements.save.clone();
        let saved = self.execute(bind_rows(&sql, pipeline, rows), During::Bookkeeping).await?;
        if saved == rows.len() as u64 {
            return Ok(());
        }
        // They are locked, so none can be gone: going on would apply rows without moving their checkpoint.
        self.state = SessionState::Failed(FaultClass::Halt);
        Err(Fault::new(FaultClass::Halt, "checkpoint-not-saved", format!("{saved} of {} checkpoint rows were saved", rows.len())))
    }

    async fn write(&mut self, step: &Step<'_>) -> Result<Written, Fault> {
        let sent = step.selection.len() as u64;
        if sent == 0 {
            return Ok(Written::default());
        }
        let statements = self.statements_of(step);
        match &*statements {
            Statements::Nothing => Ok(Written::default()),
            Statements::EachRow(statement) => {
                for row in step.selection {
                    self.run_rows(step, statement, std::slice::from_ref(row)).await?;
                }
                Ok(Written::default())
            }
            Statements::Once(statement) => self.run_rows(step, statement, step.selection).await.map(|_| Written::default()),
            Statements::OnceGuarded(statement) => {
                let affected = self.run_rows(step, statement, step.selection).await?;
                Ok(Written { stale: sent.saturating_sub(affected), ..Written::default() })
            }
            Statements::Absent(statement) => {
                let rows = RowsToWrite::of(step);
                // Without a unique constraint the column may hold NULL, and a row under it would never be found again.
                rows.ensure_keys(step).inspect_err(|fault| self.state = SessionState::Failed(fault.class))?;
                let inserted = self.run_rows(step, statement, step.selection).await.map_err(|fault| rows.required(fault, "PostgreSQL 23502"))?;
                Ok(rows.found(sent.saturating_sub(inserted)))
            }
            Statements::Divided { first, existing, insert } => {
                let (_, others) = self.divide(step, first, step.selection).await?;
                if others.is_empty() {
                    return Ok(Written::default());
                }
                let (mut stale, mut absent) = (0, others);
                if step.guard.is_some() {
                    let (there, not_there) = self.divide(step, existing, &absent).await?;
                    absent = not_there;
                    // Only now is it certain: between the two another writer may have made a row, with an older version.
                    if !there.is_empty() {
                        stale = self.divide(step, first, &there).await?.1.len() as u64;
                    }
                }
                if let Some(insert) = insert
                    && !absent.is_empty()
                {
                    self.run_rows(step, insert, &absent).await.map_err(|fault| RowsToWrite::of(step).required(fault, "PostgreSQL 23502"))?;
                }
                Ok(Written { stale, ..Written::default() })
            }
        }
    }

    async fn audit(&mut self, audit: &Audit<'_>) -> Result<(), Fault> {
        let sql = self.statements.audit.clone();
        let query = sqlx::query(execute::text(&sql))
            .bind(audit.pipeline)
            .bind(&*audit.coordinate.partition.topic)
            .bind(audit.coordinate.partition.index)
            .bind(audit.coordinate.offset)
            .bind(audit.action)
            .bind(audit.who)
            .bind(audit.detail);
        self.execute(query, During::Bookkeeping).await.map(|_| ())
    }

    async fn commit(&mut self) -> Result<(), CommitError> {
        // COMMIT after a failure is answered by a rollback that looks like success.
        self.state.ensure_open().map_err(CommitError::Refused)?;
        let result = self.simple(&Arc::from("COMMIT")).await;
        match result {
            Ok(()) => {
                self.state = SessionState::Idle;
                Ok(())
            }
            Err(error) => {
                let broken = ends_session(&error);
                let fault = self.failed(&error, During::Commit);
                // A session that ends at COMMIT may have ended after it took effect.
                if broken {
                    return Err(CommitError::Unknown(fault));
                }
                // A refused COMMIT has rolled back.
                self.state = SessionState::Idle;
                Err(CommitError::Refused(fault))
            }
        }
    }

    async fn rollback(&mut self) -> Result<(), Fault> {
        if !self.state.needs_rollback()? {
            return Ok(());
        }
        let forget = self.state == SessionState::Failed(FaultClass::Changed);
        let mut result = self.simple(&Arc::from("ROLLBACK")).await;
        if result.is_ok() && forget {
            // A statement on a table that has changed would fail again.
            self.known.clear();
            let limit = self.answer_limit();
            result = within(limit, self.connection.clear_cached_statements()).await;
        }
        match result {
            Ok(()) => {
                self.state = SessionState::Idle;
                Ok(())
            }
            Err(error) => {
                let fault = self.failed(&error, During::Connect);
                self.state = SessionState::Broken;
                Err(fault)
            }
        }
    }
}

fn bind_rows<'q>(sql: &Arc<str>, pipeline: &'q str, rows: &'q [CheckpointRow]) -> PgQuery<'q> {
    fn all<'q, T>(rows: &'q [CheckpointRow], value: impl Fn(&'q CheckpointRow) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    sqlx::query(execute::text(sql))
        .bind(pipeline)
        .bind(all(rows, |row| &*row.partition.topic))
        .bind(all(rows, |row| row.partition.index))
        .bind(all(rows, |row| row.claim.epoch.0))
        .bind(all(rows, |row| row.claim.id.0))
        .bind(all(rows, |row| row.next_offset.get()))
        .bind(all(rows, |row| row.durable.get()))
        .bind(all(rows, |row| row.delivery.as_str()))
        .bind(all(rows, |row| &*row.cluster))
        .bind(all(rows, |row| &*row.group))
        .bind(all(rows, |row| &*row.owner))
        .bind(all(rows, |row| row.last.map(|last| last.offset)))
        .bind(all(rows, |row| row.last.map(|last| last.timestamp)))
        .bind(all(rows, |row| row.last.map(|last| last.hash)))
        .bind(all(rows, |row| row.batch.0))
        .bind(all(rows, |row| row.halt.as_ref().map(|halt| storable(&halt.reason))))
        .bind(all(rows, |row| row.halt.as_ref().map(|halt| storable(&halt.detail))))
        .bind(all(rows, |row| row.halt.as_ref().map(|halt| halt.offset)))
        .bind(all(rows, |row| row.halt.as_ref().map(|halt| halt.at)))
}

impl fmt::Debug for PostgresSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSession").field("options", &self.options).field("state", &self.state).finish_non_exhaustive()
    }
}
