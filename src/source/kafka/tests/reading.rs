//! One consumer: where it reads, when it stops, how it ends.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use oncesink_sinks::{
    claim::Committed,
    model::{NextOffset, Partition},
};
use rdkafka::producer::Producer;
use regex::Regex;

use super::{
    cluster::{Cluster, send},
    config,
    worker::{eventually, next_sequence},
};
use crate::source::{
    Buffer, Change, Channels, Found, Input, Records, Reply, Sequence, Source, Start, TopicFound, TopicSelector,
    kafka::{KafkaConfig, KafkaError, KafkaSource, Probe, connect},
};

pub(super) const LIMIT: Duration = Duration::from_secs(40);

pub(super) fn connected(config: KafkaConfig, limit: usize) -> (KafkaSource, Channels) {
    connect(config, Arc::new(Buffer::new(limit)), Duration::from_secs(20)).unwrap()
}

pub(super) fn next_change(channels: &mut Channels) -> Change {
    let begin = Instant::now();
    loop {
        match channels.changes.try_recv() {
            Ok(Change::Ends { .. }) => {}
            Ok(change) => return change,
            Err(_) => assert!(begin.elapsed() < LIMIT, "no change came"),
        }
        thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn assigned(channels: &mut Channels) -> (Vec<Found>, Vec<TopicFound>, Reply<Vec<Start>>) {
    match next_change(channels) {
        Change::Assigned { partitions, topics, reply } => (partitions, topics, reply),
        other => panic!("{other:?}"),
    }
}

pub(super) fn next_input(channels: &mut Channels) -> Input {
    let begin = Instant::now();
    loop {
        match channels.inputs.try_recv() {
            Ok(input) => return input,
            Err(_) => assert!(begin.elapsed() < LIMIT, "no input came"),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn next_records(channels: &mut Channels) -> Records {
    match next_input(channels) {
        Input::Records(records) => records,
        other => panic!("{other:?}"),
    }
}

/// Reads until that many records of the sequence came.
pub(super) fn read(source: &KafkaSource, channels: &mut Channels, sequence: Sequence, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let records = next_records(channels);
        source.buffer().release(records.cost());
        if records.sequence == sequence {
            offsets.extend(records.iter().map(|record| record.offset));
        }
    }
    offsets
}

pub(super) fn start(partition: &Partition, from: Option<i64>) -> Start {
    Start { partition: partition.clone(), sequence: next_sequence(), from: from.map(NextOffset::new) }
}

/// Closes an idle consumer as an engine would.
pub(super) fn close(mut source: KafkaSource, mut channels: Channels) -> Duration {
    let begin = Instant::now();
    source.close();
    loop {
        match channels.changes.try_recv() {
            Ok(Change::Revoked { reply, .. }) => assert!(reply.send(Vec::new())),
            Ok(_) => {}
            Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => return begin.elapsed(),
            Err(tokio::sync::mpsc::error::TryRecvError::Empty) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[test]
fn a_start_moves_an_assigned_partition_both_ways() {
    for strategy in ["cooperative-sticky", "range"] {
        let cluster = Cluster::start();
        cluster.create_topic(&cluster.name, 1);
        cluster.produce(&cluster.name, 1, 0..5000);
        let mut config = config(&cluster.brokers, &cluster.name, &[&cluster.name]);
        config.properties.insert("partition.assignment.strategy".to_owned(), strategy.to_owned());
        let (mut source, mut channels) = connected(config, 1 << 26);
        let (found, _, reply) = assigned(&mut channels);
        assert_eq!(found[0].committed, Committed::Nothing);
        let partition = found[0].partition.clone();
        let mut current = start(&partition, Some(1000));
        assert!(reply.send(vec![current.clone()]));
        for (round, from) in [4000, 10, 4990, 0, 2500, 2400].into_iter().cycle().take(30).enumerate() {
            // Some moves come while records are on their way, some at rest.
            let expected = current.from.unwrap().get();
            let count = if round % 2 == 0 { 1 } else { usize::try_from(5000 - expected).unwrap() };
            let offsets = read(&source, &mut channels, current.sequence, count);
            assert!(offsets.iter().copied().eq(expected..expected + i64::try_from(offsets.len()).unwrap()), "{strategy} {round}: {:?}…", offsets.first());
            current = start(&partition, Some(from));
            source.start(vec![current.clone()]);
        }
        assert!(close(source, channels) < Duration::from_secs(3));
    }
}

#[test]
fn a_halted_partition_stands_still_until_it_is_started() {
    let cluster = Cluster::start();
    cluster.create_topic(&cluster.name, 2);
    cluster.produce(&cluster.name, 2, 0..100);
    let (mut source, mut channels) = connected(config(&cluster.brokers, &cluster.name, &[&cluster.name]), 1 << 26);
    let (found, _, reply) = assigned(&mut channels);
    assert_eq!(found.len(), 2);
    let (halted, running) = (start(&Partition::new(&cluster.name, 0), None), start(&Partition::new(&cluster.name, 1), Some(0)));
    assert!(reply.send(vec![halted.clone(), running.clone()]));
    assert_eq!(read(&source, &mut channels, running.sequence, 100).len(), 100);
    cluster.produce(&cluster.name, 2, 100..200);
    assert_eq!(read(&source, &mut channels, running.sequence, 100).len(), 100, "only the other one is read");
    // An older start, overtaken on its way, changes nothing.
    source.start(vec![Start { sequence: Sequence(0), from: Some(NextOffset::ZERO), ..halted.clone() }]);
    thread::sleep(Duration::from_millis(500));
    assert!(channels.inputs.try_recv().is_err());
    let awake = start(&halted.partition, Some(50));
    source.start(vec![awake.clone()]);
    assert!(read(&source, &mut channels, awake.sequence, 150).into_iter().eq(50..200));
    assert!(close(source, channels) < Duration::from_secs(3));
}

#[test]
fn a_full_buffer_pauses_and_loses_nothing() {
    let cluster = Cluster::start();
    cluster.create_topic(&cluster.name, 3);
    cluster.produce(&cluster.name, 3, 0..20_000);
    let limit = 100_000;
    let (source, mut channels) = connected(config(&cluster.brokers, &cluster.name, &[&cluster.name]), limit);
    let (found, _, reply) = assigned(&mut channels);
    let starts: Vec<_> = found.iter().map(|found| start(&found.partition, Some(0))).collect();
    assert!(reply.send(starts));
    let (mut next, mut total, mut pauses) = ([0_i64; 3], 0, 0);
    while total < 60_000 {
        // Everything is held until the source stops by itself.
        let mut held = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(40) {
            while let Ok(input) = channels.inputs.try_recv() {
                held.push(input);
            }
            thread::sleep(Duration::from_millis(1));
        }
        pauses += usize::from(source.buffer().is_full());
        assert!(source.buffer().bytes() < limit + 400_000, "{} bytes are held", source.buffer().bytes());
        for input in held {
            let Input::Records(records) = input else { panic!("{input:?}") };
            for record in records.iter() {
                let next = &mut next[usize::try_from(records.partition.index).unwrap()];
                assert_eq!(record.offset, *next);
                *next += 1;
                total += 1;
            }
            source.buffer().release(records.cost());
        }
    }
    assert_eq!((next, source.buffer().bytes()), ([20_000; 3], 0));
    assert!(pauses > 10, "{pauses} pauses");
    assert!(close(source, channels) < Duration::from_secs(3));
}

#[test]
fn a_late_claim_waits_and_a_late_drain_is_not_waited_for() {
    let cluster = Cluster::start();
    cluster.create_topic(&cluster.name, 1);
    cluster.produce(&cluster.name, 1, 0..100);
    let mut config = config(&cluster.brokers, &cluster.name, &[&cluster.name]);
    config.callback_budget = Duration::from_secs(1);
    let (mut source, mut channels) = connected(config, 1 << 26);
    let (found, _, reply) = assigned(&mut channels);
    thread::sleep(Duration::from_millis(1500));
    assert!(!reply.send(vec![start(&found[0].partition, Some(0))]), "nobody waits any more");
    cluster.produce(&cluster.name, 1, 100..200);
    thread::sleep(Duration::from_millis(1000));
    assert!(channels.inputs.try_recv().is_err(), "nothing is read before it is claimed");
    let claimed = start(&found[0].partition, Some(30));
    source.start(vec![claimed.clone()]);
    assert!(read(&source, &mut channels, claimed.sequence, 170).into_iter().eq(30..200));
    let begin = Instant::now();
    source.close();
    let Change::Revoked { reply, .. } = next_change(&mut channels) else { panic!("no revocation") };
    eventually("the channels end", Duration::from_secs(5), || matches!(channels.changes.try_recv(), Err(tokio::sync::mpsc::error::TryRecvError::Disconnected)));
    assert!(begin.elapsed() >= Duration::from_millis(900), "the budget was given");
    assert!(!reply.send(Vec::new()));
}

#[test]
fn an_offset_that_kafka_has_not_is_out_of_range_and_can_be_started_again() {
    for strategy in ["cooperative-sticky", "range"] {
        let cluster = Cluster::start();
        cluster.create_topic(&cluster.name, 2);
        cluster.produce(&cluster.name, 2, 0..100);
        let mut config = config(&cluster.brokers, &cluster.name, &[&cluster.name]);
        config.properties.insert("partition.assignment.strategy".to_owned(), strategy.to_owned());
        let (mut source, mut channels) = connected(config, 1 << 26);
        let (_, _, reply) = assigned(&mut channels);
        let (beyond, running) = (start(&Partition::new(&cluster.name, 0), Some(5000)), start(&Partition::new(&cluster.name, 1), Some(0)));
        assert!(reply.send(vec![beyond.clone(), running.clone()]));
        assert_eq!(read(&source, &mut channels, running.sequence, 100).len(), 100);
        let Input::OutOfRange { partition, sequence, ends } = next_input(&mut channels) else { panic!("another input") };
        assert_eq!((&partition, sequence, ends.high.get()), (&beyond.partition, beyond.sequence, 100), "only the one at fault is named");
        let mended = start(&beyond.partition, Some(40));
        source.start(vec![mended.clone()]);
        assert!(read(&source, &mut channels, mended.sequence, 60).into_iter().eq(40..100), "{strategy}");
        cluster.produce(&cluster.name, 2, 100..200);
        let mut after: Vec<_> = (0..200).map(|_| 0).collect();
        let mut seen = 0;
        while seen < 200 {
            let records = next_records(&mut channels);
            source.buffer().release(records.cost());
            assert!([mended.sequence, running.sequence].contains(&records.sequence));
            for record in records.iter() {
                after[usize::try_from(record.offset).unwrap()] += 1;
                seen += 1;
            }
        }
        assert!(after[..100].iter().all(|count| *count == 0) && after[100..].iter().all(|count| *count == 2), "{strategy}: each new record once");
        assert!(close(source, channels) < Duration::from_secs(3));
    }
}

#[test]
fn a_partition_can_be_looked_up_while_it_is_read() {
    let cluster = Cluster::start();
    cluster.create_topic(&cluster.name, 2);
    cluster.produce(&cluster.name, 2, 0..10);
    let (mut source, mut channels) = connected(config(&cluster.brokers, &cluster.name, &[&cluster.name]), 1 << 26);
    let (_, topics, reply) = assigned(&mut channels);
    assert_eq!(topics[0].partitions.iter().map(|(ends, start)| (ends.high.get(), start.map(NextOffset::get))).collect::<Vec<_>>(), [(10, Some(0)); 2]);
    assert!(reply.send(Vec::new()));
    source.look_up(vec![Partition::new(&cluster.name, 1)]);
    let Change::LookedUp { partitions, topics } = next_change(&mut channels) else { panic!("another change") };
    assert_eq!((partitions.len(), topics.len(), partitions[0].committed.clone()), (1, 1, Committed::Nothing));
    assert!(close(source, channels) < Duration::from_secs(3));
}

#[test]
fn new_topics_that_match_are_read_and_excluded_ones_are_not() {
    let cluster = Cluster::start();
    let topic = |suffix: &str| format!("{}-{suffix}", cluster.name);
    cluster.create_topic(&topic("a"), 1);
    cluster.create_topic(&topic("excluded"), 1);
    cluster.create_topic(&format!("x{}", topic("a")), 1);
    let mut config = config(&cluster.brokers, &cluster.name, &[]);
    config.topics = vec![TopicSelector {
        patterns: vec![Regex::new(&format!("^{}-[a-z]+", cluster.name)).unwrap()],
        exclude: vec![topic("excluded")],
        ..TopicSelector::default()
    }];
    config.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "1000".to_owned());
    let (source, mut channels) = connected(config, 1 << 26);
    let (found, _, reply) = assigned(&mut channels);
    assert_eq!(found.iter().map(|found| found.partition.clone()).collect::<Vec<_>>(), [Partition::new(&topic("a"), 0)]);
    assert!(reply.send(vec![start(&found[0].partition, Some(0))]));
    cluster.create_topic(&topic("b"), 1);
    let (found, _, reply) = assigned(&mut channels);
    assert_eq!(found.iter().map(|found| found.partition.clone()).collect::<Vec<_>>(), [Partition::new(&topic("b"), 0)]);
    assert!(reply.send(vec![start(&found[0].partition, Some(0))]));
    assert!(close(source, channels) < Duration::from_secs(3));
}

#[test]
fn what_cannot_work_is_said_before_anything_is_read() {
    let cluster = Cluster::start();
    cluster.create_topic(&cluster.name, 1);
    let attempt = |config: KafkaConfig| connect(config, Arc::new(Buffer::new(1)), Duration::from_secs(2)).map(|_| ()).unwrap_err();
    let missing = attempt(config(&cluster.brokers, "group", &[&cluster.name, "nowhere"]));
    assert!(matches!(&missing, KafkaError::MissingTopic { topics } if topics == &["nowhere"]) && missing.is_retryable(), "{missing}");
    // Port 1 on loopback: nobody listens there.
    let unreachable = attempt(config("127.0.0.1:1", "group", &["orders"]));
    assert!(matches!(&unreachable, KafkaError::Unreachable { brokers, .. } if brokers == "127.0.0.1:1") && unreachable.is_retryable(), "{unreachable}");
    assert!(unreachable.to_string().contains("Connection refused"), "{unreachable}");
    let mut wrong = config(&cluster.brokers, "group", &[&cluster.name]);
    wrong.properties.insert("fetch.maximum".to_owned(), "1".to_owned());
    assert!(matches!(attempt(wrong), KafkaError::Property { .. }));
}

#[test]
fn a_probe_sees_the_latest_record_and_the_members() {
    let cluster = Cluster::start();
    cluster.create_topic(&cluster.name, 2);
    let config = config(&cluster.brokers, &cluster.name, &[&cluster.name]);
    let probe = Probe::connect(&config, LIMIT).unwrap();
    assert_eq!(probe.latest_record(&cluster.name, Duration::from_secs(5)).unwrap().map(|records| records.len()), None);
    cluster.produce(&cluster.name, 1, 0..50);
    let producer = cluster.producer(&[]);
    thread::sleep(Duration::from_millis(20));
    send(&producer, &cluster.name, 1, "the youngest");
    producer.flush(LIMIT).unwrap();
    let latest = probe.latest_record(&cluster.name, Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!((latest.partition.index, latest.iter().next().unwrap().value), (1, Some(&b"the youngest"[..])));
    assert_eq!(probe.topics(LIMIT).unwrap().into_iter().collect::<Vec<_>>(), [(Arc::from(cluster.name.as_str()), 2)]);
}

#[test]
fn brokers_that_go_away_are_said_and_reading_goes_on_when_they_are_back() {
    let mock = rdkafka::mocking::MockCluster::new(1).unwrap();
    let topic = "orders";
    mock.create_topic(topic, 1, 1).unwrap();
    let cluster = Cluster::around(mock, topic);
    cluster.produce(topic, 1, 0..100);
    let mut config = config(&cluster.brokers, topic, &[topic]);
    config.properties.insert("reconnect.backoff.max.ms".to_owned(), "500".to_owned());
    config.properties.insert("session.timeout.ms".to_owned(), "30000".to_owned());
    let (source, mut channels) = connected(config, 1 << 26);
    let (found, _, reply) = assigned(&mut channels);
    let begin = start(&found[0].partition, Some(0));
    assert!(reply.send(vec![begin.clone()]));
    assert_eq!(read(&source, &mut channels, begin.sequence, 100).len(), 100);
    cluster.mock().broker_down(1).unwrap();
    let Change::Reachable(Err(reason)) = next_change(&mut channels) else { panic!("another change") };
    assert!(!reason.is_empty());
    thread::sleep(Duration::from_secs(3));
    assert!(channels.inputs.try_recv().is_err(), "nothing is passed while nobody answers");
    cluster.mock().broker_up(1).unwrap();
    let Change::Reachable(Ok(())) = next_change(&mut channels) else { panic!("another change") };
    cluster.produce(topic, 1, 100..200);
    assert!(read(&source, &mut channels, begin.sequence, 100).into_iter().eq(100..200));
    assert!(close(source, channels) < Duration::from_secs(3));
}

#[test]
fn a_lost_assignment_is_said_and_comes_back() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    let cluster = Cluster::around(rdkafka::mocking::MockCluster::new(1).unwrap(), "orders");
    cluster.create_topic("orders", 1);
    cluster.produce("orders", 1, 0..100);
    let (source, mut channels) = connected(config(&cluster.brokers, "orders", &["orders"]), 1 << 26);
    let (found, _, reply) = assigned(&mut channels);
    let first = start(&found[0].partition, Some(0));
    assert!(reply.send(vec![first.clone()]));
    assert_eq!(read(&source, &mut channels, first.sequence, 100).len(), 100);
    cluster.mock().request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    let Change::Lost { partitions } = next_change(&mut channels) else { panic!("another change") };
    assert_eq!(partitions, std::slice::from_ref(&first.partition));
    let (found, _, reply) = assigned(&mut channels);
    let again = start(&found[0].partition, Some(20));
    assert!(reply.send(vec![again.clone()]));
    assert!(read(&source, &mut channels, again.sequence, 80).into_iter().eq(20..100));
    assert!(close(source, channels) < Duration::from_secs(3));
}
