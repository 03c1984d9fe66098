//! Rebalances, as a small engine sees them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use oncesink_sinks::{
    claim::Committed,
    model::{NextOffset, Partition},
};

use super::{
    cluster::Cluster,
    config,
    reading::{assigned, connected, next_records},
    worker::{Database, Shared, Worker, eventually},
};
use crate::source::{Change, Sequence, Source, Start, kafka::Probe};

const LIMIT: Duration = Duration::from_secs(40);

/// A second member comes and goes while records flow.
fn members_come_and_go(strategy: &str) {
    let cluster = Cluster::start();
    let topic = cluster.name.as_str();
    cluster.create_topic(topic, 4);
    cluster.produce(topic, 4, 0..2000);
    let mut config = config(&cluster.brokers, topic, &[topic]);
    config.properties.insert("partition.assignment.strategy".to_owned(), strategy.to_owned());
    let database: Shared = Arc::new(Mutex::new(Database::default()));
    // A start that the group's offsets know nothing of.
    database.lock().unwrap().next.insert(Partition::new(topic, 2), 1500);
    let first = Worker::start(config.clone(), &database);
    eventually("all of the first load is applied", LIMIT, || database.lock().unwrap().total() >= 6500);
    let second = Worker::start(config.clone(), &database);
    cluster.produce(topic, 4, 2000..4000);
    eventually("the second member has partitions", LIMIT, || {
        first.assigned.load(std::sync::atomic::Ordering::Relaxed) == 2 && second.assigned.load(std::sync::atomic::Ordering::Relaxed) == 2
    });
    cluster.produce(topic, 4, 4000..6000);
    eventually("both apply", LIMIT, || database.lock().unwrap().total() == 6500 + 16_000);
    let closed = second.close();
    assert!(closed < Duration::from_secs(3), "closing took {closed:?}");
    cluster.produce(topic, 4, 6000..7000);
    eventually("the first has all again", LIMIT, || database.lock().unwrap().total() == 6500 + 20_000);
    let closed = first.close();
    assert!(closed < Duration::from_secs(3), "closing took {closed:?}");
    let database = database.lock().unwrap();
    assert_eq!(database.wrong, Vec::<String>::new());
    for (partition, applied) in &database.applied {
        let begin = if partition.index == 2 { 1500 } else { 0 };
        assert!(applied.iter().copied().eq(begin..7000), "{partition} is applied without gap or repeat");
    }
    assert!(database.claims >= 8, "partitions moved: {} claims", database.claims);
    // What was committed last is there, with its metadata.
    let probe = Probe::connect(&config, LIMIT).unwrap();
    let partitions: Vec<_> = (0..4).map(|index| Partition::new(topic, index)).collect();
    let (found, topics) = probe.look_up(&partitions, Duration::from_secs(10));
    for found in found {
        assert_eq!(found.committed, Committed::At { next: NextOffset::new(7000), metadata: "db/exactly-once".to_owned() }, "{}", found.partition);
        assert_eq!(found.ends.map(|ends| (ends.low.get(), ends.high.get())), Some((0, 7000)));
    }
    assert_eq!(topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>(), [4]);
}

#[test]
fn cooperative_members_hand_partitions_over_without_gap_or_repeat() {
    members_come_and_go("cooperative-sticky");
}

#[test]
fn eager_members_hand_partitions_over_without_gap_or_repeat() {
    members_come_and_go("range");
}

/// The client remembers a pause beyond the end of an assignment.
#[test]
fn a_partition_that_stood_still_when_it_was_given_away_is_read_when_it_comes_back() {
    let cluster = Cluster::start();
    let topic = cluster.name.as_str();
    cluster.create_topic(topic, 1);
    cluster.produce(topic, 1, 0..10);
    let mut config = config(&cluster.brokers, topic, &[topic]);
    config.properties.insert("partition.assignment.strategy".to_owned(), "range".to_owned());
    let partition = Partition::new(topic, 0);
    let start = |sequence: u64, from: Option<i64>| vec![Start { partition: partition.clone(), sequence: Sequence(sequence), from: from.map(NextOffset::new) }];
    let (mut first, mut channels) = connected(config.clone(), 1 << 20);
    let (_, _, reply) = assigned(&mut channels);
    reply.send(start(1, Some(0)));
    assert_eq!(next_records(&mut channels).len(), 10);
    first.start(start(2, None));
    // A second member takes everything from the first; whoever has the partition next, the first has it in the end.
    let (mut second, mut others) = connected(config, 1 << 20);
    let mut was_revoked = false;
    eventually("the first member has the partition again", LIMIT, || {
        while let Ok(change) = others.changes.try_recv() {
            match change {
                Change::Assigned { partitions, reply, .. } if !partitions.is_empty() => {
                    reply.send(start(3, Some(10)));
                    second.close();
                }
                Change::Revoked { reply, .. } => {
                    reply.send(Vec::new());
                }
                _ => {}
            }
        }
        while let Ok(change) = channels.changes.try_recv() {
            match change {
                Change::Assigned { partitions, reply, .. } if !partitions.is_empty() && was_revoked => return reply.send(start(4, Some(10))),
                Change::Revoked { reply, .. } => was_revoked = reply.send(Vec::new()),
                _ => {}
            }
        }
        false
    });
    cluster.produce(topic, 1, 10..20);
    let offsets: Vec<i64> = next_records(&mut channels).iter().map(|record| record.offset).collect();
    assert_eq!(offsets.first(), Some(&10));
    second.close();
    first.close();
}
