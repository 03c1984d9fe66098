//! What a person does once the trouble is over: ends the halts that nothing else can end, and puts one more record in the way.

use oncesink_sinks::model::{Coordinate, Delivery, NextOffset, Partition};
use rand::seq::IndexedRandom;

use super::{
    World,
    database::Lock,
    dice::Dice,
    events::Event,
    log::{Entry, PartitionLog},
};

/// Halts that stay until a person has decided from where to go on.
const FOR_A_PERSON: [&str; 3] = ["topic-recreated", "topic-cut", "gap"];

/// A checkpoint was moved by hand, while its partition stood still.
#[derive(Clone, Debug)]
pub struct Decision {
    pub partition: Partition,
    pub from: i64,
    pub to: i64,
}

impl World {
    /// Whether this partition stands at what only a person can end, and rightly: the log shows why, and nobody has decided yet.
    pub fn waits_for_person(&self, partition: &Partition) -> bool {
        if self.server.tables.audit.iter().any(|decision| decision.partition == *partition) {
            return false;
        }
        let is_broken = |log: &PartitionLog| log.former.is_some() || log.has_gap;
        let halt = self.server.tables.checkpoints.get(partition).and_then(|row| row.halt.as_ref());
        self.log.partition(partition).is_some_and(is_broken) && halt.is_some_and(|halt| FOR_A_PERSON.contains(&halt.reason.as_str()))
    }

    /// Moves the checkpoints of all such partitions to where their logs begin. Whether one was left, because somebody holds its row.
    pub fn end_halts(&mut self) -> bool {
        let mut is_done = true;
        for partition in self.log.partitions() {
            if !self.waits_for_person(&partition) {
                continue;
            }
            if self.server.is_locked(&Lock::Checkpoint(partition.clone())) {
                is_done = false;
                continue;
            }
            let Some(low) = self.log.partition(&partition).map(|log| log.low) else { continue };
            let Some(row) = self.server.tables.checkpoints.get_mut(&partition) else { continue };
            let from = row.next_offset.get();
            (row.next_offset, row.durable, row.last, row.halt) = (NextOffset::new(low), NextOffset::new(low), None, None);
            self.server.tables.audit.push(Decision { partition: partition.clone(), from, to: low });
            self.witness.checkpoint_moved(&partition, low);
            self.story.tell(format_args!("somebody moves the checkpoint of {partition} from {from} to {low}"));
            self.story.count(Event::EndedByPerson);
        }
        is_done
    }

    /// Those that wait still are left as they are. A halt is tried again and again, so its note comes and goes.
    pub fn leave_halted(&mut self) {
        let left: Vec<Partition> = self.log.partitions().into_iter().filter(|partition| self.waits_for_person(partition)).collect();
        for partition in left {
            self.story.tell(format_args!("{partition} is left halted"));
            self.story.count(Event::LeftHalted);
            self.left_halted.insert(partition);
        }
    }

    /// Under at-least-once a restored database is a halt that a person ends: without commits, reading begins at the floor.
    pub fn move_offsets_after_a_restore(&mut self) {
        let concerned: Vec<_> = self.log.topics.iter().filter(|topic| topic.kind.delivery() == Delivery::AtLeastOnce).map(|topic| topic.name.clone()).collect();
        if self.was_restored && !concerned.is_empty() {
            self.story.tell(format_args!("somebody deletes the group's offsets of {concerned:?}"));
            self.story.count(Event::OffsetsMovedByHand);
            self.group.forget_commits_of(&concerned);
        }
    }

    /// One more record that the tables refuse; the records before it are fine. None where such are skipped.
    pub fn refuse_one_more(&mut self, dice: &mut Dice) -> Option<Coordinate> {
        self.server.refused_payloads.clear();
        self.server.undecodable.clear();
        if self.plan.skips {
            return None;
        }
        let is_fit = |partition: &Partition| {
            // There every record is written to an append table; an event may be known already.
            let is_exact = self.log.topic(&partition.topic).is_some_and(|topic| topic.kind.delivery() == Delivery::ExactlyOnce);
            is_exact && self.log.partition(partition).is_some_and(|log| log.former.is_none() && !log.has_gap)
        };
        let partitions: Vec<Partition> = self.log.partitions().into_iter().filter(is_fit).collect();
        let partition = partitions.choose(dice)?.clone();
        let Entry::Record(fact) = self.log.produce(&partition, false, dice) else { return None };
        if !fact.is_visible() {
            return None;
        }
        let offset = self.log.partition(&partition)?.high() - 1;
        self.story.tell(format_args!("the record {} is refused by the tables, and nothing else is wrong", partition.at(offset)));
        self.server.refuse(fact.payload);
        Some(partition.at(offset))
    }

    /// What the engines counted, for the histogram.
    pub fn count_totals(&mut self) {
        for life in self.workers.values() {
            let report = life.report.borrow();
            self.story.add(Event::Fenced, report.totals.fenced);
            self.story.add(Event::Rewound, report.totals.rewinds);
            self.story.add(Event::UnknownOutcome, report.totals.unknown_commits);
            self.story.add(Event::LostRecords, report.routes.values().map(|counts| counts.lost).sum());
        }
    }
}
