//! The deletes of a target with a version: which rows of a batch they make stale, and which of them are remembered. Pure.
//!
//! A delete takes the row away, and with it the version that older writes would lose against. So it leaves a tombstone with its version:
//! a write that comes late, from another partition perhaps, is compared with that. What a batch makes of rows and tombstones is what its
//! records make of them one by one, in (partition, offset) order.

use std::{cmp::Ordering, collections::BTreeMap};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    compact::compare_cells,
    model::{Batch, Cell, Coordinate, Operation, Partition, Rows, Target, WriteMode},
    planted,
    row_key::row_key,
    version::{Version, cell_of},
};

/// Whether the rows of a target are compared with tombstones.
#[must_use]
pub fn are_kept(target: &Target) -> bool {
    let has_version = target.version.is_some() && !planted!(NoVersionGuard);
    has_version && matches!(target.write, WriteMode::Upsert | WriteMode::Update)
}

/// The number of the lock that stands for a table of a pipeline, the same in every process. Two tables may share one: they then wait for
/// each other in vain, and nothing else.
#[must_use]
pub fn lock_number(pipeline: &str, table: &str) -> u32 {
    let hash = xxh3_64(format!("{pipeline}\0{table}").as_bytes());
    (hash >> 32) as u32
}

/// What a batch must know of the rows of one target before it writes them.
#[derive(Debug)]
pub struct KeyedRows<'a> {
    batch: &'a Batch,
    rows: &'a Rows,
    /// Sorted by key, and the rows of one key in (partition, offset) order.
    entries: Vec<(String, u32)>,
}

/// What a delete leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// None: the delete had no version, and neither had what it deleted.
    pub version: Option<Version>,
    /// The record that deleted.
    pub deleted_by: Coordinate,
}

/// What the database says of the keys of a batch.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The tombstones that there are, by key.
    pub tombstones: BTreeMap<String, Tombstone>,
    /// The rows that there are, each with its version, by the row of the batch that asked ([`KeyedRows::deleted`]).
    pub rows: BTreeMap<u32, Option<Version>>,
}

/// What becomes of the rows of a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// The rows that are written, in the order in which they were taken.
    pub selected: Vec<u32>,
    /// How many are left out: they lost against a tombstone, or a delete against a newer row.
    pub stale: u64,
    /// Tombstones to be written, sorted by key.
    pub left: Vec<(String, Tombstone)>,
    /// Keys whose tombstone goes, because a write came after it; sorted.
    pub removed: Vec<String>,
}

impl<'a> KeyedRows<'a> {
    /// `selection`: rows of `rows` that belong to `batch`.
    #[must_use]
    pub fn of(batch: &'a Batch, rows: &'a Rows, selection: &[u32]) -> Self {
        let mut entries: Vec<(String, u32)> = selection.iter().map(|row| (row_key(rows, *row), *row)).collect();
        let order = |row: u32| (batch.place_in_log(rows, row), row);
        entries.sort_unstable_by(|(left, left_row), (right, right_row)| left.cmp(right).then_with(|| order(*left_row).cmp(&order(*right_row))));
        Self { batch, rows, entries }
    }

    fn groups(&self) -> impl Iterator<Item = &[(String, u32)]> {
        self.entries.chunk_by(|(left, _), (right, _)| left == right)
    }

    /// Each key once, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        self.groups().filter_map(|group| group.first()).map(|(key, _)| key.as_str()).collect()
    }

    /// For each key that the batch deletes, the first row that does: its key columns say which row of the table is meant. Only of those must
    /// the version in the table be known; what a write finds there, its statement sees to.
    #[must_use]
    pub fn deleted(&self) -> Vec<u32> {
        self.groups().filter_map(|group| self.first_tombstone(group)).collect()
    }

    fn first_tombstone(&self, group: &[(String, u32)]) -> Option<u32> {
        group.iter().map(|(_, row)| *row).find(|row| self.rows.operations[*row as usize].is_tombstone())
    }

    /// What the records make of rows and tombstones, one by one.
    #[must_use]
    pub fn judge(&self, known: &Known) -> Judged {
        let mut judged = Judged::default();
        for group in self.groups() {
            let Some((key, _)) = group.first() else { continue };
            let found = known.tombstones.get(key);
            let deletes = self.first_tombstone(group);
            if found.is_none() && deletes.is_none() {
                judged.selected.extend(group.iter().map(|(_, row)| *row));
                continue;
            }
            let row = deletes.and_then(|row| known.rows.get(&row)).map(|version| cell_of(version.as_ref()));
            let mut state = KeyState { tombstone: found.map(Left::of), row, leaves: false };
            for (_, row) in group {
                if state.take(self.rows, *row, self.batch.place_in_log(self.rows, *row)) {
                    judged.selected.push(*row);
                } else {
                    judged.stale += 1;
                }
            }
            match state.tombstone {
                Some(left) if state.leaves => judged.left.push((key.clone(), left.kept())),
                None if found.is_some() => judged.removed.push(key.clone()),
                Some(_) | None => {}
            }
        }
        judged.selected.sort_unstable();
        judged
    }
}

/// A tombstone, kept or of this batch.
#[derive(Clone, Copy)]
struct Left<'a> {
    version: Cell<'a>,
    deleted_by: (&'a Partition, i64),
}

impl<'a> Left<'a> {
    fn of(tombstone: &'a Tombstone) -> Self {
        let Coordinate { partition, offset } = &tombstone.deleted_by;
        Self { version: cell_of(tombstone.version.as_ref()), deleted_by: (partition, *offset) }
    }

    fn kept(self) -> Tombstone {
        let (partition, offset) = self.deleted_by;
        Tombstone { version: Version::of(self.version), deleted_by: partition.at(offset) }
    }

    /// Whether a write of this version comes too late after the delete.
    ///
    /// Of equal versions the later one wins, and which that is only a partition can tell. Between two the delete stays: a write that is
    /// read once more after a crash would else bring its row back for good, since nothing reads the delete again.
    fn beats(&self, version: Cell<'_>, place: (&Partition, i64)) -> bool {
        if planted!(TombstoneIsIgnored) {
            return false;
        }
        match compare_cells(self.version, version) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal if planted!(EqualVersionLoses) => true,
            Ordering::Equal => is_value(version) && !(place.0 == self.deleted_by.0 && place.1 > self.deleted_by.1),
        }
    }
}

/// One key between two records.
struct KeyState<'a> {
    tombstone: Option<Left<'a>>,
    /// The version of the row, as far as it is known: what the table holds is asked only where something deletes it.
    row: Option<Cell<'a>>,
    /// A delete has left the tombstone, or changed it.
    leaves: bool,
}

impl<'a> KeyState<'a> {
    /// Whether the record of this row takes effect.
    fn take(&mut self, rows: &'a Rows, row: u32, place: (&'a Partition, i64)) -> bool {
        let version = rows.target.version.and_then(|position| rows.columns.get(position)).map_or(Cell::Absent, |column| column.cell(row as usize));
        let row_is_newer = self.row.is_some_and(|row| is_newer(row, version));
        match rows.operations[row as usize] {
            Operation::Write => {
                if row_is_newer || self.tombstone.is_some_and(|tombstone| tombstone.beats(version, place)) {
                    return false;
                }
                // An update makes no row, so that the tombstone stays the only one that knows of the delete.
                if rows.target.write == WriteMode::Upsert {
                    self.tombstone = None;
                    self.row = Some(version);
                } else if self.row.is_some() {
                    self.row = Some(version);
                }
                true
            }
            operation @ (Operation::Delete | Operation::Mark) => {
                let is_own = is_value(version);
                if is_own && (row_is_newer || self.tombstone.is_some_and(|tombstone| is_newer(tombstone.version, version))) {
                    return false;
                }
                // Without a version of its own a delete has that of what it deletes, and always takes effect.
                let version = if is_own { version } else { newer(self.row, self.tombstone.map(|tombstone| tombstone.version)) };
                self.tombstone = Some(Left { version, deleted_by: place });
                self.leaves = true;
                if operation == Operation::Delete {
                    self.row = None;
                } else if is_own && self.row.is_some() {
                    self.row = Some(version);
                }
                true
            }
        }
    }
}

fn is_value(version: Cell<'_>) -> bool {
    !matches!(version, Cell::Absent | Cell::Null)
}

/// NULL never wins over a value; of equal versions the later record wins.
fn is_newer(than: Cell<'_>, version: Cell<'_>) -> bool {
    compare_cells(than, version) == Ordering::Greater
}

/// The higher of two versions that there may be.
fn newer<'a>(row: Option<Cell<'a>>, tombstone: Option<Cell<'a>>) -> Cell<'a> {
    match (row, tombstone) {
        (Some(row), Some(tombstone)) if is_newer(tombstone, row) => tombstone,
        (Some(row), _) => row,
        (None, Some(tombstone)) => tombstone,
        (None, None) => Cell::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        compact::compact,
        model::{
            Content, KeyEquality, Kind, Partition, Presence, RecordMark, Target, Values,
            sample::{self, column},
        },
    };

    /// One record of a key; the payload tells it from all others.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Record {
        partition: u16,
        key: i64,
        operation: Operation,
        version: Option<i64>,
        payload: i64,
    }

    /// Columns of the table.
    const VERSION: usize = 1;
    const MARK: usize = 2;
    const PAYLOAD: usize = 3;

    #[derive(Clone, Debug, Default, PartialEq)]
    struct Tables {
        /// Version, whether it is marked, payload.
        rows: BTreeMap<i64, (Option<i64>, bool, i64)>,
        /// Version, partition and offset of the delete.
        tombstones: BTreeMap<i64, (Option<i64>, u16, i64)>,
    }

    impl Tables {
        /// What one record does, by itself. Whether it took effect.
        fn apply(&mut self, record: &Record, offset: i64, write: WriteMode) -> bool {
            let Record { partition, key, operation, version, payload } = *record;
            let (row, tombstone) = (self.rows.get(&key).map(|row| row.0), self.tombstones.get(&key).copied());
            // None, which is NULL, comes before every value.
            let loses = row.is_some_and(|row| row > version) || tombstone.is_some_and(|tombstone| tombstone.0 > version);
            let elsewhere = |(left, by, at): (Option<i64>, u16, i64)| left.is_some() && left == version && (by != partition || at >= offset);
            match operation {
                Operation::Write if loses || tombstone.is_some_and(elsewhere) => return false,
                Operation::Write if write == WriteMode::Update => {
                    self.rows.entry(key).and_modify(|row| *row = (version, false, payload));
                }
                Operation::Write => {
                    self.tombstones.remove(&key);
                    self.rows.insert(key, (version, false, payload));
                }
                Operation::Delete | Operation::Mark if version.is_some() && loses => return false,
                Operation::Delete | Operation::Mark => {
                    let left = version.or(row.flatten().max(tombstone.and_then(|tombstone| tombstone.0)));
                    self.tombstones.insert(key, (left, partition, offset));
                    if operation == Operation::Delete {
                        self.rows.remove(&key);
                    } else {
                        self.rows.entry(key).and_modify(|row| *row = (version.or(row.0), true, row.2));
                    }
                }
            }
            true
        }

        /// Applies a batch as the transaction does; gives how many were stale.
        fn apply_batch(&mut self, records: &[Record], first: i64, write: WriteMode, equality: KeyEquality) -> u64 {
            let batch = batch(records, first, write, equality);
            let rows = &batch.content.rows[0];
            let selection = batch.selection(rows);
            let keyed = KeyedRows::of(&batch, rows, &selection);
            let key_of = |row: u32| records[row as usize].key;
            let text = |key: i64| format!("{{\"id\":\"{key}\"}}");
            let known = Known {
                tombstones: self.tombstones.iter().map(|(key, left)| (text(*key), tombstone(*left))).collect(),
                rows: keyed.deleted().into_iter().filter_map(|row| Some((row, self.rows.get(&key_of(row))?.0.map(Version::Int)))).collect(),
            };
            let judged = keyed.judge(&known);
            let compacted = compact(&batch, rows, judged.selected.clone());
            let mut stale = judged.stale + compacted.stale;
            for row in compacted.rounds.iter().flat_map(|round| &round.rows) {
                let record = &records[*row as usize];
                let there = self.rows.get(&record.key).copied();
                match record.operation {
                    Operation::Write if there.is_some_and(|row| row.0 > record.version) => stale += 1,
                    Operation::Write if there.is_none() && write == WriteMode::Update => {}
                    Operation::Write => drop(self.rows.insert(record.key, (record.version, false, record.payload))),
                    Operation::Delete => drop(self.rows.remove(&record.key)),
                    Operation::Mark => {
                        self.rows.entry(record.key).and_modify(|row| *row = (record.version.or(row.0), true, row.2));
                    }
                }
            }
            let number = |key: &String| key[7..key.len() - 2].parse::<i64>().unwrap();
            for (key, left) in &judged.left {
                let version = left.version.as_ref().map(|version| match version {
                    Version::Int(version) => *version,
                    other => panic!("{other:?}"),
                });
                self.tombstones.insert(number(key), (version, left.deleted_by.partition.index as u16, left.deleted_by.offset));
            }
            for key in &judged.removed {
                assert!(self.tombstones.remove(&number(key)).is_some(), "only what is there is removed");
            }
            stale
        }
    }

    fn tombstone((version, partition, offset): (Option<i64>, u16, i64)) -> Tombstone {
        Tombstone { version: version.map(Version::Int), deleted_by: Partition::new("x", i32::from(partition)).at(offset) }
    }

    fn target(write: WriteMode, key_equality: KeyEquality) -> Arc<Target> {
        let int = |name: &str| column(name, Kind::Int { bits: 64 }, "bigint", name != "id");
        let columns = vec![int("id"), int("version"), column("deleted", Kind::Bool, "boolean", false), int("payload")];
        Arc::new(Target { key_equality, version: Some(VERSION), ..sample::target("t", columns, write) })
    }

    /// `first`: the offset of its first record, of whatever partition.
    fn batch(records: &[Record], first: i64, write: WriteMode, equality: KeyEquality) -> Batch {
        let partitions: Vec<Partition> = (0..3).map(|index| Partition::new("x", index)).collect();
        let mut content = Content { partitions, rows: vec![Rows::new(target(write, equality))], ..Content::default() };
        let int = |rows: &mut Rows, position: usize, value: i64| {
            let Values::Int(values) = &mut rows.columns[position].values else { panic!() };
            values.push(value);
            rows.columns[position].presence.push(Presence::Value);
        };
        for (index, record) in records.iter().enumerate() {
            content.records.push(RecordMark { offset: first + index as i64, timestamp: 0, hash: 0, partition: record.partition });
            let rows = &mut content.rows[0];
            int(rows, 0, record.key);
            match record.version {
                Some(version) => int(rows, VERSION, version),
                None if record.operation == Operation::Write => rows.columns[VERSION].push_nothing(Presence::Null),
                None => {}
            }
            if record.operation == Operation::Write {
                int(rows, PAYLOAD, record.payload);
            }
            if record.operation != Operation::Delete {
                let Values::Bool(values) = &mut rows.columns[MARK].values else { panic!() };
                values.push(record.operation == Operation::Mark);
                rows.columns[MARK].presence.push(Presence::Value);
            }
            rows.finish_row(index as u32, record.operation);
        }
        sample::batch(content, first + 1000)
    }

    /// Records of few keys and versions, in batches.
    fn batches(marks: bool) -> impl Strategy<Value = Vec<Vec<Record>>> {
        let operation =
            prop_oneof![3 => Just(Operation::Write), 2 => Just(if marks { Operation::Mark } else { Operation::Delete }), 1 => Just(Operation::Delete)];
        let record = (0_u16..3, 0_i64..4, operation, prop::option::weighted(0.7, 0_i64..8), any::<i64>());
        let record = record.prop_map(|(partition, key, operation, version, payload)| Record { partition, key, operation, version, payload });
        prop::collection::vec(prop::collection::vec(record, 1..12), 1..8)
    }

    /// What batches end in, and what their records by themselves do.
    fn check(batches: &[Vec<Record>], write: WriteMode, equality: KeyEquality) {
        let (mut by_batch, mut one_by_one) = (Tables::default(), Tables::default());
        if write == WriteMode::Update {
            // Nothing would ever be there.
            let rows: BTreeMap<i64, _> = (0..4).map(|key| (key, (None, false, 0))).collect();
            (by_batch.rows, one_by_one.rows) = (rows.clone(), rows);
        }
        for (number, batch) in batches.iter().enumerate() {
            let first = 100 * number as i64;
            let stale = by_batch.apply_batch(batch, first, write, equality);
            let mut in_order: Vec<(i64, &Record)> = (first..).zip(batch).collect();
            in_order.sort_by_key(|(_, record)| record.partition);
            let lost = in_order.into_iter().filter(|(offset, record)| !one_by_one.apply(record, *offset, write)).count() as u64;
            assert_eq!(by_batch, one_by_one, "{batch:?}");
            // Of an update that finds no row nobody can say that it lost; compaction counts it where a newer one came before it.
            assert!(stale <= lost || write == WriteMode::Update, "what is left out was stale");
        }
    }

    #[test]
    fn a_delete_leaves_its_version_even_if_it_deleted_nothing() {
        let record = |operation, version| Record { partition: 0, key: 1, operation, version, payload: 7 };
        let of = |records: &[Record]| {
            let mut tables = Tables::default();
            let stale: u64 = (0..).zip(records).map(|(offset, record)| tables.apply_batch(&[*record], offset, WriteMode::Upsert, KeyEquality::Bytes)).sum();
            (tables.rows.get(&1).map(|row| row.0), tables.tombstones.get(&1).map(|left| left.0), stale)
        };
        let (write, delete) = (Operation::Write, Operation::Delete);
        assert_eq!(of(&[record(delete, Some(5)), record(write, Some(4))]), (None, Some(Some(5)), 1));
        assert_eq!(of(&[record(delete, Some(5)), record(write, Some(5))]), (Some(Some(5)), None, 0), "of equal versions the later one wins");
        assert_eq!(of(&[record(write, Some(5)), record(delete, Some(5))]), (None, Some(Some(5)), 0));
        assert_eq!(of(&[record(write, Some(5)), record(delete, Some(4))]), (Some(Some(5)), None, 1), "an older delete is stale");
        assert_eq!(of(&[record(write, Some(5)), record(delete, None), record(write, Some(4))]), (None, Some(Some(5)), 1), "it has that of the row");
        assert_eq!(of(&[record(delete, Some(5)), record(delete, None), record(write, Some(4))]), (None, Some(Some(5)), 1), "or of the last delete");
        assert_eq!(of(&[record(delete, Some(5)), record(delete, Some(3)), record(write, Some(4))]), (None, Some(Some(5)), 2));
        assert_eq!(of(&[record(delete, None), record(write, None)]), (Some(None), None, 0));
        assert_eq!(of(&[record(delete, Some(1)), record(write, None)]), (None, Some(Some(1)), 1), "NULL never wins over a value");
        assert_eq!(of(&[record(write, None), record(delete, Some(1))]), (None, Some(Some(1)), 0));
    }

    /// At least once a write may be read again, and the delete that came after it from another partition is not.
    #[test]
    fn a_write_that_is_repeated_does_not_undo_a_delete_from_elsewhere() {
        let record = |partition, operation, version| Record { partition, key: 1, operation, version, payload: 7 };
        let (write, delete) = (record(1, Operation::Write, Some(5)), record(0, Operation::Delete, Some(5)));
        for delete in [delete, Record { version: None, ..delete }] {
            let mut tables = Tables::default();
            for (offset, record) in [(8, write), (3, delete), (8, write)] {
                tables.apply_batch(&[record], offset, WriteMode::Upsert, KeyEquality::Bytes);
            }
            assert_eq!((tables.rows.len(), tables.tombstones.get(&1)), (0, Some(&(Some(5), 0, 3))));
        }
        // Within one partition a repeat ends where it did before.
        let (write, delete) = (record(0, Operation::Write, Some(5)), record(0, Operation::Delete, None));
        let mut tables = Tables::default();
        for (offset, record) in [(1, write), (2, delete), (1, write)] {
            tables.apply_batch(&[record], offset, WriteMode::Upsert, KeyEquality::Bytes);
        }
        assert_eq!(tables.rows.len(), 0);
        tables.apply_batch(&[write], 3, WriteMode::Upsert, KeyEquality::Bytes);
        assert_eq!(tables.rows.len(), 1);
    }

    #[test]
    fn a_table_has_one_lock() {
        assert_eq!(lock_number("shop", "public.orders"), lock_number("shop", "public.orders"));
    }

    proptest! {
        /// A batch ends in exactly what its records end in one by one, in (partition, offset) order.
        #[test]
        fn a_batch_is_its_records(given in batches(false)) {
            check(&given, WriteMode::Upsert, KeyEquality::Bytes);
            check(&given, WriteMode::Upsert, KeyEquality::Database);
        }

        /// The same where tombstones mark the row, and where writes make none.
        #[test]
        fn a_batch_is_its_records_with_marks_and_updates(given in batches(true)) {
            check(&given, WriteMode::Upsert, KeyEquality::Bytes);
            check(&given, WriteMode::Update, KeyEquality::Bytes);
        }

        /// Whatever order they come in, writes and deletes with versions of their own end in the state of the highest.
        #[test]
        fn any_order_ends_in_the_highest_version(
            given in prop::collection::vec((0_u16..3, 0_i64..5, any::<bool>()), 1..40).prop_flat_map(|records| {
                let versions: Vec<i64> = (0..records.len() as i64).collect();
                (Just(records), Just(versions).prop_shuffle(), prop::collection::vec(1_usize..9, 40))
            })
        ) {
            let (records, versions, mut sizes) = given;
            let record = |((partition, key, deletes), version): ((u16, i64, bool), i64)| Record {
                partition, key, operation: if deletes { Operation::Delete } else { Operation::Write }, version: Some(version), payload: version,
            };
            let records: Vec<Record> = records.into_iter().zip(versions).map(record).collect();
            let mut expected: BTreeMap<i64, Record> = BTreeMap::new();
            for record in &records {
                let highest = expected.entry(record.key).or_insert(*record);
                if highest.version < record.version {
                    *highest = *record;
                }
            }
            let mut tables = Tables::default();
            let mut rest = records.as_slice();
            while !rest.is_empty() {
                let (batch, others) = rest.split_at(sizes.pop().unwrap_or(1).min(rest.len()));
                let first = (records.len() - rest.len()) as i64;
                tables.apply_batch(batch, first, WriteMode::Upsert, KeyEquality::Bytes);
                rest = others;
            }
            for (key, highest) in expected {
                let (row, tombstone) = (tables.rows.get(&key).map(|row| row.2), tables.tombstones.get(&key).map(|left| left.0));
                match highest.operation {
                    Operation::Write => prop_assert_eq!((row, tombstone), (Some(highest.payload), None)),
                    _ => prop_assert_eq!((row, tombstone), (None, Some(highest.version))),
                }
            }
        }
    }
}
