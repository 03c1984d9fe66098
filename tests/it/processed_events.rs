//! Events that are delivered again, or sent again, take effect once by their ids.

use crate::{
    database::{Database, Kind},
    event_log::{assert_each_event_once, assert_each_record_once, create_tables, file, kill_at_events},
    kafka::Outgoing,
    topic::Topic,
    wait::{seconds, wait_until},
    worker::Worker,
};

fn by_id(kind: Kind, label: &str) {
    let (topic, database) = kill_at_events(kind, label, "delivery: at-least-once\n    dedup: [processed-event]\n    event_id: value.event", "");
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

fn with_checkpoint(kind: Kind, label: &str) {
    let (topic, database) = kill_at_events(kind, label, "dedup: [checkpoint, processed-event]\n    event_id: value.event", "");
    assert_each_event_once(&topic, &database);
}

#[test]
fn events_and_checkpoint_together_on_postgres() {
    with_checkpoint(Kind::Postgres, "events_layers_postgres");
}

#[test]
fn events_and_checkpoint_together_on_mysql() {
    with_checkpoint(Kind::MySql, "events_layers_mysql");
}

#[test]
fn events_and_checkpoint_together_on_mariadb() {
    with_checkpoint(Kind::MariaDb, "events_layers_mariadb");
}

#[test]
fn events_and_checkpoint_together_on_sqlite() {
    with_checkpoint(Kind::Sqlite, "events_layers_sqlite");
}

/// What is delivered again is stopped, what is sent again is another event.
#[test]
fn events_by_their_coordinate_on_postgres() {
    let (topic, database) = kill_at_events(Kind::Postgres, "events_coordinate", "delivery: at-least-once\n    dedup: [processed-event]", "");
    assert_each_record_once(&topic, &database);
}

/// Once its id has expired, an event takes effect again; before, never. The table that is emptied is none that is needed.
/// `address` stands behind `database:`.
pub fn ids_expire(label: &str, database: &Database, address: &str) {
    let topic = Topic::create(label, 1);
    create_tables(database);
    let keys = "delivery: at-least-once\n    dedup: [processed-event]\n    event_id: value.event";
    // Longer than a busy machine needs from the first record to the third.
    let file = file(label, &topic, database, keys).database(address).also("retention: { processed_events: 12s }");
    let mut worker = Worker::start(&file);
    let send = |event: &str| topic.send(&[Outgoing::json("1", format!(r#"{{"event":"{event}","id":1,"version":1}}"#))]);
    let generation = || database.number(&format!("SELECT generation FROM {}", database.bookkeeping("oncesink_processed_event_generation")));
    let wait_for_events = |worker: &mut Worker, events: &[&str]| {
        wait_until(seconds(60), &format!("{events:?} are applied"), || {
            worker.assert_runs();
            let rows = database.rows("SELECT event FROM event_log ORDER BY event");
            rows.iter().map(|row| row[0].as_deref().unwrap_or_default()).eq(events.iter().copied())
        });
    };
    send("a");
    wait_for_events(&mut worker, &["a"]);
    let first = generation();
    send("a");
    send("b");
    wait_for_events(&mut worker, &["a", "b"]);
    wait_until(seconds(120), "its generation has expired", || {
        worker.assert_runs();
        generation() >= first + 4
    });
    send("a");
    wait_for_events(&mut worker, &["a", "a", "b"]);
    assert_eq!(worker.stop(), Some(0));
}

fn ids_expire_on(kind: Kind, label: &str) {
    let database = Database::create(kind, label);
    ids_expire(label, &database, &format!("\"{}\"", database.url()));
}

#[test]
fn event_ids_expire_after_their_retention_on_postgres() {
    ids_expire_on(Kind::Postgres, "events_expire_postgres");
}

#[test]
fn event_ids_expire_after_their_retention_on_mysql() {
    ids_expire_on(Kind::MySql, "events_expire_mysql");
}

#[test]
fn event_ids_expire_after_their_retention_on_mariadb() {
    ids_expire_on(Kind::MariaDb, "events_expire_mariadb");
}

#[test]
fn event_ids_expire_after_their_retention_on_sqlite() {
    ids_expire_on(Kind::Sqlite, "events_expire_sqlite");
}
