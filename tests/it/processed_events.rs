//! Events that are delivered again, or sent again, take effect once by their ids.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    main_job::kill_at_work,
    random::Random,
    tier::count,
    topic::Topic,
    wait::{seconds, wait_until},
    worker::Worker,
};

const PARTITIONS: i32 = 6;
const EVENTS: usize = 40_000;

/// Events, of which one in ten is sent once more later, and one in twenty comes with a version that is older than it should be.
fn events(seed: u64) -> Vec<Outgoing> {
    let mut random = Random::seeded(seed);
    let mut events: Vec<Outgoing> = Vec::new();
    for number in 0..EVENTS {
        let id = random.below(2_000);
        let version = if random.below(20) == 0 { number / 2 } else { number };
        events.push(Outgoing::json(id.to_string(), format!(r#"{{"event":"e-{number}","id":{id},"version":{version}}}"#)));
        if random.below(10) == 0 {
            let again = usize::try_from(random.below(events.len() as u64)).expect("small");
            events.push(events[again].clone());
        }
    }
    events
}

fn create_table(database: &Database) {
    let integer = if database.kind() == Kind::Sqlite { "INTEGER" } else { "bigint" };
    database
        .execute(&format!("CREATE TABLE event_log (kafka_partition {integer}, kafka_offset {integer}, event varchar(40), id {integer}, version {integer})"));
}

fn file(label: &str, topic: &Topic, database: &Database, keys: &str) -> PipelineFile {
    let routes = format!(
        "routes:
  - topic: {}
    table: event_log
    write: append
    columns: {{ kafka_partition: partition, kafka_offset: offset }}
    {keys}
",
        topic.name
    );
    PipelineFile::new(label, topic, database, &routes)
}

/// What the topic says of each event: where its records stand.
fn records(topic: &Topic) -> BTreeMap<String, BTreeSet<(i64, i64)>> {
    let mut events: BTreeMap<String, BTreeSet<(i64, i64)>> = BTreeMap::new();
    for record in topic.read() {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("events are JSON");
        let event = value["event"].as_str().expect("an id").to_owned();
        events.entry(event).or_default().insert((i64::from(record.partition), record.offset));
    }
    events
}

/// The rows of the table: event, partition, offset.
fn rows(database: &Database) -> Vec<(String, (i64, i64))> {
    let number = |value: &Option<String>| value.as_deref().unwrap_or_default().parse().expect("a number");
    let row = |row: Vec<Option<String>>| (row[0].clone().unwrap_or_default(), (number(&row[1]), number(&row[2])));
    database.rows("SELECT event, kafka_partition, kafka_offset FROM event_log").into_iter().map(row).collect()
}

/// Each event of the topic once, by one of its records.
#[track_caller]
fn assert_each_event_once(topic: &Topic, database: &Database) {
    let (records, rows) = (records(topic), rows(database));
    let mut seen = BTreeSet::new();
    for (event, at) in &rows {
        assert!(seen.insert(event.as_str()), "{event} has two rows");
        assert!(records.get(event).is_some_and(|of_event| of_event.contains(at)), "{event} has a row of a record that is another's: {at:?}");
    }
    assert_eq!(rows.len(), records.len(), "events without a row");
}

/// Each record of the topic once.
#[track_caller]
fn assert_each_record_once(topic: &Topic, database: &Database) {
    let expected: BTreeSet<(i64, i64)> = records(topic).into_values().flatten().collect();
    let rows = rows(database);
    let actual: BTreeSet<(i64, i64)> = rows.iter().map(|(_, at)| *at).collect();
    assert_eq!((rows.len(), &actual), (expected.len(), &expected), "records without a row, or with two");
}

/// Two workers, one of them killed again and again at work, until all is applied and the group knows it.
fn kill_at_events(kind: Kind, label: &str, keys: &str) -> (Topic, Database) {
    let topic = Topic::create(label, PARTITIONS);
    let database = Database::create(kind, label);
    create_table(&database);
    // Slow enough that there is something to do at each kill.
    let file = file(label, &topic, &database, keys).also("rate_limit: { records_per_second: 3000 }");
    topic.send(&events(1));
    let start = |index: usize| Worker::start_with(&file, &["--set", &format!("kafka.instance_id=worker-{index}")]);
    let mut workers: Vec<Worker> = (0..2).map(start).collect();
    let mut random = Random::seeded(3);
    for number in 1..=count(3, 12) {
        let victim = usize::try_from(random.below(2)).expect("small");
        kill_at_work(&mut workers, victim, number);
        workers[victim] = start(victim);
    }
    wait_until(seconds(180), "the group has committed everything", || {
        workers.iter_mut().for_each(Worker::assert_runs);
        topic.lag(&file.group()) == Some(0)
    });
    for worker in &mut workers {
        assert_eq!(worker.stop(), Some(0), "a worker's exit code:\n{}", worker.log());
    }
    (topic, database)
}

fn by_id(kind: Kind, label: &str) {
    let (topic, database) = kill_at_events(kind, label, "delivery: at-least-once\n    dedup: [processed-event]\n    event_id: value.event");
    assert_each_event_once(&topic, &database);
}

#[test]
fn events_take_effect_once_at_least_once_on_postgres() {
    by_id(Kind::Postgres, "events_postgres");
}

#[test]
fn events_take_effect_once_at_least_once_on_mysql() {
    by_id(Kind::MySql, "events_mysql");
}

#[test]
fn events_take_effect_once_at_least_once_on_mariadb() {
    by_id(Kind::MariaDb, "events_mariadb");
}

#[test]
fn events_take_effect_once_at_least_once_on_sqlite() {
    by_id(Kind::Sqlite, "events_sqlite");
}

#[test]
fn events_and_checkpoint_together_on_postgres() {
    let (topic, database) = kill_at_events(Kind::Postgres, "events_layers", "dedup: [checkpoint, processed-event]\n    event_id: value.event");
    assert_each_event_once(&topic, &database);
}

/// What is delivered again is stopped, what is sent again is another event.
#[test]
fn events_by_their_coordinate_on_postgres() {
    let (topic, database) = kill_at_events(Kind::Postgres, "events_coordinate", "delivery: at-least-once\n    dedup: [processed-event]");
    assert_each_record_once(&topic, &database);
}

/// Once its id has expired, an event takes effect again; before, never. The table that is emptied is none that is needed.
#[test]
fn event_ids_expire_after_their_retention() {
    let topic = Topic::create("events_expire", 1);
    let database = Database::create(Kind::Postgres, "events_expire");
    create_table(&database);
    let keys = "delivery: at-least-once\n    dedup: [processed-event]\n    event_id: value.event";
    let file = file("events_expire", &topic, &database, keys).also("retention: { processed_events: 2s }");
    let mut worker = Worker::start(&file);
    let send = |event: &str| topic.send(&[Outgoing::json("1", format!(r#"{{"event":"{event}","id":1,"version":1}}"#))]);
    let generation = || database.number("SELECT generation FROM oncesink.oncesink_processed_event_generation");
    let wait_for_generation = |worker: &mut Worker, at_least: i64| {
        wait_until(seconds(60), "the next generation", || {
            worker.assert_runs();
            generation() >= at_least
        });
    };
    send("a");
    wait_until(seconds(60), "the event is applied", || {
        worker.assert_runs();
        database.count("event_log") == 1
    });
    let first = generation();
    send("a");
    send("b");
    wait_until(seconds(60), "the other event is applied", || {
        worker.assert_runs();
        database.count("event_log") == 2
    });
    wait_for_generation(&mut worker, first + 4);
    send("a");
    wait_until(seconds(60), "the event is applied again", || {
        worker.assert_runs();
        database.count("event_log") == 3
    });
    assert_eq!(worker.stop(), Some(0));
}
