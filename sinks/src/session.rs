//! What one database gives: connections, its catalogue and its bookkeeping. Everything that is decided, is decided elsewhere.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    checkpoint::{CheckpointRow, Held, StoredHalt},
    fault::Fault,
    model::{Coordinate, Operation, Partition, Rows, Shape, Table, TableName},
    processed_events::ProcessedEvents,
    tombstone_table::TombstoneTable,
};

/// A database server or file, with the settings to reach it.
#[async_trait]
pub trait Database: fmt::Debug + Send + Sync + 'static {
    /// `PostgreSQL`, `SQLite`: for people.
    fn kind(&self) -> &'static str;

    /// Opens a connection with its limits set and verified.
    async fn connect(&self) -> Result<Box<dyn Session>, Fault>;

    async fn describe(&self, table: &TableName) -> Result<Table, Fault>;

    /// What `plan` prints of the server.
    async fn facts(&self) -> Result<DatabaseFacts, Fault>;

    /// Whether the bookkeeping tables are there, and what would make them. Changes nothing.
    async fn bookkeeping(&self) -> Result<Bookkeeping, Fault>;

    /// Creates or updates the bookkeeping tables, under a lock; two workers may do so at once. Nothing where they are current.
    async fn migrate(&self) -> Result<(), Fault>;

    /// The statements that give `role` the least it needs to run with these targets.
    fn grants(&self, role: &str, targets: &[TableName]) -> Vec<String>;

    /// The rows of a pipeline as they are, without a lock.
    async fn checkpoints(&self, pipeline: &str) -> Result<Vec<CheckpointRow>, Fault>;

    /// Other pipelines that have checkpoints of this topic here, and how many offsets they have passed: a pipeline that was renamed
    /// would write an append table once more.
    async fn others_of(&self, pipeline: &str, topic: &str) -> Result<Vec<(String, i64)>, Fault>;

    /// The random id of this database, made by the first migration.
    async fn database_id(&self) -> Result<Arc<str>, Fault>;

    /// Stores or clears the reason why a partition stands still. Moves nothing.
    async fn note_halt(&self, pipeline: &str, partition: &Partition, held: Option<Held>, halt: Option<&StoredHalt>) -> Result<(), Fault>;

    /// Leaves out the record at which a partition is halted: moves its checkpoint over it and writes an audit row, in one transaction.
    async fn skip(&self, pipeline: &str, coordinate: &Coordinate, who: &str, mode: SkipMode) -> Result<Skip, Fault>;
}

/// A database for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Without credentials: `db:5432/shop as shop_app`.
    pub address: String,
    /// `PostgreSQL 15.18`.
    pub version: String,
    /// Settings that weaken what oncesink promises: `synchronous_commit = off`.
    pub warnings: Vec<String>,
}

/// The state of the bookkeeping tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bookkeeping {
    Current,
    /// What is still to be run, in order, and whether this role may.
    Needed {
        statements: Vec<String>,
        allowed: bool,
    },
    /// Made by a newer oncesink that this one must not run beside.
    Newer {
        found: i64,
        known: i64,
    },
}

/// How far `skip` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipMode {
    /// Nothing is changed.
    Look,
    LeaveOut,
}

/// What `skip` found, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    Done,
    /// It would be done under [`SkipMode::LeaveOut`].
    Possible {
        halt: StoredHalt,
    },
    /// The partition is not halted at this record.
    NotHaltedThere {
        row: Option<CheckpointRow>,
    },
}

/// Whether a locking read waits for rows that somebody else holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    Wait,
    /// Locked rows are left out of the answer.
    SkipLocked,
}

/// One connection, and at most one transaction on it. A session that returned a connection fault is closed, not used again.
#[async_trait]
pub trait Session: ProcessedEvents + TombstoneTable + fmt::Debug + Send {
    /// So that a row that is locked is read as it was last committed, with the server's own limits where it has them.
    async fn begin(&mut self) -> Result<(), Fault>;

    /// The checkpoint rows of these partitions, locked to the end of the transaction in the order given, which is sorted.
    async fn lock(&mut self, pipeline: &str, partitions: &[Partition], wait: LockWait) -> Result<Vec<CheckpointRow>, Fault>;

    /// The partitions of these topics that have a row in the pipeline, whatever its state and whoever holds it; read without a lock.
    async fn with_rows(&mut self, pipeline: &str, topics: &[Arc<str>]) -> Result<Vec<Partition>, Fault>;

    /// Inserts rows where there is none; an existing one stays as it is, and is not waited for.
    async fn insert_absent(&mut self, pipeline: &str, rows: &[CheckpointRow]) -> Result<(), Fault>;

    /// Overwrites rows that this transaction has locked.
    async fn save(&mut self, pipeline: &str, rows: &[CheckpointRow]) -> Result<(), Fault>;

    /// Applies rows of one target, one operation and one shape by one statement (or a few, where the database must).
    async fn write(&mut self, step: &Step<'_>) -> Result<Written, Fault>;

    /// Adds a row to what people had done to checkpoints.
    async fn audit(&mut self, audit: &Audit<'_>) -> Result<(), Fault>;

    async fn commit(&mut self) -> Result<(), CommitError>;

    /// Best effort; the session is fit for the next `begin` if it returns `Ok`.
    async fn rollback(&mut self) -> Result<(), Fault>;
}

/// COMMIT did not answer `done`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// The server said no: nothing took effect.
    Refused(Fault),
    /// No answer: only the database knows.
    Unknown(Fault),
}

/// Ends a transaction whose effect may be looked up by whoever asks again.
pub(crate) async fn finish(session: &mut dyn Session) -> Result<(), Fault> {
    session.commit().await.map_err(|(CommitError::Refused(fault) | CommitError::Unknown(fault))| fault)
}

/// What a person had done to the checkpoint of one record.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a> {
    pub pipeline: &'a str,
    pub coordinate: &'a Coordinate,
    pub action: &'static str,
    /// Who had it done: person and host.
    pub who: &'a str,
    pub detail: &'a str,
}

/// Rows that one statement applies. Each key occurs once; the rows are sorted by key, so that two batches never wait for each other in a circle.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub rows: &'a Rows,
    pub operation: Operation,
    pub shape: &'a Shape,
    pub selection: &'a [u32],
    /// The column (a position in the target) whose newer value wins.
    pub guard: Option<usize>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows that lost against a newer version in the table. Only known (and only asked) under a guard.
    pub stale: u64,
    /// Rows that found their key there. Only known (and only asked) under `insert-if-new`.
    pub deduplicated: u64,
}
