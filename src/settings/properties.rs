//! `kafka.properties`: librdkafka's own keys pass through; the ones that oncesink's promises rest on are refused by name.

use std::{collections::BTreeMap, time::Duration};

use super::{
    nearest::{nearest, plain},
    property_names::{CONSUMER, PRODUCER},
    values::Wrong,
};

/// Properties that oncesink sets itself, and why, or under which key.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "write kafka.brokers"),
    ("metadata.broker.list", "write kafka.brokers"),
    ("group.id", "write kafka.group"),
    ("group.instance.id", "write kafka.instance_id"),
    ("enable.auto.commit", "offsets are committed only once their rows are durable"),
    ("auto.commit.enable", "offsets are committed only once their rows are durable"),
    ("auto.commit.interval.ms", "offsets are committed only once their rows are durable"),
    ("enable.auto.offset.store", "offsets are committed only once their rows are durable"),
    ("offset.store.method", "offsets are committed only once their rows are durable"),
    ("auto.offset.reset", "write kafka.start; a client that jumps by itself loses records without a word"),
    ("isolation.level", "aborted transactions are never read"),
    ("statistics.interval.ms", "the lag metrics are made of these reports"),
    ("allow.auto.create.topics", "a mistyped topic would be created, empty"),
    ("enable.partition.eof", "the end of a partition is taken from the reports"),
    ("group.protocol.type", "it is always `consumer`"),
    ("group.remote.assignor", "the group protocol is `classic` in this version"),
];

/// What Java clients call it, and what to do here.
const JAVA: &[(&str, &str)] = &[
    ("sasl.jaas.config", "write sasl.username and sasl.password, with sasl.mechanism"),
    ("sasl.login.callback.handler.class", "write sasl.oauthbearer.method: oidc with sasl.oauthbearer.client.id, .client.secret and .token.endpoint.url"),
    ("sasl.client.callback.handler.class", "leave it out"),
    ("sasl.oauthbearer.jwks.endpoint.url", "leave it out; a client needs sasl.oauthbearer.token.endpoint.url"),
    ("ssl.truststore.location", "write ssl.ca.location: a PEM file (keytool -exportcert -rfc)"),
    ("ssl.truststore.certificates", "write ssl.ca.pem"),
    ("ssl.truststore.password", "leave it out; ssl.ca.location names a PEM file, which has no password"),
    ("ssl.truststore.type", "leave it out; ssl.ca.location names a PEM file"),
    ("ssl.keystore.type", "leave it out; ssl.keystore.location names a PKCS#12 file"),
    ("ssl.keystore.key", "write ssl.key.pem"),
    ("ssl.keystore.certificate.chain", "write ssl.certificate.pem"),
    ("ssl.enabled.protocols", "leave it out"),
    ("ssl.protocol", "leave it out"),
    ("key.deserializer", "leave it out; write key_format in the route"),
    ("value.deserializer", "leave it out; write format in the route"),
    ("max.poll.records", "leave it out; batch.rows limits a batch"),
    ("fetch.max.wait.ms", "write fetch.wait.max.ms"),
    ("receive.buffer.bytes", "write socket.receive.buffer.bytes"),
    ("send.buffer.bytes", "write socket.send.buffer.bytes"),
    ("request.timeout.ms", "write socket.timeout.ms"),
    ("default.api.timeout.ms", "write socket.timeout.ms"),
    ("exclude.internal.topics", "leave it out; write exclude_topics in the route"),
    ("interceptor.classes", "leave it out"),
    ("client.dns.lookups", "write client.dns.lookup"),
];

/// Whether librdkafka has a property of this name.
pub(super) fn is_property(name: &str) -> bool {
    CONSUMER.binary_search(&name).is_ok()
}

/// What to do instead of a setting of Java's clients.
pub(super) fn java(name: &str) -> Option<&'static str> {
    JAVA.iter().find(|(java, _)| *java == name).map(|(_, answer)| *answer)
}

/// Judges one property; what depends on others, [`judge_together`] does.
pub(super) fn judge(name: &str, value: &str) -> Result<(), Wrong> {
    let refuse = |message: String, label: &str| Err(Wrong { message, label: label.to_owned() });
    if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return refuse(format!("`{name}` belongs to oncesink"), reason);
    }
    if let Some(answer) = java(name) {
        return refuse(format!("`{name}` is a setting of Java clients"), answer);
    }
    match name {
        "group.protocol" if value != "classic" => return refuse(format!("group.protocol `{value}` is not in this version"), "classic, or leave it out"),
        "enable.ssl.certificate.verification" if is_false(value) => {
            return refuse(
                "without a check of its certificate the broker could be anybody".to_owned(),
                "leave it out; ssl.ca.location names your own authority",
            );
        }
        "ssl.endpoint.identification.algorithm" if value == "none" => {
            return refuse(
                "without a check of its name the broker could be anybody".to_owned(),
                "leave it out; the certificate must name the host in kafka.brokers",
            );
        }
        "max.poll.interval.ms" => match value.parse::<u64>() {
            Ok(30_000..=86_400_000) => {}
            Ok(_) => {
                return refuse(
                    format!("max.poll.interval.ms {value} leaves no time to finish a batch in a rebalance"),
                    "30000 to 86400000; 300000 unless it is written",
                );
            }
            Err(_) => return refuse(format!("`{value}` is not a number"), "milliseconds, such as 300000"),
        },
        "session.timeout.ms" | "heartbeat.interval.ms" if value.parse::<u64>().is_err() => {
            return refuse(format!("`{value}` is not a number"), "milliseconds, such as 45000");
        }
        "partition.assignment.strategy" => {
            let strategies: Vec<&str> = value.split(',').map(str::trim).collect();
            if let Some(unknown) = strategies.iter().find(|strategy| !["range", "roundrobin", "cooperative-sticky"].contains(strategy)) {
                return refuse(
                    format!("`{unknown}` is not an assignment strategy"),
                    "cooperative-sticky, range or roundrobin; cooperative-sticky unless it is written",
                );
            }
            if strategies.contains(&"cooperative-sticky") && strategies.len() > 1 {
                return refuse("eager and cooperative strategies cannot be mixed".to_owned(), "one kind only; change a running group in two deployments");
            }
        }
        "sasl.mechanism" | "sasl.mechanisms" if value.eq_ignore_ascii_case("GSSAPI") => {
            return refuse("this build has no Kerberos".to_owned(), "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER");
        }
        "security.protocol" if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&value.to_lowercase().as_str()) => {
            return refuse(format!("`{value}` is not a protocol"), "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL");
        }
        _ => {}
    }
    if is_property(name) {
        return Ok(());
    }
    if PRODUCER.binary_search(&name).is_ok() {
        return refuse(
            format!("`{name}` is a property of producers; oncesink only reads"),
            "leave it out; the size and delay of batches are batch.rows, batch.bytes and batch.linger",
        );
    }
    let label = match CONSUMER.iter().find(|known| plain(known) == plain(name)).copied().or_else(|| nearest(name, CONSUMER.iter().copied())) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "its properties: https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md".to_owned(),
    };
    refuse(format!("librdkafka has no property `{name}`"), &label)
}

/// What only several properties show together: the name of the one at fault, and why.
pub(super) fn judge_together(properties: &BTreeMap<String, String>) -> Vec<(&'static str, Wrong)> {
    let mut found = Vec::new();
    let get = |name: &str| properties.get(name).map(String::as_str);
    let secured = get("security.protocol").unwrap_or_default().to_lowercase();
    if secured.starts_with("sasl") && get("sasl.mechanism").or(get("sasl.mechanisms")).is_none() {
        let label = "add sasl.mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER".to_owned();
        found.push(("security.protocol", Wrong { message: "SASL needs a mechanism".to_owned(), label }));
    }
    if get("sasl.username").is_some() && !secured.starts_with("sasl") {
        let label = "add security.protocol: SASL_SSL".to_owned();
        found.push(("sasl.username", Wrong { message: "a user has no effect without SASL".to_owned(), label }));
    }
    let session = get("session.timeout.ms").and_then(|value| value.parse::<u64>().ok()).unwrap_or(45_000);
    if let Some(poll) = get("max.poll.interval.ms").and_then(|value| value.parse::<u64>().ok())
        && (30_000..session).contains(&poll)
    {
        let message = format!("max.poll.interval.ms {poll} is below session.timeout.ms {session}");
        found.push(("max.poll.interval.ms", Wrong { message, label: "make it at least as long".to_owned() }));
    }
    found
}

/// How long a callback of the consumer may wait: the group throws out a member that does not poll in time.
pub(super) fn callback_budget(properties: &BTreeMap<String, String>) -> Duration {
    let poll = properties.get("max.poll.interval.ms").and_then(|value| value.parse().ok()).unwrap_or(300_000);
    Duration::from_millis(poll / 3).min(Duration::from_secs(10))
}

fn is_false(value: &str) -> bool {
    ["false", "f", "0", "no"].contains(&value.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_for_the_search() {
        for names in [CONSUMER, PRODUCER] {
            assert!(names.is_sorted(), "{names:?}");
        }
    }

    #[test]
    fn owned_properties_are_known_ones() {
        for (name, _) in OWNED {
            assert!(is_property(name), "{name}");
        }
        for (name, _) in JAVA {
            assert!(!is_property(name), "{name}");
        }
    }

    #[test]
    fn a_callback_waits_a_third_of_the_poll_interval_at_most() {
        let budget = |interval: &str| callback_budget(&[("max.poll.interval.ms".to_owned(), interval.to_owned())].into());
        assert_eq!(budget("300000"), Duration::from_secs(10));
        assert_eq!(budget("30000"), Duration::from_secs(10));
        assert_eq!(budget("29999"), Duration::from_millis(9999));
        assert_eq!(callback_budget(&BTreeMap::new()), Duration::from_secs(10));
    }
}
