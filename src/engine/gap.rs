//! A start against the log as it is: what retention has deleted, and where a topic was cut.

use std::fmt;

use oncesink_sinks::{
    claim::{Claimed, StartReason},
    model::{Delivery, NextOffset, Partition},
    start,
};

use super::{claim::ASK_AGAIN, halt::Halt, run::Engine};
use crate::source::{Ends, Sequence, Start};

/// What was to be read is not in the log. A halt that a person ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    Below { next: NextOffset, low: NextOffset },
    Above { next: NextOffset, high: NextOffset },
}

/// Where reading begins, judged by the ends of the log.
pub fn first_offset(start: &start::Start, delivery: Delivery, ends: Ends) -> Result<NextOffset, Outside> {
    // A floor may lie below the log though everything that is missing was written: then reading begins where the log does.
    let passed = delivery != Delivery::ExactlyOnce && start.next < ends.low && ends.low <= start.durable;
    let next = if passed { ends.low } else { start.next };
    match outside(next, ends) {
        // An adopted offset may lie past the last stable one: there only the broker judges.
        Some(Outside::Above { .. }) if start.because == StartReason::CommittedOffset => Ok(next),
        Some(outside) => Err(outside),
        None => Ok(next),
    }
}

fn outside(next: NextOffset, ends: Ends) -> Option<Outside> {
    if next < ends.low {
        Some(Outside::Below { next, low: ends.low })
    } else if next > ends.high {
        Some(Outside::Above { next, high: ends.high })
    } else {
        None
    }
}

impl Engine {
    /// Kafka has not what was to be read: retention passed the checkpoint, or the topic was cut.
    pub fn out_of_range(&mut self, partition: &Partition, sequence: Sequence, ends: Ends) {
        let Some(lane) = self.lanes.get_mut(partition).filter(|lane| lane.is_running() && lane.sequence == sequence) else { return };
        lane.ends = Some(ends);
        let next = lane.ledger.taken();
        match outside(next, ends) {
            None => self.read_from(partition, next),
            Some(outside) => self.halt(partition, outside.halt()),
        }
    }

    fn read_from(&mut self, partition: &Partition, next: NextOffset) {
        let sequence = self.next_sequence();
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.sequence = sequence;
            lane.expected = None;
            self.source.start(vec![Start { partition: partition.clone(), sequence, from: Some(next) }]);
        }
    }

    /// The ends are fresh: a start outside them is a gap that a person must see.
    pub fn judge_start(&mut self, partition: &Partition, claimed: &Claimed, ends: Ends) {
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        match first_offset(&start::Start::of(claimed), lane.delivery, ends) {
            Err(outside) => self.halt(partition, outside.halt()),
            // Retention has moved on meanwhile, over what was written: the next claim begins above it.
            Ok(next) if next != claimed.next => lane.rest(ASK_AGAIN),
            Ok(_) => {
                let start = self.begin(partition, claimed, Some(ends));
                self.source.start(vec![start]);
            }
        }
    }
}

impl Outside {
    fn halt(self) -> Halt {
        let (reason, next) = match self {
            Self::Below { next, .. } => ("gap", next),
            Self::Above { next, .. } => ("topic-cut", next),
        };
        Halt::new(reason, self.to_string(), next.get())
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below { next, low } => write!(f, "offsets {next} to {} are not in Kafka any more: retention has passed the checkpoint", low.get() - 1),
            Self::Above { next, high } => write!(f, "the checkpoint is at {next}, but the log ends at {high}: the topic was cut, or deleted and made again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_inside_the_log() {
        use Delivery::{AtLeastOnce, ExactlyOnce};
        let number = NextOffset::new;
        let ends = Ends { low: number(10), high: number(20) };
        let below = Outside::Below { next: number(9), low: number(10) };
        let above = Outside::Above { next: number(21), high: number(20) };
        for (delivery, because, next, durable, first) in [
            (ExactlyOnce, StartReason::Checkpoint, 10, 10, Ok(number(10))),
            (ExactlyOnce, StartReason::Checkpoint, 20, 20, Ok(number(20))),
            (ExactlyOnce, StartReason::Checkpoint, 9, 9, Err(below)),
            (ExactlyOnce, StartReason::Checkpoint, 9, 15, Err(below)),
            (ExactlyOnce, StartReason::Checkpoint, 21, 21, Err(above)),
            (AtLeastOnce, StartReason::Checkpoint, 9, 15, Ok(number(10))),
            (AtLeastOnce, StartReason::Checkpoint, 9, 9, Err(below)),
            (AtLeastOnce, StartReason::CommittedOffset, 21, 21, Ok(number(21))),
            (AtLeastOnce, StartReason::CommittedOffset, 9, 9, Err(below)),
        ] {
            let start = start::Start { next: number(next), durable: number(durable), because, lost: 0 };
            assert_eq!(first_offset(&start, delivery, ends), first, "{delivery} {start:?}");
        }
        assert_eq!(below.to_string(), "offsets 9 to 9 are not in Kafka any more: retention has passed the checkpoint");
    }
}
