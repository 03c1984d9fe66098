//! oncesink carries records from Apache Kafka into SQL databases so that each takes effect **once**.
//!
//! | `delivery` | how | what a crash can do |
//! | --- | --- | --- |
//! | `exactly-once` (default) | rows and checkpoint commit in one transaction of the target database, fenced by epoch and claim id | nothing |
//! | `at-least-once` | offsets are committed after the rows; a batch is fenced by its epoch | repeat the batch in flight |
//!
//! Safety never rests on Kafka's group: whoever holds a partition in the database may write it, and nobody else.
//!
//! The modules, in the order in which a record meets them:
//!
//! | module | does |
//! | --- | --- |
//! | [`settings`] | text → validated settings, all problems at once |
//! | [`source`] | what the engine knows of Kafka; [`source::kafka`] is the real one |
//! | [`route`] | topic → tables, columns, key |
//! | [`decode`] | bytes → column arrays of the target's types |
//! | [`engine`] | lanes, batches, claims, drains, halts, and the loop over them |
//! | [`guarantee`] | what delivery and write mode promise together |
//! | [`telemetry`] | logs, metrics, the web server |
//! | [`cli`] | the commands |
//!
//! The database half is the crate `oncesink_sinks`.

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

pub mod cli;
pub mod decode;
pub mod engine;
pub mod guarantee;
pub mod route;
pub mod settings;
pub mod source;
pub mod telemetry;
