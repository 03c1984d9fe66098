//! At-most-once: offsets are committed first, and what fails then is lost and counted.
//!
//! A batch asks Kafka to commit its offsets when it is closed, and is handed to its writer once that is acknowledged. From there on nobody reads its
//! records again, so it may be written, or lost, and never repeated.

use oncesink_sinks::{
    fault::{Fault, FaultClass},
    model::{Batch, Delivery, Partition, Span},
    planted,
};

use super::{
    halt::{Halt, Met},
    run::Engine,
    writer::Pending,
};
use crate::source::Commit;

impl Engine {
    /// Asks Kafka to commit what a closed batch is about to write.
    pub fn commit_ahead(&mut self, batch: &Batch) {
        let mut commits: Vec<Commit> = Vec::new();
        for span in &batch.spans {
            let Some(lane) = self.lanes.get_mut(&span.partition).filter(|lane| lane.may_write()) else { continue };
            lane.asked = lane.asked.max(Some(span.to));
            lane.ledger.mark_committed(span.to);
            commits.push(self.commit_at(&span.partition, span.to));
        }
        self.tell(commits);
    }

    /// Asks again for what is not acknowledged yet: a commit may have failed, and nothing says so. Never for less than was asked before.
    pub fn commit_ahead_again(&mut self) {
        let is_open = |partition: &Partition| {
            let lane = self.lanes.get(partition).filter(|lane| lane.may_write())?;
            let asked = lane.asked.filter(|asked| !lane.is_acknowledged(*asked))?;
            Some(self.commit_at(partition, asked))
        };
        let commits: Vec<Commit> = self.lanes.keys().filter_map(is_open).collect();
        self.tell(commits);
    }

    /// Whether a batch may be written now.
    pub fn is_acknowledged(&self, batch: &Batch) -> bool {
        let is_acknowledged = |span: &Span| self.lanes.get(&span.partition).is_some_and(|lane| lane.is_acknowledged(span.to));
        planted!(WritesBeforeAcknowledged) || batch.spans.iter().all(is_acknowledged)
    }

    /// The partitions are about to be given back, and the client answers nothing until they are: what is not acknowledged by now is not written. If its
    /// commit takes effect all the same it is lost, and whoever claims the partition next counts it.
    pub fn give_up_unacknowledged(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            let Some(lane) = self.lanes.get_mut(partition).filter(|lane| lane.delivery == Delivery::AtMostOnce) else { continue };
            let acknowledged = lane.acknowledged.filter(|acknowledged| lane.is_acknowledged(*acknowledged)).unwrap_or_default();
            lane.ledger.give_up_from(acknowledged);
            lane.asked = lane.asked.map(|_| acknowledged);
            for slot in &mut self.writers {
                slot.forget(partition, Some(acknowledged));
            }
        }
    }

    /// Nothing was written. It is not tried again; the next batch waits for a while, or an outage would cost all that is read in it.
    pub fn failed_at_most_once(&mut self, slot: usize, pending: Pending, fault: &Fault) {
        match fault.class {
            FaultClass::Retry | FaultClass::Pause => {
                self.note_failure(slot, fault, "is lost: under at-most-once it is not tried again");
                self.lose(&pending.batch);
            }
            // One bad record is not to cost the whole batch.
            FaultClass::Poison => {
                self.writers[slot].backoff.succeed();
                if let Some(whole) = self.halve(slot, pending) {
                    tracing::warn!(pipeline = %self.settings.pipeline, partitions = ?partitions(&whole.batch), reason = %fault, "the database refuses a record, which is lost");
                    self.lose(&whole.batch);
                }
            }
            FaultClass::Changed => {
                self.writers[slot].backoff.succeed();
                let partitions = pending.batch.partitions();
                self.table_changed(slot, pending, fault);
                self.take_commits_back(&partitions);
            }
            FaultClass::Halt => {
                self.writers[slot].backoff.succeed();
                // One table's trouble is not to halt the others.
                if pending.batch.spans.len() > 1 {
                    self.halve(slot, pending);
                    return;
                }
                for span in &pending.batch.spans {
                    self.stop_at_write(&span.partition, Halt::fault(fault, span.from, Met::Write));
                    self.take_commits_back(std::slice::from_ref(&span.partition));
                }
            }
        }
    }

    /// Nothing of these partitions is on its way any more: what was committed ahead and never handed to a writer may be read again. Where
    /// that does not reach Kafka it is lost, and counted by the next claim.
    fn take_commits_back(&mut self, partitions: &[Partition]) {
        let mut commits = Vec::new();
        for partition in partitions {
            let Some(lane) = self.lanes.get_mut(partition).filter(|lane| lane.asked.is_some() && lane.ledger.is_settled()) else { continue };
            lane.asked = None;
            let applied = lane.ledger.applied();
            lane.ledger.mark_committed(applied);
            commits.push(self.commit_at(partition, applied));
        }
        self.tell(commits);
    }

    /// Its records are done with, and took no effect.
    fn lose(&mut self, batch: &Batch) {
        self.count_lost(batch);
        for span in &batch.spans {
            let Some(lane) = self.lanes.get_mut(&span.partition).filter(|lane| lane.claim == span.claim) else { continue };
            if lane.ledger.lose(span.from, span.to).is_ok() {
                lane.touch();
            }
        }
    }
}

fn partitions(batch: &Batch) -> Vec<String> {
    batch.spans.iter().map(|span| span.partition.to_string()).collect()
}
