//! What the Kafka source needs to know, validated.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::source::TopicSelector;

/// One cluster, one group, the topics of a pipeline.
#[derive(Clone)]
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

/// The properties may hold passwords: only their names are shown.
impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("instance_id", &self.instance_id)
            .field("start", &self.start)
            .field("topics", &self.topics)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .field("callback_budget", &self.callback_budget)
            .finish()
    }
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
