//! The real source: one OS thread owns the consumer.

mod config;

pub use config::{KafkaConfig, StartPolicy};
