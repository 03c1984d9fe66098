//! Which rows of a batch must be written, in which order. An index over the rows: nothing is merged away.
//!
//! Writing the rounds one after the other ends in the same table as writing every row by itself in (partition, offset) order.

use std::cmp::Ordering;

use crate::{
    model::{Batch, Cell, Operation, Rows, WriteMode},
    planted,
};

/// The rows of one target that are written, and how many lost within the batch already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    pub rounds: Vec<Round>,
    /// Rows older than one before them in the same batch.
    pub stale: u64,
}

/// Rows of one operation and one shape, each key once, sorted by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub operation: Operation,
    /// An index into [`Rows::shape_table`].
    pub shape: u16,
    pub rows: Vec<u32>,
}

/// Compacts the rows of `rows` that belong to `batch`.
#[must_use]
pub fn compact(batch: &Batch, rows: &Rows) -> Compacted {
    let mut selection = batch.selection(rows);
    if rows.target.write == WriteMode::Append {
        return Compacted { rounds: in_order_taken(rows, selection), stale: 0 };
    }
    let order = |row: u32| {
        let mark = &batch.content.records[rows.records[row as usize] as usize];
        (&batch.content.partitions[mark.partition as usize], mark.offset, row)
    };
    selection.sort_unstable_by(|left, right| compare_keys(rows, *left, *right).then_with(|| order(*left).cmp(&order(*right))));
    let version = if planted!(NoVersionGuard) { None } else { rows.target.version };
    let mut compacted = Compacted::default();
    // The n-th surviving row of a key goes to the n-th layer: rows of one key keep their order, rows of different keys share statements.
    let mut layers: Vec<Vec<u32>> = Vec::new();
    let mut survivors: Vec<u32> = Vec::new();
    for group in selection.chunk_by(|left, right| compare_keys(rows, *left, *right) == Ordering::Equal) {
        survivors.clear();
        for row in group {
            // NULL never wins over a value; equal versions: the later record wins.
            let newest = survivors.last().copied();
            match (version, newest) {
                (Some(version), Some(newest))
                    if compare_cells(rows.columns[version].cell(newest as usize), rows.columns[version].cell(*row as usize)) == Ordering::Greater =>
                {
                    compacted.stale += 1;
                }
                _ => survivors.push(*row),
            }
        }
        drop_superseded(rows, &mut survivors);
        for (layer, row) in survivors.iter().enumerate() {
            if layers.len() == layer {
                layers.push(Vec::new());
            }
            layers[layer].push(*row);
        }
    }
    for layer in layers {
        compacted.rounds.extend(by_operation_and_shape(rows, layer));
    }
    compacted
}

/// Leaves out what a later row of the same key makes invisible: everything before a delete, and a write whose columns a later one all carries.
///
/// A delete before a write stays: the write inserts where it would else have updated, and columns that it lacks take their defaults.
fn drop_superseded(rows: &Rows, survivors: &mut Vec<u32>) {
    let Some(&last) = survivors.last() else { return };
    if survivors.len() == 1 {
        return;
    }
    let is_delete = |row: u32| rows.operations[row as usize] == Operation::Delete;
    let mut kept = vec![last];
    for &row in survivors.iter().rev().skip(1) {
        let later = kept.last().copied().unwrap_or(last);
        if is_delete(later) {
            break;
        }
        if is_delete(row) || !kept.iter().any(|later| rows.shape(*later).covers(rows.shape(row))) {
            kept.push(row);
        }
    }
    kept.reverse();
    *survivors = kept;
}

/// Deletes before writes, and one round a shape; each stays sorted by key.
fn by_operation_and_shape(rows: &Rows, layer: Vec<u32>) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    for row in layer {
        let (operation, shape) = (rows.operations[row as usize], rows.shapes[row as usize]);
        match rounds.iter_mut().find(|round| round.operation == operation && round.shape == shape) {
            Some(round) => round.rows.push(row),
            None => rounds.push(Round { operation, shape, rows: vec![row] }),
        }
    }
    rounds.sort_by_key(|round| (std::cmp::Reverse(round.operation), round.shape));
    rounds
}

/// `append`: every row, as it came, one round for each run of one shape.
fn in_order_taken(rows: &Rows, selection: Vec<u32>) -> Vec<Round> {
    selection
        .chunk_by(|left, right| rows.shapes[*left as usize] == rows.shapes[*right as usize])
        .map(|run| Round { operation: Operation::Write, shape: rows.shapes[run[0] as usize], rows: run.to_vec() })
        .collect()
}

/// Orders rows by their key columns.
fn compare_keys(rows: &Rows, left: u32, right: u32) -> Ordering {
    for &position in &rows.target.key {
        let column = &rows.columns[position];
        match compare_cells(column.cell(left as usize), column.cell(right as usize)) {
            Ordering::Equal => {}
            other => return other,
        }
    }
    Ordering::Equal
}

/// A total order of the values of one column; no value comes before any value.
fn compare_cells(left: Cell<'_>, right: Cell<'_>) -> Ordering {
    match (left, right) {
        (Cell::Int(left), Cell::Int(right)) => left.cmp(&right),
        (Cell::Text(left), Cell::Text(right)) => left.cmp(right),
        (Cell::Bytes(left), Cell::Bytes(right)) => left.cmp(right),
        (Cell::Uuid(left), Cell::Uuid(right)) => left.cmp(&right),
        (Cell::Bool(left), Cell::Bool(right)) => left.cmp(&right),
        (Cell::Float(left), Cell::Float(right)) => left.total_cmp(&right),
        (left, right) => (!matches!(left, Cell::Absent | Cell::Null)).cmp(&!matches!(right, Cell::Absent | Cell::Null)),
    }
}
