//! Whether a record may be left out. Pure: the row is locked, and this decides.

use crate::{
    checkpoint::{CheckpointRow, StoredHalt},
    model::{Coordinate, NextOffset},
};

/// A checkpoint row once the record is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub row: CheckpointRow,
    pub halt: StoredHalt,
    /// For the audit.
    pub detail: String,
}

/// Only the record at which the partition is halted, and only while nothing past it is done.
pub(crate) fn skipped(row: Option<&CheckpointRow>, coordinate: &Coordinate) -> Option<Skipped> {
    let row = row.filter(|row| row.next_offset.get() <= coordinate.offset)?;
    let halt = row.halt.clone().filter(|halt| halt.offset == coordinate.offset)?;
    let next = NextOffset::after(coordinate.offset);
    let detail = format!("{}: {}; next offset {} -> {next}", halt.reason, halt.detail, row.next_offset);
    let moved = CheckpointRow { next_offset: next, durable: row.durable.max(next), halt: None, ..row.clone() };
    Some(Skipped { row: moved, halt, detail })
}
