//! The batch that is being filled: records are decoded straight into it.

use std::{borrow::Cow, sync::Arc};

use oncesink_sinks::{
    model::{Batch, BatchId, Claim, Content, Delivery, LastRecord, LeftOut, LeftOutBecause, NextOffset, Partition, RecordMark, Rows, Span, Target},
    planted,
};
use tokio::time::Instant;

use crate::{
    decode::{Bad, Decoded, rule},
    route::{OnBadRecord, RoutePlan},
    source::{Buffer, RecordRef},
};

/// Records of the partitions of one writer, under one delivery.
#[derive(Debug)]
pub struct OpenBatch {
    pub delivery: Delivery,
    pub opened: Instant,
    content: Content,
    spans: Vec<OpenSpan>,
    /// The span of the last record, where the next one most likely belongs.
    last_span: usize,
    /// Bytes of the keys and values that were decoded into it: what `batch.bytes` limits.
    payload: usize,
    /// What the buffer counts for it so far.
    room: Room,
}

/// Room in the buffer, given back when the last part of the batch is gone.
#[derive(Debug)]
pub struct Room {
    buffer: Arc<Buffer>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.buffer.release(self.bytes);
    }
}

#[derive(Debug)]
struct OpenSpan {
    partition: Partition,
    /// Its index in the content's partitions.
    index: u16,
    from: NextOffset,
    to: NextOffset,
    last: Option<LastRecord>,
}

/// A record that stops its partition.
#[derive(Debug)]
pub struct Stopped {
    pub bad: Bad,
    pub target: Arc<Target>,
}

impl OpenBatch {
    #[must_use]
    pub fn new(delivery: Delivery, buffer: &Arc<Buffer>) -> Self {
        let room = Room { buffer: buffer.clone(), bytes: 0 };
        Self { delivery, opened: Instant::now(), content: Content::default(), spans: Vec::new(), last_span: 0, payload: 0, room }
    }

    /// Decodes one record for all routes of its topic. `next` is the lane's: where its span begins if it is new here.
    ///
    /// # Errors
    /// [`Stopped`], if it is bad and a route says `halt`: the span then ends before it, whatever was decoded of it.
    pub fn add(&mut self, record: &RecordRef<'_>, next: NextOffset, routes: &mut [RoutePlan]) -> Result<(), Stopped> {
        self.decode(record, next, routes).inspect_err(|_| {
            // A span of nothing would still move its row: to the same offset, and without the halt that is noted there.
            self.spans.retain(|span| span.from < span.to);
        })
    }

    fn decode(&mut self, record: &RecordRef<'_>, next: NextOffset, routes: &mut [RoutePlan]) -> Result<(), Stopped> {
        let number = u32::try_from(self.content.records.len()).unwrap_or(u32::MAX);
        let identity = record.identity();
        self.payload += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let index = self.span(record.partition(), next).index;
        self.content.records.push(RecordMark { offset: identity.offset, timestamp: identity.timestamp, hash: identity.hash, partition: index });
        for route in routes {
            let rows = rows_of(&mut self.content.rows, &route.target);
            let because = match route.decoder.decode(record, number, rows) {
                Ok(Decoded::Row) => continue,
                Ok(Decoded::Filtered) => LeftOutBecause::Filtered,
                // Not one record is bad but the route: skipping would skip them all.
                Err(bad) if bad.rule == rule::NO_COLUMN_MATCHES => return Err(Stopped { bad, target: route.target.clone() }),
                Err(bad) => match route.on_bad_record {
                    OnBadRecord::Halt => return Err(Stopped { bad, target: route.target.clone() }),
                    OnBadRecord::Skip => {
                        tracing::warn!(record = %record.partition().at(record.offset), route = %route.target.route, reason = %bad, "record skipped");
                        LeftOutBecause::Skipped(Cow::Borrowed(bad.rule))
                    }
                },
            };
            self.content.left_out.push(LeftOut { record: number, route: route.target.route.clone(), because });
        }
        let beyond = i64::from(planted!(OffByOne));
        let span = self.span(record.partition(), next);
        span.to = NextOffset::new(NextOffset::after(record.offset).get().saturating_add(beyond));
        span.last = Some(identity);
        Ok(())
    }

    /// Moves the span of a partition over offsets that hold no visible record.
    pub fn pass(&mut self, partition: &Partition, next: NextOffset, to: NextOffset) {
        self.span(partition, next).to = to;
    }

    /// Leaves a partition out. Its rows stay where they are: no span covers them any more.
    pub fn forget(&mut self, partition: &Partition) {
        self.spans.retain(|span| span.partition != *partition);
    }

    #[must_use]
    pub fn covers(&self, partition: &Partition) -> bool {
        self.spans.iter().any(|span| span.partition == *partition)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.content.records.len().max(self.content.rows.iter().map(Rows::len).sum())
    }

    #[must_use]
    pub fn payload(&self) -> usize {
        self.payload
    }

    /// Has the buffer count what was decoded since.
    pub fn count_room(&mut self) {
        let bytes = self.content.bytes();
        self.room.buffer.add(bytes.saturating_sub(self.room.bytes));
        self.room.bytes = self.room.bytes.max(bytes);
    }

    /// Ends the batch. Claims are stamped on when it is handed to its writer.
    #[must_use]
    pub fn close(mut self, id: BatchId, pipeline: Arc<str>) -> (Batch, Room) {
        self.count_room();
        // Their order is the order in which their checkpoint rows are locked.
        self.spans.sort_unstable_by(|left, right| left.partition.cmp(&right.partition));
        let spans = self
            .spans
            .into_iter()
            .map(|span| Span { partition: span.partition, claim: Claim::default(), from: span.from, to: span.to, durable: span.from, last: span.last })
            .collect();
        (Batch { id, pipeline, delivery: self.delivery, spans, content: Arc::new(self.content), known: Vec::new() }, self.room)
    }

    fn span(&mut self, partition: &Partition, next: NextOffset) -> &mut OpenSpan {
        let is_of = |span: &OpenSpan| span.partition == *partition;
        if !self.spans.get(self.last_span).is_some_and(is_of) {
            self.last_span = self.spans.iter().position(is_of).unwrap_or_else(|| {
                // A partition that was forgotten and comes again gets a new index: its old rows must not come back.
                let index = u16::try_from(self.content.partitions.len()).unwrap_or(u16::MAX);
                self.content.partitions.push(partition.clone());
                self.spans.push(OpenSpan { partition: partition.clone(), index, from: next, to: next, last: None });
                self.spans.len() - 1
            });
        }
        &mut self.spans[self.last_span]
    }
}

/// The rows of this very target; a table that was described again is another target.
fn rows_of<'a>(rows: &'a mut Vec<Rows>, target: &Arc<Target>) -> &'a mut Rows {
    let position = match rows.iter().position(|rows| Arc::ptr_eq(&rows.target, target)) {
        Some(position) => position,
        None => {
            rows.push(Rows::new(target.clone()));
            rows.len() - 1
        }
    };
    &mut rows[position]
}
