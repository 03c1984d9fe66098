//! The engine: takes records from a source, gathers them to batches, has them applied, and commits what is durable.
//!
//! It talks to traits ([`Source`], [`Sink`], [`Checkpoint`], [`Router`]) and to tokio's clock, so that several engines run in one
//! deterministic simulation. What happens is decided in the loop ([`run`]); nothing in it awaits a transaction: batches and claims
//! run in tasks that are never cancelled, and their outcomes come back as events.
//!
//! | file | holds |
//! | --- | --- |
//! | `run` | the loop: what may happen, in order of urgency |
//! | `lane`, `ledger` | one partition: its state; what is taken, applied, committed |
//! | `open_batch`, `intake` | records into the batch that is being filled |
//! | `claim`, `claimed` | a partition from assigned to claimed, and from claimed to running |
//! | `altered`, `gap` | what others did to the group's offsets; a start that does not fit the log |
//! | `writer` | a batch from closed to handed over |
//! | `settle`, `split` | what its outcome means: applied, fenced, lost reply; which record is at fault |
//! | `commit`, `at_most_once` | what is durable, told to Kafka; what is told before it is written |
//! | `drain` | revoked, lost, shutdown |
//! | `halt`, `halting`, `backoff` | why a lane stands still, and how it comes to; waiting |
//! | `expire`, `expire_tombstones` | the ids of processed events expire, and deletes that were remembered |
//! | `count`, `report`, `publish` | what the engine tells of itself |
//! | `until_end` | the checkpoint rows, read now and then: idle lanes, `--until-end` |
//! | `trace` | what the simulation sees of all that |

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use oncesink_sinks::{
    checkpoint::Checkpoint,
    model::{NextOffset, Partition},
    sink::Sink,
};
use tokio::sync::watch;

use crate::{
    route::Router,
    source::{Channels, Source},
};

mod altered;
mod at_most_once;
mod backoff;
mod claim;
mod claimed;
mod commit;
mod count;
mod drain;
mod expire;
mod expire_tombstones;
mod gap;
mod halt;
mod halting;
mod intake;
mod lane;
mod ledger;
mod open_batch;
mod publish;
mod report;
mod run;
mod settle;
mod split;
pub mod trace;
mod until_end;
mod writer;

pub use gap::first_offset;
pub use halt::Halt;
pub use report::{PartitionReport, PartitionState, Report, RouteCounts, Totals};

/// What an engine is made of.
#[derive(Debug)]
pub struct Parts {
    pub settings: EngineSettings,
    pub source: Box<dyn Source>,
    pub channels: Channels,
    pub sink: Arc<dyn Sink>,
    pub checkpoint: Arc<dyn Checkpoint>,
    pub router: Arc<dyn Router>,
    /// Makes batch ids and jitter; random wherever more than one process runs.
    pub seed: u64,
    /// Receives a snapshot twice a second and at the end.
    pub report: watch::Sender<Report>,
}

#[derive(Clone, Debug)]
pub struct EngineSettings {
    pub pipeline: Arc<str>,
    /// Who holds a partition, for people: host and process.
    pub owner: Arc<str>,
    /// How a person reaches the pipeline's Kafka and names its file, for messages.
    pub brokers: Arc<str>,
    pub file: Arc<str>,
    /// `kafka.group` is written in the file: what others committed there is taken over.
    pub adopts_commits: bool,
    /// Connections that write. Partitions stick to one.
    pub writers: usize,
    pub batch: BatchLimits,
    pub retry: RetrySettings,
    pub records_per_second: Option<u32>,
    pub shutdown_timeout: Duration,
    /// How long a revocation may wait for batches in flight; below what the source grants its callback.
    pub drain_timeout: Duration,
    /// Ends once every one of these is reached, by whomever.
    pub until_end: Option<BTreeMap<Partition, NextOffset>>,
    /// How often a halted partition is tried again.
    pub halt_retry: Duration,
    /// How often an idle lane compares its checkpoint, and tables are described again.
    pub idle_check: Duration,
    /// How long the ids of processed events are kept. None: no route keeps any.
    pub processed_event_retention: Option<Duration>,
    /// How long deletes are remembered. None: no route compares with deletes.
    pub tombstone_retention: Option<Duration>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            pipeline: Arc::from("oncesink"),
            owner: Arc::from(""),
            brokers: Arc::from("BROKERS"),
            file: Arc::from("FILE"),
            adopts_commits: false,
            writers: 4,
            batch: BatchLimits::default(),
            retry: RetrySettings::default(),
            records_per_second: None,
            shutdown_timeout: Duration::from_secs(25),
            drain_timeout: Duration::from_secs(8),
            until_end: None,
            halt_retry: Duration::from_secs(30),
            idle_check: Duration::from_secs(30),
            processed_event_retention: None,
            tombstone_retention: None,
        }
    }
}

/// A batch closes on whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub rows: usize,
    pub bytes: usize,
    /// Since its first record, once its writer is free.
    pub linger: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { rows: 5000, bytes: 8 << 20, linger: Duration::from_millis(50) }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct RetrySettings {
    pub initial_delay: Duration,
    pub max_delay: Duration,
    /// None: never.
    pub give_up_after: Option<Duration>,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { initial_delay: Duration::from_millis(100), max_delay: Duration::from_secs(30), give_up_after: None }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The last snapshot: what was applied, and which partitions are halted.
    pub report: Report,
    /// `shutdown_timeout` passed before everything in flight had settled. Nothing is lost: it is read again.
    pub drain_cut: bool,
    /// `retry.give_up_after` passed: what could not be reached.
    pub gave_up: Option<String>,
    /// The Kafka client cannot go on: why, and what to do.
    pub failed: Option<String>,
}

/// Runs until `shutdown` completes (or, with `until_end`, the end is reached), then drains.
///
/// Not cancel safe: drop it only where the process ends. What a crash or a drop can do is what `delivery` says.
pub async fn run(parts: Parts, shutdown: impl Future<Output = ()>) -> Ended {
    run::Engine::new(parts).run(shutdown).await
}
