//! A partition from assigned to running.

use std::{sync::Arc, time::Duration};

use oncesink_sinks::{
    checkpoint::{ClaimAnswer, ClaimRequest, Claimed, Committed, NotClaimed, StartReason, Wanted},
    fault::{Fault, FaultClass},
    model::{Delivery, NextOffset, Partition},
};
use tokio::time::Instant;

use super::{
    altered::altered,
    halt::{Halt, Met},
    lane::{Lane, State},
    ledger::Ledger,
    run::{Done, Engine, Phase},
};
use crate::{
    route::TopicPlan,
    source::{Ends, Found, Reply, Sequence, Start, TopicFound},
    telemetry::metrics,
};

/// How long to wait before Kafka is asked again for what it did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct ClaimDone {
    /// The lanes that were asked for, by the number under which they asked.
    asked: Vec<(Partition, Sequence)>,
    plans: Vec<(Arc<str>, Result<TopicPlan, Fault>)>,
    answers: Result<Vec<ClaimAnswer>, Fault>,
}

impl Engine {
    /// New lanes. Nothing of them is read until they are claimed and their start is known.
    pub fn assigned(&mut self, found: Vec<Found>, topics: Vec<TopicFound>, reply: Reply<Vec<Start>>) {
        self.report.joined = true;
        // A member without a partition stands by: the group has answered it, and there is nothing to claim. One that is about to leave
        // gives them back unread.
        if found.is_empty() || self.phase != Phase::Running {
            reply.send(Vec::new());
            return;
        }
        self.rebalanced();
        for found in &found {
            // An assignment without a revocation before it: what is left of the old lane is stale.
            self.forget_buffered(&found.partition);
            self.forget_drains_of(&found.partition);
            let writer = self.least_loaded_writer();
            if let Some(before) = self.lanes.remove(&found.partition) {
                before.ends("replaced");
                self.reset_gauges(&before);
            }
            self.lanes.insert(found.partition.clone(), Lane::new(found.partition.clone(), writer));
        }
        self.claim(found, &topics, Some(reply));
    }

    /// Kafka was asked again: for lanes that are to be claimed, and for starts that did not fit the log.
    pub fn looked_up(&mut self, found: Vec<Found>, topics: Vec<TopicFound>) {
        let mut to_claim = Vec::new();
        for found in found {
            let Some(lane) = self.lanes.get_mut(&found.partition) else { continue };
            lane.ends = found.ends.or(lane.ends);
            match lane.state() {
                State::Asking => to_claim.push(found),
                State::Checking { claimed } => {
                    let claimed = claimed.clone();
                    match found.ends {
                        Some(ends) => self.judge_start(&found.partition, &claimed, ends),
                        // Claimed again after a while: the checkpoint stays where it is.
                        None => lane.rest(ASK_AGAIN),
                    }
                }
                State::Claiming { .. } | State::Running | State::Draining | State::Halting { .. } | State::Resting { .. } => {}
            }
        }
        if !to_claim.is_empty() {
            self.claim(to_claim, &topics, None);
        }
    }

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

    /// Gives up what is buffered of a lane and takes it from the checkpoint again, now or after a while.
    pub fn restart(&mut self, partition: &Partition, after: Option<Duration>) {
        self.forget_buffered(partition);
        let sequence = self.next_sequence();
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        if matches!(lane.state(), State::Draining) {
            return;
        }
        lane.sequence = sequence;
        lane.touch();
        self.source.start(vec![Start { partition: partition.clone(), sequence, from: None }]);
        match after {
            Some(delay) => lane.rest(delay),
            None => {
                lane.go(State::Asking);
                self.source.look_up(vec![partition.clone()]);
            }
        }
    }

    /// Lanes that have rested long enough are tried again, all together.
    pub fn wake_resting(&mut self, now: Instant) {
        let due = |lane: &&mut Lane| matches!(lane.state(), State::Resting { until } if *until <= now);
        let mut woken = Vec::new();
        for lane in self.lanes.values_mut().filter(due) {
            if self.phase == Phase::Running {
                lane.go(State::Asking);
                woken.push(lane.partition.clone());
            } else {
                lane.rest(Duration::from_secs(3600));
            }
        }
        if !woken.is_empty() {
            // A table may have been mended meanwhile.
            self.outdated.extend(woken.iter().map(|partition| partition.topic.clone()));
            self.source.look_up(woken);
        }
    }

    /// Binds the topics to their tables and claims the partitions in one transaction, in a task of its own.
    fn claim(&mut self, found: Vec<Found>, topics: &[TopicFound], reply: Option<Reply<Vec<Start>>>) {
        let mut asked = Vec::new();
        let mut bind: Vec<Arc<str>> = Vec::new();
        for found in &found {
            let sequence = self.next_sequence();
            let Some(lane) = self.lanes.get_mut(&found.partition) else { continue };
            lane.sequence = sequence;
            lane.ends = found.ends.or(lane.ends);
            lane.go(State::Claiming { found: found.clone() });
            asked.push((found.partition.clone(), sequence));
            let topic = &found.partition.topic;
            if (!self.topics.contains_key(topic) || self.outdated.contains(topic)) && !bind.contains(topic) {
                bind.push(topic.clone());
            }
        }
        if let (Some(reply), Some((_, first))) = (reply, asked.first()) {
            self.assigning.insert(*first, reply);
        }
        let mut known: Vec<(Arc<str>, Delivery)> =
            self.topics.iter().filter(|(topic, _)| !bind.contains(topic)).map(|(topic, plan)| (topic.clone(), plan.delivery)).collect();
        let wanted: Vec<Wanted> = found.into_iter().map(|found| wanted(found, topics)).collect();
        let identity = self.source.identity();
        let mut request = ClaimRequest {
            pipeline: self.settings.pipeline.clone(),
            cluster: identity.cluster,
            group: identity.group,
            owner: self.settings.owner.clone(),
            adopts_commits: self.settings.adopts_commits,
            wanted,
            siblings: siblings(topics),
        };
        let (router, checkpoint, done) = (self.router.clone(), self.checkpoint.clone(), self.done.clone());
        self.spawn(async move {
            let mut plans: Vec<(Arc<str>, Result<TopicPlan, Fault>)> = Vec::new();
            for topic in bind {
                let plan = router.bind(&topic).await;
                plans.push((topic, plan));
            }
            known.extend(plans.iter().filter_map(|(topic, plan)| Some((topic.clone(), plan.as_ref().ok()?.delivery))));
            let delivery_of = |topic: &Arc<str>| known.iter().find(|(known, _)| known == topic).map(|(_, delivery)| *delivery);
            request.wanted.retain_mut(|wanted| delivery_of(&wanted.partition.topic).map(|delivery| wanted.delivery = delivery).is_some());
            let answers = if request.wanted.is_empty() { Ok(Vec::new()) } else { checkpoint.claim(&request).await };
            let _ = done.send(Done::Claim(ClaimDone { asked, plans, answers }));
        });
    }

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
                let delivery = self.topics.get(&partition.topic).map_or(Delivery::ExactlyOnce, |plan| plan.delivery);
                let claimed = above_retention(claimed, delivery, ends);
                self.now_ours(&partition, &claimed, &committed);
                let lane = self.lanes.get_mut(&partition)?;
                match ends {
                    // Judged only by ends that were looked up after the claim: the old owner may have moved on until then.
                    Some(ends) if gap(claimed.next, ends, claimed.because != StartReason::CommittedOffset).is_some() => {
                        lane.go(State::Checking { claimed });
                        self.source.look_up(vec![partition]);
                        None
                    }
                    ends => Some(self.begin(&partition, &claimed, ends)),
                }
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
                let mut halt = Halt::refusal(&refusal, lane.ledger.applied());
                if refusal.is_about_the_database() {
                    halt.mend = Some(self.give_up_commits(&partition));
                }
                self.halt(&partition, halt);
                None
            }
        }
    }

    /// What a person does who wants this database all the same.
    fn give_up_commits(&self, partition: &Partition) -> String {
        let (brokers, group, topic) = (&self.settings.brokers, self.source.identity().group, &partition.topic);
        format!(
            "put the right database back. Or, to fill this one from the topic again, with every worker stopped: \
             kafka-consumer-groups --bootstrap-server {brokers} --group {group} --topic {topic} --delete-offsets"
        )
    }

    /// The row is ours. What Kafka would have delivered again by its own offsets is stopped here.
    fn now_ours(&mut self, partition: &Partition, claimed: &Claimed, committed: &Committed) {
        // A claim ends whatever was taken under the one before: its records are read again.
        self.forget_buffered(partition);
        self.report.failing = None;
        self.report.totals.claims += 1;
        metrics::claims(&self.settings.pipeline, 1);
        let delivery = self.topics.get(&partition.topic).map_or(Delivery::ExactlyOnce, |plan| plan.delivery);
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
        lane.claim = claimed.claim;
        lane.ledger = Ledger::new(claimed.next, committed);
        lane.backoff.succeed();
        lane.touch();
        if lane.ledger.committable().is_some() {
            self.commit_soon();
        }
    }

    /// The ends are fresh: a start outside them is a gap that a person must see.
    fn judge_start(&mut self, partition: &Partition, claimed: &Claimed, ends: Ends) {
        match gap(claimed.next, ends, claimed.because != StartReason::CommittedOffset) {
            Some(halt) => self.halt(partition, halt),
            None => {
                let start = self.begin(partition, claimed, Some(ends));
                self.source.start(vec![start]);
            }
        }
    }

    /// Reading begins at the last record below the checkpoint, to see that it is still the same.
    fn begin(&mut self, partition: &Partition, claimed: &Claimed, ends: Option<Ends>) -> Start {
        let low = ends.map(|ends| ends.low);
        let last = claimed.last.filter(|last| low.is_none_or(|low| last.offset >= low.get()));
        let from = last.map_or(claimed.next, |last| NextOffset::new(last.offset));
        let mut sequence = Sequence::default();
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.expected = last;
            lane.go(State::Running);
            sequence = lane.sequence;
        }
        // A record or a write that halted it is passed only when a batch says so, or when somebody moved the checkpoint over it.
        self.clear_halt(partition, |halt| halt.met == Met::AtClaim || claimed.next.get() > halt.offset);
        tracing::debug!(pipeline = %self.settings.pipeline, %partition, next = %claimed.next, epoch = claimed.claim.epoch.0, because = ?claimed.because, "claimed");
        Start { partition: partition.clone(), sequence, from: Some(from) }
    }

    fn read_from(&mut self, partition: &Partition, next: NextOffset, ends: Ends) {
        let sequence = self.next_sequence();
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.sequence = sequence;
            lane.expected = None;
            self.source.start(vec![Start { partition: partition.clone(), sequence, from: Some(next.max(ends.low)) }]);
        }
    }

    fn claim_failed(&mut self, partition: &Partition, fault: &Fault) {
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        match fault.class {
            FaultClass::Retry | FaultClass::Pause => {
                let until = lane.backoff.fail(&self.settings.retry, fault.class == FaultClass::Pause, &mut self.random);
                let gives_up = lane.backoff.has_given_up(&self.settings.retry);
                lane.go(State::Resting { until });
                if gives_up {
                    self.give_up(fault);
                }
                self.report.failing = Some(fault.to_string());
                *self.report.totals.retries.entry(fault.class.as_str()).or_default() += 1;
                metrics::retry(&self.settings.pipeline, fault.class.as_str(), until.saturating_duration_since(Instant::now()));
            }
            FaultClass::Poison | FaultClass::Changed | FaultClass::Halt => {
                let next = lane.ledger.applied();
                lane.ledger.forget_taken();
                self.halt(partition, Halt::fault(fault, next, Met::AtClaim));
            }
        }
    }

    fn least_loaded_writer(&self) -> usize {
        (0..self.writers.len()).min_by_key(|writer| self.lanes.values().filter(|lane| lane.writer == *writer).count()).unwrap_or(0)
    }
}

fn wanted(found: Found, topics: &[TopicFound]) -> Wanted {
    let index = usize::try_from(found.partition.index).ok();
    let of_topic = topics.iter().find(|topic| topic.topic == found.partition.topic).and_then(|topic| topic.partitions.get(index?));
    Wanted {
        partition: found.partition,
        delivery: Delivery::ExactlyOnce,
        // Without the topic's ends a start by policy is not known, which is not the same as none: asked again.
        committed: if of_topic.is_some() { found.committed } else { Committed::Unknown },
        start: of_topic.and_then(|(_, start)| *start),
        beginning: of_topic.map(|(ends, _)| ends.low).or(found.ends.map(|ends| ends.low)),
    }
}

fn siblings(topics: &[TopicFound]) -> Vec<(Partition, NextOffset)> {
    let of_topic = |topic: &TopicFound| {
        let name = topic.topic.clone();
        let starts = topic.partitions.iter().enumerate().filter_map(|(index, (_, start))| start.map(|start| (index, start))).collect::<Vec<_>>();
        starts.into_iter().filter_map(move |(index, start)| Some((Partition { topic: name.clone(), index: i32::try_from(index).ok()? }, start)))
    };
    topics.iter().flat_map(of_topic).collect()
}

/// A floor may lie below the log though everything that is missing was written: then reading begins where the log does.
fn above_retention(claimed: Claimed, delivery: Delivery, ends: Option<Ends>) -> Claimed {
    match (delivery, ends) {
        (Delivery::AtLeastOnce, Some(ends)) if claimed.next < ends.low && ends.low <= claimed.durable => Claimed { next: ends.low, ..claimed },
        _ => claimed,
    }
}

/// Whether `next` lies outside the log. `above` too: an adopted offset may lie past the last stable one, there only the broker judges.
fn gap(next: NextOffset, ends: Ends, above: bool) -> Option<Halt> {
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
