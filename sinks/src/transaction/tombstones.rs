//! Tombstones in the transaction of a batch: the locks of their tables, what is asked before rows are written, and what is left after.

use std::{collections::BTreeMap, time::Duration};

use super::{Transactional, expire::milliseconds};
use crate::{
    fault::{Fault, FaultClass},
    model::{Batch, Operation, Rows, TableColumn},
    session::{Session, Step, finish},
    tombstone_table::{LockMode, StoredTombstone, TableLock, TombstonesOf},
    tombstones::{Judged, KeyedRows, Known, Tombstone, are_kept, lock_number},
    version::Version,
};

/// Tombstones that one transaction lets expire: so few that nobody waits for it.
const AT_ONCE: u32 = 500;

/// Such transactions in a row.
const IN_A_ROW: u32 = 20;

/// Takes the locks of all tables that the batch compares with tombstones, before it writes to any, sorted: that is the lock order.
pub(super) async fn lock<'a>(session: &mut dyn Session, batch: &Batch, selections: impl Iterator<Item = (&'a Rows, &'a [u32])>) -> Result<(), Fault> {
    let mut locks: BTreeMap<u32, LockMode> = BTreeMap::new();
    for (rows, selected) in selections.filter(|(rows, selected)| are_kept(&rows.target) && !selected.is_empty()) {
        let deletes = selected.iter().any(|row| rows.operations[*row as usize].is_tombstone());
        let mode = if deletes { LockMode::Exclusive } else { LockMode::Shared };
        let held = locks.entry(lock_number(&batch.pipeline, &rows.target.table.name.to_string())).or_insert(mode);
        *held = (*held).max(mode);
    }
    if locks.is_empty() {
        return Ok(());
    }
    let locks: Vec<TableLock> = locks.into_iter().map(|(number, mode)| TableLock { number, mode }).collect();
    session.lock_tables(&locks).await
}

/// Leaves out the rows that come too late, and says what must be remembered of the others.
pub(super) async fn judge(session: &mut dyn Session, batch: &Batch, rows: &Rows, selected: Vec<u32>) -> Result<Judged, Fault> {
    let Some(version) = rows.target.version.filter(|_| are_kept(&rows.target) && !selected.is_empty()) else {
        return Ok(Judged { selected, ..Judged::default() });
    };
    let keyed = KeyedRows::of(batch, rows, &selected);
    let table = rows.target.table.name.to_string();
    let stored = session.read_tombstones(TombstonesOf { pipeline: &batch.pipeline, table: &table }, &keyed.keys()).await?;
    let mut known = Known::default();
    for stored in stored {
        let tombstone = read(&stored, rows.target.column(version)).ok_or_else(|| of_another_version(rows, version, &stored))?;
        known.tombstones.insert(stored.key, tombstone);
    }
    let deleted = keyed.deleted();
    if let Some(first) = deleted.first() {
        let step = Step { rows, operation: Operation::Delete, shape: rows.shape(*first), selection: &deleted, guard: None };
        known.rows = session.read_versions(&step, version).await?.into_iter().collect();
    } else if known.tombstones.is_empty() {
        return Ok(Judged { selected, ..Judged::default() });
    }
    Ok(keyed.judge(&known))
}

/// Writes what [`judge`] said is to be remembered, after the rows.
pub(super) async fn remember(session: &mut dyn Session, batch: &Batch, rows: &Rows, judged: &Judged) -> Result<(), Fault> {
    let Some(version) = rows.target.version.filter(|_| !judged.left.is_empty() || !judged.removed.is_empty()) else { return Ok(()) };
    let table = rows.target.table.name.to_string();
    let of = TombstonesOf { pipeline: &batch.pipeline, table: &table };
    if !judged.left.is_empty() {
        let column = rows.target.column(version);
        let kept = |(key, left): &(String, Tombstone)| StoredTombstone {
            key: key.clone(),
            version: left.version.as_ref().map(|version| version.text(&column.kind)),
            version_column: column.name.to_string(),
            deleted_by: left.deleted_by.to_string(),
        };
        let left: Vec<StoredTombstone> = judged.left.iter().map(kept).collect();
        session.write_tombstones(of, &left).await?;
    }
    if !judged.removed.is_empty() {
        let removed: Vec<&str> = judged.removed.iter().map(String::as_str).collect();
        session.remove_tombstones(of, &removed).await?;
    }
    Ok(())
}

/// None: it cannot be compared with versions of this column.
fn read(stored: &StoredTombstone, column: &TableColumn) -> Option<Tombstone> {
    let version = match &stored.version {
        None => None,
        Some(_) if stored.version_column != column.name.as_str() => return None,
        Some(text) => Some(Version::parse(text, &column.kind)?),
    };
    Some(Tombstone { version, deleted_by: stored.deleted_by.parse().ok()? })
}

/// Nobody can say which of the two is newer.
fn of_another_version(rows: &Rows, version: usize, stored: &StoredTombstone) -> Fault {
    let (table, column) = (&rows.target.table.name, rows.target.column(version));
    let detail = if stored.version_column == column.name.as_str() {
        format!("a delete in {table} is remembered with a version that {} ({}) cannot hold: its type was another one then", column.name, column.declared)
    } else {
        format!("a delete in {table} is remembered with a version of {}, which cannot be compared with those of {}", stored.version_column, column.name)
    };
    Fault::new(FaultClass::Halt, "tombstone-type", detail)
        .with_column(column.name.as_str())
        .with_mend(format!("delete the rows of oncesink_tombstone with table_name = '{table}'; deletes before this are then forgotten"))
}

impl Transactional {
    /// Whether there may be more that have expired. A few at a time, each time in a transaction of its own.
    pub(super) async fn expire_tombstones_of(&self, pipeline: &str, retention: Duration) -> Result<bool, Fault> {
        let mut session = self.database.connect().await?;
        for _ in 0..IN_A_ROW {
            session.begin().await?;
            match session.expire_tombstones(pipeline, milliseconds(retention), AT_ONCE).await {
                Ok(expired) => {
                    finish(session.as_mut()).await?;
                    if expired < u64::from(AT_ONCE) {
                        return Ok(false);
                    }
                }
                Err(fault) => {
                    // The session ends with this, and with it whatever it holds.
                    let _ = session.rollback().await;
                    return Err(fault);
                }
            }
        }
        Ok(true)
    }
}
