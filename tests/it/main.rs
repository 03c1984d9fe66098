//! The real binary against real servers. It shares no code with what it tests: its own client, its own SQL, its own reading
//! of the topic. One binary, because linking is slow; CONTRIBUTING.md says how to run one test of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod checker;
mod cluster;
mod database;
mod event_log;
mod file;
mod group;
mod holder;
mod kafka;
mod postgres_wire;
mod proxy;
mod random;
mod servers;
mod states;
mod tier;
mod topic;
mod trail;
mod wait;
mod worker;

mod alter_table;
mod architecture;
mod at_most_once;
mod backends;
mod bad_record;
mod bad_settings;
mod black_hole;
mod brokers;
mod commit_cut;
mod coordinator;
mod database_crash;
mod deliveries;
mod demo;
mod dependency_down;
mod disk_full;
mod documents;
mod grants;
mod group_offsets;
mod handover;
mod main_job;
mod membership;
mod memory;
mod mended;
mod outage;
mod partitions_added;
mod pgbouncer;
mod processed_events;
mod put_out;
mod rate_limit;
mod recreated;
mod redis;
mod restore;
mod retention;
mod shared_file;
mod signals;
mod speed;
mod stopping;
mod storm;
mod tombstones;
mod topics;
mod transactions;
mod two_clusters;
mod types;
mod wire;
