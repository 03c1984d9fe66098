//! Leaving out the record at which a partition is halted, once for every database.

use crate::{
    checkpoint::{CheckpointRow, StoredHalt},
    fault::Fault,
    model::{Coordinate, NextOffset},
    session::{Audit, LockWait, Session, Skip, SkipMode, finish},
};

/// Moves the checkpoint over the record and writes an audit row, in the transaction that is open in `session`; ends it where something was changed.
pub(crate) async fn skip(session: &mut dyn Session, pipeline: &str, coordinate: &Coordinate, who: &str, mode: SkipMode) -> Result<Skip, Fault> {
    let row = session.lock(pipeline, std::slice::from_ref(&coordinate.partition), LockWait::Wait).await?.into_iter().next();
    let Some(skipped) = skipped(row.as_ref(), coordinate) else { return Ok(Skip::NotHaltedThere { row }) };
    match mode {
        SkipMode::Look => Ok(Skip::Possible { halt: skipped.halt }),
        SkipMode::LeaveOut => {
            session.save(pipeline, &[skipped.row]).await?;
            session.audit(&Audit { pipeline, coordinate, action: "skip", who, detail: &skipped.detail }).await?;
            finish(session).await?;
            Ok(Skip::Done)
        }
    }
}

/// A checkpoint row once the record is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Skipped {
    row: CheckpointRow,
    halt: StoredHalt,
    /// For the audit.
    detail: String,
}

/// Only the record at which the partition is halted, and only while nothing past it is done.
fn skipped(row: Option<&CheckpointRow>, coordinate: &Coordinate) -> Option<Skipped> {
    let row = row.filter(|row| row.next_offset.get() <= coordinate.offset)?;
    let halt = row.halt.clone().filter(|halt| halt.offset == coordinate.offset)?;
    let next = NextOffset::after(coordinate.offset);
    let detail = format!("{}: {}; next offset {} -> {next}", halt.reason, halt.detail, row.next_offset);
    let moved = CheckpointRow { next_offset: next, durable: row.durable.max(next), halt: None, ..row.clone() };
    Some(Skipped { row: moved, halt, detail })
}
