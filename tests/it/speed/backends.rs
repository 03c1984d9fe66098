//! The same orders into each database with each dedup backend: records a second, and what a million of them cost.

use super::{database_on, database_server, figure::Figure, filled, run_with};
use crate::{database::Kind, servers::Server};

const ORDERS: usize = 2_000_000;
const ROUNDS: usize = 3;

/// What stands in the route.
const BACKENDS: [(&str, &str); 4] = [
    ("checkpoint", "delivery: exactly-once"),
    ("unique-key", "delivery: at-least-once"),
    ("processed-event", "delivery: at-least-once, dedup: [processed-event]"),
    ("redis", "delivery: at-least-once, dedup: [redis]"),
];

/// Each backend in turn, three times; medians. The first two are the ratios that are promised on PostgreSQL.
fn measure_all(kind: Kind, label: &str) -> Vec<(&'static str, Figure)> {
    let kafka = Server::kafka_for_figures();
    let topic = filled(kafka.get("plaintext"), ORDERS);
    topic.keep_for(std::time::Duration::from_secs(600));
    let server = database_server(kind);
    // As it comes, without a log of every command.
    let redis = Server::redis("single", &["appendonly no"]);
    let redis = format!("redis: {{ url: \"{}\", ttl: 1h }}", redis.get("url"));
    let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); BACKENDS.len()];
    for _ in 0..ROUNDS {
        for (of_backend, (_, keys)) in figures.iter_mut().zip(BACKENDS) {
            let also = if keys.contains("redis") { &redis } else { "" };
            let database = database_on(server.as_ref(), label);
            of_backend.push(Figure::of(server.as_ref(), ORDERS, || run_with(&topic, &database, ORDERS, keys, also)));
        }
    }
    let medians: Vec<(&str, Figure)> = BACKENDS.iter().zip(&figures).map(|((name, _), figures)| (*name, Figure::median(figures))).collect();
    println!("| {kind:?} | records/s | of the first | own CPU s a million | database's |");
    for (name, Figure { rate, own, database }) in &medians {
        println!("| {name} | {rate:.0} | {:.2} | {own:.1} | {database:.1} |", rate / medians[0].1.rate);
    }
    medians
}

#[test]
fn every_backend_on_postgres() {
    let figures = measure_all(Kind::Postgres, "backends_postgres");
    let ratio = |name: &str| figures.iter().find(|(of, _)| *of == name).expect("measured").1.rate / figures[0].1.rate;
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
