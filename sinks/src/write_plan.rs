//! How the rows of one operation and one shape are written, decided once for every database, which only turns it into text. Pure.

use crate::{
    fault::{Fault, FaultClass, reason},
    model::{Generated, Identifier, Kind, Operation, Presence, Shape, Target, WriteMode},
    session::{Step, Written},
};

/// What is done with the rows. Under a guard, a row that is in the table and is not affected is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WritePlan {
    /// There is nothing in them to write.
    Nothing,
    /// Not a single column: each is a new row of defaults.
    Defaults,
    /// Each is a new row.
    Insert,
    /// A row that is there stays as it is, and is not stale for that: there is nothing to set in it, or nothing may be.
    InsertAbsent,
    /// The same, but the row is looked for first: no unique key would find it, or an insert would fail on a missing column before one did.
    LookElseInsert,
    Upsert,
    UpsertGuarded,
    /// An insert would fail on a missing column before it found the row that is there: what exists is updated, the rest inserted.
    UpdateElseInsert,
    /// What exists takes the values into account, the rest is inserted. A CHECK of the table is asked of a row before it is known to exist:
    /// where there may be one, an upsert would be refused for a row that it would never have stored (`-5`, where `balance >= 0`).
    Accumulate,
    /// Rows that are not there are left out.
    Update,
    UpdateGuarded,
    Delete,
    /// A delete that carries a version can lose; one that does not (a tombstone) cannot.
    DeleteGuarded,
}

/// Rows of one target and one shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsToWrite<'a> {
    pub target: &'a Target,
    pub shape: &'a Shape,
    /// The column (a position in the target) whose newer value wins.
    pub guard: Option<usize>,
}

/// What must hold of the version (a position in the target) in the table for a row to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionCondition {
    /// The rows carry no version, which counts as NULL: it wins over NULL only.
    IsNull(usize),
    /// NULL never wins over a value; NULL against NULL applies; of equal versions the later record wins.
    IsNullOrNotNewer(usize, VersionOrder),
}

/// How versions are compared, and the values of `max` and `min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionOrder {
    /// As compaction orders texts, whatever the column's collation.
    OfBytes,
    OfType,
}

impl<'a> RowsToWrite<'a> {
    pub fn of(step: &Step<'a>) -> Self {
        Self { target: &step.rows.target, shape: step.shape, guard: step.guard }
    }

    pub fn plan(&self, operation: Operation) -> WritePlan {
        let has_something_to_set = !self.settable().is_empty();
        match (operation, self.target.write) {
            (Operation::Delete, _) if self.version_carried().is_some() => WritePlan::DeleteGuarded,
            (Operation::Delete, _) => WritePlan::Delete,
            (Operation::Mark, _) | (Operation::Write, WriteMode::Update) if !has_something_to_set => WritePlan::Nothing,
            (Operation::Mark, _) | (Operation::Write, WriteMode::Update) if self.guard.is_some() => WritePlan::UpdateGuarded,
            (Operation::Mark, _) | (Operation::Write, WriteMode::Update) => WritePlan::Update,
            (Operation::Write, WriteMode::Append) if self.written().is_empty() => WritePlan::Defaults,
            (Operation::Write, WriteMode::Append) => WritePlan::Insert,
            (Operation::Write, _) if !has_something_to_set && self.target.key_is_unique() && self.lacking().is_empty() => WritePlan::InsertAbsent,
            (Operation::Write, WriteMode::InsertIfNew) => WritePlan::LookElseInsert,
            (Operation::Write, WriteMode::Upsert | WriteMode::Accumulate) if !has_something_to_set => WritePlan::LookElseInsert,
            (Operation::Write, WriteMode::Upsert | WriteMode::Accumulate) if !self.lacking().is_empty() => WritePlan::UpdateElseInsert,
            (Operation::Write, WriteMode::Accumulate) => WritePlan::Accumulate,
            (Operation::Write, WriteMode::Upsert) if self.guard.is_some() => WritePlan::UpsertGuarded,
            (Operation::Write, WriteMode::Upsert) => WritePlan::Upsert,
        }
    }

    /// No row may get into a table without its key, whatever the database would make of a NULL there.
    pub fn ensure_keys(&self, step: &Step<'_>) -> Result<(), Fault> {
        for position in &self.target.key {
            let column = step.rows.columns.get(*position);
            let missing = |row: &u32| column.is_none_or(|column| column.presence.get(*row as usize) != Some(&Presence::Value));
            if step.selection.iter().any(missing) {
                let name = self.target.column(*position).name.as_str();
                return Err(Fault::new(FaultClass::Poison, reason::NOT_NULL, format!("a row has no value in its key column {name}")).with_column(name));
            }
        }
        Ok(())
    }

    /// Columns that are sent and may be written.
    pub fn written(&self) -> Vec<usize> {
        self.shape.positions().filter(|position| self.target.column(*position).generated != Generated::Always).collect()
    }

    /// The columns among them that are set in a row that is there: those that are no key, and none under `insert-if-new`.
    pub fn settable(&self) -> Vec<usize> {
        if self.target.write == WriteMode::InsertIfNew {
            return Vec::new();
        }
        self.written().into_iter().filter(|position| !self.target.key.contains(position)).collect()
    }

    /// The key, and the version where it can decide.
    pub fn sent_for_delete(&self) -> Vec<usize> {
        let mut positions = self.target.key.clone();
        positions.extend(self.version_carried().filter(|version| !self.target.key.contains(version)));
        positions
    }

    /// Columns that an insert would need and the rows do not carry.
    pub fn lacking(&self) -> Vec<Identifier> {
        let carried: Vec<usize> = self.shape.positions().filter_map(|position| self.target.columns.get(position).copied()).collect();
        let columns = self.target.table.columns.iter().enumerate();
        columns
            .filter(|(index, column)| !column.nullable && !column.has_default && column.generated == Generated::No && !carried.contains(index))
            .map(|(_, column)| column.name.clone())
            .collect()
    }

    /// The insert of a row that is not there failed. If it lacked a column that it needs, that is the record's fault, and its name is known.
    pub fn required(&self, fault: Fault, code: &str) -> Fault {
        match &fault.column {
            Some(column) if fault.reason == reason::NOT_NULL && self.lacking().iter().any(|lacking| lacking.as_str() == column) => Fault::new(
                FaultClass::Poison,
                "required-column-absent",
                format!("a new row of {} needs column {column}, which the record lacks; {code}", self.target.table.name),
            )
            .with_column(column),
            _ => fault,
        }
    }

    /// What is said of rows whose key was there.
    pub fn found(&self, rows: u64) -> Written {
        let is_asked = self.target.write == WriteMode::InsertIfNew;
        Written { deduplicated: if is_asked { rows } else { 0 }, ..Written::default() }
    }

    /// How the values of a column are compared.
    pub fn order_of(&self, position: usize) -> VersionOrder {
        if matches!(self.target.column(position).kind, Kind::Text { .. }) { VersionOrder::OfBytes } else { VersionOrder::OfType }
    }

    /// None without a guard.
    pub fn version_condition(&self) -> Option<VersionCondition> {
        let guard = self.guard?;
        if self.version_carried().is_none() {
            return Some(VersionCondition::IsNull(guard));
        }
        Some(VersionCondition::IsNullOrNotNewer(guard, self.order_of(guard)))
    }

    /// The guard's column, if the rows carry it.
    fn version_carried(&self) -> Option<usize> {
        self.guard.filter(|guard| self.shape.0.get(*guard).copied().unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Table,
        sample::{self, column},
    };

    /// A key, a text that may be NULL and a number that may not.
    fn target(write: WriteMode) -> Target {
        let columns = vec![
            column("id", Kind::Int { bits: 32 }, "", false),
            column("note", Kind::Text { max_chars: None }, "", true),
            column("total", Kind::Int { bits: 64 }, "", false),
        ];
        sample::target("orders", columns, write)
    }

    fn planned(write: WriteMode, operation: Operation, present: [bool; 3], guard: Option<usize>) -> WritePlan {
        RowsToWrite { target: &target(write), shape: &Shape(Box::new(present)), guard }.plan(operation)
    }

    const ALL: [bool; 3] = [true; 3];
    const KEY: [bool; 3] = [true, false, false];
    const WITHOUT_TOTAL: [bool; 3] = [true, true, false];

    #[test]
    fn writes_follow_the_mode_of_their_target() {
        use WriteMode::{Append, Update, Upsert};
        let plan = |write, present, guard| planned(write, Operation::Write, present, guard);
        assert_eq!(plan(Append, [false; 3], None), WritePlan::Defaults);
        assert_eq!(plan(Append, WITHOUT_TOTAL, None), WritePlan::Insert);
        assert_eq!((plan(Update, ALL, None), plan(Update, ALL, Some(2))), (WritePlan::Update, WritePlan::UpdateGuarded));
        assert_eq!((plan(Upsert, ALL, None), plan(Upsert, ALL, Some(2))), (WritePlan::Upsert, WritePlan::UpsertGuarded));
    }

    #[test]
    fn a_shape_without_a_required_column_updates_first() {
        assert_eq!(planned(WriteMode::Upsert, Operation::Write, WITHOUT_TOTAL, None), WritePlan::UpdateElseInsert);
        let lacking = RowsToWrite { target: &target(WriteMode::Upsert), shape: &Shape(Box::new(WITHOUT_TOTAL)), guard: None }.lacking();
        assert_eq!(lacking, [Identifier::new("total")]);
    }

    #[test]
    fn what_has_nothing_to_set_does_nothing() {
        assert_eq!(planned(WriteMode::Update, Operation::Write, KEY, Some(2)), WritePlan::Nothing);
        assert_eq!(planned(WriteMode::Upsert, Operation::Write, KEY, Some(2)), WritePlan::LookElseInsert, "a new row needs its total");
    }

    #[test]
    fn a_row_that_is_there_stays_under_insert_if_new() {
        let target = target(WriteMode::InsertIfNew);
        let planned = |target: &Target, present: [bool; 3]| RowsToWrite { target, shape: &Shape(Box::new(present)), guard: None }.plan(Operation::Write);
        assert_eq!(planned(&target, ALL), WritePlan::InsertAbsent);
        assert_eq!(planned(&target, WITHOUT_TOTAL), WritePlan::LookElseInsert, "an insert would fail before it found the row");
        let mut table = Table::clone(&target.table);
        table.keys.clear();
        let keyless = Target { table: Arc::new(table), ..target.clone() };
        assert_eq!(planned(&keyless, ALL), WritePlan::LookElseInsert);
        let shape = Shape(Box::new(ALL));
        let rows = RowsToWrite { target: &target, shape: &shape, guard: None };
        assert!(rows.settable().is_empty());
        assert_eq!(rows.found(3), Written { stale: 0, deduplicated: 3 });
    }

    #[test]
    fn what_exists_is_looked_for_before_it_accumulates() {
        assert_eq!(planned(WriteMode::Accumulate, Operation::Write, ALL, None), WritePlan::Accumulate);
        assert_eq!(planned(WriteMode::Accumulate, Operation::Write, WITHOUT_TOTAL, None), WritePlan::UpdateElseInsert);
        assert_eq!(planned(WriteMode::Accumulate, Operation::Write, KEY, None), WritePlan::LookElseInsert);
        assert_eq!(planned(WriteMode::Accumulate, Operation::Delete, KEY, None), WritePlan::Delete);
    }

    #[test]
    fn a_tombstone_deletes_whatever_the_version() {
        assert_eq!(planned(WriteMode::Upsert, Operation::Delete, KEY, Some(2)), WritePlan::Delete);
        assert_eq!(planned(WriteMode::Upsert, Operation::Delete, [true, false, true], Some(2)), WritePlan::DeleteGuarded);
    }

    #[test]
    fn a_mark_makes_no_row() {
        assert_eq!(planned(WriteMode::Upsert, Operation::Mark, WITHOUT_TOTAL, None), WritePlan::Update);
        assert_eq!(planned(WriteMode::Upsert, Operation::Mark, ALL, Some(2)), WritePlan::UpdateGuarded);
        assert_eq!(planned(WriteMode::Upsert, Operation::Mark, KEY, None), WritePlan::Nothing);
    }

    #[test]
    fn rows_without_a_version_win_over_null_only() {
        let condition =
            |present: [bool; 3], guard| RowsToWrite { target: &target(WriteMode::Upsert), shape: &Shape(Box::new(present)), guard }.version_condition();
        assert_eq!(condition(ALL, None), None);
        assert_eq!(condition(WITHOUT_TOTAL, Some(2)), Some(VersionCondition::IsNull(2)));
        assert_eq!(condition(ALL, Some(2)), Some(VersionCondition::IsNullOrNotNewer(2, VersionOrder::OfType)));
        assert_eq!(condition(ALL, Some(1)), Some(VersionCondition::IsNullOrNotNewer(1, VersionOrder::OfBytes)));
    }
}
