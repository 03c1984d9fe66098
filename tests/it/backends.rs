//! What each dedup backend gives on each database while workers are killed, and the producer sends one event in ten again and one in
//! twenty late. `processed-event` and `redis` have files of their own, by the same events.

use crate::{
    database::Kind,
    event_log::{EVENTS, Keys, assert_each_record_once, kill_at_events, kill_by_keys, repeats},
};

/// Nothing that Kafka delivers again takes effect; what the producer sends again is another record, which `append` keeps.
fn checkpoint(kind: Kind, label: &str) {
    let (topic, database) = kill_at_events(kind, label, "dedup: [checkpoint]", "");
    assert_each_record_once(&topic, &database);
}

#[test]
fn a_checkpoint_stops_what_is_delivered_again_on_postgres() {
    checkpoint(Kind::Postgres, "checkpoint_postgres");
}

#[test]
fn a_checkpoint_stops_what_is_delivered_again_on_mysql() {
    checkpoint(Kind::MySql, "checkpoint_mysql");
}

#[test]
fn a_checkpoint_stops_what_is_delivered_again_on_mariadb() {
    checkpoint(Kind::MariaDb, "checkpoint_mariadb");
}

#[test]
fn a_checkpoint_stops_what_is_delivered_again_on_sqlite() {
    checkpoint(Kind::Sqlite, "checkpoint_sqlite");
}

/// The table with a key is right whatever is repeated; beside it, a table without one shows that something was.
fn unique_key(kind: Kind, label: &str) {
    let keys = Keys { log: "delivery: at-least-once\n    dedup: []", latest: "delivery: at-least-once\n    dedup: [unique-key]" };
    let (topic, database) = kill_by_keys(kind, label, keys, "");
    let sent_again = topic.read().len() - EVENTS;
    let repeats = repeats(&topic, &database);
    println!("{label}: {repeats} repeats, {sent_again} of them the producer's");
    assert!(repeats >= sent_again, "append keeps what the producer sends again");
}

#[test]
fn a_unique_key_makes_repeats_harmless_on_postgres() {
    unique_key(Kind::Postgres, "unique_postgres");
}

#[test]
fn a_unique_key_makes_repeats_harmless_on_mysql() {
    unique_key(Kind::MySql, "unique_mysql");
}

#[test]
fn a_unique_key_makes_repeats_harmless_on_mariadb() {
    unique_key(Kind::MariaDb, "unique_mariadb");
}

#[test]
fn a_unique_key_makes_repeats_harmless_on_sqlite() {
    unique_key(Kind::Sqlite, "unique_sqlite");
}
