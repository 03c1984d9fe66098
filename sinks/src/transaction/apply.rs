//! The transaction of a batch.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::tombstones;
use crate::{
    checkpoint::CheckpointRow,
    compact::compact,
    fault::{Fault, FaultClass, reason},
    fence,
    marks::{Marks, Place},
    model::{Batch, KeyEquality, Operation, Partition, Rows, Shape},
    outcome::Standing,
    planted,
    processed_events::EventMarks,
    session::{CommitError, Database, LockWait, Session, Step},
    sink::{Applied, ApplyError, Writer},
};

/// A writer and the connection it owns, if it has one.
#[derive(Debug)]
pub(super) struct SessionWriter {
    database: Arc<dyn Database>,
    session: Option<Box<dyn Session>>,
}

impl SessionWriter {
    pub fn new(database: Arc<dyn Database>) -> Self {
        Self { database, session: None }
    }
}

#[async_trait]
impl Writer for SessionWriter {
    async fn apply(&mut self, batch: &Batch) -> Result<Applied, ApplyError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.database.connect().await.map_err(ApplyError::Failed)?,
        };
        match apply_in(session.as_mut(), batch).await {
            Ok(applied) => match session.commit().await {
                Ok(()) => {
                    self.session = Some(session);
                    Ok(applied)
                }
                Err(CommitError::Refused(fault)) => Err(ApplyError::Failed(fault)),
                Err(CommitError::Unknown(fault)) => Err(ApplyError::Unknown(fault)),
            },
            Err(error) => {
                // Kept only if it is known to be clean: a connection in doubt is closed, not used again. Nor is one that takes no writes:
                // after a failover it may lead to the old server, which goes on answering for ever.
                let is_clean = session.rollback().await.is_ok();
                let takes_writes = !matches!(&error, ApplyError::Failed(fault) if fault.reason == reason::READ_ONLY);
                if is_clean && takes_writes {
                    self.session = Some(session);
                }
                Err(error)
            }
        }
    }
}

/// Everything of a batch but its COMMIT.
async fn apply_in(session: &mut dyn Session, batch: &Batch) -> Result<Applied, ApplyError> {
    session.begin().await.map_err(ApplyError::Failed)?;
    let mut partitions = batch.partitions();
    if planted!(LocksOutOfOrder) {
        partitions.reverse();
    }
    let rows = session.lock(&batch.pipeline, &partitions, LockWait::Wait).await.map_err(ApplyError::Failed)?;
    let row_of = |partition: &Partition| rows.iter().find(|row| row.partition == *partition);
    let standings: Vec<(Partition, Standing)> =
        batch.spans.iter().map(|span| (span.partition.clone(), fence::judge(span, batch.id, batch.delivery, row_of(&span.partition)))).collect();
    if standings.iter().any(|(_, standing)| *standing != Standing::Mine) {
        return Err(ApplyError::Fenced(standings));
    }
    let moved: Vec<CheckpointRow> =
        batch.spans.iter().filter_map(|span| row_of(&span.partition).map(|row| fence::moved(row, span, batch.id, batch.delivery))).collect();
    session.save(&batch.pipeline, &moved).await.map_err(ApplyError::Failed)?;

    let selections = mark(session, batch).await.map_err(ApplyError::Failed)?;
    let selected = batch.content.rows.iter().zip(selections.iter().map(|selection| selection.selected.as_slice()));
    tombstones::lock(session, batch, selected).await.map_err(ApplyError::Failed)?;
    let mut applied = Applied::default();
    for (rows, Selection { selected, deduplicated: known }) in batch.content.rows.iter().zip(selections) {
        let mut judged = tombstones::judge(session, batch, rows, selected).await.map_err(ApplyError::Failed)?;
        let compacted = compact(batch, rows, std::mem::take(&mut judged.selected));
        let (mut stale, mut deduplicated) = (judged.stale + compacted.stale, known + compacted.deduplicated);
        for round in &compacted.rounds {
            let shape = &rows.shape_table[round.shape as usize];
            let guard = guard(rows, round.operation, shape);
            let step = Step { rows, operation: round.operation, shape, selection: &round.rows, guard };
            let written = session.write(&step).await.map_err(ApplyError::Failed)?;
            stale += written.stale;
            deduplicated += written.deduplicated;
        }
        tombstones::remember(session, batch, rows, &judged).await.map_err(ApplyError::Failed)?;
        applied.stale.push(stale);
        applied.deduplicated.push(deduplicated);
    }
    Ok(applied)
}

/// The column whose newer value wins over the row in the table.
fn guard(rows: &Rows, operation: Operation, shape: &Shape) -> Option<usize> {
    let version = rows.target.version.filter(|_| !planted!(NoVersionGuard))?;
    // A tombstone was compared with the row in the table before, which is locked. Where several keys may mean that row, only its statement
    // can tell; and without a version of its own it wins anyway.
    let is_decided = operation.is_tombstone() && (rows.target.key_equality == KeyEquality::Bytes || shape.0.get(version) != Some(&true));
    (!is_decided).then_some(version)
}

/// The rows of one target that are written.
struct Selection {
    selected: Vec<u32>,
    /// Rows of the batch that are left out: their event is durable, or comes earlier in the batch.
    deduplicated: u64,
}

/// Marks the events of the batch, for all routes before the rows of any, and the routes by their names: that is the lock order.
/// One selection for each of the batch's rows.
async fn mark(session: &mut dyn Session, batch: &Batch) -> Result<Vec<Selection>, Fault> {
    let select = |(position, rows): (usize, &Rows)| {
        let all = batch.selection(rows);
        let count = all.len();
        let selected = batch.without_known(position, all);
        Selection { deduplicated: (count - selected.len()) as u64, selected }
    };
    let mut selections: Vec<Selection> = batch.content.rows.iter().enumerate().map(select).collect();
    let mut routes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, (rows, selection)) in batch.content.rows.iter().zip(&selections).enumerate() {
        if rows.target.marks_events() && !selection.selected.is_empty() {
            if rows.event_ids.len() != rows.len() {
                // Rows without an id would all be one event.
                return Err(Fault::new(FaultClass::Halt, "event-ids", format!("a batch of route {} has rows without an event id", rows.target.route)));
            }
            routes.entry(&rows.target.route).or_default().push(index);
        }
    }
    if routes.is_empty() {
        return Ok(selections);
    }
    let generation = if planted!(GenerationNotHeld) { session.generations().await?.newest } else { session.hold_generation().await? };
    for (route, of_route) in routes {
        let places: Vec<Place> = of_route.iter().flat_map(|index| selections[*index].selected.iter().map(|row| Place { rows: *index, row: *row })).collect();
        let marks = Marks::of(batch, &places);
        let is_new = session.mark(&EventMarks { generation, pipeline: &batch.pipeline, route, ids: &marks.ids, batch: batch.id }).await?;
        if planted!(RepeatInBatchIsWritten) && is_new.iter().all(|is_new| *is_new) {
            continue;
        }
        let new = marks.new_rows(&is_new);
        for index in of_route {
            let selection = &mut selections[index];
            let before = selection.selected.len();
            selection.selected = new.iter().filter(|place| place.rows == index).map(|place| place.row).collect();
            selection.deduplicated += (before - selection.selected.len()) as u64;
        }
    }
    Ok(selections)
}
