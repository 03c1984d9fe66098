mod cluster;
mod damage;
mod groups;
mod raw;
mod reading;
mod worker;

use std::{collections::BTreeMap, time::Duration};

use super::{KafkaConfig, StartPolicy};
use crate::source::TopicSelector;

/// A configuration for tests.
pub(super) fn config(brokers: &str, group: &str, topics: &[&str]) -> KafkaConfig {
    KafkaConfig {
        brokers: brokers.to_owned(),
        group: group.to_owned(),
        instance_id: None,
        start: StartPolicy::Earliest,
        topics: vec![TopicSelector { names: topics.iter().map(ToString::to_string).collect(), ..TopicSelector::default() }],
        properties: BTreeMap::from([
            ("session.timeout.ms".to_owned(), "6000".to_owned()),
            ("heartbeat.interval.ms".to_owned(), "300".to_owned()),
            ("fetch.wait.max.ms".to_owned(), "50".to_owned()),
        ]),
        callback_budget: Duration::from_secs(5),
    }
}
