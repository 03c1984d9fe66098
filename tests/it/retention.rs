//! Kafka has deleted records that were never applied: the partition halts before the gap and names it; the others go on.

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    kafka::{Outgoing, Record},
    servers::Server,
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::{Worker, oncesink, path, run_until_end},
};

fn send_to_both(topic: &Topic, orders: &[Outgoing]) {
    let spread: Vec<Outgoing> = orders.iter().cloned().zip((0..2).cycle()).map(|(order, partition)| order.to(partition)).collect();
    topic.send(&spread);
}

/// The checkpoint of partition 0.
fn checkpoint(database: &Database) -> i64 {
    database.number(&format!("SELECT next_offset FROM {} WHERE partition = 0", database.checkpoints()))
}

fn passed_while_stopped(kind: Kind, label: &str) {
    let topic = Topic::create(label, 2);
    let database = Database::create(kind, label);
    create_order_tables(&database);
    let mut orders = Orders::seeded(95, 100);
    send_to_both(&topic, &orders.take(600));
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
    run_until_end(&file).expect_code(0);
    send_to_both(&topic, &orders.take(600));
    let records = topic.read();
    topic.delete_before(&[(0, 450)]);

    let gap = "offsets 300 to 449 are not in Kafka any more";
    let place = format!("{}:0", topic.name);
    run_until_end(&file).expect_code(1).expect_text(&["gap", gap, &place]);
    let before_the_gap: Vec<Record> = records.iter().filter(|record| record.partition == 1 || record.offset < 300).cloned().collect();
    assert_orders(&database, &before_the_gap);
    assert_eq!(checkpoint(&database), 300, "nothing is passed over without a person");
    oncesink(&["status", path(&file)]).expect_code(1).expect_text(&["gap", gap]);

    // A person gives the records up: only that passes the gap.
    database.execute(&format!("UPDATE {} SET next_offset = 450 WHERE partition = 0", database.checkpoints()));
    run_until_end(&file).expect_code(0);
    let beside_the_gap: Vec<Record> = records.into_iter().filter(|record| record.partition == 1 || !(300..450).contains(&record.offset)).collect();
    assert_orders(&database, &beside_the_gap);
    oncesink(&["status", path(&file)]).expect_code(0);
}

#[test]
fn a_gap_that_was_made_while_the_worker_was_stopped_on_postgres() {
    passed_while_stopped(Kind::Postgres, "retention_postgres");
}

#[test]
fn a_gap_that_was_made_while_the_worker_was_stopped_on_sqlite() {
    passed_while_stopped(Kind::Sqlite, "retention_sqlite");
}

/// The database is away for so long that the buffer is full, and Kafka deletes what the worker has not read yet.
#[test]
fn a_gap_that_was_made_while_the_database_was_down() {
    let mut server = Server::postgres();
    let topic = Topic::create("retention_down", 2);
    let database = Database::create_on(server.get("url"), "retention_down");
    create_order_tables(&database);
    let mut orders = Orders::seeded(96, 100);
    send_to_both(&topic, &orders.take(2_000));
    let file = PipelineFile::new("retention_down", &topic, &database, &order_routes(&topic.name))
        .also("batch: { bytes: 1MiB }\nmax_buffer: 4MiB")
        .property("queued.max.messages.kbytes", "2048");
    let mut worker = Worker::start(&file);
    wait_until(seconds(60), "the first records are applied", || applied(&database) >= 2_000);

    server.stop();
    let heavy: Vec<Outgoing> = (0..40).flat_map(|_| orders.take_noted(500, &"x".repeat(1_000))).collect();
    send_to_both(&topic, &heavy);
    wait_until(seconds(60), "the buffer is full", || {
        worker.assert_runs();
        worker.metric("oncesink_buffer_bytes", &[]).is_some_and(|bytes| bytes >= f64::from(4 << 20))
    });
    let records = topic.read();
    let low = 1_000 + 9_900;
    topic.delete_before(&[(0, low)]);
    server.start();

    worker.wait_for_log(seconds(90), &[&format!("halted {}:0@", topic.name), &format!("to {} are not in Kafka any more", low - 1)]);
    let others = records.iter().filter(|record| record.partition == 1).count();
    let others = i64::try_from(others).expect("a count");
    wait_until(seconds(90), "the other partition is applied", || {
        worker.assert_runs();
        database.number("SELECT count(*) FROM order_log WHERE kafka_partition = 1") >= others
    });
    let next = checkpoint(&database);
    assert!((1_001..low).contains(&next), "what was read before is written: up to {next}");
    worker.wait_for_log(seconds(30), &[&format!("offsets {next} to {} are not in Kafka any more", low - 1)]);
    assert_eq!(worker.page("/ready").map(|(status, _)| status), Some(200), "one partition goes on");
    assert_eq!(worker.stop(), Some(1), "a halt is told at the end:\n{}", worker.log());
    let before_the_gap: Vec<Record> = records.into_iter().filter(|record| record.partition == 1 || record.offset < next).collect();
    assert_orders(&database, &before_the_gap);
}
