use std::{borrow::Cow, sync::Arc};

use super::{Delivery, LastRecord, NextOffset, Partition, Rows, Span};
use crate::planted;

/// The random number of one batch, kept in the checkpoint row: it tells whether a lost COMMIT reply took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub i64);

/// A record that has no row for one of its routes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// An index into [`Content::records`].
    pub record: u32,
    pub route: Arc<str>,
    pub because: LeftOutBecause,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOutBecause {
    /// A filter, or nothing in it concerns the route.
    Filtered,
    /// It was bad by this rule, and the route says to leave such out.
    Skipped(Cow<'static, str>),
}

/// One record of a batch: enough to place it and to know it again, without its bytes.
#[derive(Clone, Copy, Debug)]
pub struct RecordMark {
    pub offset: i64,
    pub timestamp: i64,
    pub hash: i64,
    /// An index into [`Content::partitions`].
    pub partition: u16,
}

/// The decoded records of a batch. Shared and never changed: splitting and rebuilding only narrow the spans over it.
#[derive(Debug, Default)]
pub struct Content {
    pub partitions: Vec<Partition>,
    /// In the order in which they were taken; within a partition by offset.
    pub records: Vec<RecordMark>,
    /// One entry a target, in the order of the routes in the file.
    pub rows: Vec<Rows>,
    /// Counted once the batch is durable.
    pub left_out: Vec<LeftOut>,
}

impl Content {
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<RecordMark>() + self.rows.iter().map(Rows::bytes).sum::<usize>()
    }
}

/// What one transaction applies together or not at all.
///
/// A record belongs to the batch if and only if its offset lies in the batch's span of its partition.
#[derive(Clone, Debug)]
pub struct Batch {
    pub id: BatchId,
    pub pipeline: Arc<str>,
    pub delivery: Delivery,
    /// Sorted by topic and partition: that is the order in which their checkpoint rows are locked.
    pub spans: Vec<Span>,
    pub content: Arc<Content>,
    /// What was screened out of this very attempt: for each of [`Content::rows`] the rows whose event is durable already, sorted. Empty
    /// where nothing was screened. Never kept from one attempt to the next: a database that was restored since does not hold them.
    pub known: Vec<Vec<u32>>,
}

/// What a batch can be cut into.
#[derive(Debug)]
pub enum Split {
    /// The earlier part and the later part. Both keep the content; the earlier one is applied first.
    Parts(Batch, Batch),
    /// One record of one partition is left: what fails now is this record's fault, or this partition's.
    Whole(Batch),
}

impl Batch {
    /// The records of the batch, with their index into the content.
    pub fn records(&self) -> impl Iterator<Item = (usize, &RecordMark)> + '_ {
        let bounds = self.bounds();
        self.content
            .records
            .iter()
            .enumerate()
            .filter(move |(_, mark)| bounds[mark.partition as usize].is_some_and(|(from, to)| from <= mark.offset && mark.offset < to))
    }

    /// Which rows of `rows` belong to the batch, in the order in which they were taken.
    #[must_use]
    pub fn selection(&self, rows: &Rows) -> Vec<u32> {
        let bounds = self.bounds();
        let belongs = |row: &u32| {
            let mark = &self.content.records[rows.records[*row as usize] as usize];
            bounds[mark.partition as usize].is_some_and(|(from, to)| from <= mark.offset && mark.offset < to)
        };
        (0..u32::try_from(rows.len()).unwrap_or(u32::MAX)).filter(belongs).collect()
    }

    /// The rows of `selection` that are not known to be durable. `position`: an index into [`Content::rows`].
    #[must_use]
    pub fn without_known(&self, position: usize, mut selection: Vec<u32>) -> Vec<u32> {
        if let Some(known) = self.known.get(position).filter(|known| !known.is_empty()) {
            selection.retain(|row| known.binary_search(row).is_err());
        }
        selection
    }

    /// Where the record of a row stands: what one batch does is what its records do in this order.
    #[must_use]
    pub fn place_in_log(&self, rows: &Rows, row: u32) -> (&Partition, i64) {
        let mark = &self.content.records[rows.records[row as usize] as usize];
        (&self.content.partitions[mark.partition as usize], mark.offset)
    }

    /// In the order in which their checkpoint rows are locked.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        self.spans.iter().map(|span| span.partition.clone()).collect()
    }

    /// Leaves partitions out: they were given away, halted, or are not ours any more.
    pub fn retain(&mut self, keep: impl FnMut(&Span) -> bool) {
        self.spans.retain(keep);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    #[must_use]
    pub fn covers(&self, partition: &Partition) -> bool {
        self.spans.iter().any(|span| span.partition == *partition)
    }

    /// Cuts between partitions as long as there are several, then between records, in the middle.
    /// A cut never falls inside the rows of one record. `fresh` numbers the later part.
    #[must_use]
    pub fn split(mut self, fresh: BatchId) -> Split {
        if self.spans.len() > 1 {
            let mut later = self.clone();
            later.id = if planted!(HalvesShareTheirId) { self.id } else { fresh };
            later.spans = self.spans.split_off(self.spans.len() / 2);
            return Split::Parts(self, later);
        }
        let mut offsets: Vec<i64> = self.records().map(|(_, mark)| mark.offset).collect();
        offsets.sort_unstable();
        // A mark that is there twice would be cut off from itself for ever.
        offsets.dedup();
        if offsets.len() < 2 {
            return Split::Whole(self);
        }
        let cut = NextOffset::new(offsets[offsets.len() / 2]);
        let mut later = self.clone();
        later.id = if planted!(HalvesShareTheirId) { self.id } else { fresh };
        later.spans[0].from = if planted!(SplitLosesOneRecord) { NextOffset::after(cut.get()) } else { cut };
        later.spans[0].durable = later.spans[0].from;
        self.spans[0].to = cut;
        self.spans[0].last = self.last_record(&self.spans[0]);
        Split::Parts(self, later)
    }

    /// The last record of the content that lies in `span`.
    #[must_use]
    pub fn last_record(&self, span: &Span) -> Option<LastRecord> {
        let index = self.content.partitions.iter().rposition(|partition| *partition == span.partition)?;
        self.content
            .records
            .iter()
            .rev()
            .find(|mark| mark.partition as usize == index && span.from.get() <= mark.offset && mark.offset < span.to.get())
            .map(|mark| LastRecord { offset: mark.offset, timestamp: mark.timestamp, hash: mark.hash })
    }

    /// For each partition of the content, the offsets that belong to the batch.
    ///
    /// A partition that was given up and came again while the batch was filled is listed twice; only the later one counts.
    fn bounds(&self) -> Vec<Option<(i64, i64)>> {
        let partitions = &self.content.partitions;
        let bound = |(index, partition): (usize, &Partition)| {
            if partitions[index + 1..].contains(partition) && !planted!(ForgottenRowsReturn) {
                return None;
            }
            self.spans.iter().find(|span| span.partition == *partition).map(|span| (span.from.get(), span.to.get()))
        };
        partitions.iter().enumerate().map(bound).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;

    fn batch(offsets: &[i64]) -> Batch {
        let partition = Partition::new("x", 0);
        let mark = |offset: &i64| RecordMark { offset: *offset, timestamp: 0, hash: 0, partition: 0 };
        let content = Content { partitions: vec![partition], records: offsets.iter().map(mark).collect(), ..Content::default() };
        sample::batch(content, 100)
    }

    #[test]
    fn splitting_ends_at_one_record_even_if_its_mark_is_there_twice() {
        let Split::Parts(earlier, later) = batch(&[4, 7, 7]).split(BatchId(2)) else { panic!("two records are two parts") };
        assert_eq!((earlier.records().count(), later.records().count()), (1, 2));
        assert!(matches!(earlier.split(BatchId(3)), Split::Whole(_)));
        assert!(matches!(later.split(BatchId(4)), Split::Whole(_)));
    }
}
