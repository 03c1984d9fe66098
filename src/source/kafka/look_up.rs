//! What Kafka holds of partitions: the group's committed offsets, and the ends of their logs. Every call is bounded, and a failed one is
//! never "nothing".

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use oncesink_sinks::{
    claim::Committed,
    model::{NextOffset, Partition},
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::StartPolicy;
use crate::source::{Ends, Found, TopicFound};

/// How soon a group's coordinator is asked for again that is not there yet.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// These partitions, and all partitions of their topics. Never call it while partitions are taken away:
/// the look-up of committed offsets then burns its whole time.
pub(super) fn look_up<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Partition],
    start: &StartPolicy,
    limit: Duration,
) -> (Vec<Found>, Vec<TopicFound>) {
    let deadline = Instant::now() + limit;
    let committed = committed(consumer, partitions, limit / 2);
    let topics: BTreeSet<Arc<str>> = partitions.iter().map(|partition| partition.topic.clone()).collect();
    let (ends, topics) = topics_found(consumer, &topics, start, deadline.saturating_duration_since(Instant::now()));
    let found = partitions.iter().map(|partition| Found {
        partition: partition.clone(),
        committed: committed.get(partition).cloned().unwrap_or(Committed::Unknown),
        ends: ends.get(partition).copied(),
    });
    (found.collect(), topics)
}

/// The ends of all partitions of these topics, and the topics as a whole where none of their partitions failed.
pub(super) fn topics_found<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &BTreeSet<Arc<str>>,
    start: &StartPolicy,
    limit: Duration,
) -> (BTreeMap<Partition, Ends>, Vec<TopicFound>) {
    let deadline = Instant::now() + limit;
    let indexes = partitions_of(consumer, topics, limit / 3);
    // A partition without a leader would make the look-up of all others fail.
    let led = |(topic, found): (&Arc<str>, &Vec<(i32, bool)>)| {
        let topic = topic.clone();
        found.iter().filter(|(_, has_leader)| *has_leader).map(move |(index, _)| Partition { topic: topic.clone(), index: *index }).collect::<Vec<_>>()
    };
    let partitions: Vec<Partition> = indexes.iter().flat_map(led).collect();
    let rest = |share: u32| deadline.saturating_duration_since(Instant::now()) / share;
    // Both ends of one partition in one list are refused by the brokers: two calls.
    let low = offsets(consumer, &partitions, Offset::Beginning, rest(2));
    let high = offsets(consumer, &partitions, Offset::End, rest(1));
    let by_time = match start {
        StartPolicy::Time(time) => offsets(consumer, &partitions, Offset::Offset(*time), rest(1)),
        StartPolicy::Earliest | StartPolicy::Latest | StartPolicy::Error => BTreeMap::new(),
    };
    let ends: BTreeMap<Partition, Ends> = partitions
        .iter()
        .filter_map(|partition| match (low.get(partition), high.get(partition)) {
            (Some(Offset::Offset(low)), Some(Offset::Offset(high))) => {
                Some((partition.clone(), Ends { low: NextOffset::new(*low), high: NextOffset::new(*high) }))
            }
            _ => None,
        })
        .collect();
    let start_of = |partition: &Partition, ends: &Ends| match start {
        StartPolicy::Earliest => Some(Some(ends.low)),
        StartPolicy::Latest => Some(Some(ends.high)),
        StartPolicy::Error => Some(None),
        StartPolicy::Time(_) => match by_time.get(partition) {
            Some(Offset::Offset(offset)) => Some(Some(NextOffset::new(*offset))),
            // No record is as young.
            Some(Offset::End) => Some(Some(ends.high)),
            _ => None,
        },
    };
    let found = topics.iter().map(|topic| {
        let one = |(index, _): &(i32, bool)| {
            let partition = Partition { topic: topic.clone(), index: *index };
            let ends = ends.get(&partition)?;
            Some((*ends, start_of(&partition, ends)?))
        };
        let partitions = indexes.get(topic).and_then(|indexes| indexes.iter().map(one).collect::<Option<Vec<_>>>());
        TopicFound { topic: topic.clone(), partitions: partitions.unwrap_or_default() }
    });
    let found = found.collect();
    (ends, found)
}

/// What the group has committed; a partition that is not in the answer could not be looked up.
pub(super) fn committed<C: ConsumerContext>(consumer: &BaseConsumer<C>, partitions: &[Partition], limit: Duration) -> BTreeMap<Partition, Committed> {
    if partitions.is_empty() {
        return BTreeMap::new();
    }
    let deadline = Instant::now() + limit;
    loop {
        let (committed, error) = ask_committed(consumer, partitions, deadline.saturating_duration_since(Instant::now()));
        let Some(error) = error else { return committed };
        if !is_coordinator_to_come(&error) || Instant::now() + ASK_AGAIN >= deadline {
            tracing::warn!(%error, "cannot look up committed offsets");
            return committed;
        }
        thread::sleep(ASK_AGAIN);
    }
}

/// What is told, and why the rest is not.
fn ask_committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Partition],
    limit: Duration,
) -> (BTreeMap<Partition, Committed>, Option<KafkaError>) {
    let (mut committed, mut untold) = (BTreeMap::new(), None);
    let list = match consumer.committed_offsets(list_of(partitions.iter().map(|partition| (partition, Offset::Invalid))), limit) {
        Ok(list) => list,
        Err(error) => return (committed, Some(error)),
    };
    for element in list.elements() {
        let found = match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(next)) => Committed::At { next: NextOffset::new(next), metadata: text_of(|| element.metadata()) },
            (Ok(()), Offset::Invalid) => Committed::Nothing,
            (Ok(()), _) => {
                untold = Some(KafkaError::OffsetFetch(RDKafkaErrorCode::Unknown));
                continue;
            }
            (Err(error), _) => {
                untold = Some(error);
                continue;
            }
        };
        committed.insert(Partition::new(element.topic(), element.partition()), found);
    }
    (committed, untold)
}

/// It is being made or moved: a cluster in which no group was ever asked for has none.
fn is_coordinator_to_come(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator, WaitingForCoordinator};
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator, WaitingForCoordinator].contains(&code))
}

/// The client's library panics at metadata that is not UTF-8, and any tool may commit such. It is another's then, as empty metadata is.
fn text_of<'a>(metadata: impl FnOnce() -> &'a str) -> String {
    catch_unwind(AssertUnwindSafe(metadata)).map(str::to_owned).unwrap_or_default()
}

/// A list for the client.
pub(super) fn list_of<'a>(partitions: impl Iterator<Item = (&'a Partition, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        let mut element = list.add_partition(&partition.topic, partition.index);
        if let Err(error) = element.set_offset(offset) {
            tracing::error!(%partition, %error, "an offset cannot be said to Kafka");
        }
    }
    list
}

/// Indexes of the partitions of each topic, in order, and whether they have a leader. Topics that could not be looked up are not in it.
fn partitions_of<C: ConsumerContext>(consumer: &BaseConsumer<C>, topics: &BTreeSet<Arc<str>>, limit: Duration) -> BTreeMap<Arc<str>, Vec<(i32, bool)>> {
    let deadline = Instant::now() + limit;
    let mut found = BTreeMap::new();
    for topic in topics {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let metadata = match consumer.fetch_metadata(Some(topic), left) {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::warn!(%topic, %error, "cannot look up the partitions of a topic");
                continue;
            }
        };
        for topic_found in metadata.topics().iter().filter(|one| one.name() == &**topic && one.error().is_none()) {
            let mut partitions: Vec<_> = topic_found.partitions().iter().map(|partition| (partition.id(), partition.leader() >= 0)).collect();
            partitions.sort_unstable();
            found.insert(topic.clone(), partitions);
        }
    }
    found
}

fn offsets<C: ConsumerContext>(consumer: &BaseConsumer<C>, partitions: &[Partition], at: Offset, limit: Duration) -> BTreeMap<Partition, Offset> {
    if partitions.is_empty() || limit.is_zero() {
        return BTreeMap::new();
    }
    match consumer.offsets_for_times(list_of(partitions.iter().map(|partition| (partition, at))), limit) {
        Ok(list) => {
            let good = list.elements().into_iter().filter(|element| element.error().is_ok());
            good.map(|element| (Partition::new(element.topic(), element.partition()), element.offset())).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "cannot look up the ends of partitions");
            BTreeMap::new()
        }
    }
}
