//! The demo needs nothing: no Kafka, no database server.

use crate::{wait::seconds, worker::oncesink_within};

#[test]
fn the_demo_ends_well() {
    let demo = oncesink_within(seconds(120), &["demo"]).expect_code(0);
    assert!(!demo.stdout.is_empty(), "it tells what it did");
}
