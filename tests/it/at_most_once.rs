//! At-most-once: nothing takes effect twice, and what is missing was counted.

use std::collections::BTreeSet;

use crate::{
    database::{Database, Kind},
    event_log::{create_tables, file, numbered, rows},
    main_job::{kill_until_committed, wait_until_committed},
    servers::Server,
    topic::Topic,
    wait::{seconds, wait_until},
    worker::Worker,
};

#[track_caller]
fn assert_none_twice(database: &Database) -> usize {
    let rows = rows(database);
    let distinct: BTreeSet<&(i64, i64)> = rows.iter().map(|(_, at)| at).collect();
    assert_eq!(rows.len(), distinct.len(), "a record has two rows");
    rows.len()
}

fn lost(worker: &Worker) -> f64 {
    worker.metric("oncesink_records_total", &[r#"outcome="lost""#]).unwrap_or(0.0)
}

/// Two workers, killed at work: nothing twice, and something may be missing. In fair weather nothing is.
fn killed(kind: Kind, label: &str) {
    let topic = Topic::create(label, 6);
    let database = Database::create(kind, label);
    create_tables(&database);
    let file = file(label, &topic, &database, "delivery: at-most-once").also("rate_limit: { records_per_second: 3000 }\nbatch: { rows: 200 }");
    topic.send(&numbered(0..40_000));
    kill_until_committed(seconds(120), &[&topic], &file, 5);
    let written = assert_none_twice(&database);
    println!("{label}: {} of 40000 missing", 40_000 - written);
    assert!(written > 20_000, "most of it is there");

    topic.send(&numbered(40_000..45_000));
    let mut workers = [Worker::start(&file)];
    wait_until(seconds(60), "the rest is written", || {
        workers[0].assert_runs();
        assert_none_twice(&database) >= written + 5_000
    });
    assert_eq!(workers[0].stop(), Some(0));
    assert_eq!(assert_none_twice(&database), written + 5_000);
}

#[test]
fn nothing_takes_effect_twice_on_postgres() {
    killed(Kind::Postgres, "at_most_postgres");
}

#[test]
fn nothing_takes_effect_twice_on_mysql() {
    killed(Kind::MySql, "at_most_mysql");
}

#[test]
fn nothing_takes_effect_twice_on_mariadb() {
    killed(Kind::MariaDb, "at_most_mariadb");
}

#[test]
fn nothing_takes_effect_twice_on_sqlite() {
    killed(Kind::Sqlite, "at_most_sqlite");
}

/// The database is away at work: what failed is missing and counted, exactly as much; the rest waits in Kafka.
#[test]
fn what_an_outage_costs_is_counted() {
    let mut server = Server::postgres();
    let topic = Topic::create("at_most_outage", 4);
    let database = Database::create_on(server.get("url"), "at_most_outage");
    create_tables(&database);
    let file = file("at_most_outage", &topic, &database, "delivery: at-most-once").also("rate_limit: { records_per_second: 4000 }\nbatch: { rows: 200 }");
    topic.send(&numbered(0..30_000));
    let mut workers = [Worker::start(&file)];
    wait_until(seconds(60), "it works", || workers[0].applied() > 2_000.0);
    server.crash();
    wait_until(seconds(60), "something is lost", || lost(&workers[0]) > 0.0);
    server.start();
    wait_until_committed(seconds(120), &[&topic], &file, &mut workers);
    wait_until(seconds(60), "all is written or lost", || workers[0].applied() + lost(&workers[0]) >= 30_000.0);
    let counted = lost(&workers[0]);
    assert_eq!(workers[0].stop(), Some(0));
    let missing = 30_000 - assert_none_twice(&database);
    assert!(f64::from(u32::try_from(missing).expect("small")) <= counted, "{missing} are missing, and {counted} were counted as lost");
    assert!(counted < 15_000.0, "an outage costs a batch at a time: {counted}");
    println!("at_most_outage: {missing} missing, {counted} counted");
}
