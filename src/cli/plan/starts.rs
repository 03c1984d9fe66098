//! Where each partition would start and why, by the very function that a claim uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use oncesink_sinks::{
    checkpoint::CheckpointRow,
    claim::{ClaimRequest, NotClaimed, StartReason, Wanted},
    model::{Delivery, Epoch, NextOffset, Partition},
    start::decide,
};

use crate::{
    cli::{
        connect::{MendedBy, Obstacle},
        output,
    },
    engine::first_offset,
    settings::Pipeline,
    source::{Found, TopicFound, kafka::StartPolicy},
};

/// The partitions of one topic, those with the same reason together.
pub struct TopicStarts {
    pub lines: Vec<String>,
    pub obstacles: Vec<Obstacle>,
}

/// One partition, decided.
struct Decided {
    index: i32,
    why: String,
    left: u64,
}

/// Decides every partition of every topic.
pub fn starts(
    pipeline: &Pipeline,
    cluster: &Arc<str>,
    database: &str,
    rows: &[CheckpointRow],
    (found, topics): &(Vec<Found>, Vec<TopicFound>),
    deliveries: &BTreeMap<Arc<str>, Delivery>,
) -> BTreeMap<Arc<str>, TopicStarts> {
    let claimed_topics: BTreeSet<&Arc<str>> = rows.iter().map(|row| &row.partition.topic).collect();
    let mut all: BTreeMap<Arc<str>, (Vec<Decided>, Vec<Obstacle>)> = BTreeMap::new();
    for found in found {
        let partition = &found.partition;
        let (decided, obstacles) = all.entry(partition.topic.clone()).or_default();
        let Some(ends) = found.ends else {
            obstacles.push(Obstacle { mended_by: MendedBy::Time, what: format!("Kafka does not tell where {partition} begins and ends"), mend: None });
            continue;
        };
        let row = rows.iter().find(|row| row.partition == *partition);
        let delivery = deliveries.get(&partition.topic).copied().unwrap_or(Delivery::ExactlyOnce);
        let wanted = Wanted {
            partition: partition.clone(),
            delivery,
            held: None,
            committed: found.committed.clone(),
            start: policy_start(topics, partition),
            beginning: Some(ends.low),
        };
        let request = ClaimRequest {
            pipeline: pipeline.name.clone(),
            cluster: cluster.clone(),
            group: Arc::from(pipeline.kafka.group.as_str()),
            owner: Arc::from(""),
            adopts_commits: pipeline.group_written,
            wanted: Vec::new(),
            siblings: Vec::new(),
        };
        match decide(row, claimed_topics.contains(&partition.topic), &wanted, &request, database) {
            Ok(start) => match first_offset(&start, delivery, ends) {
                Err(outside) => obstacles.push(Obstacle { mended_by: MendedBy::World, what: format!("{partition} would not start: {outside}"), mend: None }),
                Ok(next) => decided.push(Decided {
                    index: partition.index,
                    why: why(start.because, row, &pipeline.kafka.start),
                    left: u64::try_from(ends.high.get() - next.get()).unwrap_or(0),
                }),
            },
            Err(NotClaimed::Refused(refusal)) => {
                obstacles.push(Obstacle { mended_by: MendedBy::World, what: format!("{partition} would not start: {refusal}"), mend: None });
            }
            Err(NotClaimed::NeedsCommitted) => obstacles.push(Obstacle {
                mended_by: MendedBy::Time,
                what: format!("Kafka does not tell what the group has committed in {partition}"),
                mend: None,
            }),
            Err(NotClaimed::Failed(fault)) => obstacles.push(Obstacle::from(fault)),
        }
    }
    all.into_iter().map(|(topic, (decided, obstacles))| (topic.clone(), TopicStarts { lines: lines(&topic, decided), obstacles })).collect()
}

fn policy_start(topics: &[TopicFound], partition: &Partition) -> Option<NextOffset> {
    let topic = topics.iter().find(|topic| topic.topic == partition.topic)?;
    topic.partitions.get(usize::try_from(partition.index).ok()?)?.1
}

fn why(because: StartReason, row: Option<&CheckpointRow>, policy: &StartPolicy) -> String {
    match because {
        StartReason::Checkpoint => "its checkpoint".to_owned(),
        StartReason::CommittedOffset => "the group's committed offset".to_owned(),
        StartReason::NewPartition => "the beginning (a new partition of a known topic)".to_owned(),
        StartReason::Policy if row.is_some_and(|row| row.claim.epoch == Epoch(0)) => "the start that the first claim of the topic set".to_owned(),
        StartReason::Policy => {
            let policy = match policy {
                StartPolicy::Earliest => "earliest".to_owned(),
                StartPolicy::Latest => "latest".to_owned(),
                StartPolicy::Time(milliseconds) => {
                    jiff::Timestamp::from_millisecond(*milliseconds).map_or_else(|_| "a time".to_owned(), |time| time.to_string())
                }
                StartPolicy::Error => "error".to_owned(),
            };
            format!("{policy}, by kafka.start (no checkpoint, no commit)")
        }
    }
}

/// `orders:0-5  earliest, by kafka.start …; 1,204,511 offsets to read`
fn lines(topic: &str, decided: Vec<Decided>) -> Vec<String> {
    let mut groups: BTreeMap<String, (Vec<i32>, u64)> = BTreeMap::new();
    for one in decided {
        let (indexes, left) = groups.entry(one.why).or_default();
        indexes.push(one.index);
        *left += one.left;
    }
    groups.into_iter().map(|(why, (indexes, left))| format!("{topic}:{} {why}; {} offsets to read", ranges(&indexes), output::count(left))).collect()
}

/// `0-2,5`
fn ranges(indexes: &[i32]) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for &index in indexes {
        match runs.last_mut() {
            Some((_, to)) if *to + 1 == index => *to = index,
            _ => runs.push((index, index)),
        }
    }
    let texts: Vec<String> = runs.into_iter().map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") }).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_partitions_are_written_short() {
        for (indexes, text) in [(vec![0], "0"), (vec![0, 1, 2, 5], "0-2,5"), (vec![3, 7, 8], "3,7-8"), (vec![], "")] {
            assert_eq!(ranges(&indexes), text);
        }
    }
}
