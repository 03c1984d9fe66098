//! Routes: what they inherit, what their keys mean together, and which of them must agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use oncesink_sinks::model::{Delivery, WriteMode};

use super::{
    dedup::{judge_dedup, judge_event_id},
    document, schema,
    tombstone::{Others, tombstone},
    tree::{Content, Node, Origins, Source},
    validate::{Judging, default_node, is_nothing},
    values::{self, Topic},
    words::{self, Dedup},
    write::{accumulate_rules, judge_accumulate, write_mode},
};
use crate::{
    decode::{EventIdSource, ExtraFields, Format, KeyFormat, MissingFields, TimestampUnit},
    guarantee::{Events, Facts, effective},
    route::{ColumnSource, OnBadRecord, RouteConfig},
    source::TopicSelector,
};

/// Gives every route what `defaults` says, then what holds unless it is written.
pub(super) fn inherit(root: &mut Node, origins: &mut Origins) {
    let defaults = root.table().and_then(|table| table.get("defaults")).and_then(Node::table).cloned().unwrap_or_default();
    let Some(Content::List(routes)) = root.table_mut().and_then(|table| table.get_mut("routes")).map(|node| &mut node.content) else { return };
    for (index, route) in routes.iter_mut().enumerate() {
        let Some(route) = route.table_mut() else { continue };
        let own: BTreeSet<String> = route.iter().filter(|(_, node)| !is_nothing(node)).map(|(key, _)| key.clone()).collect();
        for (key, node) in &defaults {
            // One of the two spellings is enough to have said it.
            if [["topic", "topics"], ["write", "accumulate"]].iter().any(|pair| pair.contains(&key.as_str()) && pair.iter().any(|key| own.contains(*key))) {
                continue;
            }
            match (route.get_mut(key).map(|node| &mut node.content), &node.content) {
                (None, _) => {
                    route.insert(key.clone(), node.clone());
                }
                (Some(Content::Table(own)), Content::Table(inherited)) if key == "columns" => {
                    for (column, node) in inherited {
                        own.entry(column.clone()).or_insert_with(|| node.clone());
                    }
                }
                (Some(_), _) => {}
            }
        }
        let accumulates = route.get("accumulate").is_some_and(|node| !is_nothing(node));
        for (key, text) in schema::route_defaults() {
            if key == "write" && accumulates {
                continue;
            }
            if route.get(key).is_none_or(is_nothing) {
                route.insert(key.to_owned(), default_node(origins, format!("routes[{index}].{key}"), &text));
            }
        }
    }
}

/// `None`: a route is not complete, and that is said.
pub(super) fn routes(documents: Vec<document::Route>, judging: &mut Judging<'_>) -> Option<Vec<RouteConfig>> {
    // An empty list; a missing one is said by the schema.
    if documents.is_empty() && judging.places.contains_key("routes") && !judging.reading.accounted.contains("routes") {
        judging.find("routes", "`routes` is empty", "- { topic: orders, table: public.orders }");
    }
    let count = documents.len();
    let mut configs = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let path = format!("routes[{index}]");
        let (dedup, event_id) = (document.dedup.clone(), document.event_id.clone());
        if let Some(mut config) = route(document, &path, judging) {
            config.dedup = judge_dedup(dedup, &config, &path, judging);
            config.event_id = judge_event_id(event_id.as_deref(), &config, &path, judging);
            configs.push((path, config));
        }
    }
    judge_names(&mut configs, judging);
    judge_agreement(&configs, judging);
    (configs.len() == count && count > 0).then(|| configs.into_iter().map(|(_, config)| config).collect())
}

fn route(document: document::Route, path: &str, judging: &mut Judging<'_>) -> Option<RouteConfig> {
    // It is no table of keys at all, and that is said.
    if judging.reading.accounted.contains(path) {
        return None;
    }
    let at = |key: &str| format!("{path}.{key}");
    let topics = topics(&document, path, judging);
    if document.table.is_none() {
        judging.missing(path, "table");
    }
    if let (Some(table), Some(topics)) = (&document.table, &topics) {
        judge_table(table, topics, &at("table"), judging);
    }
    let write = write_mode(&document, path, judging)?;
    let delivery = delivery(document.delivery?);
    let (format, key_format) = (format(document.format?), key_format(document.key_format?));
    let columns: BTreeMap<String, ColumnSource> =
        document.columns.unwrap_or_default().into_iter().filter_map(|(column, source)| values::column(&source).ok().map(|source| (column, source))).collect();
    let key_columns = document.key_columns.map(|columns| columns.0).filter(|columns| !columns.is_empty());
    if write == WriteMode::Append {
        for key in ["key_columns", "version"] {
            let written = if key == "version" { document.version.is_some() } else { key_columns.is_some() };
            if written {
                judging.find(&at(key), format!("`{key}` has no meaning with `write: append`, which never looks at a key"), "leave it out, or write: upsert");
            }
        }
    }
    if write == WriteMode::InsertIfNew && document.version.is_some() {
        judging.find(
            &at("version"),
            "`version` has no meaning with `write: insert-if-new`, under which a row that is there is never replaced",
            "leave it out, or write: upsert",
        );
    }
    let accumulate = accumulate_rules(document.accumulate);
    if write == WriteMode::Accumulate {
        let marks_events = document.dedup.iter().flatten().any(|dedup| *dedup == Dedup::ProcessedEvent);
        let marked = if marks_events { Events::ByCoordinate } else { Events::NotKept };
        let effect = effective(Facts { marked, ..Facts::plain(delivery, write) }).effect;
        judge_accumulate(&accumulate, key_columns.as_deref(), document.version.is_some(), effect, path, judging);
        for column in accumulate.keys().filter(|column| columns.get(*column) == Some(&ColumnSource::None)) {
            let message = format!("`{column}` is in `accumulate`, and `none` leaves it out");
            judging.find(&format!("{path}.columns.{column}"), message, "say where it comes from, or take it out of `accumulate`");
        }
    }
    for column in key_columns.iter().flatten().chain(&document.version) {
        if columns.get(column) == Some(&ColumnSource::None) {
            judging.find(
                &format!("{path}.columns.{column}"),
                format!("`{column}` is needed in every row, and `none` leaves it out"),
                "say where it comes from",
            );
        }
    }
    judge_columns(&columns, format, key_format, path, judging);
    if format != Format::Json && write != WriteMode::Append {
        let fed = |source: &ColumnSource| !matches!(source, ColumnSource::None | ColumnSource::Value(_));
        let key_is_fed = match &key_columns {
            Some(keys) => keys.iter().all(|key| columns.get(key).is_some_and(fed)),
            None => columns.values().any(fed),
        };
        if !key_is_fed {
            judging.find(&at("format"), "the value has no fields, so nothing says which row a record means", "add columns: { id: key }, or write: append");
        }
    }
    let tombstone = tombstone(
        document.tombstone,
        &Others { write, version: document.version.as_deref(), key_columns: key_columns.as_deref(), columns: &columns },
        path,
        judging,
    );
    if document.name.as_deref() == Some("") {
        judging.find(&at("name"), "`name` is empty", "leave it out, or write a name");
    }
    let topics = topics?;
    let first = topics.names.first().cloned().or_else(|| topics.patterns.first().map(|pattern| pattern.as_str().to_owned()))?;
    Some(RouteConfig {
        name: Arc::from(document.name.unwrap_or(first)),
        topics,
        table: document.table?,
        format,
        key_format,
        columns,
        extra_fields: extra_fields(document.extra_fields?),
        missing_fields: missing_fields(document.missing_fields?),
        key_columns,
        write,
        accumulate,
        version: document.version,
        delivery,
        dedup: Vec::new(),
        event_id: EventIdSource::Coordinate,
        tombstone,
        on_bad_record: on_bad_record(document.on_bad_record?),
        timezone: document.timezone,
        timestamp_unit: document.timestamp_unit.map(timestamp_unit),
        place: place(path, judging),
    })
}

fn topics(document: &document::Route, path: &str, judging: &mut Judging<'_>) -> Option<TopicSelector> {
    let listed = document.topics.as_ref().map(|topics| topics.0.clone());
    let texts = match (&document.topic, listed) {
        (Some(_), Some(_)) => {
            judging.find(&format!("{path}.topic"), "`topic` and `topics` are both written", "`topic: x` is short for `topics: [x]`; write one of the two");
            return None;
        }
        (Some(topic), None) => vec![topic.clone()],
        (None, Some(topics)) => topics,
        (None, None) => {
            let accounted = judging.reading.accounted.contains(&format!("{path}.topics"));
            if !accounted {
                judging.missing(path, "topic");
            }
            return None;
        }
    };
    let mut selector = TopicSelector { exclude: document.exclude_topics.clone().unwrap_or_default().0, ..TopicSelector::default() };
    for text in texts {
        match values::topic(&text).ok()? {
            Topic::Name(name) if selector.names.contains(&name) => {}
            Topic::Name(name) => selector.names.push(name),
            Topic::Pattern(pattern) => selector.patterns.push(pattern),
        }
    }
    if let Some(pattern) = selector.exclude.iter().find(|topic| topic.starts_with('^')) {
        judging.find(&format!("{path}.exclude_topics"), format!("`{pattern}` is an expression"), "exclude_topics lists names");
    }
    if let Some(name) = selector.names.iter().find(|name| selector.exclude.contains(name)) {
        judging.find(&format!("{path}.exclude_topics"), format!("`{name}` is both taken and excluded"), "leave one of the two out");
    }
    if selector.names.is_empty() && selector.patterns.is_empty() {
        if !judging.reading.accounted.iter().any(|accounted| accounted.starts_with(&format!("{path}.topics["))) {
            judging.find(&format!("{path}.topics"), "`topics` is empty", "write the name of a topic");
        }
        return None;
    }
    Some(selector)
}

/// Every name in braces is `topic` or a group of every expression.
fn judge_table(table: &str, topics: &TopicSelector, path: &str, judging: &mut Judging<'_>) {
    for name in values::table(table).unwrap_or_default() {
        let in_all = topics.patterns.iter().all(|pattern| pattern.capture_names().flatten().any(|group| group == name));
        if name == "topic" || (topics.names.is_empty() && in_all) {
            continue;
        }
        let label = match topics.names.first() {
            Some(topic) if !topics.patterns.is_empty() => format!("`{topic}` is a plain name, which has no groups; give it a route of its own"),
            Some(_) => "write `{topic}`, or take the topics by an expression with a group (?<name>…)".to_owned(),
            None => format!("write `{{topic}}`, or name a group of the expression (?<{name}>…)"),
        };
        judging.find(path, format!("nothing gives `{{{name}}}` a value"), label);
    }
}

fn judge_columns(columns: &BTreeMap<String, ColumnSource>, format: Format, key_format: KeyFormat, path: &str, judging: &mut Judging<'_>) {
    for (column, source) in columns {
        let at = format!("{path}.columns.{column}");
        match source {
            ColumnSource::Value(fields) if !fields.is_empty() && format != Format::Json => {
                judging.find(&at, "a value of this format has no fields", "write `value` for all of it");
            }
            ColumnSource::Key(fields) if !fields.is_empty() && key_format == KeyFormat::Text => {
                judging.find(&at, "a key of this format has no fields", "write `key` for all of it, or key_format: json");
            }
            _ => {}
        }
    }
}

/// Names are labels of metrics: two routes of one name could not be told apart.
fn judge_names(configs: &mut [(String, RouteConfig)], judging: &mut Judging<'_>) {
    // With whether ids of events are kept under the name.
    let mut taken: BTreeMap<Arc<str>, (String, bool)> = BTreeMap::new();
    for (path, config) in configs.iter_mut() {
        let written = judging.is_written(&format!("{path}.name"));
        if let Some((other, keeps_events)) = taken.get(&config.name) {
            if written {
                judging.find(&format!("{path}.name"), format!("`{}` is the name of {other} as well", config.name), "give each route its own name");
                continue;
            }
            if *keeps_events || config.keeps_events() {
                // Which of the two has which name would hang on their order: whoever changed that would have repeats taken for new.
                let message = format!("without a name of its own this route shares `{}` with {other}, and ids of events are kept under it", config.name);
                judging.find(path, message, "give the newer of the two a `name`; what is known so far is known under this one");
                continue;
            }
            // Two routes from one topic: the table tells them apart.
            config.name = Arc::from(format!("{}-{}", config.name, config.table));
            if let Some((other, _)) = taken.get(&config.name) {
                judging.find(path, format!("this route has the topic and table of {other}"), "leave it out, or give it a `name`");
                continue;
            }
        }
        taken.insert(config.name.clone(), (path.clone(), config.keeps_events()));
    }
}

/// Delivery belongs to a topic: one batch cannot promise two things.
fn judge_agreement(configs: &[(String, RouteConfig)], judging: &mut Judging<'_>) {
    let topics: BTreeSet<&str> = configs.iter().flat_map(|(_, config)| config.topics.names.iter().map(String::as_str)).collect();
    let mut said = BTreeSet::new();
    for topic in topics {
        let takes = |selector: &TopicSelector| {
            !selector.exclude.iter().any(|name| name == topic)
                && (selector.names.iter().any(|name| name == topic) || selector.patterns.iter().any(|pattern| pattern.is_match(topic)))
        };
        let mut matching = configs.iter().filter(|(_, config)| takes(&config.topics));
        let Some((first_path, first)) = matching.next() else { continue };
        for (path, _) in matching.filter(|(_, config)| config.delivery != first.delivery) {
            // The one that was written is the one to look at.
            let (at, other) = if judging.is_written(&format!("{path}.delivery")) { (path, first_path) } else { (first_path, path) };
            if said.insert((at.clone(), other.clone())) {
                let message = format!("`{topic}` is also taken by {other}, with another delivery");
                judging.find(&format!("{at}.delivery"), message, "routes of one topic share its delivery; give both the same");
            }
        }
    }
}

/// `orders.yaml:4:12  routes[0]`, for messages that come later.
fn place(path: &str, judging: &Judging<'_>) -> String {
    let origin = judging.places.get(path).and_then(|origin| judging.reading.origins.get(*origin));
    let written = match origin.map(|origin| &origin.source) {
        Some(Source::File { value, .. }) => format!("{}:{}:{}  ", judging.file, value.line, value.column),
        Some(Source::Environment(_) | Source::Set(_) | Source::Default) | None => String::new(),
    };
    format!("{written}{path}")
}

fn delivery(word: words::Delivery) -> Delivery {
    match word {
        words::Delivery::ExactlyOnce => Delivery::ExactlyOnce,
        words::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
        words::Delivery::AtMostOnce => Delivery::AtMostOnce,
    }
}

fn format(word: words::Format) -> Format {
    match word {
        words::Format::Json => Format::Json,
        words::Format::Text => Format::Text,
        words::Format::Bytes => Format::Bytes,
    }
}

fn key_format(word: words::KeyFormat) -> KeyFormat {
    match word {
        words::KeyFormat::Auto => KeyFormat::Auto,
        words::KeyFormat::Json => KeyFormat::Json,
        words::KeyFormat::Text => KeyFormat::Text,
    }
}

fn extra_fields(word: words::ExtraFields) -> ExtraFields {
    match word {
        words::ExtraFields::Ignore => ExtraFields::Ignore,
        words::ExtraFields::BadRecord => ExtraFields::BadRecord,
    }
}

fn missing_fields(word: words::MissingFields) -> MissingFields {
    match word {
        words::MissingFields::Keep => MissingFields::Keep,
        words::MissingFields::Null => MissingFields::Null,
    }
}

fn on_bad_record(word: words::OnBadRecord) -> OnBadRecord {
    match word {
        words::OnBadRecord::Halt => OnBadRecord::Halt,
        words::OnBadRecord::Skip => OnBadRecord::Skip,
    }
}

fn timestamp_unit(word: words::TimestampUnit) -> TimestampUnit {
    match word {
        words::TimestampUnit::Seconds => TimestampUnit::Seconds,
        words::TimestampUnit::Milliseconds => TimestampUnit::Milliseconds,
        words::TimestampUnit::Microseconds => TimestampUnit::Microseconds,
    }
}
