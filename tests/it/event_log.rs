//! Events that come more than once or out of order, and the two tables that show it: `event_log`, where each row is one record that took
//! effect, and `latest`, one row a key.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use serde_json::Value;

use crate::{
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    main_job::kill_until_committed,
    random::Random,
    topic::Topic,
    wait::seconds,
};

const PARTITIONS: i32 = 6;
pub const EVENTS: usize = 40_000;
/// Below what Redis remembers.
pub const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Events, of which one in ten is sent once more later, and one in twenty comes with a version that is older than it should be.
pub fn events(seed: u64) -> Vec<Outgoing> {
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

/// Events of their own, by number: none is sent twice, each has a key to itself.
pub fn numbered(numbers: Range<usize>) -> Vec<Outgoing> {
    numbers.map(|number| Outgoing::json(number.to_string(), format!(r#"{{"event":"e-{number}","id":{number},"version":1}}"#))).collect()
}

pub fn create_tables(database: &Database) {
    let integer = if database.kind() == Kind::Sqlite { "INTEGER" } else { "bigint" };
    database
        .execute(&format!("CREATE TABLE event_log (kafka_partition {integer}, kafka_offset {integer}, event varchar(40), id {integer}, version {integer})"));
    database.execute(&format!("CREATE TABLE latest (id {integer} PRIMARY KEY, version {integer} NOT NULL, event varchar(40))"));
}

fn log_route(topic: &str, keys: &str) -> String {
    let columns = "{ kafka_partition: partition, kafka_offset: offset }";
    format!("  - topic: {topic}\n    table: event_log\n    write: append\n    columns: {columns}\n    {keys}\n")
}

fn latest_route(topic: &str, keys: &str) -> String {
    format!("  - name: latest\n    topic: {topic}\n    table: latest\n    version: version\n    {keys}\n")
}

/// Into `event_log` alone.
pub fn file(label: &str, topic: &Topic, database: &Database, keys: &str) -> PipelineFile {
    PipelineFile::new(label, topic, database, &format!("routes:\n{}", log_route(&topic.name, keys)))
}

/// What stands in the route of each table.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    pub log: &'a str,
    pub latest: &'a str,
}

/// Into both tables.
pub fn file_by_keys(label: &str, topic: &Topic, database: &Database, keys: Keys<'_>) -> PipelineFile {
    let routes = format!("routes:\n{}{}", log_route(&topic.name, keys.log), latest_route(&topic.name, keys.latest));
    PipelineFile::new(label, topic, database, &routes)
}

/// What the topic says of each event: where its records stand.
pub fn records(topic: &Topic) -> BTreeMap<String, BTreeSet<(i64, i64)>> {
    let mut events: BTreeMap<String, BTreeSet<(i64, i64)>> = BTreeMap::new();
    for record in topic.read() {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("events are JSON");
        let event = value["event"].as_str().expect("an id").to_owned();
        events.entry(event).or_default().insert((i64::from(record.partition), record.offset));
    }
    events
}

/// The rows of the table: event, partition, offset.
pub fn rows(database: &Database) -> Vec<(String, (i64, i64))> {
    let number = |value: &Option<String>| value.as_deref().unwrap_or_default().parse().expect("a number");
    let row = |row: Vec<Option<String>>| (row[0].clone().unwrap_or_default(), (number(&row[1]), number(&row[2])));
    database.rows("SELECT event, kafka_partition, kafka_offset FROM event_log").into_iter().map(row).collect()
}

/// Each event of the topic once, by one of its records.
#[track_caller]
pub fn assert_each_event_once(topic: &Topic, database: &Database) {
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
pub fn assert_each_record_once(topic: &Topic, database: &Database) {
    let expected: BTreeSet<(i64, i64)> = records(topic).into_values().flatten().collect();
    let rows = rows(database);
    let actual: BTreeSet<(i64, i64)> = rows.iter().map(|(_, at)| *at).collect();
    assert_eq!((rows.len(), &actual), (expected.len(), &expected), "records without a row, or with two");
}

/// One row a key, with the highest version that the topic has of it.
#[track_caller]
pub fn assert_latest(topic: &Topic, database: &Database) {
    let mut expected: BTreeMap<i64, i64> = BTreeMap::new();
    for record in topic.read() {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("events are JSON");
        let (id, version) = (value["id"].as_i64().expect("an id"), value["version"].as_i64().expect("a version"));
        let highest = expected.entry(id).or_insert(version);
        *highest = version.max(*highest);
    }
    let number = |value: &Option<String>| value.as_deref().unwrap_or_default().parse().expect("a number");
    let rows: Vec<(i64, i64)> = database.rows("SELECT id, version FROM latest ORDER BY id").iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
    assert!(rows.iter().copied().eq(expected), "latest is not the highest version of each key");
}

/// Each event at least once; how many rows there are that repeat an event.
#[track_caller]
pub fn repeats(topic: &Topic, database: &Database) -> usize {
    let (records, rows) = (records(topic), rows(database));
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for (event, at) in &rows {
        assert!(records.get(event).is_some_and(|of_event| of_event.contains(at)), "{event} has a row of a record that is another's: {at:?}");
        *times.entry(event).or_insert(0) += 1;
    }
    let missing: Vec<&String> = records.keys().filter(|event| !times.contains_key(event.as_str())).take(5).collect();
    assert!(missing.is_empty(), "events without a row: {missing:?}, …");
    rows.len() - times.len()
}

/// Two workers, one of them killed again and again at work, until all is applied and the group knows it; `latest` is right then. `keys` stand in
/// both routes, `also` before the routes.
#[track_caller]
pub fn kill_at_events(kind: Kind, label: &str, keys: &str, also: &str) -> (Topic, Database) {
    kill_by_keys(kind, label, Keys { log: keys, latest: keys }, also)
}

/// The same with keys for each route.
#[track_caller]
pub fn kill_by_keys(kind: Kind, label: &str, keys: Keys<'_>, also: &str) -> (Topic, Database) {
    let topic = Topic::create(label, PARTITIONS);
    topic.keep_for(WEEK);
    let database = Database::create(kind, label);
    create_tables(&database);
    // Slow enough that there is something to do at each kill.
    let file = file_by_keys(label, &topic, &database, keys).also("rate_limit: { records_per_second: 3000 }").also(also);
    topic.send(&events(1));
    kill_until_committed(seconds(180), &[&topic], &file, 3);
    assert_latest(&topic, &database);
    (topic, database)
}
