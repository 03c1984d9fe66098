//! What is assigned, under which sequence it is read, and the block of records that is being gathered.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use oncesink_sinks::model::{NextOffset, Partition};
use rdkafka::message::Message;

use super::{
    statistics::{Statistics, Verdict, Witness},
    unconfirmed::Unconfirmed,
};
use crate::source::{Commit, Ends, Found, Input, RecordsBuilder, Sequence};

/// A block is handed over at one of these, or when the partition changes, or when no record waits.
const BLOCK_RECORDS: usize = 500;
const BLOCK_BYTES: usize = 256 * 1024;
const BLOCK_AGE: std::time::Duration = std::time::Duration::from_millis(5);

/// One assigned partition.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// `None`: nobody has said yet where to read.
    pub sequence: Option<Sequence>,
    /// The next offset to be handed over; what lies below is dropped.
    pub next: i64,
    /// Halted: it stays assigned, and nothing is fetched.
    pub stands: bool,
    /// The last stable offset, as the client last told.
    end: Option<i64>,
    /// The client may still be elsewhere, and behind `next`: what it delivers would leave a hole.
    is_misplaced: bool,
    witness: Witness,
    commits: Unconfirmed,
}

impl Reading {
    pub(super) fn started(sequence: Sequence, from: Option<NextOffset>) -> Self {
        Self { sequence: Some(sequence), next: from.map_or(0, NextOffset::get), stands: from.is_none(), ..Self::default() }
    }

    /// Fetching is wanted, whether or not there is room.
    pub(super) const fn is_active(&self) -> bool {
        self.sequence.is_some() && !self.stands
    }

    const fn is_delivered(&self) -> bool {
        self.is_active() && !self.is_misplaced
    }
}

/// The state that the poll thread shares with its own callbacks.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub readings: BTreeMap<Partition, Reading>,
    /// There is no room: all partitions are paused.
    pub is_full: bool,
    /// Partitions that the client has stopped fetching on its own.
    pub given_up: BTreeSet<Partition>,
    /// Commits that have failed, to be made again.
    pub failed_commits: Vec<Commit>,
    block: Option<Block>,
    /// The partition of the last record that was not wanted; most come in rows.
    unwanted: Option<Partition>,
}

#[derive(Debug)]
struct Block {
    builder: RecordsBuilder,
    next: i64,
    opened: Instant,
}

/// What becomes of partitions that the client gave up.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// To be read on from where they are.
    pub again: Vec<(Partition, i64)>,
    /// Kafka has not what was to be read next.
    pub outside: Vec<(Partition, Sequence, Ends)>,
}

/// What the statistics led to.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub passed: Vec<Input>,
    pub failed_commits: u64,
    pub ends: Vec<(Partition, Ends)>,
    pub committed: Vec<(Partition, NextOffset)>,
}

impl Intake {
    /// Takes one record in. What comes back is a block that is complete.
    pub(super) fn push(&mut self, message: &impl Message) -> Option<Input> {
        let (topic, index, offset) = (message.topic(), message.partition(), message.offset());
        let is = |partition: &Partition| partition.index == index && &*partition.topic == topic;
        if let Some(block) = self.block.as_mut().filter(|block| is(block.builder.partition())) {
            if offset < block.next {
                return None;
            }
            block.push(message);
            return if block.is_complete() { self.flush() } else { None };
        }
        if self.unwanted.as_ref().is_some_and(is) {
            return None;
        }
        let complete = self.flush();
        let partition = Partition::new(topic, index);
        match self.readings.get_mut(&partition) {
            Some(reading) if reading.is_delivered() => {
                reading.witness.disturb();
                // Below the start: the client was about to be repositioned.
                if offset >= reading.next {
                    let mut block =
                        Block { builder: RecordsBuilder::new(partition, reading.sequence.unwrap_or_default()), next: reading.next, opened: Instant::now() };
                    block.push(message);
                    self.block = Some(block);
                }
            }
            Some(_) | None => self.unwanted = Some(partition),
        }
        complete
    }

    /// Ends the block that is being gathered.
    pub(super) fn flush(&mut self) -> Option<Input> {
        let block = self.block.take()?;
        let reading = self.readings.get_mut(block.builder.partition())?;
        reading.next = block.next;
        reading.witness.disturb();
        Some(Input::Records(block.builder.finish()))
    }

    /// Assigns or repositions. Records gathered before are stale, and so is all that was concluded.
    pub(super) fn set(&mut self, partition: Partition, reading: Reading) {
        self.discard_block_of(&partition);
        self.failed_commits.retain(|commit| commit.partition != partition);
        self.readings.insert(partition, reading);
    }

    pub(super) fn forget(&mut self, partition: &Partition) {
        self.discard_block_of(partition);
        self.failed_commits.retain(|commit| commit.partition != *partition);
        self.readings.remove(partition);
    }

    fn discard_block_of(&mut self, partition: &Partition) {
        self.unwanted = None;
        self.block.take_if(|block| block.builder.partition() == partition);
        self.given_up.retain(|one| one != partition);
    }

    /// What may lie at a damaged place: everything that is fetched and not known to be at the end of its log.
    pub(super) fn suspects(&self) -> Vec<(Partition, i64)> {
        let is_at_end = |reading: &Reading| reading.end.is_some_and(|end| reading.next >= end);
        self.fetched().filter(|(_, reading)| !is_at_end(reading)).map(|(partition, reading)| (partition.clone(), reading.next)).collect()
    }

    /// Everything that is fetched while there is room, and where it is.
    pub(super) fn active(&self) -> Vec<(Partition, i64)> {
        self.fetched().map(|(partition, reading)| (partition.clone(), reading.next)).collect()
    }

    fn fetched(&self) -> impl Iterator<Item = (&Partition, &Reading)> {
        self.readings.iter().filter(|(_, reading)| reading.is_active())
    }

    /// A pause or its end: positions that were reported before say nothing any more.
    pub(super) fn disturb_all(&mut self) {
        for reading in self.readings.values_mut() {
            reading.witness.disturb();
        }
    }

    /// They are about to be read from elsewhere: nothing is taken of them before that is certain.
    pub(super) fn misplace<'a>(&mut self, partitions: impl Iterator<Item = &'a Partition>) {
        for partition in partitions {
            self.discard_block_of(partition);
            if let Some(reading) = self.readings.get_mut(partition) {
                reading.is_misplaced = true;
                reading.witness.disturb();
            }
        }
    }

    /// The client reads them from `next` on, and what it fetched before is never delivered.
    pub(super) fn place<'a>(&mut self, partitions: impl Iterator<Item = &'a Partition>) {
        self.unwanted = None;
        for partition in partitions {
            if let Some(reading) = self.readings.get_mut(partition) {
                reading.is_misplaced = false;
                reading.witness.disturb();
            }
        }
    }

    /// Nothing is taken any more, until each is started again.
    pub(super) fn stand_still(&mut self) {
        self.readings.values_mut().for_each(|reading| reading.stands = true);
        self.unwanted = None;
    }

    /// The topic is another one under the same name: nothing is taken of it any more, until each partition is started again.
    pub(super) fn recreated(&mut self, topic: &str) -> Vec<Input> {
        self.unwanted = None;
        let reading = self.readings.iter_mut().filter(|(partition, reading)| &*partition.topic == topic && reading.is_active());
        let stop = |(partition, reading): (&Partition, &mut Reading)| {
            reading.stands = true;
            Some(Input::Recreated { partition: partition.clone(), sequence: reading.sequence? })
        };
        reading.filter_map(stop).collect()
    }

    /// Partitions that the client gave up, as they were found.
    pub(super) fn judge_given_up(&mut self, found: Vec<Found>) -> GivenUp {
        let mut given_up = GivenUp::default();
        for found in found {
            let Some(reading) = self.readings.get_mut(&found.partition).filter(|reading| reading.is_active()) else { continue };
            match found.ends {
                // Not even the statistics might name it again: kept, or nobody would ever read it.
                None => {
                    self.given_up.insert(found.partition);
                }
                Some(ends) if (ends.low.get()..=ends.high.get()).contains(&reading.next) => given_up.again.push((found.partition, reading.next)),
                Some(ends) => {
                    reading.stands = true;
                    given_up.outside.extend(reading.sequence.map(|sequence| (found.partition, sequence, ends)));
                }
            }
        }
        given_up
    }

    pub(super) fn asked_to_commit(&mut self, commits: &[Commit]) {
        for commit in commits {
            if let Some(reading) = self.readings.get_mut(&commit.partition) {
                reading.commits.ask(commit, Instant::now());
            }
        }
    }

    /// Hears what the client reports of itself. The block must have been flushed.
    pub(super) fn observe(&mut self, statistics: &Statistics<'_>) -> Observed {
        let (mut observed, now) = (Observed::default(), Instant::now());
        for (partition, reading) in &mut self.readings {
            let Some(report) = statistics.report(&partition.topic, partition.index) else { continue };
            if let Some(ends) = statistics.ends(&partition.topic, partition.index) {
                reading.end = Some(ends.high.get());
                observed.ends.push((partition.clone(), ends));
            }
            if report.committed >= 0 {
                observed.committed.push((partition.clone(), NextOffset::new(report.committed)));
            }
            if let Some(failed) = reading.commits.hear(report.committed, now) {
                observed.failed_commits += 1;
                self.failed_commits.push(failed);
            }
            let Some(sequence) = reading.sequence.filter(|_| reading.is_delivered() && !self.is_full) else { continue };
            match reading.witness.hear(report) {
                Verdict::ReadUpTo(next) if next > reading.next => {
                    reading.next = next;
                    observed.passed.push(Input::Passed { partition: partition.clone(), sequence, next: NextOffset::new(next) });
                }
                Verdict::GivenUp => {
                    reading.witness.disturb();
                    self.given_up.insert(partition.clone());
                }
                Verdict::ReadUpTo(_) | Verdict::Nothing => {}
            }
        }
        observed
    }
}

impl Block {
    fn push(&mut self, message: &impl Message) {
        let timestamp = message.timestamp().to_millis().unwrap_or(-1);
        let headers = message.headers();
        let headers = headers.into_iter().flat_map(super::headers::of);
        self.builder.push(message.offset(), timestamp, message.key(), message.payload(), headers);
        self.next = message.offset() + 1;
    }

    fn is_complete(&self) -> bool {
        let records = self.builder.len();
        // The clock is asked now and then only: at full speed a block is complete long before.
        records >= BLOCK_RECORDS || self.builder.cost() >= BLOCK_BYTES || (records.is_multiple_of(32) && self.opened.elapsed() >= BLOCK_AGE)
    }
}

#[cfg(test)]
mod tests {
    use oncesink_sinks::claim::Committed;
    use rdkafka::{Timestamp, message::OwnedMessage};

    use super::*;

    fn intake_at(next: i64) -> (Intake, Partition) {
        let (mut intake, partition) = (Intake::default(), Partition::new("orders", 0));
        intake.set(partition.clone(), Reading::started(Sequence(1), Some(NextOffset::new(next))));
        (intake, partition)
    }

    fn record(offset: i64) -> OwnedMessage {
        OwnedMessage::new(Some(b"x".to_vec()), None, "orders".to_owned(), Timestamp::NotAvailable, 0, offset, None)
    }

    fn taken(intake: &mut Intake) -> Vec<i64> {
        match intake.flush() {
            Some(Input::Records(records)) => records.iter().map(|record| record.offset).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn nothing_is_taken_of_a_partition_before_its_place_is_certain() {
        let (mut intake, partition) = intake_at(10);
        intake.misplace([&partition].into_iter());
        // From behind the place, as a client that could not be moved would deliver.
        assert!(intake.push(&record(20)).is_none() && taken(&mut intake).is_empty());
        intake.place([&partition].into_iter());
        intake.push(&record(10));
        assert_eq!(taken(&mut intake), [10]);
    }

    #[test]
    fn nothing_is_taken_of_a_recreated_topic() {
        let (mut intake, partition) = intake_at(10);
        assert!(intake.recreated("another").is_empty());
        assert!(matches!(&*intake.recreated("orders"), [Input::Recreated { partition, sequence: Sequence(1) }] if partition.index == 0));
        intake.push(&record(10));
        assert!(taken(&mut intake).is_empty() && intake.recreated("orders").is_empty());
        intake.set(partition, Reading::started(Sequence(2), Some(NextOffset::new(10))));
        intake.push(&record(10));
        assert_eq!(taken(&mut intake), [10]);
    }

    #[test]
    fn a_given_up_partition_whose_ends_are_not_known_is_kept() {
        let (mut intake, partition) = intake_at(10);
        let found = |ends: Option<(i64, i64)>| {
            let ends = ends.map(|(low, high)| Ends { low: NextOffset::new(low), high: NextOffset::new(high) });
            vec![Found { partition: partition.clone(), committed: Committed::Unknown, ends }]
        };
        let GivenUp { again, outside } = intake.judge_given_up(found(None));
        assert!(again.is_empty() && outside.is_empty());
        assert_eq!(std::mem::take(&mut intake.given_up), BTreeSet::from([partition.clone()]));
        let GivenUp { again, outside } = intake.judge_given_up(found(Some((0, 10))));
        assert!(again == [(partition.clone(), 10)] && outside.is_empty() && intake.given_up.is_empty());
        let GivenUp { again, outside } = intake.judge_given_up(found(Some((11, 20))));
        assert!(again.is_empty() && outside.len() == 1 && intake.active().is_empty());
    }
}
