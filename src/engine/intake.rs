//! Records into the batch that is being filled.

use std::time::Duration;

use oncesink_sinks::{
    model::{NextOffset, Partition},
    planted,
};
use tokio::time::Instant;

use super::{
    halt::Halt,
    open_batch::OpenBatch,
    run::{Engine, Phase},
};
use crate::source::{Input, RecordRef, Records, Sequence};

/// How long a batch without any row is gathered: it only moves checkpoints over filtered and control records.
const EMPTY_LINGER: Duration = Duration::from_secs(1);

/// What becomes of the first records of a run.
enum Placement {
    /// Below the next offset: read again only to compare it, or delivered again.
    Behind,
    Next,
    /// The record at a known offset is another one: the topic was recreated.
    Recreated,
}

impl Engine {
    /// Whether records are taken at all. The source stops by itself when the buffer is full.
    pub fn has_room(&self) -> bool {
        self.phase == Phase::Running && self.rate.is_none()
    }

    pub fn take(&mut self, input: Input) {
        match input {
            Input::Records(records) => {
                let cost = records.cost();
                let count = records.len();
                self.take_records(&records);
                // Decoded rows are counted by the batch that holds them.
                self.writers.iter_mut().flat_map(|slot| slot.open.values_mut()).for_each(OpenBatch::count_room);
                if !(planted!(StaleRecordsKeepTheirRoom) && self.is_stale(&records)) {
                    self.buffer.release(cost);
                }
                self.spend(count);
            }
            Input::Passed { partition, sequence, next } => self.pass(&partition, sequence, next),
            Input::Recreated { partition, sequence } => self.recreated(&partition, sequence),
            Input::OutOfRange { partition, sequence, ends } => self.out_of_range(&partition, sequence, ends),
        }
    }

    /// Fetched under an earlier start.
    fn is_stale(&self, records: &Records) -> bool {
        self.lanes.get(&records.partition).is_none_or(|lane| lane.sequence != records.sequence)
    }

    /// Cannot fail: a record that does not decode stops its lane at its place.
    fn take_records(&mut self, records: &Records) {
        let partition = &records.partition;
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.touch();
        }
        for record in records.iter() {
            let Some(lane) = self.lanes.get_mut(partition) else { return };
            // Fetched under an earlier start, or behind a record at which the lane stands still.
            if (lane.sequence != records.sequence && !planted!(StaleSequenceTaken)) || !lane.is_running() {
                return;
            }
            match placement(&record, lane.ledger.taken(), &mut lane.expected) {
                Placement::Behind => {
                    if record.offset != lane.ledger.taken().get() - 1 {
                        self.report.totals.redelivered += 1;
                    }
                    continue;
                }
                Placement::Recreated => {
                    let next = lane.ledger.applied();
                    let detail = format!("the record at {} is another one than when it was applied: the topic was deleted and made again", record.offset);
                    self.halt(partition, Halt::recreated(detail, next));
                    return;
                }
                Placement::Next => {}
            }
            let (writer, delivery, next) = (lane.writer, lane.delivery, lane.ledger.taken());
            let Some(plan) = self.topics.get_mut(&partition.topic) else { return };
            let slot = &mut self.writers[writer];
            let open = slot.open.entry(delivery).or_insert_with(|| OpenBatch::new(delivery, &self.buffer));
            if let Err(stopped) = open.add(&record, next, &mut plan.routes) {
                if open.is_empty() {
                    slot.open.remove(&delivery);
                }
                self.halt(partition, Halt::bad_record(&stopped.bad, &stopped.target, record.offset));
                return;
            }
            lane.ledger.take(NextOffset::after(record.offset));
            self.report.totals.records_read += 1;
            if open.rows() >= self.settings.batch.rows || open.payload() >= self.settings.batch.bytes {
                self.close_batch(writer, delivery);
                self.hand_over();
            }
        }
    }

    /// Only control records up to `next`: the checkpoint moves over them as over filtered ones.
    fn pass(&mut self, partition: &Partition, sequence: Sequence, next: NextOffset) {
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        if lane.sequence != sequence || !lane.is_running() || next <= lane.ledger.taken() {
            return;
        }
        let (delivery, from) = (lane.delivery, lane.ledger.taken());
        lane.ledger.take(next);
        lane.touch();
        self.writers[lane.writer].open.entry(delivery).or_insert_with(|| OpenBatch::new(delivery, &self.buffer)).pass(partition, from, next);
    }

    /// What is taken is of the old topic and is applied first. Then a person decides, as where a claim finds it out.
    fn recreated(&mut self, partition: &Partition, sequence: Sequence) {
        let Some(lane) = self.lanes.get(partition) else { return };
        if lane.sequence == sequence && lane.is_running() {
            let detail = "the topic was deleted and made again while it was read";
            let halt = Halt::recreated(detail, lane.ledger.taken());
            self.halt(partition, halt);
        }
    }

    /// Closes what has waited long enough and has a free writer; a busy writer's batch goes on filling.
    pub fn close_due_batches(&mut self) {
        let now = Instant::now();
        for writer in 0..self.writers.len() {
            if self.writers[writer].is_free() {
                let due: Vec<_> = self.writers[writer]
                    .open
                    .iter()
                    .filter(|(_, open)| open.closes_at(self.settings.batch.linger) <= now)
                    .map(|(delivery, _)| *delivery)
                    .collect();
                for delivery in due {
                    self.close_batch(writer, delivery);
                }
            }
        }
    }

    /// `rate_limit`: the next block waits until these records would have taken their time.
    fn spend(&mut self, records: usize) {
        if let Some(per_second) = self.settings.records_per_second {
            let seconds = f64::from(u32::try_from(records).unwrap_or(u32::MAX)) / f64::from(per_second.max(1));
            self.rate = Some(Instant::now() + Duration::from_secs_f64(seconds));
        }
    }
}

impl OpenBatch {
    pub fn closes_at(&self, linger: Duration) -> Instant {
        self.opened + if self.rows() == 0 { EMPTY_LINGER.max(linger) } else { linger }
    }
}

/// Compares the record at the stored offset, once; everything else below `next` is dropped.
fn placement(record: &RecordRef<'_>, next: NextOffset, expected: &mut Option<oncesink_sinks::model::LastRecord>) -> Placement {
    if let Some(last) = *expected
        && record.offset >= last.offset
    {
        *expected = None;
        // Not delivered any more (compacted, retention): nothing to compare.
        if record.offset == last.offset && record.identity() != last {
            return Placement::Recreated;
        }
    }
    if record.offset < next.get() && !planted!(RecordBelowCheckpointTaken) { Placement::Behind } else { Placement::Next }
}
