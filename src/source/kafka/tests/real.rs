//! What only a real broker does: transactions, large records, speed. They run where `ONCESINK_TEST_KAFKA` names one.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use oncesink_sinks::model::NextOffset;
use rdkafka::producer::{BaseRecord, Producer};

use super::{
    cluster::{Cluster, send},
    config,
    worker::next_sequence,
};
use crate::source::{Buffer, Change, Channels, Input, Source, Start, kafka::connect};

const LIMIT: Duration = Duration::from_secs(40);

fn cluster() -> Option<Cluster> {
    let real = Cluster::real();
    if real.is_none() {
        eprintln!("skipped: ONCESINK_TEST_KAFKA names no broker");
    }
    real.map(|_| Cluster::start())
}

/// Waits for the first assignment and starts all of it there; tells the end that Kafka named.
fn begin_at(channels: &mut Channels, from: i64) -> (Start, i64) {
    let begin = Instant::now();
    loop {
        if let Ok(Change::Assigned { partitions, reply, .. }) = channels.changes.try_recv() {
            let start = Start { partition: partitions[0].partition.clone(), sequence: next_sequence(), from: Some(NextOffset::new(from)) };
            assert!(reply.send(vec![start.clone()]));
            return (start, partitions[0].ends.unwrap().high.get());
        }
        assert!(begin.elapsed() < LIMIT, "nothing is assigned");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Offsets of the records, until a position beyond them is passed.
fn until_passed(channels: &mut Channels, of: &Start) -> (Vec<i64>, i64) {
    let (begin, mut offsets) = (Instant::now(), Vec::new());
    loop {
        match channels.inputs.try_recv() {
            Ok(Input::Records(records)) if records.sequence == of.sequence => offsets.extend(records.iter().map(|record| record.offset)),
            Ok(Input::Passed { sequence, next, .. }) if sequence == of.sequence => return (offsets, next.get()),
            Ok(_) => {}
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
        assert!(begin.elapsed() < LIMIT, "nothing is passed after {offsets:?}");
    }
}

#[test]
fn aborted_records_are_never_read_and_the_tail_behind_them_is_passed() {
    let Some(cluster) = cluster() else { return };
    let topic = cluster.name.as_str();
    cluster.create_topic(topic, 1);
    let producer = cluster.producer(&[("transactional.id", topic)]);
    producer.init_transactions(LIMIT).unwrap();
    let transaction = |values: std::ops::Range<i64>| {
        producer.begin_transaction().unwrap();
        values.for_each(|value| send(&producer, topic, 0, &value.to_string()));
        producer.flush(LIMIT).unwrap();
    };
    transaction(0..10);
    producer.commit_transaction(LIMIT).unwrap(); // Records 0..10, marker at 10.
    transaction(11..16);
    producer.abort_transaction(LIMIT).unwrap(); // Aborted 11..16, marker at 16.
    let config = config(&cluster.brokers, topic, &[topic]);
    let (mut source, mut channels) = connect(config, Arc::new(Buffer::new(1 << 26)), LIMIT).unwrap();
    let (first, high) = begin_at(&mut channels, 0);
    assert_eq!(high, 17);
    assert_eq!(until_passed(&mut channels, &first), ((0..10).collect(), 17));
    // Again from the tail, where no record is visible at all, and from the middle.
    for (from, expected) in [(11, Vec::new()), (5, (5..10).collect()), (12, Vec::new())] {
        let start = Start { sequence: next_sequence(), from: Some(NextOffset::new(from)), ..first.clone() };
        source.start(vec![start.clone()]);
        assert_eq!(until_passed(&mut channels, &start), (expected, 17), "from {from}");
    }
    // An open transaction holds the end back, and nothing of it is passed.
    transaction(17..20);
    source.look_up(vec![first.partition.clone()]);
    thread::sleep(Duration::from_secs(4));
    let Ok(Change::LookedUp { partitions, .. }) = channels.changes.try_recv() else { panic!("no look-up") };
    assert_eq!(partitions[0].ends.map(|ends| ends.high.get()), Some(17), "the last stable offset");
    assert!(channels.inputs.try_recv().is_err(), "nothing of an open transaction is read or passed");
    producer.commit_transaction(LIMIT).unwrap();
    let last = Start { sequence: next_sequence(), from: Some(NextOffset::new(17)), ..first };
    source.start(vec![last.clone()]);
    assert_eq!(until_passed(&mut channels, &last), ((17..20).collect(), 21));
}

#[test]
fn a_record_of_fifteen_megabytes_is_read_with_the_defaults() {
    let Some(cluster) = cluster() else { return };
    cluster.create_topic(&cluster.name, 1);
    let producer = cluster.producer(&[("compression.type", "none")]);
    let large = vec![b'x'; 15_000_000];
    for _ in 0..3 {
        producer.send(BaseRecord::<[u8], [u8]>::to(&cluster.name).partition(0).payload(&large)).unwrap();
    }
    producer.flush(LIMIT).unwrap();
    let (source, mut channels) = connect(config(&cluster.brokers, &cluster.name, &[&cluster.name]), Arc::new(Buffer::new(20_000_000)), LIMIT).unwrap();
    begin_at(&mut channels, 0);
    let (begin, mut sizes) = (Instant::now(), Vec::new());
    while sizes.len() < 3 {
        if let Ok(Input::Records(records)) = channels.inputs.try_recv() {
            sizes.extend(records.iter().map(|record| (record.offset, record.value.map(<[u8]>::len))));
            source.buffer().release(records.cost());
        }
        assert!(begin.elapsed() < LIMIT, "only {sizes:?} came");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(sizes, [(0, Some(15_000_000)), (1, Some(15_000_000)), (2, Some(15_000_000))]);
}

#[test]
fn records_are_read_faster_than_any_database_takes_them() {
    let Some(cluster) = cluster() else { return };
    cluster.create_topic(&cluster.name, 6);
    let producer = cluster.producer(&[]);
    let (count, value) = (500_000, "v".repeat(170));
    for number in 0..count {
        send(&producer, &cluster.name, number % 6, &value);
    }
    producer.flush(LIMIT).unwrap();
    let config = config(&cluster.brokers, &cluster.name, &[&cluster.name]);
    let (source, mut channels) = connect(config, Arc::new(Buffer::new(1 << 26)), LIMIT).unwrap();
    let begin = Instant::now();
    let (mut seen, mut blocks, mut first) = (0, 0, None);
    let mut next = BTreeMap::new();
    while seen < count as usize {
        if let Ok(Change::Assigned { partitions, reply, .. }) = channels.changes.try_recv() {
            let starts = partitions.into_iter().map(|found| Start { partition: found.partition, sequence: next_sequence(), from: Some(NextOffset::ZERO) });
            assert!(reply.send(starts.collect()));
            first.get_or_insert_with(Instant::now);
        }
        match channels.inputs.try_recv() {
            Ok(Input::Records(records)) => {
                let next = next.entry(records.partition.index).or_insert(0);
                for record in records.iter() {
                    assert_eq!(record.offset, *next);
                    *next += 1;
                }
                seen += records.len();
                blocks += 1;
                source.buffer().release(records.cost());
            }
            Ok(_) => {}
            Err(_) => thread::sleep(Duration::from_micros(200)),
        }
        assert!(begin.elapsed() < LIMIT * 2, "only {seen} came");
    }
    let rate = seen as f64 / first.unwrap().elapsed().as_secs_f64();
    eprintln!("{rate:.0} records/s in {blocks} blocks");
    assert!(rate > 50_000.0, "{rate:.0} records/s");
}

#[test]
fn a_second_process_of_one_instance_id_fails_the_first() {
    let Some(cluster) = cluster() else { return };
    cluster.create_topic(&cluster.name, 1);
    let mut config = config(&cluster.brokers, &cluster.name, &[&cluster.name]);
    config.instance_id = Some("one".to_owned());
    let (_first, mut channels) = connect(config.clone(), Arc::new(Buffer::new(1 << 26)), LIMIT).unwrap();
    begin_at(&mut channels, 0);
    let (_second, mut others) = connect(config, Arc::new(Buffer::new(1 << 26)), LIMIT).unwrap();
    let begin = Instant::now();
    let detail = loop {
        // The second one is answered, too.
        while let Ok(Change::Assigned { reply, .. }) = others.changes.try_recv() {
            reply.send(Vec::new());
        }
        match channels.changes.try_recv() {
            Ok(Change::Failed { reason, detail }) => {
                assert_eq!(reason, "fatal-client-error");
                break detail;
            }
            Ok(_) => {}
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
        assert!(begin.elapsed() < LIMIT, "the first one does not fail");
    };
    assert!(detail.contains("kafka.instance_id"), "{detail}");
}
