//! One connection and the transaction on it. The whole file is locked from BEGIN on, so the checkpoint rows are too.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rand::Rng;
use sqlx::{
    Connection, Executor, Row,
    sqlite::{SqliteConnection, SqliteRow},
};

use super::{
    SqliteOptions, checkpoint,
    fault::{ends_session, fault, is_busy, is_without_transaction},
    same_file::FileId,
    statement::{LIMITS, Statements},
    value::{SqliteQuery, bind},
};
use crate::{
    checkpoint::CheckpointRow,
    chunks::chunks,
    execute,
    fault::{During, Fault, FaultClass},
    model::Partition,
    session::{Audit, CommitError, LockWait, Session, Step, Written},
    session_state::SessionState,
    stored,
    write_plan::{RowsToWrite, WritePlan},
};

/// How a transaction takes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Reads only; waits for nobody.
    Nothing,
    Write,
    /// Nobody reads either: for migrations.
    All,
}

pub(super) struct SqliteSession {
    connection: SqliteConnection,
    options: Arc<SqliteOptions>,
    /// The file that was opened, where its path tells.
    file: Option<FileId>,
    state: SessionState,
    /// When the transaction took the file.
    took: Instant,
    /// Others want the file too, and may have it until then.
    gives_way_until: Option<Instant>,
    shared: bool,
}

impl SqliteSession {
    pub async fn connect(options: Arc<SqliteOptions>) -> Result<Self, Fault> {
        let deadline = Instant::now() + options.lock_timeout;
        loop {
            let before = FileId::of(&options.path);
            match open(&options).await {
                Ok(connection) => {
                    let file = before.or_else(|| FileId::of(&options.path));
                    return Ok(Self { connection, options, file, state: SessionState::Idle, took: Instant::now(), gives_way_until: None, shared: false });
                }
                // Two processes that switch a fresh file to WAL at once are told `locked`, whatever the timeout.
                Err(error) if is_busy(&error) && Instant::now() < deadline => wait_a_little().await,
                Err(error) => return Err(fault(&error, During::Connect)),
            }
        }
    }

    pub async fn begin_holding(&mut self, hold: Hold) -> Result<(), Fault> {
        self.state.ensure_idle()?;
        if self.file.is_some_and(|opened| FileId::of(&self.options.path) != Some(opened)) {
            self.state = SessionState::Broken;
            return Err(Fault::new(
                FaultClass::Retry,
                "file-replaced",
                format!("{} is another file than the one that was opened", self.options.path.display()),
            ));
        }
        let begin = match hold {
            Hold::Nothing => "BEGIN",
            Hold::Write => "BEGIN IMMEDIATE",
            Hold::All => "BEGIN EXCLUSIVE",
        };
        if hold != Hold::Nothing
            && let Some(until) = self.gives_way_until.take()
        {
            tokio::time::sleep_until(until.into()).await;
        }
        let deadline = Instant::now() + self.options.lock_timeout;
        loop {
            match self.connection.execute(begin).await {
                Ok(_) => {
                    (self.state, self.took) = (SessionState::Open, Instant::now());
                    return Ok(());
                }
                Err(error) if is_busy(&error) && Instant::now() < deadline => wait_a_little().await,
                Err(error) => return Err(self.failed(&error, During::Connect)),
            }
        }
    }

    /// The file's lock is not fair: who has just let it go is the first to take it again.
    fn give_way(&mut self) {
        let gap = self.options.gap.max(gap_after(self.took.elapsed()));
        self.gives_way_until = self.shared.then(|| Instant::now() + gap);
    }

    fn failed(&mut self, error: &sqlx::Error, during: During<'_>) -> Fault {
        let fault = fault(error, during);
        self.state = match (ends_session(error), self.state) {
            (true, _) => SessionState::Broken,
            (false, SessionState::Open | SessionState::Failed(_)) => SessionState::Failed(fault.class),
            (false, SessionState::Idle | SessionState::Broken) => SessionState::Idle,
        };
        fault
    }

    pub async fn execute(&mut self, query: SqliteQuery<'_>, during: During<'_>) -> Result<u64, Fault> {
        self.state.ensure_open()?;
        match self.connection.execute(query).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.failed(&error, during)),
        }
    }

    pub async fn fetch<T>(&mut self, query: SqliteQuery<'_>, during: During<'_>, read: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>) -> Result<Vec<T>, Fault> {
        self.state.ensure_open()?;
        let rows = self.connection.fetch_all(query).await;
        match rows.and_then(|rows| rows.iter().map(read).collect()) {
            Ok(rows) => Ok(rows),
            Err(error) => Err(self.failed(&error, during)),
        }
    }

    /// Runs a statement on the given columns of some rows, in statements of many rows.
    async fn run_rows(&mut self, step: &Step<'_>, positions: &[usize], selection: &[u32], text: impl Fn(usize) -> String) -> Result<u64, Fault> {
        let table = &step.rows.target.table.name;
        let mut affected = 0;
        for chunk in chunks(selection, positions.len(), LIMITS) {
            let mut query = sqlx::query(execute::once(text(chunk.len())));
            for row in chunk {
                for position in positions {
                    query = self.bind_cell(query, step, *position, *row)?;
                }
            }
            affected += self.execute(query, During::Write { table }).await?;
        }
        Ok(affected)
    }

    pub fn bind_cell<'q>(&mut self, query: SqliteQuery<'q>, step: &Step<'q>, position: usize, row: u32) -> Result<SqliteQuery<'q>, Fault> {
        let column =
            step.rows.columns.get(position).ok_or_else(|| Fault::new(FaultClass::Changed, "type-changed", "a row has fewer columns than its target"))?;
        let bound = bind(query, column.cell(row as usize), step.rows.target.column(position));
        if let Err(fault) = &bound {
            self.state = SessionState::Failed(fault.class);
        }
        bound
    }

    /// Parts the rows into those whose key is in the table and the others.
    async fn divide(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<(Vec<u32>, Vec<u32>), Fault> {
        let table = &step.rows.target.table.name;
        let mut found = vec![false; step.selection.len()];
        let mut number = 0_i64;
        for chunk in chunks(step.selection, statements.rows.target.key.len() + 1, LIMITS) {
            let mut query = sqlx::query(execute::once(statements.existing(chunk.len())));
            for row in chunk {
                query = query.bind(number);
                number += 1;
                for position in &statements.rows.target.key {
                    query = self.bind_cell(query, step, *position, *row)?;
                }
            }
            for existing in self.fetch(query, During::Write { table }, |row| row.try_get::<i64, _>(0)).await? {
                if let Some(found) = usize::try_from(existing).ok().and_then(|existing| found.get_mut(existing)) {
                    *found = true;
                }
            }
        }
        let part = |wanted: bool| step.selection.iter().zip(&found).filter(|(_, found)| **found == wanted).map(|(row, _)| *row).collect();
        Ok((part(true), part(false)))
    }

    async fn update(&mut self, step: &Step<'_>, statements: &Statements<'_>, selection: &[u32]) -> Result<u64, Fault> {
        self.run_rows(step, &statements.sent_for_update(), selection, |rows| statements.update(rows)).await
    }

    async fn insert(&mut self, step: &Step<'_>, statements: &Statements<'_>, selection: &[u32]) -> Result<u64, Fault> {
        self.run_rows(step, &statements.rows.written(), selection, |rows| statements.insert(rows)).await
    }
}

async fn open(options: &SqliteOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = SqliteConnection::connect_with(&options.connect).await?;
    let mode: String = sqlx::query("PRAGMA journal_mode").fetch_one(&mut connection).await?.try_get(0)?;
    if mode != "wal" {
        sqlx::query("PRAGMA journal_mode = WAL").execute(&mut connection).await?;
    }
    Ok(connection)
}

/// Short and random: whoever waits gets a turn in the gaps of the others.
async fn wait_a_little() {
    let microseconds = rand::rng().random_range(1_000..LONGEST_WAIT);
    tokio::time::sleep(Duration::from_micros(microseconds)).await;
}

/// In microseconds.
const LONGEST_WAIT: u64 = 10_000;

/// A tenth of what the others have waited. After a long transaction that is longer than they sleep, so that their turn is certain: a few
/// lost ones would be seconds. After a short one it is not, and costs little; the next turn comes soon.
fn gap_after(held: Duration) -> Duration {
    (held / 10).min(Duration::from_micros(LONGEST_WAIT + 2_000))
}

#[async_trait]
impl Session for SqliteSession {
    async fn begin(&mut self) -> Result<(), Fault> {
        self.begin_holding(Hold::Write).await
    }

    async fn lock(&mut self, pipeline: &str, partitions: &[Partition], wait: LockWait) -> Result<Vec<CheckpointRow>, Fault> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        // Nobody else can hold a row: this transaction holds the file.
        let mut query = sqlx::query(execute::once(checkpoint::lock(partitions.len()))).bind(pipeline);
        for partition in partitions {
            query = query.bind(&*partition.topic).bind(partition.index);
        }
        let rows = self.fetch(query, During::Bookkeeping, stored::read).await?;
        if wait == LockWait::Wait
            && let Some(row) = rows.first()
        {
            let query = sqlx::query(checkpoint::SHARED).bind(&*row.owner);
            self.shared = self.fetch(query, During::Bookkeeping, |row| row.try_get::<bool, _>(0)).await?.contains(&true);
        }
        Ok(rows)
    }

    async fn with_rows(&mut self, pipeline: &str, topics: &[Arc<str>]) -> Result<Vec<Partition>, Fault> {
        let mut query = sqlx::query(execute::once(checkpoint::with_rows(topics.len()))).bind(pipeline);
        for topic in topics {
            query = query.bind(&**topic);
        }
        self.fetch(query, During::Bookkeeping, stored::partition).await
    }

    async fn insert_absent(&mut self, pipeline: &str, rows: &[CheckpointRow]) -> Result<(), Fault> {
        for row in rows {
            self.execute(checkpoint::bind_row(sqlx::query(checkpoint::INSERT_ABSENT), pipeline, row), During::Bookkeeping).await?;
        }
        Ok(())
    }

    async fn save(&mut self, pipeline: &str, rows: &[CheckpointRow]) -> Result<(), Fault> {
        for row in rows {
            let saved = self.execute(checkpoint::bind_row(sqlx::query(checkpoint::SAVE), pipeline, row), During::Bookkeeping).await?;
            if saved != 1 {
                // Going on would apply rows without moving their checkpoint.
                self.state = SessionState::Failed(FaultClass::Halt);
                return Err(Fault::new(FaultClass::Halt, "checkpoint-not-saved", format!("the checkpoint row of {} is gone", row.partition)));
            }
        }
        Ok(())
    }

    async fn write(&mut self, step: &Step<'_>) -> Result<Written, Fault> {
        self.state.ensure_open()?;
        let statements = Statements { rows: RowsToWrite::of(step) };
        // SQLite takes a NULL in a primary key, and makes up a number for one.
        statements.rows.ensure_keys(step).inspect_err(|fault| self.state = SessionState::Failed(fault.class))?;
        match statements.rows.plan(step.operation) {
            WritePlan::Nothing => Ok(Written::default()),
            WritePlan::Defaults => {
                let table = &step.rows.target.table.name;
                for _ in step.selection {
                    self.execute(sqlx::query(execute::once(statements.defaults())), During::Write { table }).await?;
                }
                Ok(Written::default())
            }
            WritePlan::Insert | WritePlan::Upsert => self.insert(step, &statements, step.selection).await.map(|_| Written::default()),
            WritePlan::InsertAbsent => {
                let inserted = self.insert(step, &statements, step.selection).await?;
                Ok(statements.rows.found((step.selection.len() as u64).saturating_sub(inserted)))
            }
            WritePlan::LookElseInsert => {
                let sent = statements.sent_where_absent();
                let inserted = self.run_rows(step, &sent, step.selection, |rows| statements.insert_where_absent(rows)).await;
                let inserted = inserted.map_err(|fault| statements.rows.required(fault, "SQLite 1299"))?;
                Ok(statements.rows.found((step.selection.len() as u64).saturating_sub(inserted)))
            }
            WritePlan::UpsertGuarded => {
                let affected = self.insert(step, &statements, step.selection).await?;
                Ok(Written { stale: (step.selection.len() as u64).saturating_sub(affected), ..Written::default() })
            }
            WritePlan::UpdateElseInsert | WritePlan::Accumulate => {
                let (existing, absent) = self.divide(step, &statements).await?;
                let affected = self.update(step, &statements, &existing).await?;
                self.insert(step, &statements, &absent).await.map_err(|fault| statements.rows.required(fault, "SQLite 1299"))?;
                let stale = if step.guard.is_some() { (existing.len() as u64).saturating_sub(affected) } else { 0 };
                Ok(Written { stale, ..Written::default() })
            }
            WritePlan::Update => self.update(step, &statements, step.selection).await.map(|_| Written::default()),
            WritePlan::UpdateGuarded => {
                let (existing, _) = self.divide(step, &statements).await?;
                let affected = self.update(step, &statements, &existing).await?;
                Ok(Written { stale: (existing.len() as u64).saturating_sub(affected), ..Written::default() })
            }
            WritePlan::Delete => {
                let key = &step.rows.target.key;
                self.run_rows(step, key, step.selection, |rows| statements.delete(rows)).await.map(|_| Written::default())
            }
            WritePlan::DeleteGuarded => {
                let (existing, _) = self.divide(step, &statements).await?;
                let sent = statements.rows.sent_for_delete();
                let mut deleted = 0;
                for row in &existing {
                    deleted += self.run_rows(step, &sent, std::slice::from_ref(row), |_| statements.delete_guarded()).await?;
                }
                Ok(Written { stale: (existing.len() as u64).saturating_sub(deleted), ..Written::default() })
            }
        }
    }

    async fn audit(&mut self, audit: &Audit<'_>) -> Result<(), Fault> {
        let query = sqlx::query(checkpoint::AUDIT)
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
        self.state.ensure_open().map_err(CommitError::Refused)?;
        match self.connection.execute("COMMIT").await {
            Ok(_) => {
                self.state = SessionState::Idle;
                self.give_way();
                Ok(())
            }
            Err(error) => {
                // What a failed write of the log left behind, only the next look at the file tells.
                let in_doubt = ends_session(&error);
                let fault = self.failed(&error, During::Commit);
                if in_doubt {
                    return Err(CommitError::Unknown(fault));
                }
                match self.rollback().await {
                    Ok(()) => Err(CommitError::Refused(fault)),
                    Err(_) => Err(CommitError::Unknown(fault)),
                }
            }
        }
    }

    async fn rollback(&mut self) -> Result<(), Fault> {
        if !self.state.needs_rollback()? {
            return Ok(());
        }
        match self.connection.execute("ROLLBACK").await {
            Ok(_) => {}
            // Some errors (a full disk) have rolled back by themselves.
            Err(error) if is_without_transaction(&error) => {}
            Err(error) => {
                let fault = self.failed(&error, During::Connect);
                self.state = SessionState::Broken;
                return Err(fault);
            }
        }
        self.state = SessionState::Idle;
        self.give_way();
        Ok(())
    }
}

impl fmt::Debug for SqliteSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSession").field("path", &self.options.path).field("state", &self.state).finish_non_exhaustive()
    }
}
