//! The settings of the client: which have a default of ours, and which are forced because a guarantee rests on them.

use std::time::Duration;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use super::{KafkaConfig, recreated};

/// Ours unless the user sets another.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "oncesink"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("check.crcs", "true"),
    // What is prefetched lies in memory beside `max_buffer`, a small record with three times its size, and a pause throws it away.
    // Records lie much closer in our own buffer, so the client needs only what bridges the time to the next answer of a broker.
    ("queued.max.messages.kbytes", "4096"),
    ("queued.min.messages", "3000"),
    // The client's own second is longer than a full queue lasts: reading would stop and go.
    ("fetch.queue.backoff.ms", "10"),
    // One record may be larger: a broker always answers with at least one batch, and `receive.message.max.bytes` stays at its 100 MB,
    // because it also bounds what a batch may grow to when it is decompressed.
    ("fetch.max.bytes", "4194304"),
    ("topic.metadata.refresh.interval.ms", "60000"),
];

/// Never the user's: each of these would lose records or take them twice.
const FORCED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("allow.auto.create.topics", "false"),
    ("enable.partition.eof", "false"),
];

/// How the group hands partitions over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Everything is taken away at each rebalance.
    Eager,
    /// Only what moves is taken away.
    Cooperative,
}

/// The consumer that joins the group.
pub(super) fn consumer(config: &KafkaConfig) -> (ClientConfig, Protocol) {
    let mut client = base(config);
    // Where the client tells that a topic was recreated. It is the only context that is always on, and it has little to say.
    let debug = client.get("debug").map_or_else(|| recreated::DEBUG_CONTEXT.to_owned(), |user| format!("{user},{}", recreated::DEBUG_CONTEXT));
    client.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    if let Some(instance) = &config.instance_id {
        client.set("group.instance.id", instance);
    }
    // Passed offsets come from the statistics, so they may not be switched off.
    let interval = client.get("statistics.interval.ms").and_then(|text| text.parse().ok()).unwrap_or(1000_u32);
    client.set("statistics.interval.ms", interval.clamp(100, 5000).to_string());
    let protocol = if client.get("group.protocol") == Some("consumer") {
        // The broker assigns then, and the client refuses to be told how.
        client.remove("partition.assignment.strategy");
        Protocol::Cooperative
    } else if client.get("partition.assignment.strategy").is_some_and(|strategy| strategy.contains("cooperative")) {
        Protocol::Cooperative
    } else {
        Protocol::Eager
    };
    (client, protocol)
}

/// A client of the same cluster and group that never joins.
pub(super) fn probe(config: &KafkaConfig) -> ClientConfig {
    let mut client = base(config);
    client.set("enable.partition.eof", "true").set("statistics.interval.ms", "0").remove("group.instance.id");
    client
}

/// How often new topics and partitions are looked for.
pub(super) fn refresh_interval(config: &KafkaConfig) -> Duration {
    let milliseconds = base(config).get("topic.metadata.refresh.interval.ms").and_then(|text| text.parse().ok());
    Duration::from_millis(milliseconds.filter(|interval| *interval > 0).unwrap_or(60_000))
}

fn base(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    // Else the level would come from the `log` crate, which nobody configures here.
    client.set_log_level(RDKafkaLogLevel::Info);
    for (key, value) in DEFAULTS {
        client.set(*key, *value);
    }
    for (key, value) in &config.properties {
        client.set(key, value);
    }
    for (key, value) in FORCED {
        client.set(*key, *value);
    }
    client.set("bootstrap.servers", &config.brokers).set("group.id", &config.group);
    client
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kafka::tests::config;

    #[test]
    fn what_guarantees_rest_on_cannot_be_changed() {
        let mut config = config("localhost:1", "group", &["orders"]);
        for (key, value) in [("enable.auto.commit", "true"), ("auto.offset.reset", "latest"), ("statistics.interval.ms", "0"), ("group.id", "x")] {
            config.properties.insert(key.to_owned(), value.to_owned());
        }
        let (client, protocol) = consumer(&config);
        assert_eq!(protocol, Protocol::Cooperative);
        for (key, value) in FORCED {
            assert_eq!(client.get(key), Some(*value), "{key}");
        }
        assert_eq!((client.get("statistics.interval.ms"), client.get("group.id")), (Some("100"), Some("group")));
    }

    #[test]
    fn the_protocol_follows_the_strategy() {
        let mut config = config("localhost:1", "group", &["orders"]);
        config.properties.insert("partition.assignment.strategy".to_owned(), "range,roundrobin".to_owned());
        assert_eq!(consumer(&config).1, Protocol::Eager);
        config.properties.insert("group.protocol".to_owned(), "consumer".to_owned());
        let (client, protocol) = consumer(&config);
        assert_eq!((protocol, client.get("partition.assignment.strategy")), (Protocol::Cooperative, None));
    }

    #[test]
    fn an_unknown_property_is_an_error_that_names_it() {
        let mut config = config("localhost:1", "group", &["orders"]);
        config.properties.insert("fetch.maximum".to_owned(), "1".to_owned());
        let error = super::super::KafkaError::from_creation(&consumer(&config).0.create_native_config().err().unwrap());
        assert!(error.to_string().contains("fetch.maximum") && !error.is_retryable(), "{error}");
    }
}
