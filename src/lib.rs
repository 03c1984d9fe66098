//! oncesink carries records from Apache Kafka into SQL databases so that each takes effect once.

pub mod decode;
pub mod engine;
pub mod route;
pub mod settings;
pub mod source;
pub mod telemetry;
