//! One record and the row of its key.

use std::{sync::Arc, time::Instant};

use super::{
    Mistake,
    state::{Key, State, Tombstone},
};
use crate::{
    fault::{Fault, FaultClass},
    model::{Cell, Coordinate, Operation, Rows, Rule, WriteMode},
    testing::Value,
};

/// What a record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Applied,
    /// Something newer was there.
    Stale,
    /// Its row was there, and stays as it is.
    Found,
}

/// A record as plain values, in the order of the table's columns. None: absent.
type Given = Vec<Option<Value>>;

/// One record, the row that it meets, and the ways in which this sink is wrong.
struct Meeting<'a> {
    pipeline: &'a Arc<str>,
    rows: &'a Rows,
    given: Given,
    key: Key,
    /// Where the row of its key stands in the table.
    found: Option<usize>,
    /// The column of the version.
    version: Option<usize>,
    /// Where the record stands in the log.
    at: Coordinate,
    mistake: Option<Mistake>,
}

pub(super) fn apply(state: &mut State, pipeline: &Arc<str>, rows: &Rows, row: usize, at: Coordinate, mistake: Option<Mistake>) -> Result<Effect, Fault> {
    let given = given(state, rows, row, mistake)?;
    let key: Key = rows.target.key.iter().map(|position| given[rows.target.columns[*position]].clone().unwrap_or(Value::Null)).collect();
    let found = find(state, rows, &key);
    let version = rows.target.version.map(|position| rows.target.columns[position]).filter(|_| mistake != Some(Mistake::VersionsAreIgnored));
    let meeting = Meeting { pipeline, rows, given, key, found, version, at, mistake };
    match (rows.operations[row], rows.target.write) {
        (Operation::Write, WriteMode::Append) => meeting.append(state),
        (Operation::Write, mode) => meeting.write(state, mode),
        (operation, _) => meeting.tombstone(state, operation),
    }
}

/// Which row of the table has this key.
fn find(state: &State, rows: &Rows, key: &Key) -> Option<usize> {
    let key_of = |row: &Vec<Value>| rows.target.key.iter().map(|position| row[rows.target.columns[*position]].clone()).collect::<Key>();
    if rows.target.key.is_empty() { None } else { state.rows.iter().position(|row| key_of(row) == *key) }
}

/// NULL is older than every value; of equal versions neither is newer.
fn is_newer(than: &Value, version: &Value, mistake: Option<Mistake>) -> bool {
    if mistake == Some(Mistake::NullWins) && *version == Value::Null {
        return false;
    }
    // `Value::Null` is the least of all values.
    than > version
}

impl Meeting<'_> {
    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Whose tombstones are compared.
    fn place(&self) -> (Arc<str>, Key) {
        (if self.makes(Mistake::TombstonesAreOfAll) { "".into() } else { self.pipeline.clone() }, self.key.clone())
    }

    fn append(&self, state: &mut State) -> Result<Effect, Fault> {
        if self.makes(Mistake::AppendDropsRepeats) && state.rows.contains(&filled(&self.given)) {
            return Ok(Effect::Applied);
        }
        self.insert(state)
    }

    fn write(&self, state: &mut State, mode: WriteMode) -> Result<Effect, Fault> {
        if let Some(column) = self.version {
            let own = self.given[column].clone().unwrap_or(Value::Null);
            let tombstone = state.tombstones.get(&self.place()).filter(|_| !self.makes(Mistake::TombstonesAreIgnored));
            let row_is_newer = self.found.is_some_and(|row| is_newer(&state.rows[row][column], &own, self.mistake));
            if row_is_newer || tombstone.is_some_and(|tombstone| self.comes_too_late(tombstone, &own)) {
                return Ok(Effect::Stale);
            }
        }
        let makes_rows = mode != WriteMode::Update;
        if self.version.is_some() && (makes_rows || self.makes(Mistake::UpdatesForgetDeletes)) {
            state.tombstones.remove(&self.place());
        }
        match self.found {
            Some(_) if mode == WriteMode::InsertIfNew && !self.makes(Mistake::InsertIfNewOverwrites) => Ok(Effect::Found),
            Some(row) => self.change(state, row, mode),
            None if makes_rows || self.makes(Mistake::UpdateMakesRows) => self.insert(state),
            None => Ok(Effect::Applied),
        }
    }

    /// Of one version a write is later only behind the delete, in its partition. NULL is no version: what comes later is later.
    fn comes_too_late(&self, tombstone: &Tombstone, own: &Value) -> bool {
        let is_behind = self.at.partition == tombstone.deleted_by.partition && self.at.offset > tombstone.deleted_by.offset;
        let is_behind = is_behind || self.makes(Mistake::EqualVersionsGoByTime);
        is_newer(&tombstone.version, own, self.mistake) || (tombstone.version == *own && *own != Value::Null && !is_behind)
    }

    fn change(&self, state: &mut State, row: usize, mode: WriteMode) -> Result<Effect, Fault> {
        let target = &self.rows.target;
        let mut changed = state.rows[row].clone();
        for (position, column) in target.columns.iter().enumerate().filter(|(position, _)| !target.key.contains(position)) {
            if let Some(value) = &self.given[*column] {
                let rule = if mode == WriteMode::Accumulate { target.rule(position) } else { Rule::Replace };
                let rule = if self.makes(Mistake::SumsCountOnce) && rule == Rule::Add { Rule::Replace } else { rule };
                changed[*column] = take_into_account(&changed[*column], value, rule)?;
            }
        }
        store(state, Some(row), changed)
    }

    fn tombstone(&self, state: &mut State, operation: Operation) -> Result<Effect, Fault> {
        if self.makes(Mistake::DeletesAreIgnored) {
            return Ok(Effect::Applied);
        }
        if let Some(column) = self.version {
            let in_row = self.found.map(|row| state.rows[row][column].clone());
            let remembered = state.tombstones.get(&self.place()).map(|tombstone| tombstone.version.clone());
            let own = self.given[column].clone().filter(|version| *version != Value::Null);
            let version = match own {
                Some(own) => {
                    let is_older = [&in_row, &remembered].into_iter().flatten().any(|there| is_newer(there, &own, None));
                    if is_older && !self.makes(Mistake::OlderDeletesWin) {
                        return Ok(Effect::Stale);
                    }
                    own
                }
                None if self.makes(Mistake::DeletesHaveTheirOwnVersionOnly) => Value::Null,
                // Without one of its own it has that of what it deletes, and of the delete before.
                None => in_row.max(remembered).unwrap_or(Value::Null),
            };
            state.tombstones.insert(self.place(), Tombstone { version, deleted_by: self.at.clone(), at: Instant::now() });
        }
        let Some(row) = self.found else { return Ok(Effect::Applied) };
        if operation == Operation::Delete || self.makes(Mistake::MarksDelete) {
            state.rows.remove(row);
            return Ok(Effect::Applied);
        }
        let mut changed = state.rows[row].clone();
        for (column, value) in self.given.iter().enumerate() {
            match value {
                // A version that is none leaves that of the row.
                Some(Value::Null) if self.version == Some(column) => {}
                Some(value) => changed[column] = value.clone(),
                None => {}
            }
        }
        store(state, Some(row), changed)
    }

    fn insert(&self, state: &mut State) -> Result<Effect, Fault> {
        let is_made_up = self.makes(Mistake::RequiredColumnsAreMadeUp);
        let mut row = filled(&self.given);
        for (position, column) in state.layout.columns.iter().enumerate().filter(|(position, column)| column.required && self.given[*position].is_none()) {
            if !is_made_up {
                return Err(Fault::new(FaultClass::Poison, "required-column-absent", format!("a new row needs {}", column.name)).with_column(column.name));
            }
            row[position] = Value::Int(0);
        }
        store(state, None, row)
    }
}

fn take_into_account(old: &Value, new: &Value, rule: Rule) -> Result<Value, Fault> {
    Ok(match (rule, old, new) {
        (Rule::Replace, _, new) => new.clone(),
        (Rule::First, Value::Null, new) => new.clone(),
        (Rule::First, old, _) | (_, old, Value::Null) => old.clone(),
        (Rule::Coalesce, _, new) | (_, Value::Null, new) => new.clone(),
        (Rule::Max, old, new) => old.max(new).clone(),
        (Rule::Min, old, new) => old.min(new).clone(),
        (Rule::Add, Value::Int(old), Value::Int(new)) => match old.checked_add(*new) {
            Some(sum) => Value::Int(sum),
            None => return Err(Fault::new(FaultClass::Poison, "out-of-range", "a sum is larger than its column")),
        },
        (Rule::Add, ..) => return Err(Fault::new(FaultClass::Poison, "data", "only numbers are added")),
    })
}

fn filled(given: &Given) -> Vec<Value> {
    given.iter().map(|value| value.clone().unwrap_or(Value::Null)).collect()
}

/// Puts a row into the table, or in the place of another.
fn store(state: &mut State, at: Option<usize>, row: Vec<Value>) -> Result<Effect, Fault> {
    let key = state.layout.key;
    let is_null = |(position, column): &(usize, &crate::testing::ColumnLayout)| (column.required || *position < key) && row[*position] == Value::Null;
    if let Some((_, column)) = state.layout.columns.iter().enumerate().find(is_null) {
        return Err(Fault::new(FaultClass::Poison, "not-null", format!("{} takes no NULL", column.name)).with_column(column.name));
    }
    if key > 0 && state.rows.iter().enumerate().any(|(other, there)| Some(other) != at && there[..key] == row[..key]) {
        return Err(Fault::new(FaultClass::Poison, "unique", "the key is there already"));
    }
    match at {
        Some(at) => state.rows[at] = row,
        None => state.rows.push(row),
    }
    Ok(Effect::Applied)
}

/// The cells of a row in the order of the table's columns.
fn given(state: &State, rows: &Rows, row: usize, mistake: Option<Mistake>) -> Result<Given, Fault> {
    let mut given: Given = vec![None; state.layout.columns.len()];
    for (column, position) in rows.columns.iter().zip(&rows.target.columns) {
        let value = match column.cell(row) {
            Cell::Absent if mistake == Some(Mistake::AbsentIsNull) && rows.operations[row] == Operation::Write => Some(Value::Null),
            Cell::Absent => None,
            Cell::Null => Some(Value::Null),
            Cell::Bool(value) => Some(Value::Bool(value)),
            Cell::Int(value) => Some(Value::Int(value)),
            Cell::Text(value) => Some(Value::Text(value.to_owned())),
            Cell::Float(_) | Cell::Bytes(_) | Cell::Uuid(_) => {
                return Err(Fault::new(FaultClass::Poison, "data", "a value of a type that the table does not have"));
            }
        };
        match given.get_mut(*position) {
            Some(place) => *place = value,
            None => return Err(Fault::new(FaultClass::Changed, "missing-column", "the table has fewer columns than described")),
        }
    }
    Ok(given)
}
