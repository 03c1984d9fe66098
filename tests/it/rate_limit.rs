//! `rate_limit`: a process takes no more than it may, and loses nothing by it.

use std::time::{Duration, Instant};

use crate::{
    checker::{assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    topic::{Orders, Topic},
    worker::run_until_end,
};

#[test]
fn a_limited_run_takes_its_time_and_every_record() {
    let topic = Topic::create("rate_limit", 2);
    let database = Database::create(Kind::Postgres, "rate_limit");
    create_order_tables(&database);
    topic.send(&Orders::seeded(81, 200).take(4_000));
    let file = PipelineFile::new("rate_limit", &topic, &database, &order_routes(&topic.name)).also("rate_limit: { records_per_second: 500 }");
    let began = Instant::now();
    run_until_end(&file).expect_code(0);
    // 8 s at 500 a second; the last block is taken without waiting after it.
    assert!(began.elapsed() >= Duration::from_secs(6), "{:?}", began.elapsed());
    assert_orders(&database, &topic.read());
}
