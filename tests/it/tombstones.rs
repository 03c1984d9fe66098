//! Writes and deletes of one key come from several partitions, in any order: the highest version stays, whatever crashes.

use std::collections::BTreeMap;

use crate::{
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    main_job::kill_until_committed,
    random::Random,
    topic::Topic,
    wait::{seconds, wait_until},
    worker::{Worker, oncesink, path},
};

const PARTITIONS: i32 = 6;
const RECORDS: u64 = 40_000;
const KEYS: u64 = 3_000;

/// What has the highest version of a key: its version, and whether it is a write.
type Newest = BTreeMap<u64, (u64, bool)>;

/// Each key is written and deleted about thirteen times, by records that are up to some thousand late, in whatever partition.
fn records(seed: u64) -> (Vec<Outgoing>, Newest) {
    let mut random = Random::seeded(seed);
    let mut versions: Vec<u64> = (0..RECORDS).collect();
    for at in 0..versions.len() {
        let late = usize::try_from(random.below(5_000)).expect("small");
        let other = (at + late).min(versions.len() - 1);
        versions.swap(at, other);
    }
    let mut newest = Newest::new();
    let mut records = Vec::new();
    for version in versions {
        let (key, is_write) = (random.below(KEYS), random.below(5) < 3);
        let partition = i32::try_from(random.below(6)).expect("small");
        let value = is_write.then(|| format!(r#"{{"id":{key},"note":"v{version}"}}"#).into_bytes());
        let headers = vec![("version".to_owned(), version.to_string())];
        records.push(Outgoing { partition: Some(partition), key: Some(key.to_string().into_bytes()), value, headers });
        let highest = newest.entry(key).or_insert((version, is_write));
        if highest.0 < version {
            *highest = (version, is_write);
        }
    }
    (records, newest)
}

/// Two workers, one of them killed again and again at work.
fn highest_version_stays(kind: Kind, label: &str, keys: &str) {
    let topic = Topic::create(label, PARTITIONS);
    let database = Database::create(kind, label);
    let integer = if kind == Kind::Sqlite { "INTEGER" } else { "bigint" };
    database.execute(&format!("CREATE TABLE orders (id {integer} PRIMARY KEY, version {integer}, note varchar(20))"));
    let routes = format!(
        "routes:
  - topic: {}
    table: orders
    version: version
    columns: {{ version: headers.version }}
    tombstone: delete
    {keys}
",
        topic.name
    );
    // Slow enough that there is something to do at each kill.
    let file = PipelineFile::new(label, &topic, &database, &routes).also("rate_limit: { records_per_second: 3000 }");
    let (records, newest) = records(7);
    topic.send(&records);
    kill_until_committed(seconds(180), &[&topic], &file, 5);
    let rows = database.rows("SELECT id, version, note FROM orders");
    let found: BTreeMap<u64, (u64, String)> = rows
        .into_iter()
        .map(|row| {
            let number = |index: usize| row[index].as_deref().unwrap_or_default().parse().expect("a number");
            (number(0), (number(1), row[2].clone().unwrap_or_default()))
        })
        .collect();
    let expected: BTreeMap<u64, (u64, String)> =
        newest.iter().filter(|(_, (_, is_write))| *is_write).map(|(key, (version, _))| (*key, (*version, format!("v{version}")))).collect();
    let wrong: Vec<u64> = (0..KEYS).filter(|key| found.get(key) != expected.get(key)).take(10).collect();
    assert!(wrong.is_empty(), "keys that are not as their highest version has them: {wrong:?}");
    println!("{label}: {} records, {} rows, {} keys deleted", records.len(), found.len(), newest.len() - expected.len());
}

#[test]
fn the_highest_version_stays_on_postgres() {
    highest_version_stays(Kind::Postgres, "tombstones_postgres", "");
}

#[test]
fn the_highest_version_stays_at_least_once_on_postgres() {
    highest_version_stays(Kind::Postgres, "tombstones_at_least_once", "delivery: at-least-once");
}

#[test]
fn the_highest_version_stays_on_mysql() {
    highest_version_stays(Kind::MySql, "tombstones_mysql", "");
}

#[test]
fn the_highest_version_stays_on_mariadb() {
    highest_version_stays(Kind::MariaDb, "tombstones_mariadb", "");
}

#[test]
fn the_highest_version_stays_on_sqlite() {
    highest_version_stays(Kind::Sqlite, "tombstones_sqlite", "");
}

/// What may be read again when nothing tells any more that it was applied.
#[test]
fn a_retention_below_the_topics_is_warned_of() {
    let topic = Topic::create("retention_below", 2);
    let database = Database::create(Kind::Postgres, "retention_below");
    database.execute("CREATE TABLE orders (id bigint PRIMARY KEY, version bigint, note varchar(20))");
    let keys = "table: orders, version: version, columns: { version: headers.version }, dedup: [processed-event]";
    let file = |delivery: &str| {
        let routes = format!("routes: [ {{ topic: {}, delivery: {delivery}, {keys} }} ]\n", topic.name);
        PipelineFile::new("retention_below", &topic, &database, &routes).also("retention: { tombstones: 2d, processed_events: 30h }")
    };
    let (exactly, at_least) = (file("exactly-once"), file("at-least-once"));
    let day = seconds(86_400);
    topic.keep_for(3 * day);
    let told = ["retention.tombstones is 2days", "retention.processed_events is 1day 6h"];
    let told = told.map(|setting| format!("{} keeps its records for 3days, and {setting}", topic.name));
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    oncesink(&["plan", path(&at_least)]).expect_code(0).expect_text(&told);
    oncesink(&["run", path(&at_least), "--until-end"]).expect_code(0).expect_text(&told);
    let says_nothing = |file: &PipelineFile| {
        let said = oncesink(&["plan", path(file)]).expect_code(0).text();
        assert!(!said.contains("keeps its records") && !said.contains("is not known"), "{said}");
    };
    // A checkpoint tells what was applied.
    says_nothing(&exactly);
    topic.keep_for(day);
    says_nothing(&at_least);
}

/// Deletes are remembered for as long as the file says, and not much longer.
#[test]
fn tombstones_expire_after_their_retention() {
    let topic = Topic::create("tombstones_expire", 1);
    let database = Database::create(Kind::Postgres, "tombstones_expire");
    database.execute("CREATE TABLE orders (id bigint PRIMARY KEY, version bigint, note varchar(20))");
    let routes = format!("routes:\n  - topic: {}\n    table: orders\n    version: version\n    columns: {{ version: headers.version }}\n", topic.name);
    let file = PipelineFile::new("tombstones_expire", &topic, &database, &routes).also("retention: { tombstones: 3s }");
    let mut worker = Worker::start(&file);
    let send = |value: Option<&str>, version: u64| {
        let headers = vec![("version".to_owned(), version.to_string())];
        topic.send(&[Outgoing { key: Some(b"1".to_vec()), value: value.map(|value| value.as_bytes().to_vec()), headers, ..Outgoing::default() }]);
    };
    send(None, 5);
    wait_until(seconds(60), "the delete is remembered", || {
        worker.assert_runs();
        database.number("SELECT count(*) FROM pg_catalog.pg_tables WHERE tablename = 'oncesink_tombstone'") == 1
            && database.number("SELECT count(*) FROM oncesink.oncesink_tombstone") == 1
    });
    wait_until(seconds(60), "the delete is forgotten", || {
        worker.assert_runs();
        database.number("SELECT count(*) FROM oncesink.oncesink_tombstone") == 0
    });
    send(Some(r#"{"id":1,"note":"older"}"#), 4);
    wait_until(seconds(60), "the older write is applied", || {
        worker.assert_runs();
        database.count("orders") == 1
    });
    assert_eq!(worker.stop(), Some(0));
}
