//! What a record does to its table: `write`, and `accumulate`, which stands in its place.

use std::collections::BTreeMap;

use oncesink_sinks::model::{Rule, WriteMode};

use super::{document, validate::Judging, words};
use crate::guarantee::Effect;

/// `None`: a word that is none, and that is said.
pub(super) fn write_mode(document: &document::Route, path: &str, judging: &mut Judging<'_>) -> Option<WriteMode> {
    let at = format!("{path}.accumulate");
    match (&document.accumulate, document.write) {
        (Some(rules), written) => {
            if written.is_some() {
                judging.find(
                    &format!("{path}.write"),
                    "`write` and `accumulate` are both written, and each says what a record does",
                    "leave `write` out to accumulate",
                );
            }
            if rules.is_empty() && !judging.reading.accounted.iter().any(|accounted| accounted.starts_with(&at)) {
                judging.find(&at, "`accumulate` names no column", "name one: accumulate: { balance: add }; or leave it out");
            }
            Some(WriteMode::Accumulate)
        }
        // It is no table of rules, and that is said.
        (None, None) if judging.reading.accounted.contains(&at) => Some(WriteMode::Accumulate),
        (None, written) => written.map(|word| match word {
            words::Write::Append => WriteMode::Append,
            words::Write::Upsert => WriteMode::Upsert,
            words::Write::Update => WriteMode::Update,
            words::Write::InsertIfNew => WriteMode::InsertIfNew,
        }),
    }
}

/// `effect`: what its route guarantees.
pub(super) fn judge_accumulate(
    rules: &BTreeMap<String, Rule>,
    key_columns: Option<&[String]>,
    versioned: bool,
    effect: Effect,
    path: &str,
    judging: &mut Judging<'_>,
) {
    for column in rules.keys().filter(|column| key_columns.is_some_and(|key| key.contains(column))) {
        let message = format!("`{column}` is in `key_columns`: it tells rows apart and never changes");
        judging.find(&format!("{path}.accumulate.{column}"), message, "leave it out");
    }
    match effect {
        Effect::LossRemains => judging.find(
            &format!("{path}.delivery"),
            "a failure would lose the batch in flight, and no later record would make up for it in a sum",
            "write delivery: exactly-once",
        ),
        Effect::RepeatsRemain => judging.find(
            &format!("{path}.delivery"),
            "a crash would repeat the batch in flight, and `accumulate` would take its records into account once more",
            "write delivery: exactly-once, or dedup: [processed-event]",
        ),
        Effect::Once | Effect::CorrectInTheEnd => {}
    }
    if versioned {
        judging.find(
            &format!("{path}.version"),
            "`version` leaves older records out, and `accumulate` takes every record into account",
            "leave one of the two out; `max` keeps the newest time by itself",
        );
    }
}

/// Column → what becomes of its old value.
pub(super) fn accumulate_rules(words: Option<BTreeMap<String, words::Accumulate>>) -> BTreeMap<String, Rule> {
    words.unwrap_or_default().into_iter().map(|(column, word)| (column, rule(word))).collect()
}

fn rule(word: words::Accumulate) -> Rule {
    match word {
        words::Accumulate::Add => Rule::Add,
        words::Accumulate::Max => Rule::Max,
        words::Accumulate::Min => Rule::Min,
        words::Accumulate::Coalesce => Rule::Coalesce,
        words::Accumulate::First => Rule::First,
        words::Accumulate::Replace => Rule::Replace,
    }
}
