//! A topic that was deleted and made again: its offsets mean other records now, and nothing of it may be taken for the old ones.

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    tier::count,
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::{Worker, run_until_end},
};

/// Fills a topic, applies it, and makes it again with `count` other records in its one partition.
fn made_again(label: &str, count: usize, reason: &str) {
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
    run_until_end(&file).expect_code(1).expect_text(&[reason, &place]);
    // Not one of the other records took effect.
    assert_orders(&database, &before);
}

#[test]
fn with_more_records_than_were_applied() {
    made_again("recreated_more", 500, "topic-recreated");
}

#[test]
fn with_fewer_records_than_were_applied() {
    made_again("recreated_fewer", 100, "topic-cut");
}

/// The client itself tells nobody, and would go on where it was: at a record of the new topic.
fn made_again_while_it_runs(label: &str, records: usize) {
    let mut topic = Topic::create(label, 1);
    let database = Database::create(Kind::Postgres, label);
    create_order_tables(&database);
    topic.send(&Orders::seeded(73, 50).take(300));
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name)).property("topic.metadata.refresh.interval.ms", "2000");
    let mut worker = Worker::start(&file);
    wait_until(seconds(60), "the topic is applied", || {
        worker.assert_runs();
        applied(&database) >= 300
    });
    let before = topic.read();

    topic.recreate();
    topic.send(&Orders::seeded(74, 50).take(records));
    worker.wait_for_log(seconds(60), &[&format!("halted {}:0@300: topic-recreated", topic.name)]);
    // It stays so when it is tried again, and when the worker is started again.
    assert_eq!(worker.stop(), Some(1), "{}", worker.log());
    run_until_end(&file).expect_code(1).expect_text(&["topic-recreated", "set next_offset in oncesink_checkpoint"]);
    assert_orders(&database, &before);
    // The way out: from then on the new topic is read.
    database.execute("DELETE FROM orders");
    database.execute("DELETE FROM order_log");
    database.execute("UPDATE oncesink.oncesink_checkpoint SET next_offset = 0");
    run_until_end(&file).expect_code(0);
    assert_orders(&database, &topic.read());
}

#[test]
fn with_more_records_while_the_worker_runs() {
    for round in 0..count(2, 8) {
        made_again_while_it_runs(&format!("recreated_running_more_{round}"), 500);
    }
}

#[test]
fn with_fewer_records_while_the_worker_runs() {
    for round in 0..count(2, 8) {
        made_again_while_it_runs(&format!("recreated_running_fewer_{round}"), 100);
    }
}
