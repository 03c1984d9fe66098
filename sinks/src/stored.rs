//! What every database keeps in the same columns, and how they are read: checkpoint rows, the generations of processed events, tombstones.

use sqlx::{ColumnIndex, Decode, Row, Type};

use crate::{
    checkpoint::{CheckpointRow, StoredHalt},
    generation::{Generation, Generations},
    model::{BatchId, Claim, ClaimId, Delivery, Epoch, LastRecord, NextOffset, Partition},
    tombstone_table::StoredTombstone,
};

/// All but the pipeline, in the order in which [`read`] wants them.
pub(crate) const COLUMNS: &str = "topic, partition, epoch, claim_id, next_offset, durable, delivery, cluster_id, group_id, owner, \
                                  last_offset, last_timestamp, last_hash, batch_id, halt_reason, halt_detail, halt_offset, halt_at";

/// Reads one row of [`COLUMNS`]. A delivery that this version does not know is an error: the row is a newer one's.
pub(crate) fn read<R>(row: &R) -> Result<CheckpointRow, sqlx::Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    String: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    i32: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
{
    let last_offset: Option<i64> = row.try_get(10)?;
    let halt_reason: Option<String> = row.try_get(14)?;
    let delivery: Delivery = row.try_get::<String, _>(6)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(CheckpointRow {
        partition: partition(row)?,
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

/// Reads the partition of a row that begins with `topic, partition`.
pub(crate) fn partition<R>(row: &R) -> Result<Partition, sqlx::Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    String: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    i32: for<'r> Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(Partition::new(&row.try_get::<String, _>(0)?, row.try_get(1)?))
}

/// Reads the one row that tells of the generations, in the order of its fields here.
pub(crate) fn generations<R>(row: &R) -> Result<Generations, sqlx::Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    String: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(Generations {
        newest: Generation(row.try_get(0)?),
        opened_at: row.try_get(1)?,
        previous_opened_at: row.try_get(2)?,
        emptied: Generation(row.try_get(3)?),
        now: row.try_get(4)?,
        retention: row.try_get(5)?,
        waits_for: row.try_get(6)?,
    })
}

/// Reads a tombstone: its key, version, version column, and the record that deleted.
pub(crate) fn tombstone<R>(row: &R) -> Result<StoredTombstone, sqlx::Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    String: for<'r> Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(StoredTombstone { key: row.try_get(0)?, version: row.try_get(1)?, version_column: row.try_get(2)?, deleted_by: row.try_get(3)? })
}
