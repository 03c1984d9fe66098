//! The checkpoint of a partition: the trait that the engine uses, and the row behind it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    claim::{ClaimAnswer, ClaimRequest},
    fault::Fault,
    model::{Batch, BatchId, Claim, Delivery, LastRecord, NextOffset, Partition},
    outcome::SpanOutcome,
};

/// The checkpoints of the pipelines in one database.
#[async_trait]
pub trait Checkpoint: fmt::Debug + Send + Sync {
    /// Takes partitions over: epoch + 1 and a new claim id each, the start durable before the first record is read.
    /// Of several partitions those whose row a transaction holds are answered [`NotClaimed::Failed`]; one alone waits for it.
    /// `Err`: nothing was claimed.
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimAnswer>, Fault>;

    /// What became of a batch whose reply was lost, for partitions that were given away since; waits for its transaction.
    async fn outcome(&self, batch: &Batch) -> Result<Vec<SpanOutcome>, Fault>;

    /// The rows of the pipeline as they are now, without a lock.
    async fn read(&self, pipeline: &str) -> Result<Vec<CheckpointRow>, Fault>;

    /// Stores why a partition stands still, or that it goes on (`None`). Best effort; moves nothing.
    /// With `held` only while the row is like that: a note of a zombie, or one that a batch has overtaken, is dropped.
    async fn note_halt(&self, pipeline: &str, partition: &Partition, held: Option<Held>, halt: Option<&StoredHalt>) -> Result<(), Fault>;

    /// Lets processed events expire, where something is due.
    async fn expire(&self, expiry: &Expiry) -> Result<Expired, Fault>;

    /// Lets tombstones of deletes expire that are older than this, by the clock of the database. Whether there may be more of them.
    async fn expire_tombstones(&self, pipeline: &str, retention: Duration) -> Result<bool, Fault>;

    /// The random id of this database, which Kafka commits carry.
    fn database_id(&self) -> Arc<str>;
}

/// What a worker knows when it looks whether processed events expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub pipeline: Arc<str>,
    pub retention: Duration,
    /// What Kafka has acknowledged as committed for the partitions of this worker.
    pub committed: Vec<(Partition, NextOffset)>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expired {
    Nothing,
    SomebodyElseLooks,
    /// A table of ids that had expired is empty now.
    Emptied,
    /// New ids go to the next table.
    RolledOver,
    /// Ids are old enough, but Kafka may deliver records of this partition again that brought some of them.
    Waits {
        partition: String,
    },
}

/// One row of `oncesink_checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRow {
    pub partition: Partition,
    /// Epoch 0: another partition's first claim made the row, with its start; nobody ever held it.
    pub claim: Claim,
    /// Under exactly-once the next offset; otherwise the floor under every start.
    pub next_offset: NextOffset,
    /// The highest next offset that a claim adopted or a batch of any delivery reached here. Never lowered, never a start.
    pub durable: NextOffset,
    /// The delivery of the last claim.
    pub delivery: Delivery,
    pub cluster: Arc<str>,
    pub group: Arc<str>,
    /// Who holds it, for people: host and process.
    pub owner: Arc<str>,
    pub last: Option<LastRecord>,
    /// The batch that moved the row last.
    pub batch: BatchId,
    pub halt: Option<StoredHalt>,
}

impl CheckpointRow {
    /// Everything below is durable here, or was before the first start.
    #[must_use]
    pub fn reached(&self) -> NextOffset {
        match self.delivery {
            Delivery::ExactlyOnce => self.next_offset,
            Delivery::AtMostOnce | Delivery::AtLeastOnce => self.next_offset.max(self.durable),
        }
    }
}

/// Why a partition stands still, as stored beside its checkpoint so that `status` tells it from anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHalt {
    pub reason: String,
    pub detail: String,
    /// The offset of the record at fault, or the next offset where no record is.
    pub offset: i64,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
}

/// A row as the worker that holds it left it: with it, a note that comes late changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub claim: Claim,
    /// Compared under exactly-once only; a weaker delivery does not move the row's next offset.
    pub next: NextOffset,
}
