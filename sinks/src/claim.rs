//! Claiming partitions: what is asked and what is answered.

use std::sync::Arc;

use crate::{
    fault::Fault,
    model::{BatchId, Claim, Delivery, Epoch, LastRecord, NextOffset, Partition},
    refusal::Refusal,
};

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
    /// Offsets below `next` that at-most-once has committed, and nobody has written; whatever they held.
    pub lost: i64,
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
