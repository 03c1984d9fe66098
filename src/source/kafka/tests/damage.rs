//! What no healthy cluster holds, and commands in bulk.

use std::{
    thread,
    time::{Duration, Instant},
};

use oncesink_sinks::{
    claim::Committed,
    model::{NextOffset, Partition},
};
use rdkafka::mocking::MockCluster;

use super::{
    cluster::Cluster,
    config, raw,
    reading::{LIMIT, assigned, close, connected, next_change, next_input, read, start},
};
use crate::source::{Change, Input, Source};

const TOPIC: &str = "orders";

fn cluster(partitions: i32) -> Cluster {
    let cluster = Cluster::around(MockCluster::new(1).unwrap(), TOPIC);
    cluster.create_topic(TOPIC, partitions);
    cluster
}

#[test]
fn nothing_behind_a_damaged_batch_is_ever_taken() {
    for strategy in ["cooperative-sticky", "range"] {
        let cluster = cluster(2);
        // One answer holds all: the client leaves out 10 and goes on with 20.
        raw::produce(&cluster.brokers, TOPIC, &[raw::batch(0, 30), raw::damaged(10), raw::batch(20, 10)].concat());
        let mut config = config(&cluster.brokers, TOPIC, &[TOPIC]);
        config.properties.insert("partition.assignment.strategy".to_owned(), strategy.to_owned());
        let (source, mut channels) = connected(config, 1 << 26);
        let (found, _, reply) = assigned(&mut channels);
        let starts: Vec<_> = found.iter().map(|found| start(&found.partition, Some(0))).collect();
        assert!(reply.send(starts));
        let Change::Failed { reason, detail } = next_change(&mut channels) else { panic!("another change") };
        assert!(reason == "corrupt-log" && detail.contains("orders:0@10"), "{reason}: {detail}");
        thread::sleep(Duration::from_secs(3));
        let mut offsets = Vec::new();
        while let Ok(input) = channels.inputs.try_recv() {
            match input {
                Input::Records(records) => offsets.extend(records.iter().map(|record| record.offset)),
                Input::Passed { partition, next, .. } => assert!(partition.index == 1, "{next} was passed"),
                Input::Recreated { partition, .. } | Input::OutOfRange { partition, .. } => panic!("{partition} was neither made again nor cut"),
            }
        }
        assert!(offsets.iter().copied().eq(0..10), "{strategy}: {offsets:?}");
        assert!(close(source, channels) < Duration::from_secs(3));
    }
}

#[test]
fn metadata_that_is_not_text_is_anothers_commit() {
    let cluster = cluster(1);
    cluster.produce(TOPIC, 1, 0..10);
    raw::commit(&cluster.brokers, "a-group", TOPIC, 7, b"\xff\xfe");
    let (source, mut channels) = connected(config(&cluster.brokers, "a-group", &[TOPIC]), 1 << 26);
    let (found, _, reply) = assigned(&mut channels);
    assert_eq!(found[0].committed, Committed::At { next: NextOffset::new(7), metadata: String::new() });
    assert!(reply.send(Vec::new()));
    assert!(close(source, channels) < Duration::from_secs(3));
}

#[test]
fn an_end_does_not_queue_behind_other_commands() {
    let cluster = cluster(4);
    let (mut source, mut channels) = connected(config(&cluster.brokers, TOPIC, &[TOPIC]), 1 << 26);
    let (_, _, reply) = assigned(&mut channels);
    assert!(reply.send(Vec::new()));
    // Each look-up takes some of these.
    cluster.mock().broker_round_trip_time(1, Duration::from_millis(200)).unwrap();
    for index in (0..4).cycle().take(40) {
        source.look_up(vec![Partition::new(TOPIC, index)]);
    }
    let begin = Instant::now();
    let mut found = std::collections::BTreeSet::new();
    let mut answers = 0;
    while found.len() < 4 {
        let Change::LookedUp { partitions, .. } = next_change(&mut channels) else { panic!("another change") };
        found.extend(partitions.into_iter().map(|found| found.partition));
        answers += 1;
    }
    assert!(answers <= 3, "{answers} answers to what can be asked at once, in {:?}", begin.elapsed());
    for _ in 0..40 {
        source.look_up(vec![Partition::new(TOPIC, 0)]);
        source.start(vec![start(&Partition::new(TOPIC, 0), Some(0))]);
    }
    assert!(close(source, channels) < Duration::from_secs(10));
}

#[test]
fn a_partition_that_is_put_back_while_there_is_no_room_stays_paused() {
    let cluster = cluster(2);
    cluster.produce(TOPIC, 2, 0..2000);
    let limit = 50_000;
    let (mut source, mut channels) = connected(config(&cluster.brokers, TOPIC, &[TOPIC]), limit);
    let (_, _, reply) = assigned(&mut channels);
    let (beyond, running) = (start(&Partition::new(TOPIC, 0), Some(5000)), start(&Partition::new(TOPIC, 1), None));
    assert!(reply.send(vec![beyond.clone(), running.clone()]));
    let Input::OutOfRange { .. } = next_input(&mut channels) else { panic!("another input") };
    let running = start(&running.partition, Some(0));
    source.start(vec![running.clone()]);
    let begin = Instant::now();
    while !source.buffer().is_full() {
        assert!(begin.elapsed() < LIMIT);
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(300));
    let mended = start(&beyond.partition, Some(0));
    source.start(vec![mended.clone()]);
    thread::sleep(Duration::from_secs(2));
    let mut held = Vec::new();
    while let Ok(Input::Records(records)) = channels.inputs.try_recv() {
        assert_eq!(records.sequence, running.sequence, "there was no room");
        held.push(records.cost());
    }
    source.buffer().release(held.into_iter().sum());
    assert!(read(&source, &mut channels, mended.sequence, 2000).into_iter().eq(0..2000));
    assert!(close(source, channels) < Duration::from_secs(3));
}
