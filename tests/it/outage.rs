//! The broker goes away and comes back: nobody exits, memory stays within its bound, work goes on by itself.

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    main_job::Stream,
    servers::Server,
    topic::{Orders, Topic},
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

const MIB: u64 = 1024 * 1024;
/// `max_buffer`, the client's queue and one answer of its broker, and the rest.
const BOUND: u64 = (16 + 4 + 4 + 60) * MIB;

#[test]
fn the_broker_restarts() {
    let mut server = Server::kafka();
    let topic = Topic::create_on(server.get("plaintext"), "broker_restarts", 4);
    let database = Database::create(Kind::Postgres, "broker_restarts");
    create_order_tables(&database);
    let mut orders = Orders::seeded(22, 1_000);
    topic.send(&orders.take(20_000));
    let file = PipelineFile::new("broker_restarts", &topic, &database, &order_routes(&topic.name)).also("max_buffer: 16MiB");
    let mut worker = Worker::start(&file);
    let stream = Stream::start(&topic, 23);
    wait_until(seconds(60), "the first records are applied", || applied(&database) > 0);
    stream.finish();

    server.stop();
    pause(seconds(10));
    worker.assert_runs();
    server.start();
    topic.send(&orders.take(5_000));
    let records = topic.read();
    let expected = i64::try_from(records.len()).expect("a count");
    wait_until(seconds(120), "every record is applied", || {
        worker.assert_runs();
        applied(&database) >= expected
    });
    let peak = worker.peak_memory();
    assert!(peak <= BOUND, "{} MiB held, {} MiB allowed", peak / MIB, BOUND / MIB);
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_orders(&database, &records);
    assert_eq!(topic.lag(&file.group()), Some(0));
}
