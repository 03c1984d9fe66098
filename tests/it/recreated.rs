//! A topic that was deleted and made again: its offsets mean other records now, and nothing of it may be taken for the old ones.

use crate::{
    checker::{assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    topic::{Orders, Topic},
    worker::run_until_end,
};

/// Fills a topic, applies it, and makes it again with `count` other records in its one partition.
fn made_again(label: &str, count: usize) {
    let mut topic = Topic::create(label, 1);
    let database = Database::create(Kind::Postgres, label);
    create_order_tables(&database);
    topic.send(&Orders::seeded(71, 50).take(300));
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
    run_until_end(&file).expect_code(0);
    let before = topic.read();
    assert_orders(&database, &before);

    topic.recreate();
    topic.send(&Orders::seeded(72, 50).take(count));
    let place = format!("{}:0", topic.name);
    run_until_end(&file).expect_code(1).expect_text(&["topic-recreated", &place]);
    // Not one of the other records took effect.
    assert_orders(&database, &before);
}

#[test]
fn with_more_records_than_were_applied() {
    made_again("recreated_more", 500);
}

#[test]
fn with_fewer_records_than_were_applied() {
    made_again("recreated_fewer", 100);
}
