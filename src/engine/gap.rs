//! A start against the log as it is: what retention has deleted, and where a topic was cut.

use oncesink_sinks::{
    checkpoint::{Claimed, StartReason},
    model::{Delivery, NextOffset, Partition},
};

use super::{claim::ASK_AGAIN, halt::Halt, run::Engine};
use crate::source::{Ends, Found, Start};

impl Engine {
    /// Kafka has not what was to be read: retention passed the checkpoint, or the topic was cut.
    pub fn out_of_range(&mut self, found: Vec<Found>) {
        for found in found {
            let Some(lane) = self.lanes.get_mut(&found.partition).filter(|lane| lane.is_running()) else { continue };
            let Some(ends) = found.ends else {
                self.restart(&found.partition, Some(ASK_AGAIN));
                continue;
            };
            lane.ends = Some(ends);
            let next = lane.ledger.taken();
            match gap(next, ends, true) {
                None => self.read_from(&found.partition, next, ends),
                Some(halt) => self.halt(&found.partition, halt),
            }
        }
    }

    fn read_from(&mut self, partition: &Partition, next: NextOffset, ends: Ends) {
        let sequence = self.next_sequence();
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.sequence = sequence;
            lane.expected = None;
            self.source.start(vec![Start { partition: partition.clone(), sequence, from: Some(next.max(ends.low)) }]);
        }
    }

    /// The ends are fresh: a start outside them is a gap that a person must see.
    pub fn judge_start(&mut self, partition: &Partition, claimed: &Claimed, ends: Ends) {
        match gap(claimed.next, ends, claimed.because != StartReason::CommittedOffset) {
            Some(halt) => self.halt(partition, halt),
            None => {
                let start = self.begin(partition, claimed, Some(ends));
                self.source.start(vec![start]);
            }
        }
    }
}

/// A floor may lie below the log though everything that is missing was written: then reading begins where the log does.
pub fn above_retention(claimed: Claimed, delivery: Delivery, ends: Option<Ends>) -> Claimed {
    match (delivery, ends) {
        (Delivery::AtLeastOnce, Some(ends)) if claimed.next < ends.low && ends.low <= claimed.durable => Claimed { next: ends.low, ..claimed },
        _ => claimed,
    }
}

/// Whether `next` lies outside the log. `above` too: an adopted offset may lie past the last stable one, there only the broker judges.
pub fn gap(next: NextOffset, ends: Ends, above: bool) -> Option<Halt> {
    if next < ends.low {
        let detail = format!("offsets {next} to {} are not in Kafka any more: retention has passed the checkpoint", ends.low.get() - 1);
        return Some(Halt::new("gap", detail, next.get()));
    }
    if above && next > ends.high {
        let detail = format!("the checkpoint is at {next}, but the log ends at {}: the topic was cut, or deleted and made again", ends.high);
        return Some(Halt::new("topic-recreated", detail, next.get()));
    }
    None
}
