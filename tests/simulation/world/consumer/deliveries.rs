//! What is read, and when: in pieces, with what is stale in between.

use oncesink::source::{Input, RecordsBuilder, Sequence};
use oncesink_sinks::model::{NextOffset, Partition};
use rand::Rng;

use super::Consumer;
use crate::world::{
    dice::chance,
    events::Event,
    log::{Entry, Topic},
};

impl Consumer {
    /// Whether anything was delivered.
    pub(super) fn deliver(&mut self) -> bool {
        if !self.stale.is_empty() {
            self.deliver_stale();
        }
        self.is_paused = if self.is_paused { !self.buffer.has_room_again() } else { self.buffer.is_full() };
        if self.is_paused {
            self.sim.lock().story.count(Event::IntakePaused);
            return false;
        }
        self.find_out_of_range();
        self.find_recreated();
        let mut delivered = false;
        let partitions: Vec<Partition> = self.positions.keys().cloned().collect();
        for partition in partitions {
            let Some((sequence, next, incarnation)) =
                self.positions.get(&partition).and_then(|position| Some((position.sequence, position.next?, position.incarnation)))
            else {
                continue;
            };
            let most = {
                let mut world = self.sim.lock();
                // A topic that is away, or was made again: its records are not the ones that are read here.
                if world.log.topic(&partition.topic).is_none_or(|topic| Some(topic.incarnation) != incarnation) {
                    continue;
                }
                world.dice(self.worker).random_range(0..12)
            };
            let reached = self.hand_over(&partition, sequence, next, most);
            let Some(position) = self.positions.get_mut(&partition) else { continue };
            delivered |= reached > next;
            position.next = Some(reached);
            let world = self.sim.lock();
            let Some(log) = world.log.partition(&partition) else { continue };
            if reached == log.high() && reached > 0 && !log.holds_record(reached - 1) && position.passed < reached {
                position.passed = reached;
                let _ = self.inputs.send(Input::Passed { partition, sequence, next: NextOffset::new(reached) });
            }
        }
        delivered
    }

    /// The brokers refuse a fetch that begins outside the log, be it cut or another one.
    fn find_out_of_range(&mut self) {
        let mut world = self.sim.lock();
        let mut out_of_range = Vec::new();
        for (partition, position) in &mut self.positions {
            let (Some(next), Some(topic)) = (position.next, world.log.topic(&partition.topic)) else { continue };
            let incarnation = *position.incarnation.get_or_insert(topic.incarnation);
            let Some(log) = world.log.partition(partition) else { continue };
            // Once a topic is another one, only a position outside of it is noticed; else the next rebalance takes it away.
            let is_outside = next > log.high() || (next < log.low && incarnation == topic.incarnation);
            let ends = log.ends();
            // While Kafka does not tell the ends, it is asked again.
            if is_outside && !world.look_up_fails(30) {
                position.next = None;
                out_of_range.push(Input::OutOfRange { partition: partition.clone(), sequence: position.sequence, ends });
            }
        }
        for input in out_of_range {
            world.story.count(Event::OutOfRange);
            let _ = self.inputs.send(input);
        }
    }

    /// The client learns that a topic has another id than the one it was read under. It may be late: then a rebalance is there before.
    fn find_recreated(&mut self) {
        let mut world = self.sim.lock();
        let mut recreated = Vec::new();
        for (partition, position) in &mut self.positions {
            let is_another = |topic: &Topic| position.incarnation.is_some_and(|incarnation| incarnation != topic.incarnation);
            if position.next.is_some() && world.log.topic(&partition.topic).is_some_and(is_another) && world.chance(self.worker, 20) {
                position.next = None;
                recreated.push((partition.clone(), position.sequence));
            }
        }
        for (partition, sequence) in recreated {
            world.story.tell(format_args!("{}: notices that {partition} is another one", self.worker));
            world.story.count(Event::RecreatedWhileRead);
            let _ = self.inputs.send(Input::Recreated { partition, sequence });
        }
    }

    /// Sends up to `most` entries from `next` on, in one piece; returns the offset after them.
    fn hand_over(&self, partition: &Partition, sequence: Sequence, next: i64, most: i64) -> i64 {
        let world = self.sim.lock();
        let Some(log) = world.log.partition(partition) else { return next };
        let mut records = RecordsBuilder::new(partition.clone(), sequence);
        let mut reached = next;
        for (offset, entry) in log.range(next, next + most) {
            if let Entry::Record(fact) = entry {
                let (key, value) = (fact.id.to_string(), fact.text());
                records.push(offset, offset, Some(key.as_bytes()), Some(value.as_bytes()), std::iter::empty());
            }
            reached = offset + 1;
        }
        drop(world);
        if !records.is_empty() {
            let records = records.finish();
            self.buffer.add(records.cost());
            let _ = self.inputs.send(Input::Records(records));
        }
        reached
    }

    pub(super) fn deliver_stale(&mut self) {
        for (partition, sequence, next) in std::mem::take(&mut self.stale) {
            let most = {
                let mut world = self.sim.lock();
                let dice = world.dice(self.worker);
                if !chance(dice, 60) {
                    continue;
                }
                dice.random_range(1..8)
            };
            if self.hand_over(&partition, sequence, next, most) > next {
                self.sim.lock().story.count(Event::StaleDelivery);
            }
        }
    }
}
