//! What a value becomes: traps of YAML, variables, layers, secrets.

use std::time::Duration;

use oncesink_sinks::{
    model::{DedupBackend, Rule, WriteMode},
    redis::Servers,
};
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::{
    decode::{EventIdSource, MissingFields, Tombstone},
    source::kafka::StartPolicy,
};

fn route(keys: &str) -> String {
    format!("name: orders\nkafka: k:9092\ndatabase: sqlite:o.db\nroutes:\n  - {{ topic: orders, table: orders{keys} }}\n")
}

#[test]
fn a_text_is_what_is_written() {
    let pipeline = loaded(
        "name: 0123
kafka: { brokers: 'k:9092', group: yes, instance_id: 1e3, properties: { client.id: 007, check.crcs: true, sasl.password: 0x10, sasl.mechanism: PLAIN, security.protocol: sasl_ssl } }
database: { url: postgres://db/shop, username: no, password: 0123 }
routes: [ { topic: 2024, table: '1.5' } ]",
    );
    assert_eq!((&*pipeline.name, pipeline.kafka.group.as_str(), pipeline.kafka.instance_id.as_deref()), ("0123", "yes", Some("1e3")));
    assert_eq!(pipeline.kafka.properties["client.id"], "007");
    assert_eq!(pipeline.kafka.properties["check.crcs"], "true");
    assert_eq!(pipeline.kafka.properties["sasl.password"], "0x10");
    assert_eq!(pipeline.database.username.as_deref(), Some("no"));
    assert_eq!(pipeline.database.password.unwrap().expose_secret(), "0123");
    assert_eq!(pipeline.routes[0].topics.names, ["2024"]);
    assert_eq!(pipeline.routes[0].table, "1.5");
}

#[test]
fn a_dollar_in_a_password_is_a_dollar() {
    for (written, expected) in
        [("pa$word", "pa$word"), ("pa$$word", "pa$$word"), ("'pa$${X}'", "pa${X}"), ("${TRICKY}", "${HOME}: {a}"), ("\"${TRICKY}\"", "${HOME}: {a}")]
    {
        let text = format!("name: x\nkafka: k:1\ndatabase:\n  url: postgres://db/shop\n  password: {written}\nroutes: [ {{ topic: t, table: t }} ]\n");
        let pipeline = loaded_with(&text, &[("TRICKY", "${HOME}: {a}")], &[]);
        assert_eq!(pipeline.database.password.unwrap().expose_secret(), expected, "{written}");
    }
}

#[test]
fn anchors_and_merge_keys_work() {
    let pipeline = loaded(
        "name: x
kafka: k:1
database: sqlite:o.db
routes:
  - &first { topic: a, table: a, write: append, on_bad_record: skip }
  - { <<: *first, topic: b, table: b }
  - { <<: [*first], topic: c, write: upsert }
",
    );
    assert_eq!(pipeline.routes[1].topics.names, ["b"]);
    assert_eq!(pipeline.routes[1].write, pipeline.routes[0].write);
    assert_eq!((pipeline.routes[2].table.as_str(), pipeline.routes[2].write.as_str()), ("a", "upsert"));
}

#[test]
fn the_environment_overrides_the_file_and_set_overrides_both() {
    let pipeline = loaded_with(
        SHORTEST,
        &[
            ("ONCESINK__KAFKA__BROKERS", "a:1,b:2"),
            ("ONCESINK__KAFKA__PROPERTIES__SSL_CA_LOCATION", "ca.pem"),
            ("ONCESINK__DATABASE__PASSWORD", "0123"),
            ("ONCESINK__ROUTES__0__TABLE", "from_environment"),
            ("ONCESINK__ROUTES__0__DEDUP", "unique-key,checkpoint"),
            ("ONCESINK__LOG__LEVEL", "debug"),
        ],
        &["routes.0.table=from_set", "kafka.properties.client.id=me", "kafka.group=mine", "database=postgres://localhost/x"],
    );
    assert_eq!(pipeline.kafka.brokers, "a:1,b:2");
    assert_eq!(pipeline.kafka.properties["ssl.ca.location"], "ca.pem");
    assert_eq!(pipeline.kafka.properties["client.id"], "me");
    assert_eq!((pipeline.kafka.group.as_str(), pipeline.group_written), ("mine", true));
    assert_eq!(pipeline.database.password.as_ref().unwrap().expose_secret(), "0123");
    assert_eq!(pipeline.database.tls, None, "by where the server is");
    assert_eq!(pipeline.routes[0].table, "from_set");
    assert_eq!(pipeline.routes[0].topics.names, ["orders"]);
    assert_eq!(pipeline.routes[0].dedup, [DedupBackend::UniqueKey, DedupBackend::Checkpoint]);
    assert_eq!(pipeline.process.log_level, LogLevel::Debug);
}

#[test]
fn one_of_several_pipelines_is_set_by_its_name() {
    let second = SHORTEST.replace("name: orders", "name: audit");
    let pipelines = Process { files: &[("a.yaml", SHORTEST), ("b.yaml", &second)], environment: DATABASE, sets: &["audit:kafka.group=x", "log.level=warn"] }
        .load()
        .unwrap();
    assert_eq!((pipelines[0].kafka.group.as_str(), pipelines[1].kafka.group.as_str()), ("oncesink-orders", "x"));
    assert!(pipelines.iter().all(|pipeline| pipeline.process.log_level == LogLevel::Warn));
}

#[test]
fn routes_inherit_what_they_do_not_write() {
    let pipeline = loaded(
        "name: x
kafka: k:1
database: sqlite:o.db
defaults: { write: append, table: '{topic}', columns: { at: timestamp, by: topic }, timezone: UTC }
routes:
  - topic: a
  - { topic: b, columns: { by: \"'b'\" }, timezone: null, table: other }
",
    );
    let [a, b] = pipeline.routes.as_slice() else { panic!() };
    assert_eq!((a.table.as_str(), a.timezone.as_deref(), a.columns.len()), ("{topic}", Some("UTC"), 2));
    assert_eq!((b.table.as_str(), b.timezone.as_deref(), b.columns.len()), ("other", None, 2));
    assert_ne!(a.columns["by"], b.columns["by"]);
}

#[test]
fn tombstones_and_dedup_follow_from_the_rest() {
    let tombstone = |keys: &str| loaded(&route(keys)).routes[0].tombstone.clone();
    assert_eq!(tombstone(""), Tombstone::Delete);
    assert_eq!(tombstone(", write: append"), Tombstone::BadRecord);
    assert_eq!(tombstone(", version: at"), Tombstone::Delete);
    assert_eq!(tombstone(", version: at, tombstone: ignore"), Tombstone::Ignore);
    assert_eq!(tombstone(", tombstone: { mark: deleted_at }"), Tombstone::Mark("deleted_at".into()));
    assert_eq!(tombstone(", write: update, version: at, tombstone: { mark: gone }"), Tombstone::Mark("gone".into()));
    let remembers = |keys: &str| loaded(&route(keys)).routes[0].remembers_deletes();
    assert!(remembers(", version: at") && remembers(", version: at, tombstone: { mark: gone }"));
    assert!(!remembers("") && !remembers(", version: at, tombstone: bad-record"));
    assert_eq!(loaded(&route("")).tombstone_retention, std::time::Duration::from_secs(7 * 86_400));
    let dedup = |keys: &str| loaded(&route(keys)).routes[0].dedup.clone();
    assert_eq!(dedup(""), [DedupBackend::Checkpoint]);
    assert_eq!(dedup(", dedup: []"), [DedupBackend::Checkpoint]);
    assert_eq!(dedup(", delivery: at-least-once"), [DedupBackend::UniqueKey]);
    assert_eq!(dedup(", delivery: at-least-once, write: append, dedup: []"), []);
    assert_eq!(dedup(", delivery: at-least-once, write: append, dedup: [processed-event]"), [DedupBackend::ProcessedEvent]);
    assert_eq!(dedup(", dedup: [checkpoint, processed-event]"), [DedupBackend::ProcessedEvent, DedupBackend::Checkpoint], "in the order in which they run");
    let event_id = |source: &str| loaded(&route(&format!(", write: append, dedup: [processed-event], event_id: {source}"))).routes[0].event_id.clone();
    assert_eq!(event_id("value.meta.id"), EventIdSource::Value(vec!["meta".to_owned(), "id".to_owned()]));
    assert_eq!((event_id("key"), event_id("headers.ce_id")), (EventIdSource::Key(Vec::new()), EventIdSource::Header("ce_id".to_owned())));
    assert_eq!(loaded(&route(", dedup: [processed-event]")).routes[0].event_id, EventIdSource::Coordinate);
}

#[test]
fn redis_is_a_server_or_sentinels_or_a_cluster() {
    let redis = |text: &str| loaded(&format!("redis: {text}\n{}", route(", dedup: [checkpoint, redis]"))).redis.unwrap();
    assert!(matches!(&redis("redis://cache:6379").servers, Servers::Single(url) if url.expose_secret() == "redis://cache:6379"));
    let sentinel = redis("{ sentinels: [redis://a:1, redis://b:1], master: shop, database: 2, ttl: 1h, prefix: shop, eviction: allow }");
    assert!(matches!(&sentinel.servers, Servers::Sentinel { sentinels, primary, database: 2 } if sentinels.len() == 2 && primary == "shop"));
    assert_eq!((sentinel.ttl, sentinel.prefix.as_str(), sentinel.allow_eviction), (Duration::from_secs(3600), "shop", true));
    let cluster = redis("{ cluster: redis://a:1, username: app, password: GEHEIM }");
    assert!(matches!(&cluster.servers, Servers::Cluster(urls) if urls.len() == 1));
    assert_eq!((cluster.username.as_deref(), cluster.ttl), (Some("app"), Duration::from_secs(8 * 24 * 3600)));
    let routes = loaded(&format!("redis: redis://cache\n{}", route(", dedup: [checkpoint, processed-event, redis]"))).routes;
    assert_eq!(routes[0].dedup, [DedupBackend::Redis, DedupBackend::ProcessedEvent, DedupBackend::Checkpoint], "in the order in which they run");
}

#[test]
fn null_is_a_word_where_it_is_one() {
    assert_eq!(loaded(&route("")).routes[0].missing_fields, MissingFields::Keep);
    assert_eq!(loaded(&route(", missing_fields: null")).routes[0].missing_fields, MissingFields::Null);
    assert_eq!(loaded_with(&route(""), &[], &["defaults.missing_fields=null"]).routes[0].missing_fields, MissingFields::Null);
}

#[test]
fn nothing_is_as_if_it_were_not_written() {
    let pipeline = loaded(&format!("{SHORTEST}batch:\nretry: null\nlog: {{ level: ~ }}\nmax_buffer:\nobserve:\n  listen:\nrate_limit:\n"));
    let shortest = loaded(SHORTEST);
    assert_eq!((pipeline.batch, pipeline.retry, pipeline.process, pipeline.rate_limit), (shortest.batch, shortest.retry, shortest.process, None));
}

#[test]
fn two_routes_of_one_topic_have_two_names() {
    let pipeline = loaded("name: x\nkafka: k:1\ndatabase: sqlite:o.db\nroutes: [ { topic: a, table: t }, { topic: a, table: u } ]\n");
    assert_eq!(pipeline.routes.iter().map(|route| &*route.name).collect::<Vec<_>>(), ["a", "a-u"]);
}

#[test]
fn a_start_can_be_a_time() {
    let at = |start: &str| loaded_with(&route(""), &[], &[&format!("kafka.start={start}")]).kafka.start;
    assert_eq!(at("2026-01-31T00:00:00Z"), StartPolicy::Time(1_769_817_600_000));
    assert_eq!(at("2026-01-31T02:00:00+02:00"), StartPolicy::Time(1_769_817_600_000));
    assert_eq!((at("latest"), at("error")), (StartPolicy::Latest, StartPolicy::Error));
}

const SECRETS: &str = "name: orders
kafka: { brokers: 'k:9092', properties: { sasl.password: GEHEIM1, sasl.username: u, sasl.mechanism: PLAIN, security.protocol: SASL_SSL, ssl.key.pem: GEHEIM2 } }
database: { url: 'postgres://app:GEHEIM3@db/shop', username: app }
routes: [ { topic: orders, table: orders } ]
";

#[test]
fn no_secret_is_shown() {
    let pipeline = loaded_with(SECRETS, &[], &["kafka.properties.ssl.key.password=GEHEIM4", "database.url=postgres://db/x", "database.password=GEHEIM5"]);
    for text in [format!("{pipeline:?}"), format!("{:#?}", pipeline.database), show(&pipeline)] {
        assert!(!text.contains("GEHEIM"), "{text}");
    }
    assert!(show(&loaded(SECRETS)).contains("postgres://app:***@db/shop"));
}

#[test]
fn no_secret_is_in_a_problem() {
    let broken = SECRETS.replace("username: app", "usrname: app, pasword: GEHEIM6, statement_timeout: x").replace("sasl.username: u", "sasl.usrname: u");
    let problems = refused_with(&broken, &[], &["database.password:GEHEIM7", "databse.password=GEHEIM8"]);
    assert!(!problems.contains("GEHEIM"), "{problems}");
    assert!(problems.contains("usrname: app"), "{problems}");
    // Not even where the file could not be read as YAML.
    let problems = refused("database: { url: \"postgres://app:GEHEIM@db/shop\", password: GEHEIM, \"sasl.password\": 'GEHEIM' ]\n");
    assert!(problems.contains("not YAML") && problems.contains("***") && !problems.contains("GEHEIM"), "{problems}");
}

#[test]
fn a_value_from_a_file_is_a_secret() {
    let path = std::env::temp_dir().join(format!("oncesink-settings-{}", std::process::id()));
    std::fs::write(&path, "GEHEIM\n").unwrap();
    let file = format!("${{file:{}}}", path.display());
    let shown = show(&loaded(&format!("name: x\nkafka: {{ brokers: 'k:1', group: '{file}' }}\ndatabase: sqlite:o.db\nroutes: [ {{ topic: t, table: t }} ]\n")));
    let problems = refused(&format!(
        "name: x\nkafka: {{ brokers: 'k:1', start: '{file}' }}\ndatabase: sqlite:o.db\nroutes: [ {{ topic: t, table: t, write: '{file}' }} ]\n"
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(shown.contains("group: '***'") && !shown.contains("GEHEIM"), "{shown}");
    assert!(problems.contains("2 problems") && !problems.contains("GEHEIM"), "{problems}");
}

#[test]
fn what_is_shown_says_where_it_comes_from_and_loads_again() {
    let pipeline = loaded_with(SHORTEST, &[("ONCESINK__LOG__LEVEL", "debug")], &["kafka.start=latest"]);
    let shown = show(&pipeline);
    let spaces = regex::Regex::new(" +#").unwrap();
    for line in [
        "name: orders  # orders.yaml:1",
        "  group: oncesink-orders  # default",
        "  start: latest  # --set kafka.start",
        "  level: debug  # ONCESINK__LOG__LEVEL",
        "    table: public.orders  # orders.yaml:4",
    ] {
        assert!(spaces.replace_all(&shown, "  #").contains(line), "{line}\n{shown}");
    }
    let again = loaded(&shown.replace("***", "x"));
    assert_eq!((again.kafka.start, again.routes[0].table.as_str()), (StartPolicy::Latest, "public.orders"));
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
        let _ = Process { files: &[("x.yaml", &text)], environment: &[], sets: &[&text] }.load().map_err(|problems| problems.render(true));
    }

    #[test]
    fn arbitrary_values_never_panic(key in "(name|kafka|database|batch|routes|defaults|observe)", value in "[-a-z0-9:{}\\[\\]\"'#&*!|>%@` $?,.^()\\\\]{0,40}") {
        let text = format!("{SHORTEST}\n").lines().filter(|line| !line.starts_with(&key)).chain([format!("{key}: {value}").as_str()]).collect::<Vec<_>>().join("\n");
        match (Process { files: &[("x.yaml", &text)], environment: DATABASE, sets: &[] }).load() {
            Ok(pipelines) => prop_assert_eq!(pipelines.len(), 1),
            Err(problems) => prop_assert!(!problems.is_empty() && !problems.to_string().contains("not complete"), "{}", problems),
        }
    }

    #[test]
    fn arbitrary_route_values_never_panic(key in "(name|topic|topics|table|columns|version|dedup|key_columns|timezone|tombstone|write)", value in "\\PC{0,30}", list: bool) {
        let sets = [if list { format!("routes.0.{key}.0={value}") } else { format!("routes.0.{key}={value}") }];
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        match (Process { files: &[("x.yaml", SHORTEST)], environment: DATABASE, sets: &sets }).load() {
            Ok(pipelines) => prop_assert_eq!(pipelines.len(), 1),
            Err(problems) => prop_assert!(!problems.is_empty() && !problems.to_string().contains("not complete"), "{}", problems),
        }
    }
}

#[test]
fn accumulate_is_a_write_mode_of_its_own() {
    let pipeline = loaded(&route(", accumulate: { balance: add, first_seen: first, status: replace }"));
    let first = &pipeline.routes[0];
    assert_eq!(first.write, WriteMode::Accumulate);
    let rules: Vec<(&str, Rule)> = first.accumulate.iter().map(|(column, rule)| (column.as_str(), *rule)).collect();
    assert_eq!(rules, [("balance", Rule::Add), ("first_seen", Rule::First), ("status", Rule::Replace)]);
    assert_eq!(first.tombstone, Tombstone::Delete);
    assert!(!pipeline.shown.contains("write: upsert"), "a default that does not hold is not shown: {}", pipeline.shown);
    assert_eq!(loaded(&route(", write: insert-if-new")).routes[0].write, WriteMode::InsertIfNew);
}

#[test]
fn a_route_says_either_write_or_accumulate_to_its_defaults() {
    let with = |defaults: &str, keys: &str| {
        let text = format!("name: x\nkafka: k\ndatabase: sqlite:o.db\ndefaults: {{ {defaults} }}\nroutes: [ {{ topic: a, table: a{keys} }} ]\n");
        loaded(&text).routes.remove(0)
    };
    assert_eq!(with("accumulate: { n: add }", "").write, WriteMode::Accumulate);
    let written = with("accumulate: { n: add }", ", write: append");
    assert_eq!((written.write, written.accumulate.len()), (WriteMode::Append, 0));
    assert_eq!(with("write: append", ", accumulate: { n: add }").write, WriteMode::Accumulate);
    assert_eq!(with("accumulate: { n: add }", ", accumulate: null").write, WriteMode::Upsert);
}
