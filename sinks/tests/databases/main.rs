//! All databases, for real: SQLite files in a temporary directory, and the servers that ONCESINK_TEST_POSTGRES, ONCESINK_TEST_MYSQL and
//! ONCESINK_TEST_MARIADB name (URLs of superusers; each test makes its own database there and drops it). Tests of Redis stop their
//! servers, so each starts its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a test's numbers are small"
)]

mod accumulate;
mod bookkeeping;
mod catalogue;
mod contract;
mod faults;
mod insert_if_new;
mod migrations;
mod mysql;
mod processed_events;
mod redis;
mod rows;
mod tombstones;
mod types;
mod world;
