//! A partition from assigned to running.

use std::{sync::Arc, time::Duration};

use oncesink_sinks::{
    claim::{ClaimAnswer, ClaimRequest, Committed, Wanted},
    fault::Fault,
    model::{Delivery, Epoch, NextOffset, Partition},
};
use tokio::time::Instant;

use super::{
    lane::{Lane, State},
    run::{Done, Engine, Phase},
};
use crate::{
    route::TopicPlan,
    source::{Found, Reply, Sequence, Start, TopicFound},
};

/// How long to wait before Kafka is asked again for what it did not answer.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct ClaimDone {
    /// The lanes that were asked for, by the number under which they asked.
    pub asked: Vec<(Partition, Sequence)>,
    pub plans: Vec<(Arc<str>, Result<TopicPlan, Fault>)>,
    pub answers: Result<Vec<ClaimAnswer>, Fault>,
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
        self.count_rebalance();
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
        let wanted: Vec<Wanted> = found.into_iter().map(|found| self.wanted(found, topics)).collect();
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

    fn wanted(&self, found: Found, topics: &[TopicFound]) -> Wanted {
        let index = usize::try_from(found.partition.index).ok();
        let of_topic = topics.iter().find(|topic| topic.topic == found.partition.topic).and_then(|topic| topic.partitions.get(index?));
        let epoch = self.lanes.get(&found.partition).map_or(Epoch::default(), |lane| lane.claim.epoch);
        Wanted {
            partition: found.partition,
            delivery: Delivery::ExactlyOnce,
            held: (epoch > Epoch(0)).then_some(epoch),
            // Without the topic's ends a start by policy is not known, which is not the same as none: asked again.
            committed: if of_topic.is_some() { found.committed } else { Committed::Unknown },
            start: of_topic.and_then(|(_, start)| *start),
            beginning: of_topic.map(|(ends, _)| ends.low).or(found.ends.map(|ends| ends.low)),
        }
    }

    fn least_loaded_writer(&self) -> usize {
        (0..self.writers.len()).min_by_key(|writer| self.lanes.values().filter(|lane| lane.writer == *writer).count()).unwrap_or(0)
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
