//! From the merged tree to a pipeline: types first, then what a value means together with others.

use std::{collections::BTreeMap, path::Path as FilePath, sync::Arc, time::Duration};

use secrecy::SecretString;

use super::{
    document::{self, Document},
    layers,
    overrides::{self, Override},
    pipeline::{BatchLimits, DatabaseKind, DatabaseSettings, Observe, Pipeline, ProcessSettings, RetryPolicy},
    problem::{Place, Problem},
    properties,
    redis::redis_part,
    routes, schema, show,
    structure::{Finding, Reading},
    tree::{Content, Node, Origins, Source},
    values,
    words::{LogFormat, LogLevel, Migrate, NamedStatements, Tls},
    written::Written,
};
use crate::source::kafka::{KafkaConfig, StartPolicy};

/// Findings about the document, by the path of what is wrong.
pub(super) struct Judging<'a> {
    pub reading: Reading<'a>,
    pub places: BTreeMap<String, usize>,
    pub file: Arc<str>,
    /// The origin of the whole file.
    pub root: usize,
    pub warnings: Vec<String>,
}

impl Judging<'_> {
    pub fn find(&mut self, path: &str, message: impl Into<String>, label: impl Into<String>) {
        let origin = self.origin(path);
        self.reading.findings.push(Finding::new(origin, message, label));
    }

    /// The origin of the path, or of what should hold it.
    pub fn origin(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(origin) = self.places.get(path) {
                return *origin;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None => return self.root,
            }
        }
    }

    /// Whether somebody wrote it: a default is nobody's.
    pub fn is_written(&self, path: &str) -> bool {
        self.places.get(path).is_some_and(|origin| !self.reading.origins.is_default(*origin))
    }

    pub fn missing(&mut self, path: &str, key: &str) {
        let origin = self.origin(path);
        self.reading.missing(origin, path, key);
    }
}

/// Lays the overrides over the file and makes a pipeline of it. `None`: there are problems.
pub(super) fn pipeline(file: &FilePath, written: Written, overrides: &[Override], problems: &mut Vec<Problem>) -> Option<Pipeline> {
    let Written { root, mut origins, text, name } = written;
    let root_origin = root.origin;
    let defaults = schema::defaults(&mut origins);
    let [environment, sets] = overrides::layers(overrides, name.as_deref(), &mut origins);
    let file_layer = layers::Layer(vec![(super::tree::Path::default(), root)]);
    let unwritten = origins.add("", Source::Default);
    let mut merged = match layers::merge([defaults, file_layer, environment, sets], unwritten) {
        Ok(merged) => merged,
        Err(error) => {
            problems.push(Problem::new(error.to_string(), Place::Named(file.display().to_string())));
            return None;
        }
    };
    merged.origin = root_origin;
    routes::inherit(&mut merged, &mut origins);
    let places = merged.places();
    let reading = Reading { schema: schema::shared(), origins: &origins, findings: Vec::new(), accounted: Default::default() };
    let mut judging = Judging { reading, places, file: text.name.clone(), root: root_origin, warnings: Vec::new() };
    let read = judging.reading.read(&merged, schema::shared(), "").unwrap_or_default();
    let built = match serde_json::from_value::<Document>(read) {
        Ok(document) => build(file, document, &mut judging),
        // The schema is made from the document's types, so what passed it has them.
        Err(error) => {
            judging.find("", format!("the settings do not fit together: {error}"), "");
            None
        }
    };
    let Judging { reading, warnings, .. } = judging;
    let findings = reading.finish();
    if findings.is_empty() {
        let Some(mut pipeline) = built else {
            // Never in silence: whoever runs what was loaded would leave this pipeline out.
            if !origins.any_broken() {
                problems.push(Problem::new("the settings are not complete", Place::Named(text.name.to_string())));
            }
            return None;
        };
        show::complete(&mut merged, &pipeline, &mut origins);
        pipeline.shown = show::merged(&merged, &origins, &text.name);
        pipeline.warnings = warnings;
        return Some(pipeline);
    }
    problems.extend(findings.into_iter().map(|finding| {
        let origin = origins.get(finding.origin);
        let place = match origin.map(|origin| &origin.source) {
            Some(Source::File { key: Some(key), .. }) if finding.at_key => text.place(*key),
            Some(Source::File { .. }) if finding.origin == root_origin => Place::Named(text.name.to_string()),
            Some(Source::File { value, .. }) => text.place(*value),
            Some(source @ (Source::Environment(_) | Source::Set(_))) => overrides::named(source),
            Some(Source::Default) | None => Place::Named(text.name.to_string()),
        };
        let mut problem = Problem::new(finding.message, place);
        problem.label = finding.label;
        problem.notes = finding.notes;
        problem.with_path(origin.map(|origin| origin.path.clone()).unwrap_or_default())
    }));
    None
}

fn build(file: &FilePath, document: Document, judging: &mut Judging<'_>) -> Option<Pipeline> {
    let name = document.name.clone();
    let process = process(&document, judging);
    let batch = batch(document.batch.as_ref(), process.as_ref(), judging);
    let retry = retry(document.retry.as_ref(), judging);
    let kafka = document.kafka.map(|kafka| kafka_part(kafka, name.as_deref(), judging));
    let database = document.database.and_then(|database| database_part(database, judging));
    let retention = retention(document.retention.as_ref(), judging);
    let routes = routes::routes(document.routes.unwrap_or_default(), judging);
    let is_written = judging.is_written("redis");
    let redis = redis_part(document.redis, name.as_deref().unwrap_or_default(), judging);
    let routes = routes?;
    let remembers: Vec<usize> = (0..routes.len()).filter(|index| routes[*index].remembers_events()).collect();
    match remembers.first() {
        Some(index) if !is_written => {
            judging.find(&format!("routes[{index}].dedup"), "nothing says where Redis is", "add `redis: redis://host:6379`");
        }
        None if is_written => judging.find("redis", "no route remembers its events there", "write dedup: [redis] in a route, or leave `redis` out"),
        Some(_) | None => {}
    }
    let (processed_event_retention, tombstone_retention) = retention?;
    let mut kafka = kafka??;
    kafka.topics = routes.iter().map(|route| route.topics.clone()).collect();
    Some(Pipeline {
        file: file.to_owned(),
        name: Arc::from(name?),
        group_written: judging.is_written("kafka.group"),
        kafka,
        database: database?,
        redis,
        batch: batch?,
        retry: retry?,
        rate_limit: document.rate_limit.and_then(|limit| limit.records_per_second),
        process: process?,
        routes,
        processed_event_retention,
        tombstone_retention,
        warnings: Vec::new(),
        shown: String::new(),
    })
}

fn kafka_part(kafka: document::Kafka, name: Option<&str>, judging: &mut Judging<'_>) -> Option<KafkaConfig> {
    for (key, text) in [("group", &kafka.group), ("instance_id", &kafka.instance_id)] {
        if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            judging.find(&format!("kafka.{key}"), format!("`kafka.{key}` is empty"), "write a name, or leave the key out");
        }
    }
    if kafka.brokers.as_ref().is_some_and(|brokers| brokers.0.is_empty()) && !judging.reading.accounted.contains("kafka.brokers[0]") {
        judging.find("kafka.brokers", "`kafka.brokers` is empty", "write host:port");
    }
    let properties = kafka.properties.unwrap_or_default();
    for (name, wrong) in properties::judge_together(&properties) {
        judging.find(&format!("kafka.properties.{name}"), wrong.message, wrong.label);
    }
    if properties.contains_key("debug") {
        judging.warnings.push("kafka.properties.debug makes librdkafka write addresses and names of topics into the log".to_owned());
    }
    Some(KafkaConfig {
        brokers: kafka.brokers?.0.join(","),
        group: kafka.group.or_else(|| name.map(|name| format!("oncesink-{name}")))?,
        instance_id: kafka.instance_id,
        start: kafka.start.and_then(|start| values::start(&start).ok()).unwrap_or(StartPolicy::Earliest),
        topics: Vec::new(),
        callback_budget: properties::callback_budget(&properties),
        properties,
    })
}

fn database_part(database: document::Database, judging: &mut Judging<'_>) -> Option<DatabaseSettings> {
    let kind = database.url.as_deref().and_then(|url| values::database_url(url).ok());
    if kind == Some(DatabaseKind::Sqlite) {
        for key in ["username", "password", "tls", "ca"] {
            if judging.is_written(&format!("database.{key}")) {
                judging.find(&format!("database.{key}"), format!("a SQLite file has no `{key}`"), "leave it out");
            }
        }
        if judging.is_written("database.writers") && database.writers.is_some_and(|writers| writers > 1) {
            judging.find("database.writers", "a SQLite file has one writer", "leave it out");
        }
        if judging.is_written("database.bookkeeping") {
            judging.warnings.push("database.bookkeeping has no effect: SQLite has no schemas, oncesink's tables stand beside yours".to_owned());
        }
    }
    let url = database.url.unwrap_or_default();
    if let Some(query) = url.split_once('?').map(|(_, query)| query)
        && query.split('&').any(|pair| pair.starts_with("sslmode=") || pair.starts_with("ssl-mode="))
        && database.tls.is_some()
    {
        judging.find("database.tls", "the address says it as well (`sslmode`)", "write one of the two");
    }
    if kind.is_some_and(|kind| kind != DatabaseKind::Sqlite) {
        let user = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once(['/', '?']).map_or(Some(rest), |(authority, _)| Some(authority)))
            .and_then(|authority| authority.rsplit_once('@'));
        if user.is_some_and(|(user, _)| user.contains(':')) && database.password.is_some() {
            judging.find("database.password", "the address holds a password as well", "write one of the two");
        }
    }
    if matches!(database.tls, Some(Tls::Disable | Tls::Prefer | Tls::Require)) && database.ca.is_some() {
        judging.find("database.ca", "certificates are not checked with this `tls`", "write tls: verify-full, or leave `ca` out");
    }
    if database.bookkeeping.as_ref().is_some_and(|schema| schema.trim().is_empty() || schema.contains(['"', '`', '.', '\0'])) {
        judging.find("database.bookkeeping", "this cannot be a schema's name", "write a name without quotes and dots, such as oncesink");
    }
    let statement_timeout = duration(database.statement_timeout.as_deref())?;
    if statement_timeout.is_zero() {
        judging.find("database.statement_timeout", "a statement needs some time", "such as 30s");
    }
    Some(DatabaseSettings {
        kind: kind?,
        tls: database.tls,
        url: SecretString::from(url),
        username: database.username,
        password: database.password.map(SecretString::from),
        writers: if kind == Some(DatabaseKind::Sqlite) { 1 } else { usize::from(database.writers.unwrap_or(1)) },
        ca: database.ca.map(Into::into),
        statement_timeout,
        named_statements: database.named_statements.unwrap_or(NamedStatements::Auto),
        bookkeeping: database.bookkeeping,
        migrate: database.migrate.unwrap_or(Migrate::Auto),
    })
}

fn process(document: &Document, judging: &mut Judging<'_>) -> Option<ProcessSettings> {
    let log = document.log.as_ref();
    let listen = document.observe.as_ref().and_then(|observe| observe.listen.as_deref()).and_then(|listen| values::listen(listen).ok());
    let shutdown_timeout = duration(document.shutdown_timeout.as_deref());
    if shutdown_timeout.is_some_and(|timeout| timeout.is_zero()) {
        judging.find("shutdown_timeout", "a stop needs some time", "such as 25s");
    }
    Some(ProcessSettings {
        max_buffer: size(document.max_buffer.as_deref())?,
        shutdown_timeout: shutdown_timeout?,
        observe: Observe { listen: listen?, written: judging.is_written("observe.listen") },
        log_level: log.and_then(|log| log.level).unwrap_or(LogLevel::Info),
        log_format: log.and_then(|log| log.format).unwrap_or(LogFormat::Text),
    })
}

fn batch(batch: Option<&document::Batch>, process: Option<&ProcessSettings>, judging: &mut Judging<'_>) -> Option<BatchLimits> {
    let batch = batch?;
    let bytes = size(batch.bytes.as_deref());
    if let (Some(bytes), Some(process)) = (bytes, process)
        && bytes > process.max_buffer
    {
        let path = if judging.is_written("batch.bytes") { "batch.bytes" } else { "max_buffer" };
        judging.find(path, "batch.bytes is above max_buffer, so a batch could never fill", "make batch.bytes smaller, or max_buffer larger");
    }
    let linger = duration(batch.linger.as_deref());
    if linger.is_some_and(|linger| linger > Duration::from_secs(60)) {
        judging.find("batch.linger", "a batch may wait a minute at most", "such as 50ms");
    }
    Some(BatchLimits { rows: usize::try_from(batch.rows?).ok()?, bytes: bytes?, linger: linger? })
}

fn retry(retry: Option<&document::Retry>, judging: &mut Judging<'_>) -> Option<RetryPolicy> {
    let retry = retry?;
    let (initial, most) = (duration(retry.initial_delay.as_deref()), duration(retry.max_delay.as_deref()));
    if initial.is_some_and(|initial| initial.is_zero()) {
        judging.find("retry.initial_delay", "without a pause a failing database gets no rest", "such as 100ms");
    }
    if let (Some(initial), Some(most)) = (initial, most)
        && initial > most
    {
        let path = if judging.is_written("retry.initial_delay") { "retry.initial_delay" } else { "retry.max_delay" };
        judging.find(path, "retry.initial_delay is above retry.max_delay", "the first pause is the shortest");
    }
    Some(RetryPolicy { initial_delay: initial?, max_delay: most?, give_up_after: values::give_up(retry.give_up_after.as_deref()?).ok()? })
}

/// Of processed events, and of tombstones.
fn retention(retention: Option<&document::Retention>, judging: &mut Judging<'_>) -> Option<(Duration, Duration)> {
    let processed_events = duration(retention?.processed_events.as_deref())?;
    let tombstones = duration(retention?.tombstones.as_deref())?;
    if tombstones < Duration::from_secs(1) {
        judging.find("retention.tombstones", "a delete that is not remembered stops no older write", "longer than a write can come late, such as 7d");
    }
    if processed_events < Duration::from_secs(1) {
        judging.find("retention.processed_events", "an id that is not kept stops no repeat", "longer than a record can take to come again, such as 7d");
    }
    Some((processed_events, tombstones))
}

/// `None`: it has its problem already.
fn duration(text: Option<&str>) -> Option<Duration> {
    values::duration(text?).ok()
}

fn size(text: Option<&str>) -> Option<usize> {
    values::size(text?).ok()
}

/// Whether a node holds anything.
pub(super) fn is_nothing(node: &Node) -> bool {
    matches!(node.content, Content::Nothing)
}

/// A new origin for what nobody wrote.
pub(super) fn default_node(origins: &mut Origins, path: String, text: &str) -> Node {
    let origin = origins.add(path, Source::Default);
    Node::text(origin, text)
}
