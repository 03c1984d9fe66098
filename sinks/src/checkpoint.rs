//! The checkpoint of a partition: its row, how it is claimed, and the trait that the engine uses.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    fault::Fault,
    fence::Standing,
    model::{Batch, BatchId, Claim, Delivery, Epoch, LastRecord, NextOffset, Partition},
};

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
            Delivery::AtLeastOnce => self.next_offset.max(self.durable),
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

/// What Kafka's group says of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The look-up failed. Never the same as nothing.
    Unknown,
    Nothing,
    At {
        next: NextOffset,
        metadata: String,
    },
}

/// A partition to be claimed, and all that its start may depend on.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub partition: Partition,
    pub delivery: Delivery,
    /// The epoch under which this worker has held it, if it has since it was assigned: then there was a row.
    pub held: Option<Epoch>,
    pub committed: Committed,
    /// Where a partition without row and commit starts by `kafka.start`. None: `kafka.start: error`, or not known.
    pub start: Option<NextOffset>,
    /// The beginning of the log: where a partition starts that is new in a topic with rows.
    pub beginning: Option<NextOffset>,
}

/// One claim of some partitions.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    pub pipeline: Arc<str>,
    pub cluster: Arc<str>,
    pub group: Arc<str>,
    pub owner: Arc<str>,
    /// `kafka.group` is written in the file: offsets that somebody else committed there are taken over.
    pub adopts_commits: bool,
    pub wanted: Vec<Wanted>,
    /// Where the other partitions of these topics start, should this be the first claim of their topic.
    pub siblings: Vec<(Partition, NextOffset)>,
}

/// What became of one partition of a claim.
#[derive(Clone, Debug)]
pub struct ClaimAnswer {
    pub partition: Partition,
    pub result: Result<Claimed, NotClaimed>,
}

/// A partition is ours from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub claim: Claim,
    pub next: NextOffset,
    pub durable: NextOffset,
    /// The record that must lie below `next`, should it still be delivered.
    pub last: Option<LastRecord>,
    pub because: StartReason,
    /// The batch that moved the row last, before this claim.
    pub batch: BatchId,
}

/// Why a partition starts where it does, for `plan` and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReason {
    Checkpoint,
    CommittedOffset,
    /// `kafka.start`
    Policy,
    /// The topic has grown: a new partition starts at its beginning.
    NewPartition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotClaimed {
    /// The row (or its absence) and Kafka contradict each other; nothing was changed.
    Refused(Refusal),
    /// The start depends on the committed offset, whose look-up failed: ask Kafka again.
    NeedsCommitted,
    /// Its row could not be had, the others' could.
    Failed(Fault),
}

/// Why a partition is not claimed. Each is a halt that a person ends; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The checkpoint belongs to another cluster or group: two deployments with one name.
    AnotherDeployment { cluster: Arc<str>, group: Arc<str>, owner: Arc<str> },
    /// The group has offsets that oncesink did not commit, and the file does not name the group.
    ForeignCommit { committed: NextOffset },
    /// We committed, but the database holds no claim: it was recreated, or restored to before the first claim.
    CommittedButNeverClaimed { committed: NextOffset },
    /// The commit was made beside another database.
    AnotherDatabase { committed: NextOffset, theirs: String, ours: String },
    /// The commit is above what ever was durable here: the database was recreated or restored.
    CommittedAboveDurable { committed: NextOffset, durable: NextOffset },
    /// The row that this worker held is gone, and Kafka does not tell of it: where the partition stood, only a person may know.
    CheckpointGone { held: Epoch },
    /// No checkpoint, no committed offset, and `kafka.start: error`.
    NoStart,
}

impl Refusal {
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::AnotherDeployment { .. } => "another-deployment",
            Self::ForeignCommit { .. } => "foreign-commit",
            Self::CommittedButNeverClaimed { .. } | Self::AnotherDatabase { .. } => "another-database",
            Self::CommittedAboveDurable { .. } => "committed-above-durable",
            Self::CheckpointGone { .. } => "checkpoint-gone",
            Self::NoStart => "no-start",
        }
    }

    /// Whether this database is not what the commits or this worker stood beside, or is so no longer.
    #[must_use]
    pub const fn is_about_the_database(&self) -> bool {
        matches!(self, Self::CommittedButNeverClaimed { .. } | Self::AnotherDatabase { .. } | Self::CommittedAboveDurable { .. } | Self::CheckpointGone { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnotherDeployment { cluster, group, owner } => {
                write!(f, "the checkpoint belongs to group {group} on cluster {cluster} (last held by {owner}); give one of the two another name")
            }
            Self::ForeignCommit { committed } => {
                write!(f, "the group has an offset ({committed}) that oncesink did not commit; to take it over write kafka.group")
            }
            Self::CommittedButNeverClaimed { committed } => {
                write!(
                    f,
                    "oncesink has committed {committed} to Kafka, but this database holds no checkpoint: it was recreated, or restored to before the first claim"
                )
            }
            Self::AnotherDatabase { committed, theirs, ours } => {
                write!(f, "offset {committed} was committed beside database {theirs}, this one is {ours}")
            }
            Self::CommittedAboveDurable { committed, durable } => {
                write!(f, "Kafka holds committed offset {committed}, but nothing above {durable} was ever durable here: the database was recreated or restored")
            }
            Self::CheckpointGone { held } => {
                write!(f, "the checkpoint row that this worker held (epoch {}) is gone: somebody deleted it, or the database was restored to before it", held.0)
            }
            Self::NoStart => write!(f, "there is no checkpoint and no committed offset, and kafka.start is error"),
        }
    }
}

/// What became of a span whose reply was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanOutcome {
    pub partition: Partition,
    pub standing: Standing,
    /// The row's batch is this batch: it did take effect, whatever came later.
    pub same_batch: bool,
}

impl SpanOutcome {
    #[must_use]
    pub fn took_effect(&self) -> bool {
        self.same_batch || self.standing == Standing::Applied
    }

    /// The row is as the batch found it.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        !self.same_batch && self.standing == Standing::Mine
    }

    /// How the batch stands there, now that the outcome is known.
    #[must_use]
    pub fn settled(&self) -> Standing {
        if self.same_batch && self.standing == Standing::Mine { Standing::Applied } else { self.standing.clone() }
    }

    /// One transaction that took effect in one partition and not in another: no database does that.
    #[must_use]
    pub fn are_torn(outcomes: &[Self]) -> bool {
        outcomes.iter().any(Self::took_effect) && outcomes.iter().any(Self::is_untouched)
    }
}

/// The checkpoints of one pipeline in its database.
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

    /// The random id of this database, which Kafka commits carry.
    fn database_id(&self) -> Arc<str>;
}
