//! What one database does with processed events. When something expires is decided in [`crate::generation`], the order of the steps in
//! [`crate::transaction`].

use async_trait::async_trait;

use crate::{
    fault::{Fault, FaultClass},
    generation::{Generation, Generations},
    model::{BatchId, NextOffset, Partition},
};

/// Event ids that a batch brings for one route.
#[derive(Clone, Copy, Debug)]
pub struct EventMarks<'a> {
    /// What [`ProcessedEvents::hold_generation`] has said in this transaction.
    pub generation: Generation,
    pub pipeline: &'a str,
    pub route: &'a str,
    /// Sorted by their bytes, each once.
    pub ids: &'a [&'a str],
    pub batch: BatchId,
}

/// The tables of processed events, in the transaction that is open on a session.
#[async_trait]
pub trait ProcessedEvents: Send {
    /// Says which generation takes new ids, and keeps it so until the transaction ends: transactions that went by two generations could
    /// each take the same id for new. Waits for a roll-over, which is the matter of a moment.
    async fn hold_generation(&mut self) -> Result<Generation, Fault>;

    /// Adds the ids that are not there yet. For each, whether this transaction has added it: it waits for others that add the same.
    async fn mark(&mut self, marks: &EventMarks<'_>) -> Result<Vec<bool>, Fault>;

    /// Keeps all others from emptying a table and from rolling over, until the session ends. `false`: somebody else is at it.
    async fn keep_house(&mut self) -> Result<bool, Fault>;

    /// Stores how long a pipeline wants its ids kept.
    async fn note_retention(&mut self, pipeline: &str, milliseconds: i64) -> Result<(), Fault>;

    /// Stores what Kafka has acknowledged as committed; never lowers it.
    async fn note_committed(&mut self, pipeline: &str, committed: &[(Partition, NextOffset)]) -> Result<(), Fault>;

    async fn generations(&mut self) -> Result<Generations, Fault>;

    /// Empties the table of the generation after `newest`, and notes that. Only while it is the newest, and under [`Self::keep_house`].
    async fn empty_next(&mut self, newest: Generation) -> Result<(), Fault>;

    /// Makes the generation after `newest` the newest one, once no transaction holds it. Only under [`Self::keep_house`].
    async fn roll_over(&mut self, newest: Generation) -> Result<(), Fault>;
}

/// Without it nobody can say which ids are known.
pub(crate) fn generation_is_gone() -> Fault {
    Fault::new(FaultClass::Halt, "bookkeeping-damaged", "oncesink_processed_event_generation has no row")
        .with_mend("restore the bookkeeping tables, or drop them and let `oncesink migrate` make them anew")
}
