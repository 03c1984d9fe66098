//! Kafka or the database cannot be reached: `plan` says where and why and exits 75; `run` waits, says so, and is not ready.

use crate::{
    checker::{create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    topic::Topic,
    wait::{seconds, wait_until},
    worker::{Worker, free_address, oncesink, path},
};

/// Both `plan` and `run` name the address.
#[track_caller]
fn unreachable(file: &PipelineFile, address: &str) {
    oncesink(&["plan", path(file)]).expect_code(75).expect_text(&[address]);
    let mut worker = Worker::start(file);
    worker.wait_for_log(seconds(60), &[address]);
    wait_until(seconds(30), "the worker answers that it is not ready", || {
        worker.assert_runs();
        worker.page("/ready").is_some_and(|(status, _)| status == 503)
    });
    assert_eq!(worker.page("/live").map(|(status, _)| status), Some(200), "waiting is not being stuck");
    assert_eq!(worker.stop(), Some(0), "it ends in order:\n{}", worker.log());
}

#[test]
fn kafka_cannot_be_reached() {
    let database = Database::create(Kind::Postgres, "no_kafka");
    create_order_tables(&database);
    let address = free_address();
    unreachable(&PipelineFile::with("no_kafka", &address, &database.url(), &order_routes("orders")), &address);
}

#[test]
fn the_database_cannot_be_reached() {
    let topic = Topic::create("no_database", 1);
    let address = free_address();
    let url = format!("postgres://postgres@{address}/shop");
    unreachable(&PipelineFile::with("no_database", &topic.brokers, &url, &order_routes(&topic.name)), &address);
}

/// `retry.give_up_after` makes it an exit instead.
#[test]
fn a_run_that_may_give_up_exits_75() {
    let topic = Topic::create("give_up", 1);
    let address = free_address();
    let url = format!("postgres://postgres@{address}/shop");
    let file = PipelineFile::with("give_up", &topic.brokers, &url, &order_routes(&topic.name)).also("retry: { give_up_after: 3s }");
    oncesink(&["run", path(&file), "--listen", &free_address()]).expect_code(75).expect_text(&[&address]);
}
