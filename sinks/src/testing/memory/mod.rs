//! A sink in memory: one mutex, one record after the other. It is what the others are compared with, so it shares none of their decisions,
//! and is written to be right at a glance, not to be fast.

mod batch;
mod claim;
mod mistake;
mod row;
mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;

pub use self::mistake::Mistake;
pub use self::state::JournalEntry;
use self::state::State;
use super::{
    Process, TableLayout, Value,
    fixture::{FixtureError, Place},
};
use crate::{
    checkpoint::{Checkpoint, CheckpointRow, Expired, Expiry, Held, StoredHalt},
    claim::{ClaimAnswer, ClaimRequest},
    fault::{Fault, FaultClass},
    model::{Batch, Delivery, Partition, Table, TableName},
    outcome::SpanOutcome,
    sink::{Applied, ApplyError, Sink, Writer},
};

/// A place in memory with every [`Feature`](super::Feature), and a sink to it. A clone is another process at the same place.
#[derive(Clone, Debug)]
pub struct MemorySink {
    state: Arc<Mutex<State>>,
    mistake: Option<Mistake>,
}

impl MemorySink {
    /// One empty table.
    #[must_use]
    pub fn with_table(layout: TableLayout) -> Self {
        Self { state: Arc::new(Mutex::new(State::of(layout))), mistake: None }
    }

    /// A sink that is wrong in one way, to see the contract find it.
    #[must_use]
    pub fn with_mistake(self, mistake: Mistake) -> Self {
        Self { mistake: Some(mistake), ..self }
    }

    /// The rows of the table, in the order in which they were made.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<Value>> {
        self.state().rows.clone()
    }

    /// The batches that took effect, in that order.
    #[must_use]
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.state().journal.clone()
    }

    /// No step here fails half-way, so a state behind a panic is a whole one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn describe(&self, table: &TableName) -> Result<Table, Fault> {
        let state = self.state();
        if table.schema.is_none() && (table.name.as_str() == state.layout.name || self.makes(Mistake::EveryTableIsThere)) {
            return Ok(state.describe());
        }
        Err(Fault::new(FaultClass::Halt, "missing-table", format!("there is no table {table}")).with_mend("create the table, or correct `table` in the route"))
    }

    fn writer(&self) -> Box<dyn Writer> {
        Box::new(MemoryWriter(self.clone()))
    }
}

#[derive(Debug)]
struct MemoryWriter(MemorySink);

#[async_trait]
impl Writer for MemoryWriter {
    async fn apply(&mut self, batch: &Batch) -> Result<Applied, ApplyError> {
        let before = if self.0.makes(Mistake::WritersOverwriteEachOther) {
            let seen = self.0.state().clone();
            tokio::task::yield_now().await;
            Some(seen)
        } else {
            None
        };
        let mut state = self.0.state();
        if let Some(before) = before {
            *state = before;
        }
        // All of it or nothing: what fails half-way has changed a copy.
        let mut after = state.clone();
        let applied = batch::apply(&mut after, batch, self.0.mistake);
        if applied.is_ok() || (self.0.makes(Mistake::FailedBatchesStay) && matches!(applied, Err(ApplyError::Failed(_)))) {
            *state = after;
        }
        applied
    }
}

#[async_trait]
impl Checkpoint for MemorySink {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimAnswer>, Fault> {
        Ok(claim::claim(&mut self.state(), request, self.mistake))
    }

    async fn outcome(&self, batch: &Batch) -> Result<Vec<SpanOutcome>, Fault> {
        Ok(batch::outcome(&self.state(), batch, self.mistake))
    }

    async fn read(&self, pipeline: &str) -> Result<Vec<CheckpointRow>, Fault> {
        let all = self.makes(Mistake::PipelinesMeet);
        let state = self.state();
        Ok(state.checkpoints.iter().filter(|((of, _), _)| all || **of == *pipeline).map(|(_, row)| row.clone()).collect())
    }

    async fn note_halt(&self, pipeline: &str, partition: &Partition, held: Option<Held>, halt: Option<&StoredHalt>) -> Result<(), Fault> {
        if let Some(row) = self.state().checkpoints.get_mut(&(pipeline.into(), partition.clone())) {
            let is_as_left = |held: Held| held.claim == row.claim && (row.delivery != Delivery::ExactlyOnce || held.next == row.next_offset);
            if held.is_none_or(is_as_left) || self.makes(Mistake::LateHaltsAreKept) {
                row.halt = halt.cloned().filter(|_| !self.makes(Mistake::HaltsAreForgotten));
            }
        }
        Ok(())
    }

    async fn expire(&self, expiry: &Expiry) -> Result<Expired, Fault> {
        Ok(self.state().expire(expiry, self.mistake))
    }

    async fn expire_tombstones(&self, pipeline: &str, retention: Duration) -> Result<bool, Fault> {
        let now = Instant::now();
        let keeps = self.makes(Mistake::TombstonesStayForEver);
        self.state().tombstones.retain(|(of, _), tombstone| keeps || **of != *pipeline || now.duration_since(tombstone.at) <= retention);
        Ok(false)
    }

    fn database_id(&self) -> Arc<str> {
        if self.makes(Mistake::EachProcessHasAnId) { format!("{:p}", &raw const *self).into() } else { self.state().id.clone() }
    }
}

#[async_trait]
impl Place for MemorySink {
    async fn open(&self) -> Result<Process, FixtureError> {
        Ok(Process::of(self.clone()))
    }

    async fn rows(&self) -> Result<Vec<Vec<Value>>, FixtureError> {
        Ok(Self::rows(self))
    }
}
