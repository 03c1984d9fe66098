//! The checkpoint rows: their statements and how they are read.

use sqlx::{Row, sqlite::SqliteRow};

use super::value::SqliteQuery;
use crate::{
    checkpoint::{CheckpointRow, StoredHalt},
    model::{BatchId, Claim, ClaimId, Delivery, Epoch, LastRecord, NextOffset, Partition},
};

const SELECT: &str = "SELECT topic, partition, epoch, claim_id, next_offset, durable, delivery, cluster_id, group_id, owner, \
    last_offset, last_timestamp, last_hash, batch_id, halt_reason, halt_detail, halt_offset, halt_at FROM oncesink_checkpoint";

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
    format!("{SELECT} WHERE pipeline = ? ORDER BY topic, partition")
}

/// The rows of some partitions.
pub(super) fn lock(partitions: usize) -> String {
    format!("{SELECT} WHERE pipeline = ? AND (topic, partition) IN (VALUES {}) ORDER BY topic, partition", vec!["(?, ?)"; partitions].join(", "))
}

pub(super) fn topics(topics: usize) -> String {
    format!("SELECT DISTINCT topic FROM oncesink_checkpoint WHERE pipeline = ? AND topic IN ({})", vec!["?"; topics].join(", "))
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

/// Reads one row. A delivery that this version does not know is an error: the row is a newer one's.
pub(super) fn read_row(row: &SqliteRow) -> Result<CheckpointRow, sqlx::Error> {
    let last_offset: Option<i64> = row.try_get(10)?;
    let halt_reason: Option<String> = row.try_get(14)?;
    let delivery: Delivery = row.try_get::<String, _>(6)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(CheckpointRow {
        partition: Partition::new(&row.try_get::<String, _>(0)?, row.try_get(1)?),
        claim: Claim { epoch: Epoch(row.try_get(2)?), id: ClaimId(row.try_get(3)?) },
        next_offset: NextOffset::new(row.try_get(4)?),
        durable: NextOffset::new(row.try_get(5)?),
        delivery,
        cluster: row.try_get::<String, _>(7)?.into(),
        group: row.try_get::<String, _>(8)?.into(),
        owner: row.try_get::<String, _>(9)?.into(),
        last: match last_offset {
            Some(offset) => Some(LastRecord {
                offset,
                timestamp: row.try_get::<Option<i64>, _>(11)?.unwrap_or(-1),
                hash: row.try_get::<Option<i64>, _>(12)?.unwrap_or_default(),
            }),
            None => None,
        },
        batch: BatchId(row.try_get(13)?),
        halt: match halt_reason {
            Some(reason) => Some(StoredHalt {
                reason,
                detail: row.try_get::<Option<String>, _>(15)?.unwrap_or_default(),
                offset: row.try_get::<Option<i64>, _>(16)?.unwrap_or_default(),
                at: row.try_get::<Option<i64>, _>(17)?.unwrap_or_default(),
            }),
            None => None,
        },
    })
}
