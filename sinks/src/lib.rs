//! The database half of oncesink: what a batch is, how it is fenced, applied and remembered, and the databases that do it.
//!
//! It knows Kafka's words (topic, partition, offset) but not its client, and builds without librdkafka.
//!
//! | module | holds |
//! | --- | --- |
//! | [`model`] | the vocabulary: partitions, offsets, claims, spans, batches, columns, tables |
//! | [`sink`], [`checkpoint`] | the traits that the engine talks to |
//! | [`claim`], [`refusal`], [`outcome`] | what they ask and answer |
//! | [`session`], [`processed_events`], [`tombstone_table`] | what one database gives: a connection, its catalogue, its bookkeeping |
//! | [`transaction`] | the one transaction of a batch and of a claim, over any session |
//! | [`fence`], [`start`], [`marks`], [`generation`], [`tombstones`], [`compact`] | the decisions in it, pure |
//! | [`options`], [`open`](mod@open) | from settings to a database |
//! | [`postgres`], [`mysql`], [`sqlite`] | the databases |
//! | [`dedup`] | the trait of an outside store that remembers events, and what it asks and answers |
//! | [`screening`] | what may be gone by of what it remembers, over any server |
//! | [`remembering`] | such a store put around a sink |
//! | [`redis`] | that server is Redis |
//! | [`fault`] | every failure has a class, once |
//! | [`plain_sql`] | plain SQL on a SQLite file, for the demo that judges the sink |
//! | [`planted`] | the simulation's planted bugs, in the product's own code |
//! | `testing` | with the feature `testing`: the contract of a sink, for those who write one of their own |

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a test's numbers are small"
    )
)]

mod as_text;
mod bookkeeping;
pub mod checkpoint;
mod chunks;
pub mod claim;
pub mod compact;
pub mod dedup;
mod execute;
pub mod fault;
pub mod fence;
pub mod generation;
pub mod marks;
pub mod model;
pub mod mysql;
mod nodelay;
pub mod open;
pub mod options;
pub mod outcome;
pub mod plain_sql;
pub mod planted;
pub mod postgres;
pub mod processed_events;
pub mod redis;
pub mod refusal;
pub mod remembering;
mod row_key;
pub mod screening;
pub mod session;
mod session_state;
pub mod sink;
mod skip;
pub mod sqlite;
pub mod start;
mod stored;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tombstone_table;
pub mod tombstones;
pub mod transaction;
pub mod version;
mod within;
mod write_plan;
