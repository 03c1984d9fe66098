//! Transactional topics: what was aborted is never applied, and the end is reached all the same.

use crate::{
    checker::{assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Producer,
    topic::{Orders, Topic},
    worker::run_until_end,
};

fn aborted_transactions(kind: Kind, label: &str) {
    let topic = Topic::create(label, 3);
    let database = Database::create(kind, label);
    create_order_tables(&database);
    let producer = Producer::transactional(&topic.brokers, &topic.name);
    let mut orders = Orders::seeded(31, 200);
    // The last one is aborted, so that every partition ends with records that are never delivered and a control record.
    for number in 0..12 {
        producer.begin();
        for order in orders.take(150) {
            producer.send(&order);
        }
        if number % 3 == 2 { producer.abort() } else { producer.commit() }
    }
    let records = topic.read();
    assert_eq!(records.len(), 8 * 150, "the oracle sees committed records only");

    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
    run_until_end(&file).expect_code(0);
    assert_orders(&database, &records);
    assert_eq!(topic.lag(&file.group()), Some(0), "the group's lag, control records included");
    // Nothing new: the second run ends at once and changes nothing.
    run_until_end(&file).expect_code(0);
    assert_orders(&database, &records);
}

#[test]
fn aborted_transactions_on_postgres() {
    aborted_transactions(Kind::Postgres, "aborted_postgres");
}

#[test]
fn aborted_transactions_on_sqlite() {
    aborted_transactions(Kind::Sqlite, "aborted_sqlite");
}

#[test]
fn a_topic_of_nothing_but_aborted_records_ends() {
    let topic = Topic::create("only_aborted", 2);
    let database = Database::create(Kind::Postgres, "only_aborted");
    create_order_tables(&database);
    let producer = Producer::transactional(&topic.brokers, &topic.name);
    producer.begin();
    for order in Orders::seeded(32, 10).take(100) {
        producer.send(&order);
    }
    producer.abort();
    let file = PipelineFile::new("only_aborted", &topic, &database, &order_routes(&topic.name));
    run_until_end(&file).expect_code(0);
    assert_orders(&database, &[]);
    assert_eq!(topic.lag(&file.group()), Some(0));
}
