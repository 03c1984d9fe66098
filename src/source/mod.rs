//! Where records come from: all that the engine knows of Kafka. [`kafka`] is the real one; the simulation has another.
//!
//! A source runs beside the engine. It sends [`Change`]s and [`Input`]s over two channels, and takes commands that never block.
//! Changes come before inputs: a rebalance is answered before the next record is taken.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use oncesink_sinks::{
    claim::Committed,
    model::{NextOffset, Partition},
};
use tokio::sync::mpsc::UnboundedReceiver;

pub mod kafka;
mod record;
mod topics;

pub use record::{Header, RecordRef, Records, RecordsBuilder};
pub use topics::TopicSelector;

/// Numbers one run of deliveries of a partition. The engine gives a higher one with each start; a record under another is stale and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// The engine's end of a source.
#[derive(Debug)]
pub struct Channels {
    pub changes: UnboundedReceiver<Change>,
    pub inputs: UnboundedReceiver<Input>,
}

/// What happens to the assignment. Bounded by rebalances, so its channel has no limit.
#[derive(Debug)]
pub enum Change {
    /// These partitions are ours from now on. Nothing is fetched of them until the reply, or a later [`Source::start`], says where.
    Assigned { partitions: Vec<Found>, topics: Vec<TopicFound>, reply: Reply<Vec<Start>> },
    /// They are about to be given away: the group waits for the reply, which says what to commit for them.
    Revoked { partitions: Vec<Partition>, reply: Reply<Vec<Commit>> },
    /// They are gone already. No offset of them may be committed.
    Lost { partitions: Vec<Partition> },
    /// The answer to [`Source::look_up`].
    LookedUp { partitions: Vec<Found>, topics: Vec<TopicFound> },
    /// The ends of the log as the client last heard them, about once a second; for the lag only.
    Ends { partitions: Vec<(Partition, Ends)> },
    /// What the group holds for these partitions: commits that have arrived, or what was there before. About once a second.
    Committed { partitions: Vec<(Partition, NextOffset)> },
    /// Kafka cannot be reached, or can again; for `/ready` and the log only.
    Reachable(Result<(), String>),
    /// The client cannot go on (fenced static member, authorization): the text says what to do.
    Failed { reason: &'static str, detail: String },
}

/// A partition as Kafka has it.
#[derive(Clone, Debug)]
pub struct Found {
    pub partition: Partition,
    pub committed: Committed,
    /// Log start and last stable offset; `None` where the look-up failed.
    pub ends: Option<Ends>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub low: NextOffset,
    pub high: NextOffset,
}

/// A topic as Kafka has it, looked up together with its first partitions.
#[derive(Clone, Debug)]
pub struct TopicFound {
    pub topic: Arc<str>,
    /// For each partition, by index: its ends, and where it starts by `kafka.start` (`None` under `error`).
    /// Empty where the look-up failed.
    pub partitions: Vec<(Ends, Option<NextOffset>)>,
}

/// Where to read a partition from, and under which number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub partition: Partition,
    pub sequence: Sequence,
    /// The first offset to fetch. `None`: stand still (halted).
    pub from: Option<NextOffset>,
}

/// An offset to be committed to Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub partition: Partition,
    pub next: NextOffset,
    pub metadata: String,
}

/// What is read.
#[derive(Debug)]
pub enum Input {
    /// Some records of one partition, in the order of the log.
    Records(Records),
    /// Everything below `next` was read; what is not delivered (control records, aborted ones) never will be.
    Passed { partition: Partition, sequence: Sequence, next: NextOffset },
    /// The topic was deleted and made again: everything before this was of the old one, and nothing follows before another start.
    Recreated { partition: Partition, sequence: Sequence },
    /// Kafka has not what was to be read next (an out-of-range answer): it stands still until it is started again.
    OutOfRange { partition: Partition, sequence: Sequence, ends: Ends },
}

/// Commands to a source. None of them blocks; what they cause comes back as a [`Change`].
pub trait Source: fmt::Debug + Send {
    /// Reads partitions from other offsets, or lets them stand still. Records of the run before are stale.
    /// Partitions that are not assigned any more are passed over.
    fn start(&mut self, starts: Vec<Start>);

    /// Commits offsets to Kafka, asynchronously. Advisory: the checkpoint is the truth. A failure is counted, never fatal.
    fn commit(&mut self, commits: Vec<Commit>);

    /// Asks Kafka again for committed offsets and ends; answered by [`Change::LookedUp`].
    fn look_up(&mut self, partitions: Vec<Partition>);

    /// Leaves the group: `Revoked` for all that is assigned, then the channels end.
    fn close(&mut self);

    /// What this process holds of records; shared with the thread that reads.
    fn buffer(&self) -> &Arc<Buffer>;

    /// Cluster id and group, known once the source is connected.
    fn identity(&self) -> Identity;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: Arc<str>,
    pub group: Arc<str>,
}

/// Counts the bytes of records between the source and the commit of their batch.
///
/// The source adds what it hands over and stops reading at the limit; the engine takes off what is done with;
/// the source goes on at a quarter. A pause discards what the client has prefetched, so the marks are far apart.
#[derive(Debug)]
pub struct Buffer {
    bytes: AtomicUsize,
    limit: usize,
}

impl Buffer {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), limit }
    }

    pub fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn release(&self, bytes: usize) {
        // Never below zero: a miscount must not stop the intake for ever.
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(bytes)));
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.limit
    }

    #[must_use]
    pub fn has_room_again(&self) -> bool {
        self.bytes() <= self.limit / 4
    }
}

/// Answers somebody who waits. It may have stopped waiting: then `send` is `false`.
pub struct Reply<T>(Box<dyn FnOnce(T) -> bool + Send>);

impl<T> Reply<T> {
    pub fn new(send: impl FnOnce(T) -> bool + Send + 'static) -> Self {
        Self(Box::new(send))
    }

    /// Whether somebody was still waiting.
    pub fn send(self, answer: T) -> bool {
        (self.0)(answer)
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
