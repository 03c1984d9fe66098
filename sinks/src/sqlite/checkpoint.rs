//! The statements on the checkpoint rows.

use super::value::SqliteQuery;
use crate::{checkpoint::CheckpointRow, stored::COLUMNS};

pub(super) const INSERT_ABSENT: &str = "INSERT INTO oncesink_checkpoint (epoch, claim_id, next_offset, durable, delivery, cluster_id, group_id, owner, \
    last_offset, last_timestamp, last_hash, batch_id, halt_reason, halt_detail, halt_offset, halt_at, pipeline, topic, partition) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";

pub(super) const SAVE: &str = "UPDATE oncesink_checkpoint SET epoch = ?, claim_id = ?, next_offset = ?, durable = ?, delivery = ?, cluster_id = ?, group_id = ?, \
    owner = ?, last_offset = ?, last_timestamp = ?, last_hash = ?, batch_id = ?, halt_reason = ?, halt_detail = ?, halt_offset = ?, halt_at = ?, \
    updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE pipeline = ? AND topic = ? AND partition = ?";

pub(super) const NOTE_HALT: &str = "UPDATE oncesink_checkpoint SET halt_reason = ?, halt_detail = ?, halt_offset = ?, halt_at = ?, \
    updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') WHERE pipeline = ? AND topic = ? AND partition = ? \
    AND (?8 IS NULL OR (epoch = ?8 AND claim_id = ?9 AND (delivery <> 'exactly-once' OR next_offset = ?10)))";

pub(super) const AUDIT: &str = "INSERT INTO oncesink_audit (pipeline, topic, partition, \"offset\", action, who, detail) VALUES (?, ?, ?, ?, ?, ?, ?)";

/// Whether somebody else writes to the same file, or may be about to.
pub(super) const SHARED: &str = "SELECT EXISTS (SELECT 1 FROM oncesink_checkpoint WHERE owner <> ? OR epoch = 0)";

/// All rows of a pipeline.
pub(super) const OTHERS: &str =
    "SELECT pipeline, sum(next_offset) FROM oncesink_checkpoint WHERE pipeline <> ? AND topic = ? AND epoch > 0 GROUP BY pipeline ORDER BY pipeline";

pub(super) fn read() -> String {
    format!("SELECT {COLUMNS} FROM oncesink_checkpoint WHERE pipeline = ? ORDER BY topic, partition")
}

/// The rows of some partitions.
pub(super) fn lock(partitions: usize) -> String {
    format!(
        "SELECT {COLUMNS} FROM oncesink_checkpoint WHERE pipeline = ? AND (topic, partition) IN (VALUES {}) ORDER BY topic, partition",
        vec!["(?, ?)"; partitions].join(", ")
    )
}

pub(super) fn with_rows(topics: usize) -> String {
    format!("SELECT topic, partition FROM oncesink_checkpoint WHERE pipeline = ? AND topic IN ({})", vec!["?"; topics].join(", "))
}

/// The parameters of [`INSERT_ABSENT`] and [`SAVE`].
pub(super) fn bind_row<'q>(query: SqliteQuery<'q>, pipeline: &'q str, row: &'q CheckpointRow) -> SqliteQuery<'q> {
    query
        .bind(row.claim.epoch.0)
        .bind(row.claim.id.0)
        .bind(row.next_offset.get())
        .bind(row.durable.get())
        .bind(row.delivery.as_str())
        .bind(&*row.cluster)
        .bind(&*row.group)
        .bind(&*row.owner)
        .bind(row.last.map(|last| last.offset))
        .bind(row.last.map(|last| last.timestamp))
        .bind(row.last.map(|last| last.hash))
        .bind(row.batch.0)
        .bind(row.halt.as_ref().map(|halt| halt.reason.as_str()))
        .bind(row.halt.as_ref().map(|halt| halt.detail.as_str()))
        .bind(row.halt.as_ref().map(|halt| halt.offset))
        .bind(row.halt.as_ref().map(|halt| halt.at))
        .bind(pipeline)
        .bind(&*row.partition.topic)
        .bind(row.partition.index)
}
