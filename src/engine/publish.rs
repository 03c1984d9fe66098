//! The report and the gauges, twice a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::{
    backoff::Backoff,
    lane::Lane,
    run::{Engine, Phase},
};
use crate::telemetry::metrics;

/// How often snapshots are published.
const REPORT_EVERY: Duration = Duration::from_millis(500);

impl Engine {
    pub fn publish(&mut self) {
        self.publish_at = Instant::now() + REPORT_EVERY;
        // Everything is given back at the end; where each partition stood then is what people ask for.
        if self.phase == Phase::Running {
            self.report.partitions.clear();
        }
        self.report.partitions.extend(self.lanes.iter().map(|(partition, lane)| (partition.clone(), lane.report())));
        self.report.failing = self.failing();
        self.report.buffer_bytes = self.buffer.bytes();
        self.report.stopping = self.phase != Phase::Running;
        self.gauge();
        self.publish.send_replace(self.report.clone());
    }

    /// Of what is still to be tried again here; not of what was given away.
    fn failing(&self) -> Option<String> {
        let batches = self.writers.iter().filter(|slot| !slot.is_idle()).map(|slot| &slot.backoff);
        let claims = self.lanes.values().map(|lane| &lane.backoff);
        batches.chain(claims).find_map(Backoff::failure).cloned()
    }

    /// What this process says of a partition must not outlive its lane: another process tells from here on.
    pub fn reset_gauges(&self, lane: &Lane) {
        let pipeline = &self.settings.pipeline;
        if let Some(halt) = &lane.halted {
            metrics::halted(pipeline, &lane.partition, &halt.reason, false);
        }
        metrics::lag(pipeline, &lane.partition, 0, 0.0);
    }

    fn gauge(&self) {
        let pipeline = &self.settings.pipeline;
        metrics::buffer(pipeline, self.report.buffer_bytes);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        for (partition, lane) in &self.lanes {
            let records = lane.ends.map_or(0, |ends| u64::try_from(ends.high.get() - lane.ledger.applied().get()).unwrap_or(0));
            let behind = lane
                .newest
                .filter(|_| records > 0)
                .map_or(0.0, |newest| (now - Duration::from_millis(u64::try_from(newest).unwrap_or(0)).as_secs_f64()).max(0.0));
            metrics::lag(pipeline, partition, records, behind);
        }
    }
}
