//! A rebalance: partitions come, with the offsets where they start already in the one call that assigns them, and go, after the engine
//! has finished with them. Every path answers the group: a consumer that does not can never be closed.

use std::{collections::BTreeSet, time::Instant};

use oncesink_sinks::model::Partition;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaResult,
};

use super::{
    answer::question,
    context::Context,
    intake::Reading,
    look_up::{list_of, look_up},
    properties::Protocol,
};
use crate::{
    source::{Change, Commit},
    telemetry::metrics,
};

impl Context {
    pub(super) fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = partitions_in(list);
        if partitions.is_empty() || self.is_closing() {
            // While the client closes it takes any assignment for its end.
            if let Err(error) = self.add(consumer, list) {
                tracing::warn!(%error, "kafka did not take the answer to an assignment");
            }
            if !self.is_closing() {
                // Nobody waits for the answer, but the engine hears that the group knows this member.
                let (reply, _) = question();
                self.outlet.change(Change::Assigned { partitions: Vec::new(), topics: Vec::new(), reply });
            }
            return;
        }
        let deadline = Instant::now() + self.budget;
        let (found, topics) = look_up(consumer, &partitions, &self.start, self.budget / 2);
        let (reply, answer) = question();
        self.outlet.change(Change::Assigned { partitions: found, topics, reply });
        let starts = answer.wait_until(deadline).unwrap_or_else(|| {
            tracing::warn!(partitions = partitions.len(), "assigned partitions are not claimed in time, they wait");
            Vec::new()
        });
        let mut intake = self.intake();
        for partition in &partitions {
            let reading =
                starts.iter().find(|start| start.partition == *partition).map_or_else(Reading::default, |start| Reading::started(start.sequence, start.from));
            intake.set(partition.clone(), reading);
        }
        let offset_of = |partition: &Partition| match intake.readings.get(partition) {
            Some(reading) if reading.is_active() => Offset::Offset(reading.next),
            // It is paused before anything arrives, and what does arrive belongs to no sequence.
            _ => Offset::End,
        };
        let assignment = list_of(partitions.iter().map(|partition| (partition, offset_of(partition))));
        let is_full = intake.is_full;
        let (standing, active): (Vec<&Partition>, Vec<&Partition>) =
            partitions.iter().partition(|partition| is_full || !intake.readings.get(*partition).is_some_and(Reading::is_active));
        let list = |partitions: Vec<&Partition>| list_of(partitions.into_iter().map(|partition| (partition, Offset::Invalid)));
        let (standing, active) = (list(standing), list(active));
        drop(intake);
        let assigned = self
            .add(consumer, &assignment)
            .and_then(|()| if standing.count() == 0 { Ok(()) } else { consumer.pause(&standing) })
            // The client remembers a pause beyond the end of an assignment: one that was paused when it was given away would never be read.
            .and_then(|()| if active.count() == 0 { Ok(()) } else { consumer.resume(&active) });
        if let Err(error) = assigned {
            let mut intake = self.intake();
            partitions.iter().for_each(|partition| intake.forget(partition));
            drop(intake);
            self.outlet.change(Change::Lost { partitions });
            // The group counts on this member, so nobody else would read them either.
            self.fail("assignment-refused", format!("the kafka client did not take an assignment: {error}; start the process again"));
        }
    }

    pub(super) fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let partitions = partitions_in(list);
        let mut intake = self.intake();
        // At once: what was polled and not handed over yet is stale.
        partitions.iter().for_each(|partition| intake.forget(partition));
        drop(intake);
        if partitions.is_empty() {
            // Nothing to be finished.
        } else if consumer.assignment_lost() {
            self.outlet.change(Change::Lost { partitions });
        } else {
            let (reply, answer) = question();
            self.outlet.change(Change::Revoked { partitions: partitions.clone(), reply });
            let mut commits = answer.wait_until(Instant::now() + self.budget).unwrap_or_else(|| {
                tracing::warn!(partitions = partitions.len(), "partitions are given away before their last batch is finished");
                Vec::new()
            });
            commits.retain(|commit| partitions.contains(&commit.partition));
            // Asynchronous: the client finishes outstanding commits before it gives the partitions back, and waiting for one has no limit.
            commit(self, consumer, &commits);
        }
        if let Err(error) = self.remove(consumer, list) {
            tracing::warn!(%error, "kafka did not take the answer to a revocation");
        }
    }

    fn add(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        match self.protocol {
            Protocol::Cooperative => consumer.incremental_assign(list),
            Protocol::Eager => consumer.assign(list),
        }
    }

    fn remove(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        match self.protocol {
            Protocol::Cooperative => consumer.incremental_unassign(list),
            Protocol::Eager => consumer.unassign(),
        }
    }
}

/// Reads partitions from other offsets. Whatever the client has fetched before is never delivered: it filters by its own version numbers.
/// Until that is certain nothing is taken of them.
///
/// A seek is first, because it leaves the assignment alone. A partition that the client has given up cannot be sought; it is taken out of
/// the assignment and put back. The others of an eager assignment go on where they are.
pub(super) fn reposition(context: &Context, consumer: &BaseConsumer<Context>, moving: &[(Partition, i64)]) {
    if moving.is_empty() {
        return;
    }
    context.intake().misplace(moving.iter().map(|(partition, _)| partition));
    let to_offsets = list_of(moving.iter().map(|(partition, from)| (partition, Offset::Offset(*from))));
    let not_sought: Vec<(Partition, i64)> = match consumer.seek_partitions(to_offsets, context.budget / 2) {
        Ok(list) => {
            let good = |partition: &Partition| list.find_partition(&partition.topic, partition.index).is_some_and(|element| element.error().is_ok());
            moving.iter().filter(|(partition, _)| !good(partition)).cloned().collect()
        }
        // A seek that ran out of time leaves the position unknown.
        Err(_) => moving.to_vec(),
    };
    let failed = if not_sought.is_empty() { BTreeSet::new() } else { assign_anew(context, consumer, &not_sought) };
    let mut intake = context.intake();
    intake.place(moving.iter().map(|(partition, _)| partition).filter(|partition| !failed.contains(partition)));
    // Tried again as partitions that the client has given up.
    intake.given_up.extend(failed);
}

/// What comes back are those that could not be assigned anew.
fn assign_anew(context: &Context, consumer: &BaseConsumer<Context>, partitions: &[(Partition, i64)]) -> BTreeSet<Partition> {
    let refused = |error, partition: &Partition| tracing::error!(%error, %partition, "cannot read a partition from another offset, it stands still for now");
    match context.protocol {
        Protocol::Cooperative => {
            let mut failed = BTreeSet::new();
            // One by one: the client refuses a whole list for one of its members.
            for (partition, from) in partitions {
                let list = list_of([(partition, Offset::Offset(*from))].into_iter());
                if let Err(error) = consumer.incremental_unassign(&list) {
                    // It may be out of the assignment already, since an attempt before.
                    tracing::debug!(%error, %partition, "a partition is not taken out of the assignment");
                }
                // What is put back is fetched, also where all others are paused because there is no room.
                let is_full = context.intake().is_full;
                if let Err(error) = consumer.incremental_assign(&list).and_then(|()| if is_full { consumer.pause(&list) } else { consumer.resume(&list) }) {
                    refused(error, partition);
                    failed.insert(partition.clone());
                }
            }
            failed
        }
        Protocol::Eager => {
            let mut intake = context.intake();
            intake.disturb_all();
            let offset_of = |reading: &Reading| if reading.is_active() { Offset::Offset(reading.next) } else { Offset::End };
            let all = list_of(intake.readings.iter().map(|(partition, reading)| (partition, offset_of(reading))));
            let is_full = intake.is_full;
            let paused = intake.readings.iter().filter(|(_, reading)| is_full || !reading.is_active());
            let paused = list_of(paused.map(|(partition, _)| (partition, Offset::Invalid)));
            drop(intake);
            let assigned = consumer.assign(&all).and_then(|()| if paused.count() == 0 { Ok(()) } else { consumer.pause(&paused) });
            let Err(error) = assigned else { return BTreeSet::new() };
            if let Some((partition, _)) = partitions.first() {
                refused(error, partition);
            }
            partitions.iter().map(|(partition, _)| partition.clone()).collect()
        }
    }
}

/// Commits without waiting.
pub(super) fn commit(context: &Context, consumer: &BaseConsumer<Context>, commits: &[Commit]) {
    if commits.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        let mut element = list.add_partition(&commit.partition.topic, commit.partition.index);
        element.set_metadata(&commit.metadata);
        if let Err(error) = element.set_offset(Offset::Offset(commit.next.get())) {
            tracing::error!(partition = %commit.partition, %error, "an offset cannot be committed");
        }
    }
    match consumer.commit(&list, CommitMode::Async) {
        Ok(()) => context.intake().asked_to_commit(commits),
        Err(error) => {
            tracing::warn!(%error, "cannot commit offsets to kafka");
            metrics::offset_commit_failed(&context.group, commits.len() as u64);
        }
    }
}

fn partitions_in(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| Partition::new(element.topic(), element.partition())).collect()
}
