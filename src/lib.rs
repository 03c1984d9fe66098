//! oncesink carries records from Apache Kafka into SQL databases so that each takes effect once.

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
