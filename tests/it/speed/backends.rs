//! The same orders into each database with each dedup backend: records a second, and what a million of them cost.

use super::{Run, cpu, database_on, database_server, filled, median, run_with};
use crate::{
    database::{Database, Kind},
    servers::Server,
    topic::Topic,
};

const MILLIONS: u32 = 2;
const ORDERS: usize = 2_000_000;
const ROUNDS: usize = 3;

/// What stands in the route.
const BACKENDS: [(&str, &str); 4] = [
    ("checkpoint", "delivery: exactly-once"),
    ("unique-key", "delivery: at-least-once"),
    ("processed-event", "delivery: at-least-once, dedup: [processed-event]"),
    ("redis", "delivery: at-least-once, dedup: [redis]"),
];

#[derive(Clone, Copy)]
struct Figure {
    rate: f64,
    /// Seconds of a processor a million records.
    own: f64,
    database: f64,
}

fn measure(topic: &Topic, database: &Database, server: Option<u32>, redis: &str, keys: &str) -> Figure {
    let also = if keys.contains("redis") { format!("redis: {{ url: \"{redis}\", ttl: 1h }}") } else { String::new() };
    let before = server.map_or(0.0, cpu::seconds_of);
    let Run { rate, own, .. } = run_with(topic, database, ORDERS, keys, &also);
    let a_million = |seconds: f64| seconds / f64::from(MILLIONS);
    Figure { rate, own: a_million(own), database: a_million(server.map_or(0.0, cpu::seconds_of) - before) }
}

/// Each backend in turn, three times; medians. The first two are the ratios that are promised on PostgreSQL.
fn measure_all(kind: Kind, label: &str) -> Vec<(&'static str, Figure)> {
    let kafka = Server::kafka_for_figures();
    let topic = filled(kafka.get("plaintext"), ORDERS);
    topic.keep_for(std::time::Duration::from_secs(600));
    let server = database_server(kind);
    // As it comes, without a log of every command.
    let redis = Server::redis("single", &["appendonly no"]);
    let pid = server.as_ref().map(|server| server.get("pid").parse().expect("a pid"));
    let mut figures: Vec<Vec<Figure>> = vec![Vec::new(); BACKENDS.len()];
    for _ in 0..ROUNDS {
        for (of_backend, (_, keys)) in figures.iter_mut().zip(BACKENDS) {
            let database = database_on(server.as_ref(), label);
            of_backend.push(measure(&topic, &database, pid, redis.get("url"), keys));
        }
    }
    let of = |figures: &[Figure], value: fn(&Figure) -> f64| median(figures.iter().map(value).collect());
    let medians = figures.iter().map(|figures| Figure {
        rate: of(figures, |figure| figure.rate),
        own: of(figures, |figure| figure.own),
        database: of(figures, |figure| figure.database),
    });
    let medians: Vec<(&str, Figure)> = BACKENDS.iter().map(|(name, _)| *name).zip(medians).collect();
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
