//! What stops a repeat: which backends a route has, and what its events are known by.

use std::collections::BTreeSet;

use oncesink_sinks::model::{DedupBackend, Delivery, WriteMode};

use super::{validate::Judging, values, words::Dedup};
use crate::{
    decode::{EventIdSource, Format, KeyFormat},
    guarantee::{Effect, Facts, effective},
    route::{ColumnSource, RouteConfig},
};

pub(super) fn judge_dedup(written: Option<Vec<Dedup>>, config: &RouteConfig, path: &str, judging: &mut Judging<'_>) -> Vec<DedupBackend> {
    let at = format!("{path}.dedup");
    let broken = judging.reading.accounted.iter().any(|accounted| accounted.starts_with(&at));
    let exactly_once = config.delivery == Delivery::ExactlyOnce;
    let has = |backend: Dedup| written.iter().flatten().any(|dedup| *dedup == backend);
    if has(Dedup::Checkpoint) && !exactly_once {
        judging.find(
            &at,
            format!("`checkpoint` is what makes exactly-once; under {} there is none", config.delivery),
            "leave it out, or delivery: exactly-once",
        );
    }
    if has(Dedup::UniqueKey) && config.delivery == Delivery::AtMostOnce {
        judging.find(
            &at,
            "under at-most-once nothing is written twice, so a unique key stops nothing",
            "leave it out; `version` stops what comes out of order",
        );
    }
    if written.iter().flatten().any(|dedup| *dedup == Dedup::UniqueKey) && config.write == WriteMode::Append {
        judging.find(&at, "`unique-key` overwrites the row that a repeat wrote; `append` makes a new one", "leave it out, or write: upsert");
    }
    if written.iter().flatten().any(|dedup| *dedup == Dedup::UniqueKey) && config.write == WriteMode::Accumulate {
        judging.find(&at, "`unique-key` overwrites the row that a repeat wrote; `accumulate` adds to it", "leave it out: the checkpoint stops repeats");
    }
    if has(Dedup::Redis) && config.delivery == Delivery::AtMostOnce {
        judging.find(&at, "under at-most-once a batch that Redis keeps waiting would be lost", "write dedup: [processed-event], or delivery: at-least-once");
    }
    let without = effective(Facts::plain(config.delivery, config.write)).effect;
    if written.is_none() && !broken && config.write == WriteMode::Append && without == Effect::RepeatsRemain {
        judging.find(
            &format!("{path}.delivery"),
            "a crash would append the batch in flight once more, and nothing would stop it",
            "write delivery: exactly-once, dedup: [processed-event], or dedup: [] if repeats may stay",
        );
    }
    let mut dedup: BTreeSet<DedupBackend> = match written {
        Some(written) => written.into_iter().map(backend).collect(),
        None if config.delivery == Delivery::AtLeastOnce && config.write != WriteMode::Append => [DedupBackend::UniqueKey].into(),
        None => BTreeSet::new(),
    };
    if exactly_once {
        dedup.insert(DedupBackend::Checkpoint);
    }
    dedup.into_iter().collect()
}

pub(super) fn judge_event_id(written: Option<&str>, config: &RouteConfig, path: &str, judging: &mut Judging<'_>) -> EventIdSource {
    let at = format!("{path}.event_id");
    let Some(written) = written else { return EventIdSource::Coordinate };
    if !config.keeps_events() {
        judging.find(&at, "nothing here keeps the ids of events", "write dedup: [processed-event] or [redis] beside it");
    }
    // What is no source at all was said before.
    match values::column(written) {
        Ok(ColumnSource::Value(fields)) if !fields.is_empty() && config.format == Format::Json => EventIdSource::Value(fields),
        Ok(ColumnSource::Value(fields)) if !fields.is_empty() => {
            judging.find(&at, "a value of this format has no fields", "take the id from the key or a header: key, headers.ce_id");
            EventIdSource::Coordinate
        }
        Ok(ColumnSource::Key(fields)) if !fields.is_empty() && config.key_format == KeyFormat::Text => {
            judging.find(&at, "a key of this format has no fields", "write `key` for all of it, or key_format: json");
            EventIdSource::Coordinate
        }
        Ok(ColumnSource::Key(fields)) => {
            if fields.is_empty() && matches!(config.write, WriteMode::Upsert | WriteMode::Update | WriteMode::Accumulate) {
                let message = "the record's key tells which row it means: every later record of a key would be taken for a repeat of its first";
                judging.find(&at, message, "take the id of what happened, such as value.event_id or headers.ce_id");
            }
            EventIdSource::Key(fields)
        }
        Ok(ColumnSource::Header(name)) => EventIdSource::Header(name),
        Ok(_) => {
            judging.find(
                &at,
                format!("`{written}` does not tell one event from another"),
                "such as value.id, key, key.id or headers.ce_id; left out, it is where the record stands",
            );
            EventIdSource::Coordinate
        }
        Err(_) => EventIdSource::Coordinate,
    }
}

fn backend(word: Dedup) -> DedupBackend {
    match word {
        Dedup::Redis => DedupBackend::Redis,
        Dedup::ProcessedEvent => DedupBackend::ProcessedEvent,
        Dedup::UniqueKey => DedupBackend::UniqueKey,
        Dedup::Checkpoint => DedupBackend::Checkpoint,
    }
}
