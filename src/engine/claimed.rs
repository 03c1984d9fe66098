//! What a claim answered, and where its partitions are read from.

use oncesink_sinks::{
    claim::{ClaimAnswer, Claimed, Committed, NotClaimed, StartReason},
    fault::{Fault, FaultClass},
    model::{Delivery, NextOffset, Partition},
    start,
};

use super::{
    altered::altered,
    claim::{ASK_AGAIN, ClaimDone},
    gap::first_offset,
    halt::{Halt, Met},
    lane::State,
    ledger::Ledger,
    run::{Engine, Phase},
};
use crate::source::{Ends, Sequence, Start};

impl Engine {
    pub fn claim_done(&mut self, done: ClaimDone) {
        let ClaimDone { asked, plans, answers } = done;
        let reply = asked.first().and_then(|(_, sequence)| self.assigning.remove(sequence));
        let mut starts = Vec::new();
        for (topic, plan) in plans {
            match plan {
                Ok(plan) => {
                    self.outdated.remove(&topic);
                    self.topics.insert(topic, plan);
                }
                Err(fault) => {
                    let concerned: Vec<Partition> = asked
                        .iter()
                        .filter(|(partition, sequence)| partition.topic == topic && self.still_claims(partition, *sequence))
                        .map(|(partition, _)| partition.clone())
                        .collect();
                    for partition in concerned {
                        self.claim_failed(&partition, &fault);
                    }
                }
            }
        }
        match answers {
            Err(fault) => {
                for (partition, _) in asked.iter().filter(|(partition, sequence)| self.still_claims(partition, *sequence)).cloned().collect::<Vec<_>>() {
                    self.claim_failed(&partition, &fault);
                }
            }
            Ok(answers) => {
                for answer in answers {
                    let asked = asked.iter().find(|(partition, _)| *partition == answer.partition);
                    // Given away, or asked for again, since: the claim costs an epoch and nothing else.
                    if asked.is_some_and(|(partition, sequence)| self.still_claims(partition, *sequence)) {
                        starts.extend(self.claim_answered(answer));
                    }
                }
            }
        }
        let waited = reply.is_some_and(|reply| reply.send(starts.clone()));
        if !waited && !starts.is_empty() && self.phase == Phase::Running {
            self.source.start(starts);
        }
    }

    fn still_claims(&self, partition: &Partition, sequence: Sequence) -> bool {
        self.lanes.get(partition).is_some_and(|lane| lane.sequence == sequence && matches!(lane.state(), State::Claiming { .. }))
    }

    /// What is answered for one partition; a start, if it can be read at once.
    fn claim_answered(&mut self, answer: ClaimAnswer) -> Option<Start> {
        let partition = answer.partition;
        let lane = self.lanes.get_mut(&partition)?;
        let State::Claiming { found } = lane.state() else { return None };
        match answer.result {
            Ok(claimed) => {
                let (ends, committed) = (found.ends, found.committed.clone());
                let first = ends.map(|ends| first_offset(&start::Start::of(&claimed), self.delivery_of(&partition), ends));
                let next = first.and_then(Result::ok).unwrap_or(claimed.next);
                let claimed = Claimed { next, ..claimed };
                self.now_ours(&partition, &claimed, &committed);
                // Judged only by ends that were looked up after the claim: the old owner may have moved on until then.
                if matches!(first, Some(Err(_))) {
                    self.lanes.get_mut(&partition)?.go(State::Checking { claimed });
                    self.source.look_up(vec![partition]);
                    return None;
                }
                Some(self.begin(&partition, &claimed, ends))
            }
            Err(NotClaimed::NeedsCommitted) => {
                lane.rest(ASK_AGAIN);
                None
            }
            Err(NotClaimed::Failed(fault)) => {
                self.claim_failed(&partition, &fault);
                None
            }
            Err(NotClaimed::Refused(refusal)) => {
                self.refused(&partition, &refusal);
                None
            }
        }
    }

    /// The row is ours. What Kafka would have delivered again by its own offsets is stopped here.
    fn now_ours(&mut self, partition: &Partition, claimed: &Claimed, committed: &Committed) {
        // A claim ends whatever was taken under the one before: its records are read again.
        self.forget_buffered(partition);
        self.count_claim();
        let delivery = self.delivery_of(partition);
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        if let Some(text) = altered(claimed, committed) {
            tracing::warn!(pipeline = %self.settings.pipeline, %partition, "{text}");
        }
        let committed = match committed {
            Committed::At { next, .. } => Some(*next),
            // Somebody deleted what was committed: committed again, or nobody sees the lag until the next record.
            Committed::Nothing if claimed.because == StartReason::Checkpoint && claimed.durable > NextOffset::ZERO => None,
            Committed::Nothing | Committed::Unknown => Some(claimed.next),
        };
        if let (Some(committed), StartReason::Checkpoint) = (committed, claimed.because) {
            self.report.totals.redelivered += u64::try_from(claimed.next.get() - committed.get()).unwrap_or(0);
        }
        lane.delivery = delivery;
        lane.asked = None;
        lane.claim = claimed.claim;
        lane.ledger = Ledger::new(claimed.next, committed);
        if claimed.lost > 0 {
            lane.ledger = lane.ledger.durable_to(claimed.durable);
        }
        lane.backoff.succeed();
        lane.touch();
        if lane.ledger.committable().is_some() {
            self.commit_soon();
        }
        self.count_lost_offsets(partition, claimed.lost);
    }

    fn delivery_of(&self, partition: &Partition) -> Delivery {
        self.topics.get(&partition.topic).map_or(Delivery::ExactlyOnce, |plan| plan.delivery)
    }

    /// Reading begins at the last record below the checkpoint, to see that it is still the same.
    pub fn begin(&mut self, partition: &Partition, claimed: &Claimed, ends: Option<Ends>) -> Start {
        let low = ends.map(|ends| ends.low);
        let last = claimed.last.filter(|last| low.is_none_or(|low| last.offset >= low.get()));
        let from = last.map_or(claimed.next, |last| NextOffset::new(last.offset));
        let mut sequence = Sequence::default();
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.expected = last;
            lane.go(State::Running);
            sequence = lane.sequence;
        }
        // A record or a write that halted it is passed only when a batch says so, or when somebody moved the checkpoint away from it.
        if self.clear_halt(partition, |halt| halt.met == Met::Claim || claimed.next.get() != halt.offset)
            && let Some(lane) = self.lanes.get(partition)
        {
            self.note_halts(vec![(partition.clone(), Some(lane.held()), None)]);
        }
        tracing::debug!(pipeline = %self.settings.pipeline, %partition, next = %claimed.next, epoch = claimed.claim.epoch.0, because = ?claimed.because, "claimed");
        Start { partition: partition.clone(), sequence, from: Some(from) }
    }

    fn claim_failed(&mut self, partition: &Partition, fault: &Fault) {
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        match fault.class {
            FaultClass::Retry | FaultClass::Pause => {
                let until = lane.backoff.fail(&self.settings.retry, fault, &mut self.random);
                let gives_up = lane.backoff.has_given_up(&self.settings.retry);
                lane.go(State::Resting { until });
                if gives_up {
                    self.give_up(fault);
                }
                self.count_retry(fault, until);
            }
            FaultClass::Poison | FaultClass::Changed | FaultClass::Halt => {
                lane.backoff.succeed();
                let next = lane.ledger.applied();
                lane.ledger.forget_taken();
                self.halt(partition, Halt::fault(fault, next, Met::Claim));
            }
        }
    }
}
