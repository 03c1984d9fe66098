//! What a record without a value does.

use std::{collections::BTreeMap, sync::Arc};

use oncesink_sinks::model::WriteMode;

use super::{
    validate::Judging,
    words::{self, TombstoneWord},
};
use crate::{decode::Tombstone, route::ColumnSource};

/// What else of a route has a say in it.
pub(super) struct Others<'a> {
    pub write: WriteMode,
    pub version: Option<&'a str>,
    pub key_columns: Option<&'a [String]>,
    pub columns: &'a BTreeMap<String, ColumnSource>,
}

pub(super) fn tombstone(written: Option<words::Tombstone>, others: &Others<'_>, path: &str, judging: &mut Judging<'_>) -> Tombstone {
    let at = format!("{path}.tombstone");
    let append = others.write == WriteMode::Append;
    match written {
        Some(words::Tombstone::Word(TombstoneWord::Delete)) if append => {
            judging.find(&at, "`write: append` never looks at a key, so there is no row to delete", "write bad-record or ignore");
            Tombstone::BadRecord
        }
        Some(words::Tombstone::Word(TombstoneWord::Delete)) => Tombstone::Delete,
        Some(words::Tombstone::Word(TombstoneWord::Ignore)) => Tombstone::Ignore,
        Some(words::Tombstone::Word(TombstoneWord::BadRecord)) => Tombstone::BadRecord,
        Some(words::Tombstone::Mark(mark)) => match mark.mark {
            Some(column) => {
                judge_mark(&column, others, &at, judging);
                Tombstone::Mark(Arc::from(column))
            }
            // It has its problem already.
            None => Tombstone::BadRecord,
        },
        None if append => Tombstone::BadRecord,
        None => Tombstone::Delete,
    }
}

fn judge_mark(column: &str, others: &Others<'_>, at: &str, judging: &mut Judging<'_>) {
    match others.write {
        WriteMode::Append => judging.find(at, "`write: append` never looks at a key, so there is no row to mark", "write bad-record or ignore"),
        WriteMode::InsertIfNew => {
            judging.find(
                at,
                "under `insert-if-new` a row that is there stays as it is, so nothing would clear its mark again",
                "write delete, or write: upsert",
            );
        }
        WriteMode::Accumulate => {
            judging.find(at, "`accumulate` would add to a row that is marked as if nothing had ended it", "write delete, after which a row begins anew");
        }
        WriteMode::Upsert | WriteMode::Update => {}
    }
    let at = format!("{at}.mark");
    if column.trim().is_empty() {
        judging.find(&at, "`mark` names no column", "such as mark: deleted_at");
    }
    if others.key_columns.is_some_and(|key| key.iter().any(|key| key == column)) {
        judging.find(
            &at,
            format!("`{column}` is in `key_columns`: it tells rows apart and never changes"),
            "name a column that nothing else writes, such as deleted_at",
        );
    }
    if others.version == Some(column) {
        judging.find(&at, format!("`{column}` is the `version`"), "name a column that nothing else writes, such as deleted_at");
    }
    if others.columns.contains_key(column) {
        judging.find(
            &at,
            format!("`columns` gives `{column}` a source, and the mark is set by tombstones alone"),
            "take it out of `columns`, or name another column",
        );
    }
}
