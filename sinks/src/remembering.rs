//! A store that remembers events, put around a sink: what it knows is left out before a batch's transaction, and what the transaction has written
//! it is told after.
//!
//! The engine knows nothing of it: a batch is applied as ever, and what was left out counts as deduplicated. While the store cannot be
//! reached, no batch that asks for it is written: it fails, and is tried again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    checkpoint::{Checkpoint, CheckpointRow, Expired, Expiry, Held, StoredHalt},
    claim::{ClaimAnswer, ClaimRequest, Claimed, StartReason},
    dedup::{Dedup, Event, Generation, Reached, ScreenError},
    fault::{Fault, FaultClass},
    marks::{Marks, Place},
    model::{Batch, Delivery, NextOffset, Partition, Rows, Table, TableName},
    outcome::{SpanOutcome, Standing},
    planted,
    sink::{Applied, ApplyError, Sink, Writer},
};

/// How often the database is asked who holds a batch's partitions, within one attempt, because the store says that somebody else does.
const ROUNDS: usize = 3;

/// A sink and its checkpoints, with a store around them.
#[derive(Debug)]
pub struct Remembering {
    sink: Arc<dyn Sink>,
    around: Arc<Around>,
}

#[derive(Debug)]
struct Around {
    checkpoint: Arc<dyn Checkpoint>,
    store: Arc<dyn Dedup>,
    /// The claims of this worker, as the database gave them.
    claims: Mutex<HashMap<Partition, OwnClaim>>,
}

#[derive(Clone, Debug)]
struct OwnClaim {
    reached: Reached,
    /// The store has been told of it. Only when the first batch is screened: a claim whose lane is given away again at once, or of a topic
    /// that remembers nothing, never gets there.
    is_known: bool,
}

impl Remembering {
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>, checkpoint: Arc<dyn Checkpoint>, store: Arc<dyn Dedup>) -> Self {
        Self { sink, around: Arc::new(Around { checkpoint, store, claims: Mutex::default() }) }
    }
}

#[async_trait]
impl Sink for Remembering {
    async fn describe(&self, table: &TableName) -> Result<Table, Fault> {
        self.sink.describe(table).await
    }

    fn writer(&self) -> Box<dyn Writer> {
        Box::new(RememberingWriter { writer: self.sink.writer(), around: self.around.clone(), written: None })
    }
}

#[async_trait]
impl Checkpoint for Remembering {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimAnswer>, Fault> {
        let answers = self.around.checkpoint.claim(request).await?;
        let mut claims = self.around.claims();
        for answer in &answers {
            if let Ok(claimed) = &answer.result {
                let reached = Reached { partition: answer.partition.clone(), claim: claimed.claim.id, durable: holds(request, &answer.partition, claimed) };
                claims.insert(answer.partition.clone(), OwnClaim { reached, is_known: false });
            }
        }
        Ok(answers)
    }

    async fn outcome(&self, batch: &Batch) -> Result<Vec<SpanOutcome>, Fault> {
        self.around.checkpoint.outcome(batch).await
    }

    async fn read(&self, pipeline: &str) -> Result<Vec<CheckpointRow>, Fault> {
        self.around.checkpoint.read(pipeline).await
    }

    async fn note_halt(&self, pipeline: &str, partition: &Partition, held: Option<Held>, halt: Option<&StoredHalt>) -> Result<(), Fault> {
        self.around.checkpoint.note_halt(pipeline, partition, held, halt).await
    }

    async fn expire(&self, expiry: &Expiry) -> Result<Expired, Fault> {
        self.around.checkpoint.expire(expiry).await
    }

    async fn expire_tombstones(&self, pipeline: &str, retention: Duration) -> Result<bool, Fault> {
        self.around.checkpoint.expire_tombstones(pipeline, retention).await
    }

    fn database_id(&self) -> Arc<str> {
        self.around.checkpoint.database_id()
    }
}

/// What the database holds of a partition for certain. Where a checkpoint was moved back on purpose it is to be written again, so nothing above it
/// counts, though it was durable once.
fn holds(request: &ClaimRequest, partition: &Partition, claimed: &Claimed) -> NextOffset {
    let delivery = request.wanted.iter().find(|wanted| wanted.partition == *partition).map(|wanted| wanted.delivery);
    match (delivery, claimed.because) {
        (Some(Delivery::ExactlyOnce), StartReason::Checkpoint) => claimed.durable.min(claimed.next),
        _ => claimed.durable,
    }
}

/// A writer, and the last batch that it has written and the store has not been told of.
#[derive(Debug)]
struct RememberingWriter {
    writer: Box<dyn Writer>,
    around: Arc<Around>,
    written: Option<Written>,
}

/// A batch that is durable.
#[derive(Debug)]
struct Written {
    batch: Batch,
    /// Under which it was screened.
    generation: Generation,
}

#[async_trait]
impl Writer for RememberingWriter {
    async fn apply(&mut self, batch: &Batch) -> Result<Applied, ApplyError> {
        let ids = EventIds::of(batch);
        // Whoever asks nothing of the store does not wait for it.
        if ids.is_empty() {
            return self.writer.apply(batch).await;
        }
        // At most one batch of a writer is ever owed to the store: the next one waits for it.
        self.remember().await.map_err(ApplyError::Failed)?;
        let (known, generation) = self.around.screen(batch, &ids).await?;
        let screened = Batch { known, ..batch.clone() };
        if planted!(RemembersBeforeCommit) {
            self.written = Some(Written { batch: screened.clone(), generation: generation.clone() });
            self.remember().await.map_err(ApplyError::Failed)?;
        }
        // A reply that is lost ends here like a crash: whatever became of the batch, the store is not told.
        let applied = self.writer.apply(&screened).await?;
        self.around.has_come_to(&screened);
        self.written = Some(Written { batch: screened, generation });
        if let Err(fault) = self.remember().await {
            tracing::warn!(pipeline = %batch.pipeline, %fault, "what was written could not be remembered; tried again before the next batch");
        }
        Ok(applied)
    }
}

impl RememberingWriter {
    /// Tells the store what it is owed.
    async fn remember(&mut self) -> Result<(), Fault> {
        let Some(Written { batch, generation }) = &self.written else { return Ok(()) };
        let reached: Vec<Reached> =
            batch.spans.iter().map(|span| Reached { partition: span.partition.clone(), claim: span.claim.id, durable: span.to }).collect();
        let remembered = self.around.store.remember(generation, &reached, &new_events(batch)).await?;
        for partition in &remembered.passed_over {
            tracing::warn!(pipeline = %batch.pipeline, %partition, "another claim or a rewind came between: its last events are not remembered and may repeat");
        }
        self.written = None;
        Ok(())
    }
}

impl Around {
    fn claims(&self) -> MutexGuard<'_, HashMap<Partition, OwnClaim>> {
        // Whoever panicked held it for one assignment.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which rows of the batch are durable already, and under which generation that was said.
    async fn screen(&self, batch: &Batch, ids: &EventIds<'_>) -> Result<(Vec<Vec<u32>>, Generation), ApplyError> {
        for _ in 0..ROUNDS {
            self.tell_claims(batch).await.map_err(ApplyError::Failed)?;
            match self.store.screen(&ids.events()).await {
                Ok(screened) => return Ok((ids.known_rows(&screened.known), screened.generation)),
                Err(ScreenError::Failed(fault)) => return Err(ApplyError::Failed(fault)),
                Err(ScreenError::NotHeld(partitions)) => {
                    // Only the database knows who holds them.
                    let outcomes = self.checkpoint.outcome(batch).await.map_err(ApplyError::Failed)?;
                    let standings: Vec<(Partition, Standing)> = outcomes.into_iter().map(|outcome| (outcome.partition, outcome.standing)).collect();
                    if standings.iter().any(|(_, standing)| *standing != Standing::Mine) {
                        return Err(ApplyError::Fenced(standings));
                    }
                    let mut claims = self.claims();
                    for partition in &partitions {
                        if let Some(claim) = claims.get_mut(partition) {
                            claim.is_known = false;
                        }
                    }
                }
            }
        }
        Err(ApplyError::Failed(Fault::new(FaultClass::Retry, "redis-contended", "another worker makes claims of this batch's partitions known all the time")))
    }

    /// Tells the store of the batch's claims that it does not know yet.
    async fn tell_claims(&self, batch: &Batch) -> Result<(), Fault> {
        let untold: Vec<Reached> = {
            let claims = self.claims();
            let own = batch.spans.iter().filter_map(|span| claims.get(&span.partition).filter(|own| own.reached.claim == span.claim.id));
            own.filter(|own| !own.is_known).map(|own| own.reached.clone()).collect()
        };
        if untold.is_empty() {
            return Ok(());
        }
        let found = self.store.claimed(&untold).await?;
        for rewound in &found.rewound {
            let (partition, once, durable) = (&rewound.partition, rewound.once, rewound.durable);
            tracing::warn!(pipeline = %batch.pipeline, %partition, "the database went back from {once} to {durable}: nothing that was remembered before counts any more");
        }
        let mut claims = self.claims();
        for told in &untold {
            if let Some(own) = claims.get_mut(&told.partition).filter(|own| own.reached.claim == told.claim) {
                own.is_known = true;
            }
        }
        Ok(())
    }

    fn has_come_to(&self, batch: &Batch) {
        let mut claims = self.claims();
        for span in &batch.spans {
            if let Some(own) = claims.get_mut(&span.partition).filter(|own| own.reached.claim == span.claim.id) {
                own.reached.durable = own.reached.durable.max(span.to);
            }
        }
    }
}

/// The rows that ask something of a store: those of a route that remembers events, without those that are known of already.
fn new_rows(batch: &Batch) -> impl Iterator<Item = (usize, &Rows, Vec<u32>)> {
    // Rows without an id would all be one event: they are refused where the batch is applied.
    let remembering = batch.content.rows.iter().enumerate().filter(|(_, rows)| rows.target.remembers_events() && rows.event_ids.len() == rows.len());
    remembering.map(|(position, rows)| (position, rows, batch.without_known(position, batch.selection(rows))))
}

/// The event of one row.
fn event<'a>(batch: &'a Batch, rows: &'a Rows, row: u32) -> Event<'a> {
    let (partition, offset) = batch.place_in_log(rows, row);
    Event { partition, offset, route: &rows.target.route, id: rows.event_id(row), id_kind: rows.target.event_id }
}

/// The events of a batch that was screened, and so has each of them once.
fn new_events(batch: &Batch) -> Vec<Event<'_>> {
    new_rows(batch).flat_map(|(_, rows, selected)| selected.into_iter().map(move |row| event(batch, rows, row))).collect()
}

/// The events of a batch that a store is asked for: each once, with the first of its rows.
struct EventIds<'a> {
    batch: &'a Batch,
    /// Of each route.
    routes: Vec<(Vec<Place>, Marks<'a>)>,
}

impl<'a> EventIds<'a> {
    fn of(batch: &'a Batch) -> Self {
        let mut places: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
        for (position, rows, selected) in new_rows(batch).filter(|(.., selected)| !selected.is_empty()) {
            places.entry(&rows.target.route).or_default().extend(selected.into_iter().map(|row| Place { rows: position, row }));
        }
        let routes = places.into_values().map(|places| {
            let marks = Marks::of(batch, &places);
            (places, marks)
        });
        Self { batch, routes: routes.collect() }
    }

    fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    fn events(&self) -> Vec<Event<'a>> {
        let batch = self.batch;
        let places = self.routes.iter().flat_map(|(_, marks)| marks.places());
        places.map(|place| event(batch, &batch.content.rows[place.rows], place.row)).collect()
    }

    /// For each of the batch's rows those that need not be written: their event is durable, or comes earlier in this very batch.
    fn known_rows(&self, known: &[bool]) -> Vec<Vec<u32>> {
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.batch.content.rows.len()];
        let mut known = known.iter();
        for (places, marks) in &self.routes {
            let is_new: Vec<bool> = known.by_ref().take(marks.ids.len()).map(|known| !known).collect();
            let new = marks.new_rows(&is_new);
            for place in places.iter().filter(|place| new.binary_search(place).is_err()) {
                rows[place.rows].push(place.row);
            }
        }
        rows
    }
}
