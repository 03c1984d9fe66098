//! What happens to the log: producers' transactions, retention, compaction, new partitions, topics that are made again.

use oncesink_sinks::model::{Delivery, Partition};
use rand::{Rng, seq::IndexedRandom};

use super::Strike;
use crate::world::{
    World,
    events::Event,
    log::{Entry, PartitionLog, TopicKind},
};

/// The last records of a log are in its active segment, which nobody cleans.
const ACTIVE_SEGMENT: i64 = 3;

impl Strike<'_> {
    pub(super) fn add_partition(&mut self) {
        let mut world = self.sim.lock();
        let topic = self.number(world.log.topics.len());
        if world.log.partitions().len() < 8
            && let Some(partition) = world.log.add_partition(topic)
        {
            self.fired(&mut world, Some(Event::PartitionAdded), format_args!("{partition} is new"));
            world.group.rebalance_wanted = true;
        }
    }

    /// A record that nobody has read yet is one that the tables refuse, or that does not fit them at all, until somebody alters them; or one
    /// of each, the second of which is met while the first is on its way.
    pub(super) fn poison(&mut self) {
        let Some(partition) = self.partition(|_, _, _| true) else { return };
        let is_misfit = self.chance(50);
        self.poison_one(&partition, is_misfit);
        if !is_misfit && self.chance(50) {
            self.poison_one(&partition, true);
        }
    }

    fn poison_one(&mut self, partition: &Partition, is_misfit: bool) {
        let lasts = self.milliseconds(1000, 8000);
        let mut world = self.sim.lock();
        let skips = world.plan.skips;
        let Entry::Record(fact) = world.log.produce(partition, skips, &mut self.dice) else { return };
        // Where no table tells which records were left out, none may be.
        if skips && partition.topic.as_ref() == TopicKind::Events.name() {
            return;
        }
        let what = if is_misfit { "does not fit the tables" } else { "is refused by the tables" };
        self.fired(&mut world, None, format_args!("payload {} of {partition} {what} for {lasts:?}", fact.payload));
        if is_misfit {
            world.server.misfit(fact.payload);
        } else {
            world.server.refuse(fact.payload);
        }
        drop(world);
        self.later(lasts, move |sim| sim.lock().server.accept(fact.payload));
    }

    /// Readers of what is committed stand before its first record until it ends, and see nothing of it if it is aborted.
    pub(super) fn transaction(&mut self) {
        let lasts = self.milliseconds(100, 5000);
        let is_committed = self.chance(40);
        let Some(partition) = self.partition(|_, _, log| log.former.is_none() && !log.has_open_transaction()) else { return };
        let mut world = self.sim.lock();
        let facts = (0..self.dice.random_range(1..12)).map(|_| world.log.fact(&partition, 50, false, &mut self.dice)).collect();
        let Some(log) = world.log.partition_mut(&partition) else { return };
        log.begin_transaction(facts);
        let ends = if is_committed { "committed" } else { "aborted" };
        self.fired(&mut world, None, format_args!("a transaction in {partition} is open for {lasts:?}, then {ends}"));
        drop(world);
        self.later(lasts, move |sim| {
            let mut world = sim.lock();
            let Some(log) = world.log.partition_mut(&partition).filter(|log| log.has_open_transaction()) else { return };
            log.end_transaction(is_committed);
            world.story.count(if is_committed { Event::TransactionCommitted } else { Event::TransactionAborted });
        });
    }

    /// Retention: what every start is past is not there any more.
    pub(super) fn trim(&mut self) {
        let Some(partition) = self.partition(|_, _, log| log.former.is_none()) else { return };
        let mut world = self.sim.lock();
        let Some(row) = world.server.tables.checkpoints.get(&partition) else { return };
        let limit = match row.delivery {
            Delivery::ExactlyOnce => row.next_offset.get(),
            Delivery::AtMostOnce | Delivery::AtLeastOnce => world.group.committed_offset(&partition),
        };
        let Some(log) = world.log.partition_mut(&partition).filter(|log| limit > log.low) else { return };
        log.low = limit;
        self.fired(&mut world, Some(Event::Trimmed), format_args!("{partition} now begins at {limit}"));
    }

    /// Retention again, but somebody was too slow: records are gone that nobody has applied.
    pub(super) fn trim_past_checkpoint(&mut self) {
        let Some(partition) = self.partition(|kind, _, log| kind.delivery() == Delivery::ExactlyOnce && log.former.is_none()) else { return };
        let mut world = self.sim.lock();
        let Some(applied) = world.server.tables.checkpoints.get(&partition).map(|row| row.next_offset.get()) else { return };
        let Some(log) = world.log.partition_mut(&partition).filter(|log| applied > 0 && log.high() > applied.max(log.low) + 1) else { return };
        let low = self.dice.random_range(applied + 1..=log.high());
        log.low = low.max(log.low);
        log.has_gap = true;
        self.fired(&mut world, Some(Event::TrimmedPastCheckpoint), format_args!("{partition} now begins at {low}, its checkpoint is at {applied}"));
    }

    /// Of each key the newest record stays, but for the last ones of the log.
    pub(super) fn compact(&mut self) {
        let Some(partition) = self.partition(|_, _, log| log.former.is_none()) else { return };
        let mut world = self.sim.lock();
        let row = world.server.tables.checkpoints.get(&partition);
        let last = row.and_then(|row| row.last).map(|last| last.offset);
        let applied = row.filter(|row| row.delivery == Delivery::ExactlyOnce).map_or(0, |row| row.next_offset.get());
        // In a database that goes back in time it is not for certain any more.
        let applied = if world.plan.restores { 0 } else { applied };
        let Some(log) = world.log.partition_mut(&partition) else { return };
        let bound = log.high() - ACTIVE_SEGMENT;
        let removed = log.compact(bound, applied);
        if removed == 0 {
            return;
        }
        let last_is_gone = last.is_some_and(|last| matches!(log.entry(last), Some(Entry::Vanished { .. })));
        self.fired(&mut world, Some(Event::Compacted), format_args!("{partition} is compacted up to {bound}, {removed} records are gone"));
        if last_is_gone {
            world.story.count(Event::LastRecordCompacted);
        }
    }

    /// A topic is deleted and, after a while, made again, with fewer or with more records than were applied of the old one.
    pub(super) fn recreate(&mut self) {
        let (away, is_longer) = (self.milliseconds(0, 3000), self.chance(50));
        let mut world = self.sim.lock();
        let may = world.topics_that_may_be_made_again();
        let Some(index) = may.choose(&mut self.dice).copied() else { return };
        let topic = &world.log.topics[index];
        let (name, partitions) = (topic.name.clone(), topic.all());
        let event = if is_longer { Event::RecreatedWithMore } else { Event::RecreatedWithFewer };
        self.fired(&mut world, Some(event), format_args!("{name} is deleted, and made again after {away:?}"));
        world.log.delete_topic(index);
        world.group.topic_deleted(&name, partitions.clone());
        drop(world);
        self.sim.group_changed.notify_waiters();
        let mut dice = self.dice.clone();
        self.later(away, move |sim| {
            let mut world = sim.lock();
            world.log.make_topic_again(index);
            world.group.rebalance_wanted = true;
            for partition in &partitions {
                let before = world.log.partition(partition).and_then(|log| log.former.as_ref()).map_or(0, |former| former.entries.len());
                let length = if is_longer { before + dice.random_range(1..30) } else { dice.random_range(0..=before / 3) };
                for _ in 0..length {
                    world.log.produce(partition, false, &mut dice);
                }
                world.story.tell(format_args!("{partition} is there again, with {length} records where {before} were"));
            }
            drop(world);
            sim.group_changed.notify_waiters();
        });
    }

    /// A partition to which this may happen.
    fn partition(&mut self, may: impl Fn(TopicKind, &Partition, &PartitionLog) -> bool) -> Option<Partition> {
        let world = self.sim.lock();
        let is_fit = |partition: &Partition| {
            let kind = world.log.topic(&partition.topic).map(|topic| topic.kind);
            kind.zip(world.log.partition(partition)).is_some_and(|(kind, log)| may(kind, partition, log))
        };
        let partitions: Vec<Partition> = world.log.partitions().into_iter().filter(is_fit).collect();
        partitions.choose(&mut self.dice).cloned()
    }
}

impl World {
    /// Once each; exactly-once only, whose checkpoints stand for themselves; and where every checkpoint remembers a record.
    fn topics_that_may_be_made_again(&self) -> Vec<usize> {
        let is_known = |partition: &Partition| self.server.tables.checkpoints.get(partition).is_some_and(|row| row.last.is_some());
        let fit = self.log.topics.iter().enumerate().filter(|(_, topic)| {
            topic.kind.delivery() == Delivery::ExactlyOnce && !topic.is_away && topic.incarnation == 0 && topic.all().iter().all(is_known)
        });
        fit.map(|(index, _)| index).collect()
    }
}
