//! A batch that fails by something in it: cut in halves until one record, or one partition, is left to answer for it.

use std::sync::Arc;

use oncesink_sinks::{
    fault::{Fault, FaultClass},
    model::{Content, LeftOut, LeftOutBecause, RecordMark, Split},
    planted,
};

use super::{
    halt::{Halt, Met},
    run::Engine,
    writer::Pending,
};
use crate::route::OnBadRecord;

impl Engine {
    /// Something in the batch is at fault: the earlier half first, until it is one record, or one partition.
    pub fn split(&mut self, slot: usize, pending: Pending, fault: &Fault) {
        if let Some(whole) = self.halve(slot, pending) {
            self.poison(slot, whole, fault);
        }
    }

    /// Puts the batch back in two parts, the earlier one first; what cannot be cut comes back.
    pub fn halve(&mut self, slot: usize, pending: Pending) -> Option<Pending> {
        let Pending { batch, room } = pending;
        let fresh = self.new_batch_id();
        match batch.split(fresh) {
            Split::Parts(earlier, later) => {
                if !planted!(SplitLosesLaterHalf) {
                    self.writers[slot].queue.push_front(Pending { batch: later, room: room.clone() });
                }
                self.writers[slot].queue.push_front(Pending { batch: earlier, room });
                None
            }
            Split::Whole(batch) => Some(Pending { batch, room }),
        }
    }

    /// One record of one partition fails by itself.
    pub fn poison(&mut self, slot: usize, mut pending: Pending, fault: &Fault) {
        let Some(span) = pending.batch.spans.first().cloned() else { return };
        let Some(mark) = pending.batch.records().next().map(|(_, mark)| *mark) else {
            self.stop_at_write(&span.partition, Halt::fault(fault, span.from, Met::Write));
            return;
        };
        let skips = self.topics.get(&span.partition.topic).is_some_and(|plan| plan.routes.iter().all(|route| route.on_bad_record == OnBadRecord::Skip));
        if (fault.class != FaultClass::Poison && !planted!(WorldsFaultIsSkipped)) || !skips {
            self.stop_at_write(&span.partition, Halt::refused_record(fault, mark.offset));
            return;
        }
        tracing::warn!(record = %span.partition.at(mark.offset), reason = %fault, "record skipped");
        let routes = self.topics.get(&span.partition.topic).map(|plan| plan.routes.iter().map(|route| route.target.route.clone()).collect::<Vec<_>>());
        let left_out = routes.into_iter().flatten().map(|route| LeftOut { record: 0, route, because: LeftOutBecause::Skipped(fault.reason.clone()) }).collect();
        let mark = RecordMark { partition: 0, ..mark };
        pending.batch.content = Arc::new(Content { partitions: vec![span.partition], records: vec![mark], rows: Vec::new(), left_out });
        self.put_back(slot, pending);
    }
}
