//! What the engine tells of itself: published now and then, read by `/metrics`, `/status`, `/ready` and the end of `run`.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use oncesink_sinks::model::{Claim, NextOffset, Partition};

use super::halt::Halt;

/// A snapshot of one pipeline.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The group has answered: partitions were assigned at least once, or the group gave this member none.
    pub joined: bool,
    /// Why Kafka cannot be reached at the moment.
    pub unreachable: Option<String>,
    /// Why batches fail at the moment and are tried again.
    pub failing: Option<String>,
    pub stopping: bool,
    pub partitions: BTreeMap<Partition, PartitionReport>,
    /// By route: what became of its records.
    pub routes: BTreeMap<Arc<str>, RouteCounts>,
    pub totals: Totals,
    /// Bytes of records that this process holds.
    pub buffer_bytes: usize,
}

#[derive(Clone, Debug)]
pub struct PartitionReport {
    pub state: PartitionState,
    pub claim: Claim,
    pub checkpoint: NextOffset,
    pub committed: Option<NextOffset>,
    /// The last stable offset as last heard.
    pub end: Option<NextOffset>,
}

impl PartitionReport {
    /// Records between checkpoint and end of the log; control records count, as everywhere in Kafka.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        self.end.map(|end| (end.get() - self.checkpoint.get()).max(0))
    }

    #[must_use]
    pub fn is_halted(&self) -> bool {
        matches!(self.state, PartitionState::Halted(_))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionState {
    Claiming,
    Running,
    Draining,
    Halted(Halt),
}

/// The records of one route, by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteCounts {
    pub applied: u64,
    pub deduplicated: u64,
    pub filtered: u64,
    pub stale: u64,
    /// Under at-most-once: committed to Kafka, and never written. Too many rather than too few: a crash can have some counted twice.
    pub lost: u64,
    /// By rule.
    pub skipped: BTreeMap<Cow<'static, str>, u64>,
}

impl RouteCounts {
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.values().sum()
    }
}

/// Counters of the whole pipeline since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub records_read: u64,
    /// Records that Kafka delivered again, or would have by its committed offsets, and that the checkpoint stopped.
    pub redelivered: u64,
    pub batches: u64,
    pub claims: u64,
    pub fenced: u64,
    pub rewinds: u64,
    pub rebalances: u64,
    pub unknown_commits: u64,
    /// By class of the fault.
    pub retries: BTreeMap<&'static str, u64>,
    pub retry_time: Duration,
}
