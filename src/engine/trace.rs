//! What the engines of a thread do, step by step, for the simulation: which states a lane goes through, and what its writer is given.
//!
//! Without the feature `faults` nothing of it is left.

use oncesink_sinks::model::{Batch, Partition};

#[cfg(feature = "faults")]
pub use recording::{Step, begin, take};

#[cfg(feature = "faults")]
mod recording {
    use std::cell::RefCell;

    use oncesink_sinks::model::{BatchId, Partition, Span};

    /// One step of an engine.
    #[derive(Clone, Debug)]
    pub enum Step {
        /// A lane goes from one state to another. Before the first one it is `new`; after the last one it is `given back`, `lost` or `replaced`.
        Lane { partition: Partition, from: &'static str, to: &'static str },
        /// A batch is handed to its writer.
        HandedOver { batch: BatchId, spans: Vec<Span> },
    }

    thread_local! {
        static STEPS: RefCell<Option<Vec<Step>>> = const { RefCell::new(None) };
    }

    /// Keeps the steps of whatever runs on this thread from now on, until they are taken.
    pub fn begin() {
        STEPS.set(Some(Vec::new()));
    }

    /// The steps since the last call.
    #[must_use]
    pub fn take() -> Vec<Step> {
        STEPS.with_borrow_mut(|steps| steps.as_mut().map(std::mem::take).unwrap_or_default())
    }

    pub(super) fn keep(step: impl FnOnce() -> Step) {
        STEPS.with_borrow_mut(|steps| {
            if let Some(steps) = steps {
                steps.push(step());
            }
        });
    }
}

#[cfg(feature = "faults")]
pub(super) fn lane(partition: &Partition, from: &'static str, to: &'static str) {
    recording::keep(|| Step::Lane { partition: partition.clone(), from, to });
}

#[cfg(not(feature = "faults"))]
pub(super) fn lane(_: &Partition, _: &'static str, _: &'static str) {}

#[cfg(feature = "faults")]
pub(super) fn handed_over(batch: &Batch) {
    recording::keep(|| Step::HandedOver { batch: batch.id, spans: batch.spans.clone() });
}

#[cfg(not(feature = "faults"))]
pub(super) fn handed_over(_: &Batch) {}
