//! Through PgBouncer in transaction mode, whose clients take turns on three sessions of PostgreSQL.

use crate::{
    checker::{assert_exact_at_the_stop, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    main_job::{Stream, kill_at_work},
    servers::Server,
    topic::{Orders, Topic},
    wait::seconds,
    worker::Worker,
};

/// Two workers of four writers each, one of which is killed again and again.
fn main_job(label: &str, also: &str, seen: bool) {
    let topic = Topic::create(label, 4);
    let database = Database::create(Kind::Postgres, label);
    create_order_tables(&database);
    let (server, name) = database.server_and_name();
    let pooler = Server::pgbouncer(server.rsplit(':').next().expect("a port"));
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
    let file = file.database(&format!("{{ url: \"{}{name}?sslmode=disable\", writers: 4{also} }}", pooler.get("url")));
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
