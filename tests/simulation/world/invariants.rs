//! What is asserted while a seed runs, from outside the engine: the invariants of the design by their letters.
//!
//! | | holds | asserted |
//! | --- | --- | --- |
//! | (a) | what Kafka is told is durable; under exactly-once durable is the checkpoint; under at-most-once Kafka was told what is written | at every offset commit, and at every COMMIT |
//! | (b) | at most one transaction in flight for a partition and an epoch | whenever a batch saves a checkpoint |
//! | (c) | a record is applied only in the transaction that moves its checkpoint over it | at every COMMIT |
//! | (d) | the spans of a partition tile its log, with no hole but offsets that hold no visible record | at every COMMIT |
//! | (e) | after a revocation is answered nothing of the partition is taken in or handed to a writer | at every record, and at every batch handed over |
//! | (f) | each record leaves the engine once: applied, stale, filtered or skipped, and only if its COMMIT took effect | at the end, against each engine's own counts |
//! | (g) | the thread that polls never waits longer than its budget | in the callbacks (`consumer/callbacks.rs`) |
//! | (h) | a halted partition neither blocks nor advances another, nor itself | at every batch handed over; and at the end beside one that is halted (`seeds.rs`) |
//! | (i) | no failure moves a checkpoint: only a record that the database itself refused may be left out, where the route says so | at every COMMIT |

use std::collections::BTreeMap;

use oncesink::{engine::trace::Step, source::Commit};
use oncesink_sinks::{
    checkpoint::CheckpointRow,
    model::{BatchId, ClaimId, Delivery, Epoch, NextOffset, Partition, Span},
};

use super::{
    World,
    database::{ConnectionId, Transaction},
    events::Event,
    worker::WorkerId,
};

mod rows;

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
    /// Assignments that an engine was told to be lost.
    losing: BTreeMap<(WorkerId, Partition), u64>,
    assignments: u64,
    /// Where each lane stands, and the batches that were handed to a writer last under their number.
    lanes: BTreeMap<(WorkerId, Partition), &'static str>,
    handed_over: BTreeMap<(WorkerId, BatchId), Vec<Span>>,
    /// The highest offset that the group ever took.
    committed: BTreeMap<Partition, i64>,
    /// Records that left each engine in a transaction that took effect: at least, and at most.
    left: BTreeMap<WorkerId, (u64, u64)>,
    /// Batches that took effect.
    pub batches: u64,
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

    /// The engine is told that these are gone; they are once it has heard it.
    pub fn lose(&mut self, worker: WorkerId, partitions: &[Partition]) {
        for (partition, assignment) in self.assignments(worker, partitions) {
            self.losing.insert((worker, partition), assignment);
        }
    }

    /// Its worker knows, or has given up on, how the transaction on this connection ended.
    pub fn settle(&mut self, connection: ConnectionId) {
        self.in_flight.retain(|_, other| *other != connection);
    }

    /// A person moved it.
    pub fn checkpoint_moved(&mut self, partition: &Partition, to: i64) {
        self.durable.insert(partition.clone(), to);
    }
}

impl World {
    /// What the engine of this worker has done since it was asked last.
    pub fn witness_steps(&mut self, worker: WorkerId) {
        for step in oncesink::engine::trace::take() {
            match step {
                Step::Lane { partition, from, to } => self.witness_lane(worker, partition, from, to),
                Step::HandedOver { batch, spans } => self.witness_handed_over(worker, batch, spans),
            }
        }
    }

    fn witness_lane(&mut self, worker: WorkerId, partition: Partition, from: &'static str, to: &'static str) {
        self.story.tell(format_args!("{worker}: {partition} goes from {from} to {to}"));
        self.story.transition(from, to);
        let place = (worker, partition);
        if to == "lost"
            && let Some(assignment) = self.witness.losing.remove(&place)
        {
            self.witness.give_back(worker, &[(place.1.clone(), assignment)]);
        }
        self.witness.lanes.insert(place, to);
    }

    /// (e) Nothing is handed to a writer of a partition that was given back. (h) Nor of one that stands still.
    fn witness_handed_over(&mut self, worker: WorkerId, batch: BatchId, spans: Vec<Span>) {
        for span in &spans {
            let place = (worker, span.partition.clone());
            if !self.witness.assigned.contains_key(&place) {
                self.story.violation(format!("(e) {worker} hands a batch of {} to a writer, which it has given back", span.partition));
            }
            let state = self.witness.lanes.get(&place).copied().unwrap_or("new");
            if !matches!(state, "running" | "draining" | "halting") {
                self.story.violation(format!("(h) {worker} hands a batch of {} to a writer, which is {state}", span.partition));
            }
        }
        self.witness.handed_over.insert((worker, batch), spans);
    }

    /// (e) After a revocation is answered no record of the partition is taken in.
    pub fn witness_decode(&mut self, worker: WorkerId, partition: &Partition) {
        if !self.witness.assigned.contains_key(&(worker, partition.clone())) {
            self.story.violation(format!("(e) {worker} takes in a record of {partition}, which it has given back"));
        }
    }

    /// The group has taken a commit.
    pub fn witness_offset_taken(&mut self, partition: &Partition, next: NextOffset) {
        let committed = self.witness.committed.entry(partition.clone()).or_insert(0);
        *committed = (*committed).max(next.get());
    }

    /// (a) What is committed to Kafka is durable, but under at-most-once.
    pub fn witness_offset_commit(&mut self, worker: WorkerId, commit: &Commit) {
        if self.log.topics.iter().any(|topic| topic.name == commit.partition.topic && topic.kind.delivery() == Delivery::AtMostOnce) {
            return;
        }
        let durable = self.witness.durable.get(&commit.partition).copied().unwrap_or(0);
        if commit.next.get() > durable {
            self.story.violation(format!("(a) {worker} commits {} of {} to Kafka, but only {durable} is durable", commit.next, commit.partition));
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
            self.story.violation(format!("(b) {worker} has two transactions in flight for {} under epoch {}", row.partition, row.claim.epoch.0));
        }
        self.witness.in_flight.insert(place, connection);
    }

    /// Everything that a COMMIT must keep, before it takes effect.
    pub fn witness_commit(&mut self, worker: WorkerId, transaction: &Transaction) {
        let mut spans = Vec::new();
        let mut batch = None;
        for (partition, row) in &transaction.checkpoints {
            let before = self.server.tables.checkpoints.get(partition).cloned();
            match before {
                Some(before) if before.claim == row.claim => {
                    batch = Some(row.batch);
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
        self.witness_rows(worker, transaction, &spans);
        if let Some(batch) = batch {
            self.witness.batches += 1;
            self.witness_left(worker, batch);
        }
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
        self.story.count(Event::Claimed);
        let epoch = before.map_or(0, |before| before.claim.epoch.0);
        if row.claim.epoch.0 != epoch + 1 {
            self.story.violation(format!("{worker} claims {} with epoch {} after {epoch}", row.partition, row.claim.epoch.0));
        }
        if self.witness.claims.insert(row.claim.id, worker).is_some() {
            self.story.violation(format!("{worker} claims {} with a claim id that was used before", row.partition));
        }
        if let Some(before) = before.filter(|before| before.claim.epoch > Epoch(0)) {
            if before.delivery == Delivery::ExactlyOnce && row.next_offset != before.next_offset {
                self.story.violation(format!("(d) {worker}'s claim moves {} from {} to {}", row.partition, before.next_offset, row.next_offset));
            }
            if row.durable < before.durable {
                self.story.violation(format!("(a) {worker}'s claim lowers durable of {} from {} to {}", row.partition, before.durable, row.durable));
            }
            let durable = self.witness.durable.get(&row.partition).copied().unwrap_or(0);
            if row.next_offset.get() > durable.max(before.next_offset.get()) {
                self.story.violation(format!("(d) {worker}'s claim starts {} at {}, but only {durable} is durable", row.partition, row.next_offset));
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
            self.story.violation(format!("(a) {worker} lowers durable of {partition} from {} to {}", before.durable, row.durable));
        }
        match row.delivery {
            Delivery::ExactlyOnce => {
                if row.next_offset <= before.next_offset {
                    self.story.violation(format!("(d) {worker} moves {partition} from {} to {}", before.next_offset, row.next_offset));
                }
                if row.durable != row.next_offset {
                    self.story.violation(format!("(a) {worker} leaves {partition} at {} with durable {}", row.next_offset, row.durable));
                }
            }
            Delivery::AtMostOnce | Delivery::AtLeastOnce => {
                let committed = self.witness.committed.get(partition).copied().unwrap_or(0);
                if row.delivery == Delivery::AtMostOnce && row.durable.get() > committed.max(before.durable.get()) {
                    self.story.violation(format!("(a) {worker} writes {partition} up to {}, but the group took only {committed}", row.durable));
                }
                if row.next_offset != before.next_offset {
                    self.story.violation(format!("(a) {worker} moves the floor of {partition}"));
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
}

/// Whether the database has refused this record at some time, and the routes say that such are left out.
pub(super) fn may_be_left_out(world: &World, payload: i64) -> bool {
    world.plan.skips && world.server.once_refused.contains(&payload)
}
