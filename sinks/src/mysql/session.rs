//! One connection and the transaction on it.

use std::{
    fmt,
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sqlx::{
    Connection, Executor, Row,
    mysql::{MySqlConnection, MySqlRow},
};

use super::{
    MySqlOptions,
    checkpoint::{CheckpointStatements, bind_key, bind_row},
    fault::{commit_is_refused, ends_session, fault, met_key},
    flavour::Flavour,
    statement::{LIMITS, Met, Statements, are_as_described, unique_indexes},
    value::{MySqlQuery, bind, size},
};
use crate::{
    checkpoint::CheckpointRow,
    chunks::chunks,
    execute,
    fault::{During, Fault, FaultClass, reason},
    model::{Partition, Table},
    nodelay::sending_at_once,
    session::{Audit, CommitError, LockWait, Session, Step, Written},
    session_state::SessionState,
    stored,
    write_plan::{RowsToWrite, WritePlan},
};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How much longer than the server's own limit an answer is waited for: past that the way there is broken.
const ANSWER_MARGIN: Duration = Duration::from_secs(15);
/// The server closes a connection that has been idle for its `wait_timeout`; an older one than this is made anew before it is used.
const FRESH: Duration = Duration::from_secs(5);

/// A dedicated connection, with its limits set and verified.
pub(super) struct MySqlSession {
    connection: MySqlConnection,
    pub options: Arc<MySqlOptions>,
    pub statements: Arc<CheckpointStatements>,
    pub flavour: Flavour,
    /// `SELECT VERSION()`.
    pub version: String,
    /// Bytes that a statement may have.
    packet: usize,
    state: SessionState,
    used: Instant,
    /// The unique key that the last failed statement met.
    met_key: Option<String>,
    /// Tables whose keys this transaction has found to be as described. It holds the tables, so they stay so until its end.
    checked: Vec<Arc<Table>>,
}

impl MySqlSession {
    pub async fn connect(options: Arc<MySqlOptions>, statements: Arc<CheckpointStatements>) -> Result<Self, Fault> {
        // Boxed: the driver's login is a future of 16 kB.
        let connecting = sending_at_once(options.connect.get_port(), Box::pin(MySqlConnection::connect_with(&options.connect)));
        let connection = within(CONNECT_LIMIT, connecting).await.map_err(|error| {
            let mut fault = fault(&error, During::Connect, Flavour::MySql, &options);
            fault.detail = format!("{} ({})", fault.detail, options.address());
            fault
        })?;
        let mut session = Self {
            connection,
            options,
            statements,
            flavour: Flavour::MySql,
            version: String::new(),
            packet: 0,
            // What is set and verified now is no transaction, but the same calls run it.
            state: SessionState::Open,
            used: Instant::now(),
            met_key: None,
            checked: Vec::new(),
        };
        session.set_up().await?;
        session.state = SessionState::Idle;
        Ok(session)
    }

    async fn set_up(&mut self) -> Result<(), Fault> {
        let query = sqlx::query("SELECT VERSION(), CAST(@@max_allowed_packet AS SIGNED)").persistent(false);
        let (version, packet) = self.fetch_one(query, During::Connect, |row| Ok((row.try_get::<String, _>(0)?, row.try_get::<i64, _>(1)?))).await?;
        self.flavour = Flavour::of(&version);
        self.flavour.ensure_supported(&version)?;
        self.packet = usize::try_from(packet).unwrap_or(1024 * 1024);
        self.version = version;
        let limits = self.flavour.limits(self.options.statement_timeout.as_millis());
        let set =
            format!("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION sql_mode = '{}', autocommit = 1, {limits}", self.flavour.sql_mode());
        self.run(set, During::Connect).await?;
        // A proxy between may answer for a server that it has not asked.
        let isolation = match self.flavour {
            Flavour::MySql => "@@SESSION.transaction_isolation",
            Flavour::MariaDb => "@@SESSION.tx_isolation",
        };
        let query = sqlx::query(execute::once(format!("SELECT @@SESSION.sql_mode, {isolation}"))).persistent(false);
        let (mode, isolation) = self.fetch_one(query, During::Connect, |row| Ok((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?))).await?;
        if !mode.split(',').any(|mode| mode == "STRICT_ALL_TABLES") || isolation != "READ-COMMITTED" {
            let detail = format!("sql_mode is {mode} and the isolation {isolation} although others were set");
            return Err(Fault::new(FaultClass::Halt, "session-settings", detail).with_mend("connect to the server without a proxy that shares sessions"));
        }
        Ok(())
    }

    fn answer_limit(&self) -> Duration {
        self.options.statement_timeout + ANSWER_MARGIN
    }

    /// Judges an error and remembers what it does to the session.
    fn failed(&mut self, error: &sqlx::Error, during: During<'_>) -> Fault {
        let mut fault = fault(error, during, self.flavour, &self.options);
        self.met_key = met_key(error);
        // MySQL has no limit of its own for what writes: ours must have a slow batch halved as well.
        let is_late = matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut);
        if is_late && matches!(during, During::Write { .. }) {
            (fault.class, fault.reason) = (FaultClass::Pause, reason::STATEMENT_TIMEOUT.into());
        }
        self.state = if ends_session(error) { SessionState::Broken } else { SessionState::Failed(fault.class) };
        fault
    }

    async fn simple(&mut self, sql: &Arc<str>) -> Result<(), sqlx::Error> {
        self.used = Instant::now();
        within(self.answer_limit(), self.connection.execute(sqlx::raw_sql(execute::text(sql)))).await.map(|_| ())
    }

    /// Runs a statement for the number of rows that it found (UPDATE, DELETE).
    pub async fn execute(&mut self, query: MySqlQuery<'_>, during: During<'_>) -> Result<u64, Fault> {
        self.state.ensure_open()?;
        self.used = Instant::now();
        let query = query.persistent(self.options.named_statements);
        match within(self.answer_limit(), self.connection.execute(query)).await {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => Err(self.failed(&error, during)),
        }
    }

    /// Runs a statement for its rows, each read by `read`.
    pub async fn fetch<T>(&mut self, query: MySqlQuery<'_>, during: During<'_>, read: impl Fn(&MySqlRow) -> Result<T, sqlx::Error>) -> Result<Vec<T>, Fault> {
        self.state.ensure_open()?;
        self.used = Instant::now();
        let query = query.persistent(self.options.named_statements);
        let rows = within(self.answer_limit(), self.connection.fetch_all(query)).await;
        match rows.and_then(|rows| rows.iter().map(read).collect()) {
            Ok(rows) => Ok(rows),
            Err(error) => Err(self.failed(&error, during)),
        }
    }

    async fn fetch_one<T>(&mut self, query: MySqlQuery<'_>, during: During<'_>, read: impl Fn(&MySqlRow) -> Result<T, sqlx::Error>) -> Result<T, Fault> {
        let first = self.fetch(query, during, read).await?.into_iter().next();
        first.ok_or_else(|| Fault::new(FaultClass::Halt, "unknown", "a statement that always has an answer has none"))
    }

    /// Runs a text without parameters and without an answer. One that defines something ends the transaction it is in.
    pub async fn run(&mut self, sql: String, during: During<'_>) -> Result<(), Fault> {
        self.state.ensure_open()?;
        match self.simple(&sql.into()).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(&error, during)),
        }
    }

    /// Runs a statement on the given columns of some rows, in statements of many rows. Tells what `each` tells of every one, in sum.
    async fn run_rows(&mut self, step: &Step<'_>, positions: &[usize], selection: &[u32], text: impl Fn(usize) -> String) -> Result<u64, Fault> {
        let table = &step.rows.target.table.name;
        let mut affected = 0;
        for chunk in self.chunks(step, positions, selection) {
            let query = self.bind_rows(step, positions, chunk, text(chunk.len()))?;
            affected += self.execute(query, During::Write { table }).await?;
        }
        Ok(affected)
    }

    /// Runs of rows that fit into one statement and one message. A row that fits into none goes alone, and the server refuses it.
    fn chunks<'r>(&self, step: &Step<'_>, positions: &[usize], selection: &'r [u32]) -> Vec<&'r [u32]> {
        let bytes = |row: &u32| -> usize {
            let cells = positions.iter().filter_map(|position| step.rows.columns.get(*position));
            cells.map(|column| size(column.cell(*row as usize))).sum()
        };
        let mut open: Vec<&[u32]> = chunks(selection, positions.len(), LIMITS);
        open.reverse();
        let mut fitting = Vec::new();
        while let Some(chunk) = open.pop() {
            if chunk.len() > 1 && chunk.iter().map(bytes).sum::<usize>() > self.packet / 2 {
                let (left, right) = chunk.split_at(chunk.len() / 2);
                open.extend([right, left]);
            } else {
                fitting.push(chunk);
            }
        }
        fitting
    }

    fn bind_rows<'q>(&mut self, step: &Step<'q>, positions: &[usize], rows: &[u32], text: String) -> Result<MySqlQuery<'q>, Fault> {
        let mut query = sqlx::query(execute::once(text));
        for row in rows {
            for position in positions {
                let column = step.rows.columns.get(*position);
                let bound = match column {
                    Some(column) => bind(query, column.cell(*row as usize), step.rows.target.column(*position)),
                    None => Err(Fault::new(FaultClass::Changed, "type-changed", "a row has fewer columns than its target")),
                };
                query = bound.inspect_err(|fault| self.state = SessionState::Failed(fault.class))?;
            }
        }
        Ok(query)
    }

    /// Runs a statement on one row for the number of rows it found.
    async fn run_row(&mut self, step: &Step<'_>, positions: &[usize], row: u32, text: &str) -> Result<u64, Fault> {
        let query = self.bind_rows(step, positions, &[row], text.to_owned())?;
        self.execute(query, During::Write { table: &step.rows.target.table.name }).await
    }

    async fn exists(&mut self, step: &Step<'_>, statements: &Statements<'_>, row: u32) -> Result<bool, Fault> {
        let query = self.bind_rows(step, &step.rows.target.key, &[row], statements.exists())?;
        Ok(!self.fetch(query, During::Write { table: &step.rows.target.table.name }, |_| Ok(())).await?.is_empty())
    }

    /// An upsert here names no key: without the one it is meant for it would write every row anew, and with another one the wrong row.
    async fn ensure_keys_are_as_described(&mut self, step: &Step<'_>) -> Result<(), Fault> {
        let table = &step.rows.target.table;
        if self.checked.iter().any(|checked| Arc::ptr_eq(checked, table)) {
            return Ok(());
        }
        let during = During::Write { table: &table.name };
        let query = sqlx::query(execute::once(unique_indexes(&table.name)))
            .bind(table.name.schema.as_ref().map(|schema| schema.as_str().to_owned()))
            .bind(table.name.name.as_str().to_owned());
        let parts = self.fetch(query, during, |row| Ok((row.try_get::<String, _>(0)?, row.try_get::<Option<String>, _>(1)?))).await?;
        if are_as_described(table, &parts) {
            self.checked.push(table.clone());
            return Ok(());
        }
        self.state = SessionState::Failed(FaultClass::Changed);
        Err(Fault::new(FaultClass::Changed, "missing-key", format!("the unique keys of {} are not what they were", table.name))
            .with_mend(format!("give {} a primary key or a unique constraint on the key columns", table.name)))
    }

    async fn insert(&mut self, step: &Step<'_>, statements: &Statements<'_>, selection: &[u32], met: Met) -> Result<u64, Fault> {
        let inserted = self.run_rows(step, &statements.rows.written(), selection, |rows| statements.insert(rows, met)).await;
        let is_known = |name: &str| step.rows.target.table.columns.iter().any(|column| column.name.as_str() == name);
        inserted.map_err(|fault| match &fault.column {
            // A column that was added since, without a default: the table's fault, not the record's.
            Some(column) if fault.reason == reason::NOT_NULL && !is_known(column) => {
                Fault { class: FaultClass::Changed, reason: "missing-column".into(), ..fault }
            }
            _ => fault,
        })
    }

    /// Rows that lost, of some that were written under a guard. Not asked where every one was changed.
    async fn stale_among(&mut self, step: &Step<'_>, statements: &Statements<'_>, written: u64) -> Result<u64, Fault> {
        let sent = step.selection.len() as u64;
        // An inserted row counts once, a changed one twice, and one that is left as it is once.
        if written == 2 * sent {
            return Ok(0);
        }
        let positions = statements.sent_for_stale();
        let mut stale = 0;
        for chunk in self.chunks(step, &positions, step.selection) {
            let query = self.bind_rows(step, &positions, chunk, statements.stale(chunk.len()))?;
            let lost = self.fetch_one(query, During::Write { table: &step.rows.target.table.name }, |row| row.try_get::<i64, _>(0)).await?;
            stale += u64::try_from(lost).unwrap_or(0);
        }
        Ok(stale)
    }

    /// Sets the rows that are there, by their key alone; gives those that are not, and how many lost.
    async fn update(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<(Vec<u32>, u64), Fault> {
        let is_set = !statements.rows.settable().is_empty();
        let (sent, text) = (statements.sent_for_update(), statements.update());
        let (mut absent, mut stale) = (Vec::new(), 0);
        for row in step.selection {
            if is_set && self.run_row(step, &sent, *row, &text).await? > 0 {
                continue;
            }
            // Without a guard an update finds every row that is there.
            let there = (!is_set || step.guard.is_some()) && self.exists(step, statements, *row).await?;
            if !there {
                absent.push(*row);
            } else if is_set && self.run_row(step, &sent, *row, &text).await? == 0 {
                // Only now is it certain: between the two another writer may have made the row, with an older version.
                stale += 1;
            }
        }
        Ok((absent, stale))
    }

    async fn update_else_insert(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<Written, Fault> {
        let (absent, stale) = self.update(step, statements).await?;
        let code = format!("{} 1364", self.flavour);
        match self.insert(step, statements, &absent, Met::Fails).await {
            Ok(_) => Ok(Written { stale }),
            // Another writer made the row after it was looked for: the next attempt finds it.
            Err(fault) if self.met_key.as_deref().is_some_and(|key| statements.is_own_key(key)) => {
                Err(Fault { class: FaultClass::Retry, reason: "row-made-meanwhile".into(), ..fault })
            }
            Err(fault) => Err(statements.rows.required(fault, &code)),
        }
    }

    async fn delete(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<(), Fault> {
        let key = &step.rows.target.key;
        if statements.delete_several(1).is_some() {
            self.run_rows(step, key, step.selection, |rows| statements.delete_several(rows).unwrap_or_default()).await?;
            return Ok(());
        }
        let text = statements.delete();
        for row in step.selection {
            self.run_row(step, key, *row, &text).await?;
        }
        Ok(())
    }

    async fn delete_guarded(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<Written, Fault> {
        let (sent, text) = (statements.sent_for_delete(), statements.delete_guarded());
        let mut stale = 0;
        for row in step.selection {
            if self.run_row(step, &sent, *row, &text).await? == 0 && self.exists(step, statements, *row).await? {
                stale += 1;
            }
        }
        Ok(Written { stale })
    }
}

/// Gives `work` an upper bound. What it leaves behind is a broken connection, which is never used again.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs())))),
    }
}

#[async_trait]
impl Session for MySqlSession {
    async fn begin(&mut self) -> Result<(), Fault> {
        self.state.ensure_idle()?;
        if self.used.elapsed() > FRESH {
            *self = Self::connect(self.options.clone(), self.statements.clone()).await?;
        }
        match self.simple(&Arc::from("START TRANSACTION")).await {
            Ok(()) => {
                self.state = SessionState::Open;
                self.checked.clear();
                Ok(())
            }
            Err(error) => Err(self.failed(&error, During::Connect)),
        }
    }

    async fn lock(&mut self, pipeline: &str, partitions: &[Partition], wait: LockWait) -> Result<Vec<CheckpointRow>, Fault> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = sqlx::query(execute::once(self.statements.lock(partitions.len(), wait))).bind(pipeline);
        for partition in partitions {
            query = query.bind(&*partition.topic).bind(partition.index);
        }
        self.fetch(query, During::Bookkeeping, stored::read).await
    }

    async fn with_rows(&mut self, pipeline: &str, topics: &[Arc<str>]) -> Result<Vec<Partition>, Fault> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = sqlx::query(execute::once(self.statements.with_rows(topics.len()))).bind(pipeline);
        for topic in topics {
            query = query.bind(&**topic);
        }
        self.fetch(query, During::Bookkeeping, stored::partition).await
    }

    async fn insert_absent(&mut self, pipeline: &str, rows: &[CheckpointRow]) -> Result<(), Fault> {
        let statements = self.statements.clone();
        for row in rows {
            let query = bind_row(sqlx::query(execute::once(statements.insert_absent.clone())), pipeline, row);
            self.execute(bind_key(query, pipeline, row), During::Bookkeeping).await?;
        }
        Ok(())
    }

    async fn save(&mut self, pipeline: &str, rows: &[CheckpointRow]) -> Result<(), Fault> {
        let statements = self.statements.clone();
        for row in rows {
            let saved = self.execute(bind_row(sqlx::query(execute::once(statements.save.clone())), pipeline, row), During::Bookkeeping).await?;
            if saved != 1 {
                // It is locked, so it cannot be gone: going on would apply rows without moving their checkpoint.
                self.state = SessionState::Failed(FaultClass::Halt);
                return Err(Fault::new(FaultClass::Halt, "checkpoint-not-saved", format!("the checkpoint row of {} is gone", row.partition)));
            }
        }
        Ok(())
    }

    async fn write(&mut self, step: &Step<'_>) -> Result<Written, Fault> {
        self.state.ensure_open()?;
        let statements = Statements { rows: RowsToWrite::of(step), flavour: self.flavour };
        // A key column that numbers itself would make up a number for NULL.
        statements.rows.ensure_keys(step).inspect_err(|fault| self.state = SessionState::Failed(fault.class))?;
        let plan = statements.rows.plan(step.operation);
        if matches!(plan, WritePlan::InsertAbsent | WritePlan::Upsert | WritePlan::UpsertGuarded | WritePlan::UpdateElseInsert) {
            self.ensure_keys_are_as_described(step).await?;
        }
        match plan {
            WritePlan::Nothing => Ok(Written::default()),
            WritePlan::Defaults => {
                let table = &step.rows.target.table.name;
                for _ in step.selection {
                    self.execute(sqlx::query(execute::once(statements.defaults())), During::Write { table }).await?;
                }
                Ok(Written::default())
            }
            WritePlan::Insert => self.insert(step, &statements, step.selection, Met::Fails).await.map(|_| Written::default()),
            WritePlan::InsertAbsent | WritePlan::Upsert | WritePlan::UpsertGuarded if !statements.has_one_key() => {
                self.update_else_insert(step, &statements).await
            }
            WritePlan::InsertAbsent | WritePlan::Upsert => self.insert(step, &statements, step.selection, Met::IsSet).await.map(|_| Written::default()),
            WritePlan::UpsertGuarded => {
                let written = self.insert(step, &statements, step.selection, Met::IsSet).await?;
                Ok(Written { stale: self.stale_among(step, &statements, written).await? })
            }
            WritePlan::UpdateElseInsert => self.update_else_insert(step, &statements).await,
            WritePlan::Update => self.update(step, &statements).await.map(|_| Written::default()),
            WritePlan::UpdateGuarded => self.update(step, &statements).await.map(|(_, stale)| Written { stale }),
            WritePlan::Delete => self.delete(step, &statements).await.map(|()| Written::default()),
            WritePlan::DeleteGuarded => self.delete_guarded(step, &statements).await,
        }
    }

    async fn audit(&mut self, audit: &Audit<'_>) -> Result<(), Fault> {
        let statements = self.statements.clone();
        let query = sqlx::query(execute::once(statements.audit.clone()))
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
        match self.simple(&Arc::from("COMMIT")).await {
            Ok(()) => {
                self.state = SessionState::Idle;
                Ok(())
            }
            Err(error) => {
                let refused = commit_is_refused(&error);
                let fault = self.failed(&error, During::Commit);
                // Whatever else is answered, it may have taken effect: the connection is not used again, and the row is asked.
                if !refused {
                    self.state = SessionState::Broken;
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
        let forget = self.state == SessionState::Failed(FaultClass::Changed);
        let mut result = self.simple(&Arc::from("ROLLBACK")).await;
        if result.is_ok() && forget {
            // A statement on a table that has changed would fail again.
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

impl fmt::Debug for MySqlSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlSession").field("options", &self.options).field("state", &self.state).finish_non_exhaustive()
    }
}
