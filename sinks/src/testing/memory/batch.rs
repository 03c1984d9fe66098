//! A batch: the fence, its records one after the other, the checkpoint.

use std::{cmp::Ordering, time::Instant};

use super::{
    Mistake, row,
    state::{Event, JournalEntry, State},
};
use crate::{
    checkpoint::CheckpointRow,
    model::{Batch, Delivery, NextOffset, Partition, Span, WriteMode},
    outcome::{SpanOutcome, Standing},
    sink::{Applied, ApplyError},
};

/// One row of the batch, and where its record stands.
struct Place<'a> {
    partition: &'a Partition,
    offset: i64,
    rows: usize,
    row: usize,
}

/// On an error the state may be changed half-way; it is a copy.
pub(super) fn apply(state: &mut State, batch: &Batch, mistake: Option<Mistake>) -> Result<Applied, ApplyError> {
    if mistake == Some(Mistake::EmptyBatchesAreSkipped) && batch.content.rows.is_empty() {
        return Ok(Applied::default());
    }
    let mut standings = standings(state, batch, mistake);
    if mistake == Some(Mistake::OnlyTheFirstSpanIsFenced) {
        standings.iter_mut().skip(1).for_each(|(_, standing)| *standing = Standing::Mine);
    }
    if standings.iter().any(|(_, standing)| *standing != Standing::Mine) && mistake != Some(Mistake::NoFence) {
        return Err(ApplyError::Fenced(standings));
    }
    let count = batch.content.rows.len();
    let mut applied = Applied { stale: vec![0; count], deduplicated: vec![0; count] };
    if mistake != Some(Mistake::CheckpointWithoutRows) {
        for place in places(batch, mistake) {
            take(state, batch, &place, &mut applied, mistake)?;
        }
    }
    if mistake != Some(Mistake::RowsWithoutCheckpoint) {
        for span in &batch.spans {
            if let Some(row) = state.checkpoints.get_mut(&(batch.pipeline.clone(), span.partition.clone())) {
                advance(row, span, batch, mistake);
            }
        }
    }
    state.journal.push(JournalEntry { pipeline: batch.pipeline.clone(), batch: batch.id, spans: batch.spans.clone() });
    Ok(applied)
}

pub(super) fn outcome(state: &State, batch: &Batch, mistake: Option<Mistake>) -> Vec<SpanOutcome> {
    let same_batch = |partition: &Partition| state.checkpoints.get(&(batch.pipeline.clone(), partition.clone())).is_some_and(|row| row.batch == batch.id);
    standings(state, batch, mistake).into_iter().map(|(partition, standing)| SpanOutcome { same_batch: same_batch(&partition), partition, standing }).collect()
}

fn standings(state: &State, batch: &Batch, mistake: Option<Mistake>) -> Vec<(Partition, Standing)> {
    let row = |span: &Span| state.checkpoints.get(&(batch.pipeline.clone(), span.partition.clone()));
    batch.spans.iter().map(|span| (span.partition.clone(), row(span).map_or(Standing::Gone, |row| standing(row, span, batch, mistake)))).collect()
}

fn standing(row: &CheckpointRow, span: &Span, batch: &Batch, mistake: Option<Mistake>) -> Standing {
    if mistake != Some(Mistake::ClaimsAreNotCompared) {
        match row.claim.epoch.cmp(&span.claim.epoch) {
            Ordering::Greater => return Standing::Taken,
            Ordering::Less => return Standing::Rewound { row: row.next_offset, expected: span.from },
            Ordering::Equal if row.claim.id != span.claim.id => return Standing::Taken,
            Ordering::Equal => {}
        }
    }
    if mistake == Some(Mistake::OffsetsAreNotCompared) {
        return Standing::Mine;
    }
    let (row_next, reached) = (row.next_offset, row.next_offset.max(row.durable));
    match batch.delivery {
        Delivery::ExactlyOnce if row_next == span.from => Standing::Mine,
        Delivery::ExactlyOnce if row_next == span.to => Standing::Applied,
        Delivery::ExactlyOnce if row_next < span.from => Standing::Rewound { row: row_next, expected: span.from },
        Delivery::ExactlyOnce => Standing::Contradicts { row: row_next, expected: span.from },
        Delivery::AtLeastOnce | Delivery::AtMostOnce if row.batch == batch.id => Standing::Applied,
        Delivery::AtLeastOnce if mistake == Some(Mistake::RepeatsAreFenced) && span.from < reached => Standing::Applied,
        Delivery::AtLeastOnce if span.from <= reached => Standing::Mine,
        Delivery::AtLeastOnce => Standing::Rewound { row: reached, expected: span.from },
        Delivery::AtMostOnce if mistake == Some(Mistake::GapsAreFenced) && span.from != reached => Standing::Rewound { row: reached, expected: span.from },
        Delivery::AtMostOnce if span.durable <= reached => Standing::Mine,
        Delivery::AtMostOnce => Standing::Rewound { row: reached, expected: span.durable },
    }
}

/// The rows that belong to the batch, in the order of the log.
fn places(batch: &Batch, mistake: Option<Mistake>) -> Vec<Place<'_>> {
    let content = &batch.content;
    let mut places = Vec::new();
    for (index, rows) in content.rows.iter().enumerate() {
        for (row, record) in rows.records.iter().enumerate() {
            let mark = content.records[*record as usize];
            let listed = usize::from(mark.partition);
            let partition = &content.partitions[listed];
            // Of a partition that is listed twice, only the later counts.
            let is_latest = !content.partitions[listed + 1..].contains(partition);
            let is_in = |span: &Span| span.partition == *partition && span.from.get() <= mark.offset && mark.offset < span.to.get();
            if (is_latest && batch.spans.iter().any(is_in)) || mistake == Some(Mistake::SpansAreNotLookedAt) {
                places.push(Place { partition, offset: mark.offset, rows: index, row });
            }
        }
    }
    places.sort_by_key(|place| (place.partition, place.offset, place.rows, place.row));
    places
}

/// Writes one row, unless it is known, repeats an event, or comes too late.
fn take(state: &mut State, batch: &Batch, place: &Place<'_>, applied: &mut Applied, mistake: Option<Mistake>) -> Result<(), ApplyError> {
    let rows = &batch.content.rows[place.rows];
    let row = u32::try_from(place.row).unwrap_or(u32::MAX);
    let is_known = batch.known.get(place.rows).is_some_and(|known| known.contains(&row));
    if is_known && mistake != Some(Mistake::KnownRowsAreWritten) {
        applied.deduplicated[place.rows] += 1;
        return Ok(());
    }
    if rows.target.marks_events() && mistake != Some(Mistake::EventsAreNotKept) {
        let route = if mistake == Some(Mistake::EventsAreOfAllRoutes) { "".into() } else { rows.target.route.clone() };
        let id = rows.event_id(row);
        let id = if mistake == Some(Mistake::EventsAreFolded) { id.trim().to_lowercase() } else { id.to_owned() };
        let event = Event { at: Instant::now(), partition: place.partition.clone(), ends: NextOffset::after(place.offset), delivery: batch.delivery };
        if state.events.contains_key(&(batch.pipeline.clone(), route.clone(), id.clone())) {
            applied.deduplicated[place.rows] += 1;
            return Ok(());
        }
        state.events.insert((batch.pipeline.clone(), route, id), event);
    }
    if mistake == Some(Mistake::FirstRowOfABatchWins) && rows.target.write != WriteMode::Append {
        let key = |row: usize| rows.target.key.iter().map(|position| format!("{:?}", rows.columns[*position].cell(row))).collect::<Vec<_>>();
        if (0..place.row).any(|earlier| key(earlier) == key(place.row)) {
            return Ok(());
        }
    }
    match row::apply(state, &batch.pipeline, rows, place.row, place.partition.at(place.offset), mistake).map_err(ApplyError::Failed)? {
        row::Effect::Applied => {}
        row::Effect::Stale => applied.stale[place.rows] += 1,
        row::Effect::Found => applied.deduplicated[place.rows] += 1,
    }
    Ok(())
}

fn advance(row: &mut CheckpointRow, span: &Span, batch: &Batch, mistake: Option<Mistake>) {
    if batch.delivery == Delivery::ExactlyOnce || mistake == Some(Mistake::TheFloorMoves) {
        row.next_offset = span.to;
    }
    row.durable = row.durable.max(span.to);
    row.last = span.last.or(row.last);
    if mistake != Some(Mistake::BatchIsNotRemembered) {
        row.batch = batch.id;
    }
    if mistake != Some(Mistake::HaltsOutliveBatches) {
        row.halt = None;
    }
}
