//! The database or the broker goes away and comes back: nobody exits, memory stays within its bound, work goes on by itself.

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    main_job::Stream,
    servers::Server,
    topic::{Orders, Topic},
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

const MIB: u64 = 1024 * 1024;
const MAX_BUFFER: u64 = 16 * MIB;
/// librdkafka's own queue, as the test's file sets it.
const QUEUED: u64 = 8 * MIB;

fn bounded(file: PipelineFile) -> PipelineFile {
    file.also("max_buffer: 16MiB").property("queued.max.messages.kbytes", "8192")
}

#[track_caller]
fn assert_memory(worker: &Worker) {
    let (peak, bound) = (worker.peak_memory(), MAX_BUFFER + 2 * QUEUED + 64 * MIB);
    assert!(peak <= bound, "{} MiB held, {} MiB allowed", peak / MIB, bound / MIB);
}

/// More than the bound of every buffer together, so that a worker that does not hold back shows.
fn heavy(orders: &mut Orders, count: usize) -> Vec<Outgoing> {
    orders
        .take(count)
        .into_iter()
        .map(|order| {
            let text = String::from_utf8(order.value.expect("a value")).expect("text");
            let longer = text.replacen(r#""note":""#, &format!(r#""note":"{}"#, "x".repeat(2_000)), 1);
            Outgoing::json(order.key.expect("a key"), longer)
        })
        .collect()
}

#[test]
fn the_database_stops_for_thirty_seconds() {
    let mut server = Server::postgres();
    let topic = Topic::create("database_stops", 4);
    let database = Database::create_on(server.get("url"), "database_stops");
    create_order_tables(&database);
    let mut orders = Orders::seeded(21, 1_000);
    topic.send(&orders.take(5_000));
    let file = bounded(PipelineFile::new("database_stops", &topic, &database, &order_routes(&topic.name)));
    let mut worker = Worker::start(&file);
    wait_until(seconds(60), "the first records are applied", || applied(&database) > 0);

    server.stop();
    // 120 MB wait in Kafka while the database is away.
    topic.send(&heavy(&mut orders, 60_000));
    wait_until(seconds(60), "the worker says that it is not ready", || {
        worker.assert_runs();
        worker.page("/ready").is_some_and(|(status, _)| status == 503)
    });
    pause(seconds(30));
    worker.assert_runs();
    assert_eq!(worker.page("/live").map(|(status, _)| status), Some(200), "the poll loop goes on");
    assert_memory(&worker);

    server.start();
    let records = topic.read();
    let expected = i64::try_from(records.len()).expect("a count");
    wait_until(seconds(180), "every record is applied", || {
        worker.assert_runs();
        applied(&database) >= expected
    });
    wait_until(seconds(30), "the worker is ready again", || worker.page("/ready").is_some_and(|(status, _)| status == 200));
    assert_memory(&worker);
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_orders(&database, &records);
}

#[test]
fn the_broker_restarts() {
    let mut server = Server::kafka();
    let topic = Topic::create_on(server.get("plaintext"), "broker_restarts", 4);
    let database = Database::create(Kind::Postgres, "broker_restarts");
    create_order_tables(&database);
    let mut orders = Orders::seeded(22, 1_000);
    topic.send(&orders.take(20_000));
    let file = bounded(PipelineFile::new("broker_restarts", &topic, &database, &order_routes(&topic.name)));
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
    assert_memory(&worker);
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_orders(&database, &records);
    assert_eq!(topic.lag(&file.group()), Some(0));
}
