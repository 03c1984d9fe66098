//! What is asserted while a seed runs, from outside the engine: at every COMMIT, every offset commit, every decoded record.

use std::collections::{BTreeMap, BTreeSet};

use oncesink::source::Commit;
use oncesink_sinks::{
    checkpoint::CheckpointRow,
    model::{ClaimId, Delivery, Epoch, Partition},
};

use super::{
    World,
    database::{ConnectionId, Transaction},
    routes,
    worker::WorkerId,
};

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Witness {
    /// Whose claim it is.
    claims: BTreeMap<ClaimId, WorkerId>,
    /// The highest next offset that was ever durable, in whichever incarnation of the database.
    durable: BTreeMap<Partition, i64>,
    /// Transactions of batches that their worker has not seen the end of.
    in_flight: BTreeMap<(WorkerId, Partition, Epoch), ConnectionId>,
    /// Partitions that an engine has not given back, and the number of their assignment.
    assigned: BTreeMap<(WorkerId, Partition), u64>,
    assignments: u64,
    /// Batches that took effect.
    pub batches: u64,
    /// Payloads that the database refused at some time.
    pub refused: BTreeSet<i64>,
    /// Those of them that were left out, as the routes say.
    pub skipped: BTreeSet<i64>,
}

impl Witness {
    /// The engine is told that these are its partitions.
    pub fn hand_over(&mut self, worker: WorkerId, partitions: &[Partition]) {
        self.assignments += 1;
        for partition in partitions {
            self.assigned.insert((worker, partition.clone()), self.assignments);
        }
    }

    /// The assignments that a revocation ends, should it be answered.
    pub fn assignments(&self, worker: WorkerId, partitions: &[Partition]) -> Vec<(Partition, u64)> {
        partitions.iter().filter_map(|partition| Some((partition.clone(), *self.assigned.get(&(worker, partition.clone()))?))).collect()
    }

    /// The engine has answered a revocation. An assignment that came after it stays.
    pub fn give_back(&mut self, worker: WorkerId, given: &[(Partition, u64)]) {
        for (partition, assignment) in given {
            let place = (worker, partition.clone());
            if self.assigned.get(&place) == Some(assignment) {
                self.assigned.remove(&place);
            }
        }
    }

    /// Its worker knows, or has given up on, how the transaction on this connection ended.
    pub fn settle(&mut self, connection: ConnectionId) {
        self.in_flight.retain(|_, other| *other != connection);
    }
}

impl World {
    /// (e) After a revoke is answered no record of the partition is taken in.
    pub fn witness_decode(&mut self, worker: WorkerId, partition: &Partition) {
        if !self.witness.assigned.contains_key(&(worker, partition.clone())) {
            self.story.violation(format!("{worker} takes in a record of {partition}, which it has given back"));
        }
    }

    /// (a) What is committed to Kafka is durable.
    pub fn witness_offset_commit(&mut self, worker: WorkerId, commit: &Commit) {
        let durable = self.witness.durable.get(&commit.partition).copied().unwrap_or(0);
        if commit.next.get() > durable {
            self.story.violation(format!("{worker} commits {} of {} to Kafka, but only {durable} is durable", commit.next, commit.partition));
        }
    }

    /// (b) At most one transaction in flight per partition and epoch.
    pub fn witness_save(&mut self, worker: WorkerId, connection: ConnectionId, row: &CheckpointRow) {
        let is_batch = self.server.checkpoint(connection, &row.partition).is_some_and(|before| before.claim == row.claim);
        if !is_batch {
            return;
        }
        let place = (worker, row.partition.clone(), row.claim.epoch);
        if self.witness.in_flight.get(&place).is_some_and(|other| *other != connection) {
            self.story.violation(format!("{worker} has two transactions in flight for {} under epoch {}", row.partition, row.claim.epoch.0));
        }
        self.witness.in_flight.insert(place, connection);
    }

    /// Everything that a COMMIT must keep, before it takes effect.
    pub fn witness_commit(&mut self, worker: WorkerId, transaction: &Transaction) {
        let mut spans = Vec::new();
        let mut is_batch = false;
        for (partition, row) in &transaction.checkpoints {
            let before = self.server.tables.checkpoints.get(partition).cloned();
            match before {
                Some(before) if before.claim == row.claim => {
                    is_batch = true;
                    self.witness_batch(worker, &before, row);
                    if row.delivery == Delivery::ExactlyOnce {
                        spans.push((partition.clone(), before.next_offset.get(), row.next_offset.get()));
                    }
                }
                before => self.witness_claim(worker, before.as_ref(), row),
            }
            let durable = self.witness.durable.entry(partition.clone()).or_insert(0);
            *durable = (*durable).max(row.durable.get());
        }
        self.witness.batches += u64::from(is_batch);
        self.witness_rows(worker, transaction, &spans);
    }

    fn witness_claim(&mut self, worker: WorkerId, before: Option<&CheckpointRow>, row: &CheckpointRow) {
        self.story.tell(format_args!(
            "{worker}: claims {} at {} with epoch {}{}",
            row.partition,
            row.next_offset,
            row.claim.epoch.0,
            if row.claim.epoch == Epoch(0) { " (for another)" } else { "" }
        ));
        if row.claim.epoch == Epoch(0) {
            return;
        }
        self.story.count("claimed");
        let epoch = before.map_or(0, |before| before.claim.epoch.0);
        if row.claim.epoch.0 != epoch + 1 {
            self.story.violation(format!("{worker} claims {} with epoch {} after {epoch}", row.partition, row.claim.epoch.0));
        }
        if self.witness.claims.insert(row.claim.id, worker).is_some() {
            self.story.violation(format!("{worker} claims {} with a claim id that was used before", row.partition));
        }
        if let Some(before) = before.filter(|before| before.claim.epoch > Epoch(0)) {
            if before.delivery == Delivery::ExactlyOnce && row.next_offset != before.next_offset {
                self.story.violation(format!("{worker}'s claim moves {} from {} to {}", row.partition, before.next_offset, row.next_offset));
            }
            if row.durable < before.durable {
                self.story.violation(format!("{worker}'s claim lowers durable of {} from {} to {}", row.partition, before.durable, row.durable));
            }
            let durable = self.witness.durable.get(&row.partition).copied().unwrap_or(0);
            if row.next_offset.get() > durable.max(before.next_offset.get()) {
                self.story.violation(format!("{worker}'s claim starts {} at {}, but only {durable} is durable", row.partition, row.next_offset));
            }
        }
    }

    fn witness_batch(&mut self, worker: WorkerId, before: &CheckpointRow, row: &CheckpointRow) {
        let partition = &row.partition;
        match self.witness.claims.get(&row.claim.id) {
            Some(holder) if *holder == worker => {}
            Some(holder) => {
                let holder = *holder;
                self.story.violation(format!("{worker} commits {partition}, which {holder} has claimed"));
            }
            None => self.story.violation(format!("{worker} commits {partition}, which nobody has claimed")),
        }
        if row.durable < before.durable {
            self.story.violation(format!("{worker} lowers durable of {partition} from {} to {}", before.durable, row.durable));
        }
        match row.delivery {
            Delivery::ExactlyOnce => {
                if row.next_offset <= before.next_offset {
                    self.story.violation(format!("{worker} moves {partition} from {} to {}", before.next_offset, row.next_offset));
                }
                if row.durable != row.next_offset {
                    self.story.violation(format!("{worker} leaves {partition} at {} with durable {}", row.next_offset, row.durable));
                }
            }
            Delivery::AtLeastOnce => {
                if row.next_offset != before.next_offset {
                    self.story.violation(format!("{worker} moves the floor of {partition}"));
                }
            }
        }
        self.story.tell(format_args!(
            "{worker}: batch {:x} moves {partition} to {} (durable {}) under epoch {}",
            row.batch.0 & 0xffff,
            row.next_offset,
            row.durable,
            row.claim.epoch.0
        ));
    }

    /// (c) A record is applied only in the transaction that moves its checkpoint over it, and (d) spans tile without a hole.
    fn witness_rows(&mut self, worker: WorkerId, transaction: &Transaction, spans: &[(Partition, i64, i64)]) {
        let mut expected = Vec::new();
        for (partition, from, to) in spans {
            let Some(log) = self.log.partition(partition) else { continue };
            if *to > log.high() {
                let high = log.high();
                self.story.violation(format!("{worker} moves {partition} to {to}, beyond the end of its log at {high}"));
                continue;
            }
            expected.extend(log.visible(*from, *to).map(|(offset, fact)| (partition.clone(), offset, fact.payload)));
        }
        let mut written: Vec<(Partition, i64)> =
            transaction.appended.iter().filter_map(|(table, row)| routes::coordinate(table, row)).map(|at| (at.partition, at.offset)).collect();
        if self.plan.skips {
            expected.retain(|(partition, offset, payload)| {
                let is_left_out = self.witness.refused.contains(payload) && !written.iter().any(|at| at.0 == *partition && at.1 == *offset);
                // A restored database may take what it refused before.
                if is_left_out {
                    self.witness.skipped.insert(*payload);
                    self.story.count("record skipped");
                } else {
                    self.witness.skipped.remove(payload);
                }
                !is_left_out
            });
        }
        let mut expected: Vec<(Partition, i64)> = expected.into_iter().map(|(partition, offset, _)| (partition, offset)).collect();
        expected.sort_unstable();
        written.sort_unstable();
        if expected == written {
            return;
        }
        let missing = expected.iter().find(|at| !written.contains(at));
        let extra = written.iter().find(|at| !expected.contains(at));
        let text = match (missing, extra) {
            (Some((partition, offset)), _) => format!("{worker} moves a checkpoint over {partition}@{offset} without writing it"),
            (None, Some((partition, offset))) => format!("{worker} writes {partition}@{offset} without moving its checkpoint over it"),
            (None, None) => format!("{worker} writes a record twice in one transaction"),
        };
        self.story.violation(text);
    }
}
