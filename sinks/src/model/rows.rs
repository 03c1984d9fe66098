use std::sync::Arc;

use super::{Column, Presence, Strings, Target};

/// What a row does to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Write,
    /// Only the key columns of the row are present, and its version where it has one of its own.
    Delete,
    /// As a delete, but the row stays: the column that says so is present, too, and is set in a row that is there.
    Mark,
}

impl Operation {
    /// What a record without a value does.
    #[must_use]
    pub const fn is_tombstone(self) -> bool {
        matches!(self, Self::Delete | Self::Mark)
    }
}

/// The set of columns that a row carries: `true` where present (null or value). One statement a shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(pub Box<[bool]>);

impl Shape {
    /// Every column that `other` carries is carried here too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| *mine || !*theirs)
    }

    /// The positions that are present.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().filter_map(|(position, present)| present.then_some(position))
    }
}

/// Rows of one target as columns of the table's own types. Rows are only ever added; who is left out, an index says.
///
/// A row is built by pushing one cell to *every* column and then [`Rows::finish_row`], or taken back by [`Rows::abandon_row`].
#[derive(Clone, Debug)]
pub struct Rows {
    pub target: Arc<Target>,
    pub columns: Vec<Column>,
    /// For each row, its record: an index into [`super::Content::records`].
    pub records: Vec<u32>,
    pub operations: Vec<Operation>,
    /// For each row, an index into `shape_table`.
    pub shapes: Vec<u32>,
    pub shape_table: Vec<Shape>,
    /// For each row, the id of its event; empty where the target keeps none.
    pub event_ids: Strings,
}

impl Rows {
    #[must_use]
    pub fn new(target: Arc<Target>) -> Self {
        let columns = (0..target.columns.len()).map(|position| Column::for_kind(&target.column(position).kind)).collect();
        Self { target, columns, records: Vec::new(), operations: Vec::new(), shapes: Vec::new(), shape_table: Vec::new(), event_ids: Strings::default() }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Ends the row that was pushed to the columns; a column that got nothing is absent.
    pub fn finish_row(&mut self, record: u32, operation: Operation) {
        let row = self.len();
        for column in &mut self.columns {
            if column.presence.len() == row {
                column.push_nothing(Presence::Absent);
            }
        }
        let same = |shape: &Shape| shape.0.iter().zip(&self.columns).all(|(present, column)| *present == (column.presence[row] != Presence::Absent));
        let index = match self.shape_table.iter().position(same) {
            Some(index) => index,
            None => {
                self.shape_table.push(Shape(self.columns.iter().map(|column| column.presence[row] != Presence::Absent).collect()));
                self.shape_table.len() - 1
            }
        };
        self.records.push(record);
        self.operations.push(operation);
        // A batch has no more shapes than records, and those are numbered by a u32, too.
        self.shapes.push(u32::try_from(index).unwrap_or(u32::MAX));
    }

    /// Takes back the cells of a row that turned out to be bad.
    pub fn abandon_row(&mut self) {
        let row = self.len();
        for column in &mut self.columns {
            column.truncate(row);
        }
        self.event_ids.truncate(row);
    }

    /// Empty where the target keeps no events.
    #[must_use]
    pub fn event_id(&self, row: u32) -> &str {
        if row as usize >= self.event_ids.len() {
            return "";
        }
        // Only text that was checked to be UTF-8 is ever pushed.
        std::str::from_utf8(self.event_ids.get(row as usize)).unwrap_or_default()
    }

    #[must_use]
    pub fn shape(&self, row: u32) -> &Shape {
        &self.shape_table[self.shapes[row as usize] as usize]
    }

    /// Memory held by the rows.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum::<usize>() + self.records.capacity() * 9 + self.event_ids.bytes()
    }
}
