//! What Kafka is told: advisory commits of what is durable.

use std::time::Duration;

use oncesink_sinks::{
    model::{Batch, Delivery, NextOffset, Partition},
    planted,
    start::commit_metadata,
};
use tokio::time::Instant;

use super::run::Engine;
use crate::source::Commit;

/// How often offsets are committed to Kafka.
const COMMIT_EVERY: Duration = Duration::from_millis(250);

impl Engine {
    /// Says that a lane has something new for Kafka.
    pub fn commit_soon(&mut self) {
        self.commit_due.get_or_insert_with(|| Instant::now() + COMMIT_EVERY);
    }

    pub fn commit(&mut self) {
        let partitions: Vec<Partition> = self.lanes.iter().filter(|(_, lane)| lane.may_commit()).map(|(partition, _)| partition.clone()).collect();
        let commits: Vec<Commit> = partitions.iter().filter_map(|partition| self.commit_of(partition)).collect();
        self.tell(commits);
    }

    /// Has Kafka commit these, if there are any.
    pub fn tell(&mut self, commits: Vec<Commit>) {
        if !commits.is_empty() {
            self.source.commit(commits);
        }
    }

    /// What is durable and Kafka does not know yet. The commit is advisory: if it fails, the checkpoint still decides.
    fn commit_of(&mut self, partition: &Partition) -> Option<Commit> {
        let lane = self.lanes.get_mut(partition)?;
        let next = match lane.delivery {
            // It is told ahead of what is written, and never less than before.
            Delivery::AtMostOnce => Some(lane.ledger.applied().max(lane.asked.unwrap_or_default())).filter(|next| lane.ledger.committed() != Some(*next))?,
            Delivery::AtLeastOnce | Delivery::ExactlyOnce => lane.ledger.committable()?,
        };
        lane.ledger.mark_committed(next);
        Some(self.commit_at(partition, next))
    }

    /// What is durable when a partition is given back, also where Kafka was told before: a commit in the middle of a rebalance may
    /// have been refused, and there is no later one.
    pub fn last_commit_of(&self, partition: &Partition) -> Option<Commit> {
        let lane = self.lanes.get(partition).filter(|lane| lane.may_commit())?;
        // Under at-most-once what is in flight is committed, and may be written yet: the group must not go back before it. What was never
        // handed to a writer is read again.
        let slot = &self.writers[lane.writer];
        let may_be_written = lane.delivery == Delivery::AtMostOnce && (slot.writer.is_none() || slot.asking.is_some());
        let next = if planted!(DrainCommitsWhatWasTaken) || may_be_written { lane.ledger.taken() } else { lane.ledger.applied() };
        Some(self.commit_at(partition, next))
    }

    pub fn commit_at(&self, partition: &Partition, next: NextOffset) -> Commit {
        let delivery = self.lanes.get(partition).map_or(Delivery::ExactlyOnce, |lane| lane.delivery);
        Commit { partition: partition.clone(), next, metadata: commit_metadata(&self.checkpoint.database_id(), delivery) }
    }

    /// A planted bug: tells Kafka before the database knows.
    pub fn commit_unwritten(&mut self, batch: &Batch) {
        let commits = batch
            .spans
            .iter()
            .map(|span| Commit { partition: span.partition.clone(), next: span.to, metadata: commit_metadata(&self.checkpoint.database_id(), batch.delivery) })
            .collect();
        self.source.commit(commits);
    }
}
