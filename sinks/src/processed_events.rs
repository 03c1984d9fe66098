//! What one database does with processed events. When something expires is decided in [`crate::generation`], the order of the steps in
//! [`crate::transaction`].

use async_trait::async_trait;
use xxhash_rust::xxh3::xxh3_64;

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

impl EventMarks<'_> {
    /// The number under which the ids of this route of this pipeline are kept, for good: if it changed, what is known would be known no
    /// more. Two routes share one with a chance of 1 : 2⁶⁴, and only then, and only where they bring the same id, one would take it for known.
    #[must_use]
    pub fn route_id(&self) -> i64 {
        xxh3_64(format!("{}\0{}", self.pipeline, self.route).as_bytes()).cast_signed()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn route_id(pipeline: &str, route: &str) -> i64 {
        EventMarks { generation: Generation(3), pipeline, route, ids: &[], batch: BatchId(1) }.route_id()
    }

    /// What is stored in databases hangs on it.
    #[test]
    fn the_number_of_a_route_never_changes() {
        assert_eq!(route_id("shop", "payments"), 942_195_350_987_865_771);
    }

    #[test]
    fn it_tells_pipelines_and_routes_apart() {
        let numbers = [route_id("a", "bc"), route_id("ab", "c"), route_id("abc", ""), route_id("", "abc"), route_id("a", "b"), route_id("b", "a")];
        assert!((1..numbers.len()).all(|index| !numbers[..index].contains(&numbers[index])), "{numbers:?}");
    }
}
