//! The events of a batch: which of its rows bring an id, and which repeat one that an earlier row brings. Pure.

use crate::model::{Batch, Rows};

/// The event ids of the rows of one route, each once, sorted by their bytes: in that order the database locks them, so that two batches
/// never wait for each other in a circle.
///
/// A route may have several [`Rows`] in a batch: one for each of its topics, and others once its table is described again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks<'a> {
    pub ids: Vec<&'a str>,
    /// For each id, its first row in (partition, offset) order.
    first: Vec<Place>,
}

/// A row of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// An index into [`crate::model::Content::rows`].
    pub rows: usize,
    pub row: u32,
}

impl<'a> Marks<'a> {
    /// `places`: the rows of the route that belong to the batch.
    #[must_use]
    pub fn of(batch: &'a Batch, places: &[Place]) -> Self {
        let of = |place: Place| -> &'a Rows { &batch.content.rows[place.rows] };
        let order = |place: Place| (batch.place_in_log(of(place), place.row), place);
        let mut sorted: Vec<(&str, Place)> = places.iter().map(|place| (of(*place).event_id(place.row), *place)).collect();
        sorted.sort_unstable_by(|(left, left_place), (right, right_place)| left.cmp(right).then_with(|| order(*left_place).cmp(&order(*right_place))));
        sorted.dedup_by(|(later, _), (earlier, _)| later == earlier);
        let (ids, first) = sorted.into_iter().unzip();
        Self { ids, first }
    }

    /// For each of `ids` its first row.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.first
    }

    /// The rows whose event the database did not know, in the order in which they were taken. `is_new`: one for each id.
    #[must_use]
    pub fn new_rows(&self, is_new: &[bool]) -> Vec<Place> {
        let mut rows: Vec<Place> = self.first.iter().zip(is_new).filter(|(_, is_new)| **is_new).map(|(place, _)| *place).collect();
        rows.sort_unstable();
        rows
    }
}
