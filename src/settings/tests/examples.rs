//! The files that users copy.

use std::{fs, time::Duration};

use oncesink_sinks::model::{DedupBackend, Delivery, WriteMode};

use super::*;
use crate::{
    decode::{Format, KeyFormat, TimestampUnit, Tombstone},
    route::{ColumnSource, OnBadRecord},
    source::kafka::StartPolicy,
};

#[test]
fn the_four_line_file_is_complete() {
    assert_eq!(SHORTEST.lines().count(), 4);
    let pipeline = loaded(SHORTEST);
    assert_eq!(&*pipeline.name, "orders");
    assert_eq!(pipeline.kafka.brokers, "localhost:9092");
    assert_eq!(pipeline.kafka.group, "oncesink-orders");
    assert!(!pipeline.group_written);
    assert_eq!(pipeline.kafka.start, StartPolicy::Earliest);
    assert_eq!(pipeline.kafka.callback_budget, Duration::from_secs(10));
    assert_eq!(pipeline.kafka.topics.len(), 1);
    assert_eq!(pipeline.database.kind, DatabaseKind::Postgres);
    assert_eq!(pipeline.database.writers, 4);
    assert_eq!(pipeline.database.tls, None, "by where the server is");
    assert_eq!(pipeline.database.statement_timeout, Duration::from_secs(30));
    assert_eq!(pipeline.database.bookkeeping, None, "by the kind of the database");
    assert_eq!(pipeline.database.migrate, Migrate::Auto);
    assert_eq!(pipeline.batch, BatchLimits { rows: 5000, bytes: 8 << 20, linger: Duration::from_millis(50) });
    assert_eq!(pipeline.retry, RetryPolicy { initial_delay: Duration::from_millis(100), max_delay: Duration::from_secs(30), give_up_after: None });
    assert_eq!(pipeline.rate_limit, None);
    assert_eq!(
        pipeline.process,
        ProcessSettings {
            max_buffer: 32 << 20,
            shutdown_timeout: Duration::from_secs(25),
            observe: Observe { listen: "127.0.0.1:9464".parse().unwrap(), written: false },
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
        }
    );
    let route = &pipeline.routes[0];
    assert_eq!((&*route.name, route.table.as_str(), route.topics.names.as_slice()), ("orders", "public.orders", ["orders".to_owned()].as_slice()));
    assert_eq!((route.format, route.key_format, route.write, route.delivery), (Format::Json, KeyFormat::Auto, WriteMode::Upsert, Delivery::ExactlyOnce));
    assert_eq!((&route.tombstone, route.on_bad_record), (&Tombstone::Delete, OnBadRecord::Halt));
    assert_eq!(route.place, "orders.yaml:4:11  routes[0]");
    assert_eq!(route.dedup, [DedupBackend::Checkpoint]);
    assert!(pipeline.warnings.is_empty());
}

#[test]
fn the_example_has_every_key_and_loads() {
    let pipeline = loaded(example());
    let route = &pipeline.routes[0];
    assert_eq!(pipeline.kafka.brokers, "k1:9093,k2:9093");
    assert!(pipeline.group_written && pipeline.process.observe.written);
    assert_eq!(route.columns["total"], ColumnSource::Value(vec!["order".to_owned(), "total".to_owned()]));
    assert_eq!(route.columns["region"], ColumnSource::Literal("eu1".to_owned()));
    assert_eq!(route.columns["trace"], ColumnSource::Header("traceparent".to_owned()));
    assert_eq!(route.columns["internal_note"], ColumnSource::None);
    assert_eq!(route.timestamp_unit, Some(TimestampUnit::Milliseconds));
    assert!(pipeline.routes[1].topics.patterns[0].is_match("bank.eu"));
    assert!(!pipeline.routes[1].topics.patterns[0].is_match("bank.eu1"));

    let keys_in = |schema: &serde_json::Value| schema::properties(schema).into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let schema = schema();
    let mut keys = keys_in(&schema);
    for (section, inner) in schema["properties"].as_object().unwrap() {
        keys.extend(keys_in(if section == "routes" { &inner["items"] } else { inner }));
    }
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        assert!(example().contains(&format!("{key}:")), "the example lacks `{key}`");
    }
}

#[test]
fn the_shipped_files_load() {
    let environment = [("KAFKA_PASSWORD", "a$b"), ("DATABASE_PASSWORD", "0123")];
    let payments = loaded_with(include_str!("../../../examples/payments.yaml"), &environment, &[]);
    assert_eq!(payments.kafka.properties["sasl.password"], "a$b");
    assert_eq!(payments.kafka.instance_id.as_deref(), Some("payments-0"));
    assert_eq!(payments.routes[0].timestamp_unit, Some(TimestampUnit::Milliseconds));
    assert_eq!(payments.routes[1].tombstone, Tombstone::Ignore);
    let sqlite = loaded(include_str!("../../../examples/sqlite.yaml"));
    assert_eq!((sqlite.database.kind, sqlite.database.writers, sqlite.database.tls), (DatabaseKind::Sqlite, 1, None));
}

#[test]
fn the_reference_is_what_the_types_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    if std::env::var_os("ONCESINK_WRITE_REFERENCE").is_some() {
        fs::write(path, reference()).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(committed == reference(), "docs/configuration.md is old; ONCESINK_WRITE_REFERENCE=1 cargo test writes it anew");
}

#[test]
fn the_schema_holds_every_default_and_no_null() {
    let schema = schema().to_string();
    assert!(!schema.contains("[\"string\",\"null\"]") && !schema.contains("\"type\":\"null\"") && !schema.contains("\"default\":null"), "{schema}");
    for key in ["schema_registry", "dead_letter", "where", "schema_evolution", "otlp"] {
        assert!(!schema.contains(&format!("\"{key}\":")), "{key} comes with a later version");
    }
    // What holds unless it is written is what is written here.
    let written = "
name: orders
kafka: { brokers: 'localhost:9092', start: earliest }
database: { url: '${DATABASE_URL}', writers: 4, statement_timeout: 30s, named_statements: auto, migrate: auto }
batch: { rows: 5000, bytes: 8MiB, linger: 50ms }
retry: { initial_delay: 100ms, max_delay: 30s, give_up_after: never }
max_buffer: 32MiB
shutdown_timeout: 25s
log: { level: info, format: text }
routes:
  - { topic: orders, table: public.orders, format: json, key_format: auto, extra_fields: ignore, missing_fields: keep, write: upsert, delivery: exactly-once, on_bad_record: halt }
";
    let without_place = |text: &str| {
        let mut pipeline = loaded(text);
        pipeline.routes.iter_mut().for_each(|route| route.place.clear());
        format!("{pipeline:?}")
    };
    assert_eq!(without_place(written), without_place(SHORTEST));
}
