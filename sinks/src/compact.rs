//! Which rows of a batch must be written, in which order. An index over the rows: nothing is merged away.
//!
//! Writing the rounds one after the other ends in the same table as writing every row by itself in (partition, offset) order.

use std::cmp::Ordering;

use crate::{
    model::{Batch, Cell, KeyEquality, Operation, Presence, Rows, Values, WriteMode},
    planted,
};

/// The rows of one target that are written, and how many lost within the batch already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    pub rounds: Vec<Round>,
    /// Rows older than one before them in the same batch.
    pub stale: u64,
    /// Rows under `insert-if-new` whose key one before them in the same batch has taken.
    pub deduplicated: u64,
}

/// Rows of one operation and one shape, each key once, sorted by key; one row where only the database knows which keys are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub operation: Operation,
    /// An index into [`Rows::shape_table`].
    pub shape: u32,
    pub rows: Vec<u32>,
}

/// Compacts a selection of the rows of `rows` that belong to `batch`.
#[must_use]
pub fn compact(batch: &Batch, rows: &Rows, mut selection: Vec<u32>) -> Compacted {
    if rows.target.write == WriteMode::Append {
        return Compacted { rounds: in_order_taken(rows, selection), ..Compacted::default() };
    }
    let order = |row: u32| (batch.place_in_log(rows, row), row);
    if rows.target.key_equality == KeyEquality::Database {
        selection.sort_unstable_by(|left, right| order(*left).cmp(&order(*right)));
        return Compacted { rounds: one_by_one(rows, &selection), ..Compacted::default() };
    }
    let integers = integer_keys(rows);
    let by_key = |left: u32, right: u32| match integers {
        Some(keys) => keys[left as usize].cmp(&keys[right as usize]),
        None => compare_keys(rows, left, right),
    };
    selection.sort_unstable_by(|left, right| by_key(*left, *right).then_with(|| order(*left).cmp(&order(*right))));
    let version = if planted!(NoVersionGuard) { None } else { rows.target.version };
    let mut compacted = Compacted::default();
    // The n-th surviving row of a key goes to the n-th layer: rows of one key keep their order, rows of different keys share statements.
    let mut layers: Vec<Vec<u32>> = Vec::new();
    let mut survivors: Vec<u32> = Vec::new();
    for group in selection.chunk_by(|left, right| by_key(*left, *right) == Ordering::Equal) {
        survivors.clear();
        for row in group {
            // NULL never wins over a value; equal versions: the later record wins.
            let newest = survivors.last().copied();
            match (version, newest) {
                // Against tombstones, writes are judged before (see `tombstones`).
                (Some(version), Some(newest))
                    if !is_tombstone(rows, *row)
                        && !is_tombstone(rows, newest)
                        && compare_cells(rows.columns[version].cell(newest as usize), rows.columns[version].cell(*row as usize)) == Ordering::Greater =>
                {
                    compacted.stale += 1;
                }
                _ => survivors.push(*row),
            }
        }
        match rows.target.write {
            WriteMode::InsertIfNew => compacted.deduplicated += keep_first(rows, &mut survivors),
            // Each record changes what the one before it left.
            WriteMode::Accumulate => {}
            WriteMode::Append | WriteMode::Upsert | WriteMode::Update => drop_superseded(rows, &mut survivors),
        }
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
    if planted!(FirstRowWins) {
        survivors.truncate(1);
        return;
    }
    if planted!(DeleteIsForgotten) && is_delete(rows, last) {
        survivors.pop();
        return drop_superseded(rows, survivors);
    }
    let mut kept = vec![last];
    for &row in survivors.iter().rev().skip(1) {
        let later = kept.last().copied().unwrap_or(last);
        if is_delete(rows, later) {
            break;
        }
        if is_delete(rows, row) || !kept.iter().any(|later| rows.shape(*later).covers(rows.shape(row))) {
            kept.push(row);
        }
    }
    kept.reverse();
    *survivors = kept;
}

/// Leaves the first write that follows the last delete, and that delete: whatever came before it is gone. Gives how many found their key taken by
/// one before them; of the first write of all nobody knows until it is tried, and where a delete follows it is not.
fn keep_first(rows: &Rows, survivors: &mut Vec<u32>) -> u64 {
    let taken = survivors.windows(2).filter(|pair| pair.iter().all(|row| !is_delete(rows, *row))).count() as u64;
    let from = survivors.iter().rposition(|row| is_delete(rows, *row)).unwrap_or(0);
    survivors.drain(..from);
    let kept = if survivors.first().is_some_and(|row| is_delete(rows, *row)) { 2 } else { 1 };
    survivors.truncate(kept);
    taken
}

fn is_delete(rows: &Rows, row: u32) -> bool {
    rows.operations[row as usize] == Operation::Delete
}

fn is_tombstone(rows: &Rows, row: u32) -> bool {
    rows.operations[row as usize].is_tombstone()
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

/// Each row by itself, as two of one statement could be one row of the table; which of them is stale, the statement's own guard decides.
fn one_by_one(rows: &Rows, ordered: &[u32]) -> Vec<Round> {
    let round = |row: &u32| Round { operation: rows.operations[*row as usize], shape: rows.shapes[*row as usize], rows: vec![*row] };
    ordered.iter().map(round).collect()
}

/// The keys, if each is one integer: most are, and sorting is most of what compaction costs.
fn integer_keys(rows: &Rows) -> Option<&[i64]> {
    let [position] = rows.target.key[..] else { return None };
    let column = &rows.columns[position];
    match &column.values {
        Values::Int(keys) if column.presence.iter().all(|presence| *presence == Presence::Value) => Some(keys),
        _ => None,
    }
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
pub(crate) fn compare_cells(left: Cell<'_>, right: Cell<'_>) -> Ordering {
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        Content, Kind, Partition, RecordMark, Rule, Target,
        sample::{self, column},
    };

    /// id, version, a, b; an absent cell is `None`, a null one `Some(None)`.
    #[derive(Clone, Debug)]
    struct Row {
        partition: u16,
        key: i64,
        delete: bool,
        version: Option<i64>,
        a: Option<Option<i64>>,
        b: Option<Option<i64>>,
    }

    type Stored = BTreeMap<i64, [Option<i64>; 3]>;

    /// What the columns after the key become under `accumulate`.
    const RULES: [Rule; 3] = [Rule::First, Rule::Add, Rule::Replace];

    fn target(write: WriteMode, versioned: bool, key_equality: KeyEquality) -> Arc<Target> {
        let columns = ["id", "version", "a", "b"].map(|name| column(name, Kind::Int { bits: 64 }, "bigint", name != "id")).to_vec();
        let accumulate = if write == WriteMode::Accumulate { [&[Rule::Replace], &RULES[..]].concat() } else { Vec::new() };
        Arc::new(Target { key_equality, version: versioned.then_some(1), accumulate, ..sample::target("t", columns, write) })
    }

    fn batch(rows: &[Row], write: WriteMode, versioned: bool, key_equality: KeyEquality) -> Batch {
        let partitions = vec![Partition::new("x", 0), Partition::new("x", 1)];
        let mut content = Content { partitions, rows: vec![Rows::new(target(write, versioned, key_equality))], ..Content::default() };
        let push = |columns: &mut [crate::model::Column], position: usize, cell: Option<Option<i64>>| match cell {
            None => columns[position].push_nothing(Presence::Absent),
            Some(None) => columns[position].push_nothing(Presence::Null),
            Some(Some(value)) => {
                if let Values::Int(values) = &mut columns[position].values {
                    values.push(value);
                }
                columns[position].presence.push(Presence::Value);
            }
        };
        for (index, row) in rows.iter().enumerate() {
            content.records.push(RecordMark { offset: index as i64, timestamp: 0, hash: 0, partition: row.partition });
            let target = &mut content.rows[0];
            push(&mut target.columns, 0, Some(Some(row.key)));
            if row.delete {
                target.finish_row(index as u32, Operation::Delete);
            } else {
                push(&mut target.columns, 1, Some(row.version));
                push(&mut target.columns, 2, row.a);
                push(&mut target.columns, 3, row.b);
                target.finish_row(index as u32, Operation::Write);
            }
        }
        sample::batch(content, 1000)
    }

    /// What one write or delete does, by itself.
    fn apply(stored: &mut Stored, row: &Row, write: WriteMode, versioned: bool) {
        if row.delete {
            stored.remove(&row.key);
            return;
        }
        if let Some(old) = stored.get_mut(&row.key) {
            match write {
                WriteMode::InsertIfNew => return,
                WriteMode::Accumulate => {
                    for ((old, new), rule) in old.iter_mut().zip([Some(row.version), row.a, row.b]).zip(RULES) {
                        let Some(new) = new else { continue };
                        *old = match rule {
                            Rule::First => old.or(new),
                            Rule::Add => old.map_or(new, |old| Some(old + new.unwrap_or(0))),
                            _ => new,
                        };
                    }
                    return;
                }
                _ => {}
            }
        }
        if let Some(old) = stored.get(&row.key)
            && versioned
            && old[0].is_some()
            && (row.version.is_none() || row.version < old[0])
        {
            return;
        }
        let entry = stored.entry(row.key).or_insert([None; 3]);
        entry[0] = row.version;
        if let Some(a) = row.a {
            entry[1] = a;
        }
        if let Some(b) = row.b {
            entry[2] = b;
        }
    }

    fn rows(deletes: bool) -> impl Strategy<Value = Vec<Row>> {
        let cell = || prop::option::weighted(0.7, prop::option::weighted(0.8, 0_i64..5));
        let row = (0_u16..2, 0_i64..6, prop::bool::weighted(if deletes { 0.2 } else { 0.0 }), prop::option::weighted(0.8, 0_i64..6), cell(), cell());
        prop::collection::vec(row.prop_map(|(partition, key, delete, version, a, b)| Row { partition, key, delete, version, a, b }), 0..40)
    }

    fn check(given: &[Row], versioned: bool, before: &Stored) {
        check_under(given, WriteMode::Upsert, versioned, before, KeyEquality::Bytes);
    }

    /// Under [`KeyEquality::Database`] the table holds two keys each equal, as `citext` does `a` and `A`.
    fn check_under(given: &[Row], write: WriteMode, versioned: bool, before: &Stored, equality: KeyEquality) -> Compacted {
        let held = |row: &Row| Row { key: if equality == KeyEquality::Database { row.key / 2 } else { row.key }, ..row.clone() };
        let batch = batch(given, write, versioned, equality);
        let target = &batch.content.rows[0];
        let compacted = compact(&batch, target, batch.selection(target));
        let mut through_rounds = before.clone();
        for round in &compacted.rounds {
            let mut keys: Vec<i64> = round.rows.iter().map(|row| given[*row as usize].key).collect();
            assert!(keys.is_sorted(), "a round is sorted by key");
            keys.dedup();
            assert_eq!(keys.len(), round.rows.len(), "a key occurs once in a round");
            for row in &round.rows {
                assert_eq!(target.shapes[*row as usize], round.shape);
                apply(&mut through_rounds, &held(&given[*row as usize]), write, versioned);
            }
        }
        let mut one_by_one = before.clone();
        let mut in_order: Vec<&Row> = given.iter().collect();
        in_order.sort_by_key(|row| row.partition);
        for row in in_order {
            apply(&mut one_by_one, &held(row), write, versioned);
        }
        if equality == KeyEquality::Database {
            assert!(compacted.rounds.iter().all(|round| round.rows.len() == 1), "two rows of one statement could be one row of the table");
            assert_eq!(compacted.stale, 0, "only the table knows");
        }
        assert_eq!(through_rounds, one_by_one);
        compacted
    }

    #[test]
    fn the_first_row_after_the_last_delete_is_kept() {
        let row = |delete| Row { partition: 0, key: 1, delete, version: None, a: None, b: None };
        for (deletes, kept, deduplicated) in [
            (&[false, false, false][..], &[0][..], 2),
            (&[false, false, true, false, false], &[2, 3], 2),
            (&[true, false, true], &[2], 0),
            (&[true, true, false], &[1, 2], 0),
        ] {
            let given: Vec<Row> = deletes.iter().map(|delete| row(*delete)).collect();
            let compacted = check_under(&given, WriteMode::InsertIfNew, false, &Stored::new(), KeyEquality::Bytes);
            let rows: Vec<u32> = compacted.rounds.iter().flat_map(|round| round.rows.clone()).collect();
            assert_eq!((rows.as_slice(), compacted.deduplicated), (kept, deduplicated), "{deletes:?}");
        }
    }

    proptest! {
        /// Compaction ends in exactly what row-by-row replay in (partition, offset) order ends in: shapes, nulls and deletes included.
        #[test]
        fn compaction_is_replay(given in rows(true), before in rows(false)) {
            let mut stored = Stored::new();
            before.iter().for_each(|row| apply(&mut stored, row, WriteMode::Upsert, false));
            check(&given, false, &stored);
        }

        /// The same under a version: stale rows are left out, equal versions go to the later record, NULL never wins over a value.
        #[test]
        fn compaction_is_replay_under_a_version(given in rows(true), before in rows(false)) {
            let mut stored = Stored::new();
            before.iter().for_each(|row| apply(&mut stored, row, WriteMode::Upsert, false));
            check(&given, true, &stored);
        }

        /// The same where keys that differ are one to the database, with and without a version.
        #[test]
        fn compaction_is_replay_where_only_the_database_knows_the_key(given in rows(true), before in rows(false), versioned in any::<bool>()) {
            let mut stored = Stored::new();
            before.iter().for_each(|row| apply(&mut stored, row, WriteMode::Upsert, false));
            check_under(&given, WriteMode::Upsert, versioned, &stored, KeyEquality::Database);
        }

        /// Under `insert-if-new` the first row of a key stays, and one after a delete makes the key anew.
        #[test]
        fn compaction_is_replay_under_insert_if_new(given in rows(true), before in rows(false), by_database in any::<bool>()) {
            let mut stored = Stored::new();
            before.iter().for_each(|row| apply(&mut stored, row, WriteMode::Upsert, false));
            let equality = if by_database { KeyEquality::Database } else { KeyEquality::Bytes };
            let compacted = check_under(&given, WriteMode::InsertIfNew, false, &stored, equality);
            let written: usize = compacted.rounds.iter().map(|round| round.rows.len()).sum();
            assert!(written + usize::try_from(compacted.deduplicated).unwrap() <= given.len(), "a row is counted once");
        }

        /// Under `accumulate` no row is left out: each changes what the one before it left.
        #[test]
        fn compaction_is_replay_under_accumulate(given in rows(true), before in rows(false), by_database in any::<bool>()) {
            let mut stored = Stored::new();
            before.iter().for_each(|row| apply(&mut stored, row, WriteMode::Upsert, false));
            let equality = if by_database { KeyEquality::Database } else { KeyEquality::Bytes };
            let compacted = check_under(&given, WriteMode::Accumulate, false, &stored, equality);
            assert_eq!(compacted.rounds.iter().map(|round| round.rows.len()).sum::<usize>(), given.len());
        }
    }
}
