//! A batch from closed to handed over to its writer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use oncesink_sinks::{
    model::{Batch, Claim, Delivery, NextOffset, Partition, Span},
    planted,
    sink::Writer,
};
use tokio::time::Instant;

use super::{
    EngineSettings, RetrySettings,
    backoff::Backoff,
    open_batch::{OpenBatch, Room},
    run::{Done, Engine, Phase},
    settle::BatchDone,
    trace,
};

/// One writer, its open batches, and what waits for it.
pub(super) struct Slot {
    /// None while a task drives it.
    pub writer: Option<Box<dyn Writer>>,
    pub open: BTreeMap<Delivery, OpenBatch>,
    pub queue: VecDeque<Pending>,
    /// Under at-most-once: closed batches whose offsets Kafka has not acknowledged yet.
    pub committing: VecDeque<Pending>,
    /// A batch whose reply was lost: nothing is handed over until its outcome is known.
    pub asking: Option<Pending>,
    pub backoff: Backoff,
}

/// A closed batch, and the room it takes in the buffer.
#[derive(Clone)]
pub(super) struct Pending {
    pub batch: Batch,
    pub room: Arc<Room>,
}

impl Slot {
    pub fn new(writer: Box<dyn Writer>) -> Self {
        Self { writer: Some(writer), open: BTreeMap::new(), queue: VecDeque::new(), committing: VecDeque::new(), asking: None, backoff: Backoff::default() }
    }

    /// Nothing is in flight and nothing waits: a batch that is closed now is written now.
    pub fn is_free(&self) -> bool {
        self.writer.is_some() && self.queue.is_empty() && self.asking.is_none()
    }

    pub fn is_idle(&self) -> bool {
        self.is_free() && self.open.is_empty() && self.committing.is_empty()
    }

    /// It has failed several times in a row: a drain need not wait for it.
    pub fn is_failing(&self) -> bool {
        self.backoff.attempts() >= 3
    }

    fn may_begin(&self) -> bool {
        self.writer.is_some() && (self.asking.is_none() || planted!(AskingStopsNothing)) && self.backoff.retry_at().is_none()
    }

    /// Leaves a partition out of what waits here, but what is closed and ends at `but` or below.
    pub fn forget(&mut self, partition: &Partition, but: Option<NextOffset>) {
        for open in self.open.values_mut() {
            open.forget(partition);
        }
        self.open.retain(|_, open| !open.is_empty());
        let stays = |span: &Span| span.partition != *partition || but.is_some_and(|but| span.to <= but);
        for queue in [&mut self.queue, &mut self.committing] {
            for pending in queue.iter_mut() {
                pending.batch.retain(stays);
            }
            queue.retain(|pending| !pending.batch.is_empty());
        }
    }

    /// When it has something to do by itself.
    pub fn due(&self, settings: &EngineSettings) -> Option<Instant> {
        if self.asking.is_some() {
            return None;
        }
        self.backoff.retry_at().or_else(|| self.is_free().then(|| self.open.values().map(|open| open.closes_at(settings.batch.linger)).min()).flatten())
    }

    pub fn has_given_up(&self, settings: &RetrySettings) -> bool {
        self.backoff.has_given_up(settings)
    }
}

impl Engine {
    pub fn close_batch(&mut self, slot: usize, delivery: Delivery) {
        let Some(open) = self.writers[slot].open.remove(&delivery) else { return };
        if open.is_empty() {
            return;
        }
        let (batch, room) = open.close(self.new_batch_id(), self.settings.pipeline.clone());
        let pending = Pending { batch, room: Arc::new(room) };
        if delivery == Delivery::AtMostOnce {
            self.commit_ahead(&pending.batch);
            self.writers[slot].committing.push_back(pending);
        } else {
            self.writers[slot].queue.push_back(pending);
        }
    }

    /// Closes whatever holds records of these partitions.
    pub fn close_batches_of(&mut self, partitions: &[Partition]) {
        for slot in 0..self.writers.len() {
            let holding: Vec<Delivery> = self.writers[slot]
                .open
                .iter()
                .filter(|(_, open)| partitions.iter().any(|partition| open.covers(partition)))
                .map(|(delivery, _)| *delivery)
                .collect();
            for delivery in holding {
                self.close_batch(slot, delivery);
            }
        }
    }

    /// Gives the next batch to every writer that is free.
    pub fn hand_over(&mut self) {
        for slot in 0..self.writers.len() {
            if self.writers[slot].backoff.retry_at().is_some_and(|at| at <= Instant::now()) {
                self.writers[slot].backoff.begin_attempt();
            }
            while self.writers[slot].committing.front().is_some_and(|pending| self.is_acknowledged(&pending.batch)) {
                let pending = self.writers[slot].committing.pop_front();
                self.writers[slot].queue.extend(pending);
            }
            while self.writers[slot].may_begin() {
                let Some(mut pending) = self.writers[slot].queue.pop_front() else { break };
                // At the end each attempt would cost a batch: given up with the drain, they are read again.
                if pending.batch.delivery == Delivery::AtMostOnce && self.phase != Phase::Running && self.writers[slot].is_failing() {
                    self.put_back(slot, pending);
                    break;
                }
                self.stamp(&mut pending.batch);
                if pending.batch.is_empty() {
                    continue;
                }
                let Some(writer) = self.writers[slot].writer.take() else { break };
                if planted!(CommitBeforeWrite) {
                    self.commit_unwritten(&pending.batch);
                }
                self.drive(slot, writer, pending);
            }
        }
    }

    /// Puts the claims of today on the spans; a partition that is not ours any more, or was started again since, is left out.
    ///
    /// A batch that was handed over before bears its claim: under another one its records are read again, and would be taken twice.
    fn stamp(&self, batch: &mut Batch) {
        batch.retain(|span| {
            self.lanes
                .get(&span.partition)
                .is_some_and(|lane| lane.may_write() && lane.ledger.applied() == span.from && (span.claim == Claim::default() || span.claim == lane.claim))
        });
        for span in &mut batch.spans {
            if let Some(lane) = self.lanes.get(&span.partition) {
                span.claim = lane.claim;
                span.durable = lane.ledger.durable();
            }
        }
    }

    /// Runs the batch in a task of its own, which is never cancelled: an aborted transaction would leave its outcome open.
    fn drive(&self, slot: usize, mut writer: Box<dyn Writer>, pending: Pending) {
        trace::handed_over(&pending.batch);
        let done = self.done.clone();
        let began = Instant::now();
        self.spawn(async move {
            let result = writer.apply(&pending.batch).await;
            // The engine is gone only if the process ends.
            let _ = done.send(Done::Batch(BatchDone { slot, writer, pending, result, took: began.elapsed() }));
        });
    }

    pub fn put_back(&mut self, slot: usize, pending: Pending) {
        if !pending.batch.is_empty() {
            self.writers[slot].queue.push_front(pending);
        }
    }

    /// Whatever was taken of the partition and is not in flight is given up; it will be read again.
    pub fn forget_buffered(&mut self, partition: &Partition) {
        for slot in &mut self.writers {
            slot.forget(partition, None);
        }
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.ledger.forget_taken();
        }
    }
}
