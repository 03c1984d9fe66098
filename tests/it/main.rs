//! The real binary against real servers. It shares no code with what it tests: its own client, its own SQL, its own reading
//! of the topic. One binary, because linking is slow; CONTRIBUTING.md says how to run one test of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod checker;
mod database;
mod file;
mod kafka;
mod proxy;
mod random;
mod servers;
mod tier;
mod topic;
mod wait;
mod worker;

mod alter_table;
mod architecture;
mod bad_record;
mod bad_settings;
mod demo;
mod dependency_down;
mod group_offsets;
mod main_job;
mod membership;
mod mended;
mod outage;
mod partitions_added;
mod rate_limit;
mod recreated;
mod retention;
mod topics;
mod transactions;
mod two_clusters;
mod types;
mod wire;
