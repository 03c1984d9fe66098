//! Every metric: its name, unit, labels and meaning, in this one place. What records one calls a function of this module.
//!
//! They are called once a batch or more rarely, never once a record, so each call looks its handle up anew.
//! Without an installed recorder (in the library and in the simulation) they do nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use oncesink_sinks::model::Partition;

pub const RECORDS: &str = "oncesink_records_total";
pub const LAG_RECORDS: &str = "oncesink_lag_records";
pub const LAG_SECONDS: &str = "oncesink_lag_seconds";
pub const PARTITION_HALTED: &str = "oncesink_partition_halted";
pub const BATCH_ROWS: &str = "oncesink_batch_rows";
pub const BATCH_SECONDS: &str = "oncesink_batch_seconds";
pub const RETRIES: &str = "oncesink_retries_total";
pub const RETRY_SECONDS: &str = "oncesink_retry_seconds_total";
pub const FENCED: &str = "oncesink_fenced_total";
pub const CLAIMS: &str = "oncesink_claims_total";
pub const REWINDS: &str = "oncesink_rewinds_total";
pub const REBALANCES: &str = "oncesink_rebalances_total";
pub const DRAIN_SECONDS: &str = "oncesink_drain_seconds";
pub const OFFSET_COMMIT_FAILURES: &str = "oncesink_offset_commit_failures_total";
pub const BUFFER_BYTES: &str = "oncesink_buffer_bytes";
pub const BUILD_INFO: &str = "oncesink_build_info";

/// Bounds of the histograms, in the unit of their metric.
pub const BOUNDS: &[(&str, &[f64])] = &[
    (BATCH_ROWS, &[1.0, 10.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0]),
    (BATCH_SECONDS, &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
    (DRAIN_SECONDS, &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0]),
];

/// Gives every metric its help and unit. To be called once, after a recorder is installed.
pub fn describe() {
    describe_counter!(RECORDS, Unit::Count, "Records that left the engine, by route, outcome and reason; outcomes sum to the records read");
    describe_gauge!(LAG_RECORDS, Unit::Count, "Offsets between a partition's checkpoint and the end of its log");
    describe_gauge!(LAG_SECONDS, Unit::Seconds, "Age of the newest record below a partition's checkpoint, 0 where nothing is left to read");
    describe_gauge!(PARTITION_HALTED, Unit::Count, "1 while a partition stands still, with the reason");
    describe_histogram!(BATCH_ROWS, Unit::Count, "Rows of a batch that took effect, of all its routes");
    describe_histogram!(BATCH_SECONDS, Unit::Seconds, "Time from handing a batch to a writer to its outcome");
    describe_counter!(RETRIES, Unit::Count, "Attempts of a batch or claim that failed and are made again, by class of the failure");
    describe_counter!(RETRY_SECONDS, Unit::Seconds, "Time waited before attempts that are made again");
    describe_counter!(FENCED, Unit::Count, "Batches that the fence turned away because another worker holds a partition");
    describe_counter!(CLAIMS, Unit::Count, "Partitions claimed in the database");
    describe_counter!(REWINDS, Unit::Count, "Partitions whose checkpoint went back in time: the database was restored");
    describe_counter!(REBALANCES, Unit::Count, "Changes of the assignment by the group");
    describe_histogram!(DRAIN_SECONDS, Unit::Seconds, "Time to finish what is in flight before partitions are given back");
    describe_counter!(OFFSET_COMMIT_FAILURES, Unit::Count, "Offset commits to Kafka that failed; the checkpoint is the truth, so nothing is lost");
    describe_gauge!(BUFFER_BYTES, Unit::Bytes, "Records held between Kafka and the COMMIT of their batch");
    describe_gauge!(BUILD_INFO, Unit::Count, "1, with the version that runs");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// What became of records for one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Applied,
    /// Its effect was there already.
    Deduplicated,
    /// Nothing of it concerned the route.
    Filtered,
    /// It lost against a newer version.
    Stale,
    /// Committed to Kafka and never written, under at-most-once.
    Lost,
    /// A bad record, left out by `on_bad_record: skip` or the command `skip`.
    Skipped,
}

impl Outcome {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Deduplicated => "deduplicated",
            Self::Filtered => "filtered",
            Self::Stale => "stale",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
        }
    }
}

/// How an attempt to apply a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchResult {
    Committed,
    Aborted,
    Timeout,
    /// COMMIT was sent and its reply is lost.
    Unknown,
}

impl BatchResult {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Timeout => "timeout",
            Self::Unknown => "unknown",
        }
    }
}

/// `reason`: empty where the outcome says it all, else the rule that a bad record breaks.
pub fn records(pipeline: &Arc<str>, route: &Arc<str>, outcome: Outcome, reason: &str, count: u64) {
    if count > 0 {
        counter!(RECORDS, "pipeline" => pipeline.clone(), "route" => route.clone(), "outcome" => outcome.as_str(), "reason" => reason.to_owned())
            .increment(count);
    }
}

pub fn batch(pipeline: &Arc<str>, result: BatchResult, took: Duration) {
    histogram!(BATCH_SECONDS, "pipeline" => pipeline.clone(), "result" => result.as_str()).record(took.as_secs_f64());
}

/// Of a batch that took effect.
pub fn batch_rows(pipeline: &Arc<str>, rows: u64) {
    histogram!(BATCH_ROWS, "pipeline" => pipeline.clone()).record(count_as_float(rows));
}

/// An attempt failed and is made again after `wait`. `class`: of [`oncesink_sinks::fault::FaultClass`].
pub fn retry(pipeline: &Arc<str>, class: &'static str, wait: Duration) {
    counter!(RETRIES, "pipeline" => pipeline.clone(), "class" => class).increment(1);
    // A counter takes whole numbers only, so the parts of a second are kept here until they make one.
    let mut waited = WAITED.lock().unwrap_or_else(PoisonError::into_inner);
    let total = waited.entry(pipeline.clone()).or_default();
    *total += wait;
    counter!(RETRY_SECONDS, "pipeline" => pipeline.clone()).absolute(total.as_secs());
}

static WAITED: Mutex<BTreeMap<Arc<str>, Duration>> = Mutex::new(BTreeMap::new());

pub fn fenced(pipeline: &Arc<str>) {
    counter!(FENCED, "pipeline" => pipeline.clone()).increment(1);
}

pub fn claimed(pipeline: &Arc<str>) {
    counter!(CLAIMS, "pipeline" => pipeline.clone()).increment(1);
}

pub fn rewound(pipeline: &Arc<str>) {
    counter!(REWINDS, "pipeline" => pipeline.clone()).increment(1);
}

pub fn rebalanced(pipeline: &Arc<str>) {
    counter!(REBALANCES, "pipeline" => pipeline.clone()).increment(1);
}

pub fn drained(pipeline: &Arc<str>, took: Duration) {
    histogram!(DRAIN_SECONDS, "pipeline" => pipeline.clone()).record(took.as_secs_f64());
}

/// By group, because only the Kafka client knows of them.
pub fn offset_commit_failed(group: &str, count: u64) {
    if count > 0 {
        counter!(OFFSET_COMMIT_FAILURES, "group" => group.to_owned()).increment(count);
    }
}

pub fn buffer(pipeline: &Arc<str>, bytes: usize) {
    gauge!(BUFFER_BYTES, "pipeline" => pipeline.clone()).set(count_as_float(bytes as u64));
}

/// How far a partition is behind the end of its log.
pub fn lag(pipeline: &Arc<str>, partition: &Partition, records: u64, seconds: f64) {
    gauge!(LAG_RECORDS, "pipeline" => pipeline.clone(), "topic" => partition.topic.clone(), "partition" => partition.index.to_string())
        .set(count_as_float(records));
    gauge!(LAG_SECONDS, "pipeline" => pipeline.clone(), "topic" => partition.topic.clone(), "partition" => partition.index.to_string()).set(seconds);
}

/// A partition stands still for `reason`, or (`halted: false`) does so no longer.
pub fn halted(pipeline: &Arc<str>, partition: &Partition, reason: &str, halted: bool) {
    gauge!(
        PARTITION_HALTED,
        "pipeline" => pipeline.clone(),
        "topic" => partition.topic.clone(),
        "partition" => partition.index.to_string(),
        "reason" => reason.to_owned()
    )
    .set(if halted { 1.0 } else { 0.0 });
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn count_as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_histogram_has_bounds_that_rise() {
        for (name, bounds) in BOUNDS {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{name}");
        }
    }
}
