//! The events of a batch: which of its rows bring an id, and which repeat one that an earlier row brings. Pure.

use std::cmp::Ordering;

use crate::model::{Batch, Rows};

/// The event ids of rows of one target, each once, sorted by their bytes: in that order the database locks them, so that two batches
/// never wait for each other in a circle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks<'a> {
    pub ids: Vec<&'a str>,
    /// For each id, its first row in (partition, offset) order.
    rows: Vec<u32>,
}

impl<'a> Marks<'a> {
    /// `selection`: the rows of `rows` that belong to the batch.
    #[must_use]
    pub fn of(batch: &Batch, rows: &'a Rows, selection: &[u32]) -> Self {
        let order = |row: u32| {
            let mark = &batch.content.records[rows.records[row as usize] as usize];
            (&batch.content.partitions[mark.partition as usize], mark.offset, row)
        };
        let mut sorted: Vec<(&str, u32)> = selection.iter().map(|row| (rows.event_id(*row), *row)).collect();
        sorted.sort_unstable_by(|(left, left_row), (right, right_row)| match left.as_bytes().cmp(right.as_bytes()) {
            Ordering::Equal => order(*left_row).cmp(&order(*right_row)),
            unequal => unequal,
        });
        sorted.dedup_by(|(later, _), (earlier, _)| later == earlier);
        let (ids, rows) = sorted.into_iter().unzip();
        Self { ids, rows }
    }

    /// The rows whose event the database did not know, in the order in which they were taken. `is_new`: one for each id.
    #[must_use]
    pub fn new_rows(&self, is_new: &[bool]) -> Vec<u32> {
        let mut rows: Vec<u32> = self.rows.iter().zip(is_new).filter(|(_, is_new)| **is_new).map(|(row, _)| *row).collect();
        rows.sort_unstable();
        rows
    }
}
