//! The same orders into each database with each dedup backend: records a second, and what a million of them cost.

use super::{database_on, database_server, figure::Figure, filled, filled_with, median, order, run_with};
use crate::{
    database::Kind,
    kafka::Outgoing,
    random::Random,
    servers::{Server, ask_redis},
    topic::Topic,
};

const ORDERS: usize = 2_000_000;
const ROUNDS: usize = 3;

/// What stands in the route. Without an `event_id` it is the record's coordinate.
const BACKENDS: [(&str, &str); 5] = [
    ("checkpoint", "delivery: exactly-once"),
    ("unique-key", "delivery: at-least-once"),
    ("processed-event", "delivery: at-least-once, dedup: [processed-event]"),
    ("redis", "delivery: at-least-once, dedup: [redis]"),
    ("redis, ids of the producer", "delivery: at-least-once, dedup: [redis], event_id: headers.ce_id"),
];

/// What a backend costs, and its rate as a part of the first one's, which is the plain upsert.
struct Cost {
    name: &'static str,
    figure: Figure,
    ratio: f64,
}

/// Each backend in turn, three times; medians, also of the ratios, each of one round.
fn measure_all(kind: Kind, label: &str) -> Vec<Cost> {
    let kafka = Server::kafka_for_figures();
    let topics = [filled(kafka.get("plaintext"), ORDERS), filled_with_ids(kafka.get("plaintext"))];
    for topic in &topics {
        // Longer than all rounds last on the slowest, and shorter than what Redis remembers.
        topic.keep_for(std::time::Duration::from_secs(12 * 60 * 60));
    }
    let server = database_server(kind);
    // As it comes, without a log of every command.
    let memory = Server::redis("single", &["appendonly no"]);
    let memory = memory.get("url");
    let redis = format!("redis: {{ url: \"{memory}\", ttl: 24h }}");
    let database = database_on(server.as_ref(), label);
    let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); BACKENDS.len()];
    for round in 0..ROUNDS {
        for backend in order(round, BACKENDS.len()) {
            let keys = BACKENDS[backend].1;
            let also = if keys.contains("redis") { &redis } else { "" };
            let topic = &topics[usize::from(keys.contains("event_id"))];
            // What the run before has left is dropped, and with it the rest of its work: a table that the server still tidies up costs the next
            // run a part of its processors.
            database.recreate();
            assert_eq!(ask_redis(memory, "FLUSHALL"), "OK");
            figures[backend].push(Figure::of(server.as_ref(), ORDERS, || run_with(topic, &database, ORDERS, keys, also)));
        }
    }
    let ratio = |of: &[Figure]| median(of.iter().zip(&figures[0]).map(|(of, first)| of.rate / first.rate).collect());
    let costs: Vec<Cost> = BACKENDS.iter().zip(&figures).map(|((name, _), of)| Cost { name, figure: Figure::median(of), ratio: ratio(of) }).collect();
    for ((name, _), of) in BACKENDS.iter().zip(&figures) {
        println!("{name}: {:.0?} records/s", of.iter().map(|figure| figure.rate).collect::<Vec<_>>());
    }
    println!("| {kind:?} | records/s | of the first | own CPU s a million | database's |");
    for Cost { name, figure: Figure { rate, own, database }, ratio } in &costs {
        println!("| {name} | {rate:.0} | {ratio:.2} | {own:.1} | {database:.1} |");
    }
    costs
}

/// The same orders, each with an id as producers make them.
fn filled_with_ids(brokers: &str) -> Topic {
    let mut random = Random::seeded(7);
    filled_with(brokers, "events", ORDERS, |order| {
        let id = format!("{:032x}", u128::from(random.next()) << 64 | u128::from(random.next()));
        let uuid = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
        Outgoing { headers: vec![("ce_id".to_owned(), uuid)], ..order }
    })
}

#[test]
fn every_backend_on_postgres() {
    let costs = measure_all(Kind::Postgres, "backends_postgres");
    let ratio = |name: &str| costs.iter().find(|cost| cost.name == name).expect("measured").ratio;
    assert!(ratio("processed-event") >= 0.45, "processed-event is at {:.2} of a plain upsert", ratio("processed-event"));
    assert!(ratio("redis") >= 0.60, "redis is at {:.2} of a plain upsert", ratio("redis"));
}

#[test]
fn every_backend_on_mysql() {
    measure_all(Kind::MySql, "backends_mysql");
}

#[test]
fn every_backend_on_mariadb() {
    measure_all(Kind::MariaDb, "backends_mariadb");
}

#[test]
fn every_backend_on_sqlite() {
    measure_all(Kind::Sqlite, "backends_sqlite");
}
