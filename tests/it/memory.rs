//! What a worker holds at most: the bound that `docs/guarantees.md` states for the defaults.

use std::time::Instant;

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    servers::Server,
    tier::count,
    topic::{Orders, Topic},
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

const MIB: u64 = 1024 * 1024;
const MAX_BUFFER: u64 = 32 * MIB;
/// With every default.
const BOUND: u64 = 100 * MIB;
const PARTITIONS: i32 = 200;

#[track_caller]
fn assert_bound(worker: &Worker) {
    let peak = worker.peak_memory();
    assert!(peak <= BOUND, "{} MiB held, {} MiB allowed", peak / MIB, BOUND / MIB);
}

/// A record of one megabyte whose text tells whether it is whole: eight digits, again and again.
fn megabyte(number: usize) -> Outgoing {
    let note = format!("{number:08}").repeat(125_000);
    Outgoing::json(number.to_string(), format!(r#"{{"id":{number},"version":1,"note":"{note}"}}"#))
}

/// Megabytes are compared by what they are made of.
#[track_caller]
fn assert_megabytes(database: &Database, topic: &Topic, small: usize) {
    let mut expected = Vec::new();
    topic.for_each(|record| {
        let value = String::from_utf8(record.value.expect("a value")).expect("text");
        if value.len() > 1_000_000 {
            let note = value.split_once(r#""note":""#).expect("a note").1;
            expected.push((i64::from(record.partition), record.offset, note[..8].to_owned()));
        }
    });
    expected.sort_unstable();
    assert_eq!(applied(database), i64::try_from(expected.len() + small).expect("a count"));
    let sql = "SELECT kafka_partition, kafka_offset, left(note, 8) FROM order_log \
               WHERE length(note) = 1000000 AND note = repeat(left(note, 8), 125000) ORDER BY 1, 2";
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let number = |value: &Option<String>| text(value).parse::<i64>().expect("a number");
    let actual: Vec<_> = database.rows(sql).iter().map(|row| (number(&row[0]), number(&row[1]), text(&row[2]))).collect();
    assert!(expected == actual, "order_log: {} whole records of {}", actual.len(), expected.len());
    let latest = "SELECT count(*) FROM orders WHERE length(note) = 1000000 AND note = repeat(left(note, 8), 125000) AND id = left(note, 8)::bigint";
    assert_eq!(database.number(latest), i64::try_from(expected.len()).expect("a count"), "orders");
}

/// Many partitions, large records, and nowhere to put them.
#[test]
fn the_database_stops_while_the_buffer_is_full() {
    let (mut server, kafka) = (Server::postgres(), Server::kafka());
    let topic = Topic::create_on(kafka.get("plaintext"), "full_buffer", PARTITIONS);
    let database = Database::create_on(server.get("url"), "full_buffer");
    create_order_tables(&database);
    let small = Orders::seeded(101, 100).take(200);
    topic.send(&small.iter().map(|order| Outgoing { key: Some(b"first".to_vec()), ..order.clone() }).collect::<Vec<_>>());
    let file = PipelineFile::new("full_buffer", &topic, &database, &order_routes(&topic.name));
    let mut worker = Worker::start(&file);
    wait_until(seconds(90), "every partition is claimed and the first records are applied", || {
        worker.assert_runs();
        worker.states() == vec!["running"; 200] && applied(&database) == 200
    });

    server.stop();
    let producer = topic.producer();
    for number in 0..400 {
        producer.send(&megabyte(1_000 + number).to(i32::try_from(number).expect("a number") % PARTITIONS));
    }
    producer.flush();
    wait_until(seconds(120), "max_buffer is full", || {
        worker.assert_runs();
        worker.holds_its_limit(MAX_BUFFER)
    });
    let rebalances = worker.metric("oncesink_rebalances_total", &[]);
    let (full, stays) = (Instant::now(), seconds(u64::from(count(60, 600))));
    while full.elapsed() < stays {
        worker.assert_runs();
        assert_eq!(worker.page("/live").map(|(status, _)| status), Some(200), "the poll loop goes on");
        assert_bound(&worker);
        pause(seconds(1));
    }
    assert_eq!(worker.states(), vec!["running"; 200], "it has its partitions still");
    assert_eq!(worker.page("/ready").map(|(status, _)| status), Some(503), "it says that it is not ready");
    eprintln!("with a full buffer: {} MiB at most", worker.peak_memory() / MIB);

    server.start();
    wait_until(seconds(180), "every record is applied", || {
        worker.assert_runs();
        applied(&database) == 600
    });
    eprintln!("after the way out: {} MiB at most", worker.peak_memory() / MIB);
    assert_bound(&worker);
    wait_until(seconds(30), "the worker is ready again", || worker.page("/ready").is_some_and(|(status, _)| status == 200));
    assert_eq!(worker.metric("oncesink_rebalances_total", &[]), rebalances, "it stayed a member of the group all the time");
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_megabytes(&database, &topic, 200);
    assert_eq!(topic.lag(&file.group()), Some(0));
}

/// As fast as it goes, with small records.
#[test]
fn a_run_at_full_speed_stays_small() {
    let records = count(500_000, 2_000_000);
    let topic = Topic::create("full_speed", 4);
    let database = Database::create(Kind::Postgres, "full_speed");
    create_order_tables(&database);
    topic.send(&Orders::seeded(102, 200_000).take(usize::try_from(records).expect("a count")));
    let mut worker = Worker::start(&PipelineFile::new("full_speed", &topic, &database, &order_routes(&topic.name)));
    let began = Instant::now();
    wait_until(seconds(300), "every record is applied", || {
        worker.assert_runs();
        worker.applied_by("log") >= f64::from(records)
    });
    let rate = f64::from(records) / began.elapsed().as_secs_f64();
    eprintln!("{rate:.0} records/s, {} MiB at most", worker.peak_memory() / MIB);
    assert_bound(&worker);
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_eq!(applied(&database), i64::from(records));
    assert_orders(&database, &topic.read());
}
