//! Through PgBouncer in transaction mode, whose clients take turns on three sessions of PostgreSQL.

use crate::{
    checker::{assert_exact_at_the_stop, create_order_tables, order_routes},
    database::{Database, Kind},
    event_log::{Keys, assert_each_event_once, assert_latest, create_tables, events, file_by_keys},
    file::PipelineFile,
    main_job::{Stream, kill_at_work, kill_until_committed},
    processed_events::ids_expire,
    servers::Server,
    topic::{Orders, Topic},
    wait::seconds,
    worker::Worker,
};

/// A pooler before the server of a database, and what stands behind `database:` to reach it through that.
fn pooled(database: &Database, also: &str) -> (Server, String) {
    let (server, name) = database.server_and_name();
    let pooler = Server::pgbouncer(server.rsplit(':').next().expect("a port"));
    let address = format!("{{ url: \"{}{name}?sslmode=disable\", writers: 4{also} }}", pooler.get("url"));
    (pooler, address)
}

/// Two workers of four writers each, one of which is killed again and again.
fn main_job(label: &str, also: &str, seen: bool) {
    let topic = Topic::create(label, 4);
    let database = Database::create(Kind::Postgres, label);
    create_order_tables(&database);
    let (_pooler, address) = pooled(&database, also);
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name)).database(&address);
    topic.send(&Orders::seeded(91, 5_000).take(20_000));
    let stream = Stream::start(&topic, 92);
    let start = |index: usize| Worker::start_with(&file, &["--set", &format!("kafka.instance_id=worker-{index}")]);
    let mut workers: Vec<Worker> = (0..2).map(start).collect();
    for number in 1..=3 {
        let victim = usize::from(number % 2 == 0);
        kill_at_work(&mut workers, victim, number);
        workers[victim] = start(victim);
    }
    stream.finish();
    assert_exact_at_the_stop(&topic, &database, &file, &mut workers, seconds(180));
    let told = workers.iter().filter(|worker| worker.log().contains("a connection pooler gives each transaction another session")).count();
    assert_eq!(told, if seen { 2 } else { 0 }, "who has met the pooler says so");
}

#[test]
fn a_pooler_is_met_and_nothing_is_written_by_another_ones_statement() {
    main_job("pgbouncer", "", true);
}

#[test]
fn statements_without_names() {
    main_job("pgbouncer_unnamed", ", named_statements: never", false);
}

/// Nothing of the ids hangs on a session of PostgreSQL.
#[test]
fn events_take_effect_once_at_least_once() {
    let label = "pgbouncer_events";
    let topic = Topic::create(label, 4);
    let database = Database::create(Kind::Postgres, label);
    create_tables(&database);
    let (_pooler, address) = pooled(&database, "");
    let keys = "delivery: at-least-once\n    dedup: [processed-event]\n    event_id: value.event";
    let file = file_by_keys(label, &topic, &database, Keys { log: keys, latest: keys }).database(&address);
    topic.send(&events(93));
    kill_until_committed(seconds(180), &[&topic], &file.also("rate_limit: { records_per_second: 3000 }"), 3);
    assert_latest(&topic, &database);
    assert_each_event_once(&topic, &database);
}

#[test]
fn event_ids_expire_after_their_retention() {
    let label = "pgbouncer_expire";
    let database = Database::create(Kind::Postgres, label);
    let (_pooler, address) = pooled(&database, "");
    ids_expire(label, &database, &address);
}
