//! Giving partitions back: revoked, lost, shutdown.

use std::time::Duration;

use oncesink_sinks::{model::Partition, planted};
use tokio::time::Instant;

use super::{
    lane::State,
    run::{Engine, Phase},
    writer::Slot,
};
use crate::{
    source::{Commit, Reply},
    telemetry::metrics,
};

/// How long a failed batch waits at most for its next attempt, once a drain has begun.
const RETRY_AT_END: Duration = Duration::from_secs(1);

/// Partitions that are about to be given away; the group waits for the reply.
pub(super) struct Drain {
    partitions: Vec<Partition>,
    reply: Reply<Vec<Commit>>,
    began: Instant,
    pub deadline: Instant,
}

impl Engine {
    /// Intake of these partitions is closed; the reply follows once what is on its way is settled, or at the deadline.
    pub fn revoked(&mut self, partitions: Vec<Partition>, reply: Reply<Vec<Commit>>) {
        self.count_rebalance();
        for partition in &partitions {
            let Some(lane) = self.lanes.get_mut(partition) else { continue };
            match lane.state() {
                State::Halting { halt } => {
                    lane.halted = Some(halt.clone());
                    lane.go(State::Draining);
                }
                State::Running => lane.go(State::Draining),
                State::Draining => {}
                State::Asking | State::Claiming { .. } | State::Checking { .. } | State::Resting { .. } => self.remove_lane(partition),
            }
        }
        self.give_up_unacknowledged(&partitions);
        self.close_batches_of(&partitions);
        let began = Instant::now();
        self.drains.push(Drain { partitions, reply, began, deadline: began + self.settings.drain_timeout });
    }

    /// They are gone already: what is buffered is somebody else's to read, and no offset may be committed.
    pub fn lost(&mut self, partitions: &[Partition]) {
        self.count_rebalance();
        for partition in partitions {
            self.forget_buffered(partition);
            if let Some(lane) = self.lanes.remove(partition) {
                lane.ends("lost");
                self.reset_gauges(&lane);
            }
        }
        tracing::warn!(pipeline = %self.settings.pipeline, partitions = partitions.len(), "partitions lost: the group gave them away without asking");
    }

    /// Answers every revocation that has settled, or whose time is up. After the answer no record of it is handed to a writer.
    pub fn finish_drains(&mut self) {
        let now = Instant::now();
        let mut index = 0;
        while index < self.drains.len() {
            let drain = &self.drains[index];
            let is_over = drain.deadline <= now || drain.partitions.iter().all(|partition| self.is_drained(partition));
            if !is_over {
                index += 1;
                continue;
            }
            let drain = self.drains.swap_remove(index);
            let commits = drain.partitions.iter().filter_map(|partition| self.last_commit_of(partition)).collect();
            for partition in drain.partitions.iter().filter(|_| !planted!(RevokedLaneStays)) {
                self.forget_buffered(partition);
                self.remove_lane(partition);
            }
            metrics::drained(&self.settings.pipeline, drain.began.elapsed());
            drain.reply.send(commits);
        }
        if let Phase::Stopping { .. } = self.phase
            && self.drains.is_empty()
            && self.writers.iter().all(Slot::is_idle)
        {
            self.close_source();
        }
    }

    /// How a partition stood when this process gave it back for good is what the end of `run` tells.
    fn remove_lane(&mut self, partition: &Partition) {
        let Some(lane) = self.lanes.remove(partition) else { return };
        lane.ends("given back");
        if self.phase == Phase::Running {
            self.reset_gauges(&lane);
        } else {
            self.report.partitions.insert(partition.clone(), lane.report());
        }
    }

    /// A partition that is assigned again while its revocation still drains: the group stopped waiting for that answer,
    /// and giving it now would take the new lane away, which nobody would ever read again.
    pub fn forget_drains_of(&mut self, partition: &Partition) {
        if planted!(OldDrainTakesNewLane) {
            return;
        }
        for drain in &mut self.drains {
            drain.partitions.retain(|drained| drained != partition);
        }
    }

    fn is_drained(&self, partition: &Partition) -> bool {
        self.lanes.get(partition).is_none_or(|lane| lane.ledger.is_settled() || self.writers[lane.writer].is_failing() || planted!(DrainCommitsWhatWasTaken))
    }

    /// Closes the intake; everything that was taken is finished within `shutdown_timeout`.
    pub fn begin_shutdown(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        let in_flight = self.writers.iter().filter(|slot| !slot.is_idle()).count();
        tracing::info!(pipeline = %self.settings.pipeline, "intake closed, finishing {in_flight} batches, at most {}s", self.settings.shutdown_timeout.as_secs());
        self.phase = Phase::Stopping { until: Instant::now() + self.settings.shutdown_timeout };
        // The source waits in the group's callback for them, and hears nothing else meanwhile.
        for reply in std::mem::take(&mut self.assigning).into_values() {
            reply.send(Vec::new());
        }
        // There is no time to lose: what waits for another attempt is tried now, and again soon.
        self.settings.retry.max_delay = self.settings.retry.max_delay.min(RETRY_AT_END);
        for slot in &mut self.writers {
            slot.backoff.hurry();
        }
        self.hurry.notify_waiters();
        let all: Vec<Partition> = self.lanes.keys().cloned().collect();
        self.close_batches_of(&all);
        self.publish();
    }

    /// The time is up: what has not settled is given up. Nothing is lost, it is read again.
    pub fn cut_drain(&mut self) {
        self.ended.drain_cut = true;
        let all: Vec<Partition> = self.lanes.keys().cloned().collect();
        for partition in &all {
            self.forget_buffered(partition);
        }
        for drain in &mut self.drains {
            drain.deadline = Instant::now();
        }
        self.settings.drain_timeout = Duration::ZERO;
        self.close_source();
    }
}
