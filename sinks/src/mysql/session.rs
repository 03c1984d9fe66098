//! One connection and the transaction on it.

use std::{
    fmt, io,
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
    value::MySqlQuery,
};
use crate::{
    checkpoint::CheckpointRow,
    execute,
    fault::{During, Fault, FaultClass, reason},
    model::{Partition, Table},
    nodelay::sending_at_once,
    session::{Audit, CommitError, LockWait, Session, Step, Written},
    session_state::SessionState,
    stored,
    within::{ANSWER_MARGIN, CONNECT_LIMIT, within},
};

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
    pub packet: usize,
    pub state: SessionState,
    used: Instant,
    /// The unique key that the last failed statement met.
    pub met_key: Option<String>,
    /// Tables whose keys this transaction has found to be as described. It holds the tables, so they stay so until its end.
    pub checked: Vec<Arc<Table>>,
    /// Of tables that accumulate, whether they have CHECKs; as this transaction has found them.
    pub checks: Vec<(Arc<Table>, bool)>,
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
            checks: Vec::new(),
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

    pub async fn fetch_one<T>(&mut self, query: MySqlQuery<'_>, during: During<'_>, read: impl Fn(&MySqlRow) -> Result<T, sqlx::Error>) -> Result<T, Fault> {
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
                self.checks.clear();
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
        self.write_rows(step).await
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
