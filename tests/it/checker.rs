//! The outside judge of the main job: what the topic says that the tables must hold, and what they hold.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Record,
    topic::Topic,
    wait::wait_until,
    worker::Worker,
};

/// `orders` (one row a key, the highest version) and `order_log` (one row a record). The log has no key at all:
/// only such a table can show a repeat.
pub fn create_order_tables(database: &Database) {
    let integer = match database.kind() {
        Kind::Postgres | Kind::MySql | Kind::MariaDb => "bigint",
        Kind::Sqlite => "INTEGER",
    };
    database.execute(&format!("CREATE TABLE orders (id {integer} PRIMARY KEY, version {integer} NOT NULL, note text)"));
    database.execute(&format!("CREATE TABLE order_log (kafka_partition {integer}, kafka_offset {integer}, id {integer}, version {integer}, note text)"));
}

/// The two routes that fill them.
pub fn order_routes(topic: &str) -> String {
    format!(
        "routes:
  - {{ name: latest, topic: {topic}, table: orders, version: version }}
  - name: log
    topic: {topic}
    table: order_log
    write: append
    columns: {{ kafka_partition: partition, kafka_offset: offset }}
"
    )
}

/// Everything in the topic is applied within `limit`, the workers stop in order, both tables are exactly right, and the group has no lag.
/// Returns what the topic holds.
#[track_caller]
pub fn assert_exact_at_the_stop(topic: &Topic, database: &Database, file: &PipelineFile, workers: &mut [Worker], limit: Duration) -> Vec<Record> {
    let records = topic.read();
    let expected = i64::try_from(records.len()).expect("a count");
    wait_until(limit, "every record is applied", || {
        workers.iter_mut().for_each(Worker::assert_runs);
        applied(database) >= expected
    });
    for worker in workers {
        assert_eq!(worker.stop(), Some(0), "a worker's exit code:\n{}", worker.log());
    }
    assert_orders(database, &records);
    assert_eq!(topic.lag(&file.group()), Some(0), "the group's lag");
    records
}

/// Both tables are exactly what the topic says.
#[track_caller]
pub fn assert_orders(database: &Database, records: &[Record]) {
    assert_log(database, records);
    assert_latest(database, records);
}

/// Every (partition, offset) of the topic once, with what the record says.
#[track_caller]
pub fn assert_log(database: &Database, records: &[Record]) {
    let expected: Vec<String> = records
        .iter()
        .map(|record| {
            let order = parse(record);
            format!("{}@{} {} {} {}", record.partition, record.offset, order["id"], order["version"], text(&order["note"]))
        })
        .collect();
    let actual = lines(database, "SELECT kafka_partition, kafka_offset, id, version, note FROM order_log ORDER BY kafka_partition, kafka_offset", |row| {
        format!("{}@{} {} {} {}", row[0], row[1], row[2], row[3], row[4])
    });
    assert_same("order_log", &expected, &actual);
}

/// Each key with its highest version; of equal versions the later record.
#[track_caller]
pub fn assert_latest(database: &Database, records: &[Record]) {
    let mut fold: BTreeMap<i64, (i64, String)> = BTreeMap::new();
    for record in records {
        let order = parse(record);
        let (id, version) = (order["id"].as_i64().expect("an id"), order["version"].as_i64().expect("a version"));
        let held = fold.entry(id).or_insert((i64::MIN, String::new()));
        if version >= held.0 {
            *held = (version, text(&order["note"]));
        }
    }
    let expected: Vec<String> = fold.iter().map(|(id, (version, note))| format!("{id} {version} {note}")).collect();
    let actual = lines(database, "SELECT id, version, note FROM orders ORDER BY id", |row| row.join(" "));
    assert_same("orders", &expected, &actual);
}

/// Records that have a row in `order_log`.
pub fn applied(database: &Database) -> i64 {
    database.count("order_log")
}

fn lines(database: &Database, sql: &str, line: impl Fn(&[String]) -> String) -> Vec<String> {
    database.rows(sql).into_iter().map(|row| line(&row.into_iter().map(|value| value.unwrap_or_else(|| "NULL".to_owned())).collect::<Vec<_>>())).collect()
}

fn parse(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("orders are JSON")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Equal as bags of lines; what is missing, extra or there twice is counted and shown.
#[track_caller]
fn assert_same(table: &str, expected: &[String], actual: &[String]) {
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    for line in expected {
        *balance.entry(line).or_default() += 1;
    }
    for line in actual {
        *balance.entry(line).or_default() -= 1;
    }
    let missing: Vec<_> = balance.iter().filter(|(_, count)| **count > 0).map(|(line, _)| *line).collect();
    let extra: Vec<_> = balance.iter().filter(|(_, count)| **count < 0).map(|(line, _)| *line).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{table}: {} rows expected, {} there; missing {} {:?}; too many {} {:?}",
        expected.len(),
        actual.len(),
        missing.len(),
        missing.iter().take(5).collect::<Vec<_>>(),
        extra.len(),
        extra.iter().take(5).collect::<Vec<_>>(),
    );
}

/// The judge itself is judged: it must see a loss, a repeat and a stale row.
mod tests {
    use super::*;

    fn record(offset: i64, id: i64, version: i64) -> Record {
        let value = format!(r#"{{"id":{id},"version":{version},"note":"n{offset}"}}"#).into_bytes();
        Record { partition: 0, offset, key: None, value: Some(value) }
    }

    fn tables(log: &[(i64, i64, i64)], latest: &[(i64, i64, &str)]) -> Database {
        let database = Database::create(Kind::Sqlite, "checker");
        create_order_tables(&database);
        for (offset, id, version) in log {
            database.execute(&format!("INSERT INTO order_log VALUES (0, {offset}, {id}, {version}, 'n{offset}')"));
        }
        for (id, version, note) in latest {
            database.execute(&format!("INSERT INTO orders VALUES ({id}, {version}, '{note}')"));
        }
        database
    }

    fn records() -> Vec<Record> {
        vec![record(0, 7, 2), record(1, 7, 1), record(2, 8, 1)]
    }

    const LATEST: [(i64, i64, &str); 2] = [(7, 2, "n0"), (8, 1, "n2")];

    #[test]
    fn what_is_right_passes() {
        assert_orders(&tables(&[(0, 7, 2), (1, 7, 1), (2, 8, 1)], &LATEST), &records());
    }

    #[test]
    #[should_panic(expected = "missing 1")]
    fn a_loss_is_seen() {
        assert_log(&tables(&[(0, 7, 2), (1, 7, 1)], &LATEST), &records());
    }

    #[test]
    #[should_panic(expected = "too many 1")]
    fn a_repeat_is_seen() {
        assert_log(&tables(&[(0, 7, 2), (1, 7, 1), (1, 7, 1), (2, 8, 1)], &LATEST), &records());
    }

    #[test]
    #[should_panic(expected = "missing 1")]
    fn a_stale_row_is_seen() {
        assert_latest(&tables(&[], &[(7, 1, "n1"), (8, 1, "n2")]), &records());
    }
}
