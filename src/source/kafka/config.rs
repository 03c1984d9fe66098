//! What the Kafka source needs to know, validated.

use std::{collections::BTreeMap, time::Duration};

use crate::route::TopicSelector;

/// One cluster, one group, the topics of a pipeline.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    pub brokers: String,
    pub group: String,
    /// `kafka.instance_id`: static membership.
    pub instance_id: Option<String>,
    pub start: StartPolicy,
    /// One for each route.
    pub topics: Vec<TopicSelector>,
    /// librdkafka's own properties; those that oncesink owns were refused before.
    pub properties: BTreeMap<String, String>,
    /// How long a callback may wait for the engine: at most 10 s, and never above a third of `max.poll.interval.ms`.
    pub callback_budget: Duration,
}

/// Where a partition starts that has neither checkpoint nor committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartPolicy {
    Earliest,
    Latest,
    /// Milliseconds since the Unix epoch.
    Time(i64),
    /// It does not: its partition halts.
    Error,
}
