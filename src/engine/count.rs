//! What happened, counted: in the report, which people read, and in the metrics, in one place.

use std::sync::Arc;

use oncesink_sinks::{
    fault::Fault,
    model::{Batch, LeftOut, LeftOutBecause, Partition},
    sink::Applied,
};
use tokio::time::Instant;

use super::run::Engine;
use crate::telemetry::metrics::{self, Outcome};

impl Engine {
    /// Each record leaves the engine once, by route: applied, deduplicated, stale, filtered, skipped or lost.
    pub fn count_batch(&mut self, batch: &Batch, applied: &Applied) {
        self.report.totals.batches += 1;
        let mut rows_of_batch = 0;
        for (position, rows) in batch.content.rows.iter().enumerate() {
            let selected = batch.selection(rows).len() as u64;
            rows_of_batch += selected;
            let of = |counts: &[u64], most: u64| counts.get(position).copied().unwrap_or(0).min(most);
            let deduplicated = of(&applied.deduplicated, selected);
            let stale = of(&applied.stale, selected - deduplicated);
            let written = selected - deduplicated - stale;
            metrics::records(&self.settings.pipeline, &rows.target.route, Outcome::Applied, "", written);
            metrics::records(&self.settings.pipeline, &rows.target.route, Outcome::Deduplicated, "", deduplicated);
            metrics::records(&self.settings.pipeline, &rows.target.route, Outcome::Stale, "", stale);
            let counts = self.route_counts(&rows.target.route);
            counts.applied += written;
            counts.deduplicated += deduplicated;
            counts.stale += stale;
        }
        metrics::batch_rows(&self.settings.pipeline, rows_of_batch);
        self.count_left_out(batch);
    }

    /// The rows of a batch that was committed to Kafka and never written.
    pub fn count_lost(&mut self, batch: &Batch) {
        for rows in &batch.content.rows {
            let selected = batch.selection(rows).len() as u64;
            self.add_lost(&rows.target.route.clone(), selected);
        }
        for left_out in left_out_of(batch) {
            self.add_lost(&left_out.route, 1);
        }
    }

    /// Offsets of a partition that were committed to Kafka and never written, found by its claim: whatever they held.
    pub fn count_lost_offsets(&mut self, partition: &Partition, lost: i64) {
        let Ok(lost @ 1..) = u64::try_from(lost) else { return };
        tracing::warn!(pipeline = %self.settings.pipeline, %partition, "{lost} offsets were committed and never written: what they held is lost (at-most-once)");
        let routes: Vec<_> =
            self.topics.get(&partition.topic).into_iter().flat_map(|plan| plan.routes.iter().map(|route| route.target.route.clone())).collect();
        for route in routes {
            self.add_lost(&route, lost);
        }
    }

    fn add_lost(&mut self, route: &Arc<str>, lost: u64) {
        metrics::records(&self.settings.pipeline, route, Outcome::Lost, "", lost);
        self.route_counts(route).lost += lost;
    }

    fn count_left_out(&mut self, batch: &Batch) {
        for left_out in left_out_of(batch) {
            let (pipeline, route) = (self.settings.pipeline.clone(), &left_out.route);
            let counts = self.route_counts(route);
            match &left_out.because {
                LeftOutBecause::Filtered => {
                    counts.filtered += 1;
                    metrics::records(&pipeline, route, Outcome::Filtered, "", 1);
                }
                LeftOutBecause::Skipped(rule) => {
                    *counts.skipped.entry(rule.clone()).or_default() += 1;
                    metrics::records(&pipeline, route, Outcome::Skipped, rule, 1);
                }
            }
        }
    }

    pub fn count_claim(&mut self) {
        self.report.totals.claims += 1;
        metrics::claimed(&self.settings.pipeline);
    }

    pub fn count_fenced(&mut self, partition: &Partition) {
        self.report.totals.fenced += 1;
        metrics::fenced(&self.settings.pipeline);
        tracing::warn!(pipeline = %self.settings.pipeline, %partition, "fenced: another worker has claimed this partition");
    }

    pub fn count_rewind(&mut self) {
        self.report.totals.rewinds += 1;
        metrics::rewound(&self.settings.pipeline);
    }

    pub fn count_rebalance(&mut self) {
        self.report.totals.rebalances += 1;
        metrics::rebalanced(&self.settings.pipeline);
    }

    /// An attempt of a batch or a claim failed, and is made again at `at`.
    pub fn count_retry(&mut self, fault: &Fault, at: Instant) {
        let (class, wait) = (fault.class.as_str(), at.saturating_duration_since(Instant::now()));
        *self.report.totals.retries.entry(class).or_default() += 1;
        self.report.totals.retry_time += wait;
        metrics::retry(&self.settings.pipeline, class, wait);
    }
}

/// What the batch, narrowed as it is, has no row for.
fn left_out_of(batch: &Batch) -> Vec<&LeftOut> {
    if batch.content.left_out.is_empty() {
        return Vec::new();
    }
    let mut inside = vec![false; batch.content.records.len()];
    for (index, _) in batch.records() {
        inside[index] = true;
    }
    batch.content.left_out.iter().filter(|left_out| inside.get(left_out.record as usize).copied().unwrap_or(false)).collect()
}
