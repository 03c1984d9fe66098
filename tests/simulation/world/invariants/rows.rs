//! The rows of a transaction against the log, and what an engine counts against what took effect.

use std::collections::BTreeSet;

use oncesink_sinks::model::{BatchId, Coordinate, Delivery, Partition};

use super::may_be_left_out;
use crate::world::{
    World,
    database::Transaction,
    events::Event,
    log::{Entry, PartitionLog},
    routes,
    worker::{State, WorkerId},
};

impl World {
    /// (c) A record is applied only in the transaction that moves its checkpoint over it, (d) spans tile without a hole, and (i) no
    /// record is left out because something failed.
    pub(super) fn witness_rows(&mut self, worker: WorkerId, transaction: &Transaction, spans: &[(Partition, i64, i64)]) {
        let mut written = BTreeSet::new();
        // Under at-least-once a record that is read again is written again, or left out by its event id.
        let is_exact = |at: &Coordinate| self.log.topics.iter().any(|topic| topic.name == at.partition.topic && topic.kind.delivery() == Delivery::ExactlyOnce);
        let exact: Vec<Coordinate> = transaction.appended.iter().filter_map(|(table, row)| routes::coordinate(table, row)).filter(is_exact).collect();
        for at in exact {
            if !written.insert((at.partition.clone(), at.offset)) {
                self.story.violation(format!("(c) {worker} writes {}@{} twice in one transaction", at.partition, at.offset));
            }
        }
        let mut strange = written.clone();
        for (partition, from, to) in spans {
            let Some(log) = self.log.topics.iter().find(|topic| topic.name == partition.topic).and_then(|topic| topic.partitions.get(partition.index as usize))
            else {
                continue;
            };
            // A batch that was read before its topic was deleted is judged by what the topic held then.
            let found = judge(self, log, partition, *from, *to, &written);
            let found = match (found, &log.former) {
                (Err(_), Some(former)) => judge(self, former, partition, *from, *to, &written),
                (found, _) => found,
            };
            strange.retain(|(other, offset)| other != partition || !(*from..*to).contains(offset));
            match found {
                Ok(left_out) => self.story.add(Event::RecordSkipped, left_out),
                Err(text) => self.story.violation(format!("{text}, by {worker}")),
            }
        }
        if let Some((partition, offset)) = strange.first() {
            self.story.violation(format!("(c) {worker} writes {partition}@{offset} without moving its checkpoint over it"));
        }
    }

    /// Counts the records that have left the engine with this batch.
    pub(super) fn witness_left(&mut self, worker: WorkerId, batch: BatchId) {
        let Some(spans) = self.witness.handed_over.get(&(worker, batch)) else {
            self.story.violation(format!("{worker} commits batch {:x}, which was handed to no writer", batch.0 & 0xffff));
            return;
        };
        let (mut least, mut most) = (0, 0);
        for span in spans {
            let Some(topic) = self.log.topics.iter().find(|topic| topic.name == span.partition.topic) else { continue };
            let Some(log) = topic.partitions.get(span.partition.index as usize) else { continue };
            let routes = 1 + u64::from(topic.kind.append_table().is_some());
            let logs: Vec<(u64, u64)> = std::iter::once(log).chain(log.former.as_deref()).map(|log| count(log, span.from.get(), span.to.get())).collect();
            least += routes * logs.iter().map(|(least, _)| *least).min().unwrap_or(0);
            most += routes * logs.iter().map(|(_, most)| *most).max().unwrap_or(0);
        }
        // What takes effect after a drain was cut, nobody in that process hears of.
        if self.life(worker).is_some_and(|life| life.state == State::Ended) {
            least = 0;
        }
        let left = self.witness.left.entry(worker).or_insert((0, 0));
        *left = (left.0 + least, left.1 + most);
    }

    /// (f) Each record leaves the engine once, and is counted only if it did. One whose answer was lost may never be known.
    pub fn witness_leavings(&mut self) {
        for (worker, life) in &self.workers {
            let report = life.report.borrow();
            let counted: u64 =
                report.routes.values().map(|counts| counts.applied + counts.deduplicated + counts.stale + counts.filtered + counts.skipped()).sum();
            let (least, most) = self.witness.left.get(worker).copied().unwrap_or((0, 0));
            let is_complete = life.state == State::Ended && report.totals.unknown_commits == 0;
            if counted > most || (is_complete && counted < least) {
                self.story.violation(format!("(f) {worker} counts {counted} records that left, but {least} to {most} did"));
            }
        }
    }
}

/// Whether these rows are what `[from, to)` of this log gives; then how many records were left out as the routes say.
fn judge(world: &World, log: &PartitionLog, partition: &Partition, from: i64, to: i64, written: &BTreeSet<(Partition, i64)>) -> Result<u64, String> {
    if to > log.high() {
        return Err(format!("(d) {partition} is moved to {to}, beyond the end of its log at {}", log.high()));
    }
    let mut left_out = 0;
    for (offset, entry) in log.range(from, to) {
        let is_written = written.contains(&(partition.clone(), offset));
        match entry {
            Entry::Record(fact) if fact.is_visible() && !is_written => {
                if !may_be_left_out(world, fact.payload) {
                    return Err(format!("(c)(i) the checkpoint of {partition} is moved over {offset}, which is not written"));
                }
                left_out += 1;
            }
            // It may have been read before it was compacted away.
            Entry::Record(fact) | Entry::Vanished { fact, .. } if fact.is_visible() => {}
            Entry::Record(_) | Entry::Vanished { .. } | Entry::Control | Entry::Aborted if is_written => {
                return Err(format!("(c) {partition}@{offset} is written, and is no record that has a row"));
            }
            Entry::Record(_) | Entry::Vanished { .. } | Entry::Control | Entry::Aborted => {}
        }
    }
    Ok(left_out)
}

/// Records in `[from, to)`: those that are there, and with them those that were.
fn count(log: &PartitionLog, from: i64, to: i64) -> (u64, u64) {
    let mut counts = (0, 0);
    for (_, entry) in log.range(from, to) {
        counts.0 += u64::from(matches!(entry, Entry::Record(_)));
        counts.1 += u64::from(matches!(entry, Entry::Record(_) | Entry::Vanished { .. }));
    }
    counts
}
