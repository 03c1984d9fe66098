//! Topics that grow, and topics that are named by an expression.

use crate::{
    checker::{applied, assert_latest, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    servers::{shared_kafka, unique},
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::{Worker, run_until_end},
};

#[test]
fn partitions_that_are_added_are_read_from_their_beginning() {
    let mut topic = Topic::create("grows", 2);
    let database = Database::create(Kind::Postgres, "grows");
    create_order_tables(&database);
    let mut orders = Orders::seeded(51, 300);
    topic.send(&orders.take(500));
    let file = PipelineFile::new("grows", &topic, &database, &order_routes(&topic.name))
        // Whatever the policy says: a partition that is new in a known topic starts at its beginning.
        .kafka("start: latest")
        .property("topic.metadata.refresh.interval.ms", "2000");
    let mut worker = Worker::start(&file);
    // Under `latest` the first records are not read; the worker has its partitions once a row of each is there.
    wait_until(seconds(60), "the topic is claimed", || {
        worker.assert_runs();
        database.try_rows("SELECT count(*) FROM oncesink.oncesink_checkpoint WHERE epoch > 0").is_ok_and(|rows| rows[0][0].as_deref() == Some("2"))
    });
    topic.grow(4);
    let fresh: Vec<Outgoing> = orders.take(400).into_iter().enumerate().map(|(index, order)| order.to(2 + i32::from(index % 2 == 1))).collect();
    topic.send(&fresh);
    wait_until(seconds(90), "the new partitions are applied", || {
        worker.assert_runs();
        applied(&database) >= 400
    });
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    let records: Vec<_> = topic.read().into_iter().filter(|record| record.partition >= 2).collect();
    assert_eq!(records.len(), 400);
    assert_orders(&database, &records);
}

#[test]
fn an_expression_takes_topics_that_come_later() {
    let family = unique("family");
    let eu = Topic::create_named(shared_kafka(), &format!("{family}.eu"), 2);
    let other = Topic::create_named(shared_kafka(), &format!("{family}.eu.test"), 2);
    let database = Database::create(Kind::Postgres, "expression");
    for table in ["orders_eu", "orders_us"] {
        database.execute(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, version bigint NOT NULL, note text)"));
    }
    let mut orders = Orders::seeded(52, 300);
    eu.send(&orders.take(300));
    other.send(&orders.take(300));
    let routes = format!("routes:\n  - topics: ['^{family}\\.(?<region>[a-z]+)$']\n    table: 'orders_{{region}}'\n    version: version\n");
    let file = PipelineFile::with("expression", &eu.brokers, &database.url(), &routes).property("topic.metadata.refresh.interval.ms", "2000");
    let mut worker = Worker::start(&file);
    wait_until(seconds(60), "the first topic is applied", || {
        worker.assert_runs();
        database.count("orders_eu") > 0
    });
    let us = Topic::create_named(shared_kafka(), &format!("{family}.us"), 2);
    us.send(&orders.take(300));
    wait_until(seconds(90), "the later topic is applied", || {
        worker.assert_runs();
        database.count("orders_us") > 0
    });
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    run_until_end(&file).expect_code(0);
    for (topic, table) in [(&eu, "orders_eu"), (&us, "orders_us")] {
        database.execute("DROP VIEW IF EXISTS orders");
        database.execute(&format!("CREATE VIEW orders AS SELECT * FROM {table}"));
        assert_latest(&database, &topic.read());
    }
}
