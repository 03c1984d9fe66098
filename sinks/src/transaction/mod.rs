//! The transaction of a batch and of a claim, once for every database. The order of the statements is the lock order.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rand::{RngCore, SeedableRng, rngs::SmallRng};

use self::apply::SessionWriter;
use crate::{
    checkpoint::{Checkpoint, CheckpointRow, Expired, Expiry, Held, StoredHalt},
    claim::{ClaimAnswer, ClaimRequest, NotClaimed, Wanted},
    fault::{Fault, FaultClass},
    fence,
    model::{Batch, ClaimId, Partition, Table, TableName},
    outcome::SpanOutcome,
    session::{Database, LockWait},
    sink::{Sink, Writer},
};

mod apply;
mod claim;
mod expire;
mod tombstones;

/// A sink and its checkpoints in one transactional database.
#[derive(Debug)]
pub struct Transactional {
    database: Arc<dyn Database>,
    /// Whether its tables are there is the caller's care; the id proves that they were.
    id: Arc<str>,
    claim_ids: Mutex<SmallRng>,
}

impl Transactional {
    /// `seed` makes claim ids; it must be random wherever more than one process runs.
    #[must_use]
    pub fn new(database: Arc<dyn Database>, id: Arc<str>, seed: u64) -> Self {
        Self { database, id, claim_ids: Mutex::new(SmallRng::seed_from_u64(seed)) }
    }

    fn new_claim_id(&self) -> ClaimId {
        let mut random = self.claim_ids.lock().unwrap_or_else(PoisonError::into_inner);
        ClaimId(random.next_u64().cast_signed())
    }
}

#[async_trait]
impl Checkpoint for Transactional {
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<ClaimAnswer>, Fault> {
        let wanted: Vec<&Wanted> = request.wanted.iter().collect();
        let (mut answers, mut held) = self.claim_together(request, &wanted, LockWait::SkipLocked).await?;
        // A held row is somebody's transaction. Only a partition that is claimed alone waits for it; of several, the free ones must not.
        if wanted.len() == 1 && !held.is_empty() {
            (answers, held) = self.claim_together(request, &wanted, LockWait::Wait).await?;
        }
        let busy = Fault::new(FaultClass::Retry, "row-locked", "somebody's transaction holds the checkpoint row");
        answers.extend(held.into_iter().map(|partition| ClaimAnswer { partition, result: Err(NotClaimed::Failed(busy.clone())) }));
        Ok(answers)
    }

    async fn outcome(&self, batch: &Batch) -> Result<Vec<SpanOutcome>, Fault> {
        let mut session = self.database.connect().await?;
        session.begin().await?;
        let partitions = batch.partitions();
        let rows = session.lock(&batch.pipeline, &partitions, LockWait::Wait).await;
        // Only read: how the transaction ends does not matter.
        let _ = session.rollback().await;
        let rows = rows?;
        Ok(batch
            .spans
            .iter()
            .map(|span| {
                let row = rows.iter().find(|row| row.partition == span.partition);
                SpanOutcome {
                    partition: span.partition.clone(),
                    standing: fence::judge(span, batch.id, batch.delivery, row),
                    same_batch: row.is_some_and(|row| row.batch == batch.id),
                }
            })
            .collect())
    }

    async fn read(&self, pipeline: &str) -> Result<Vec<CheckpointRow>, Fault> {
        self.database.checkpoints(pipeline).await
    }

    async fn note_halt(&self, pipeline: &str, partition: &Partition, held: Option<Held>, halt: Option<&StoredHalt>) -> Result<(), Fault> {
        self.database.note_halt(pipeline, partition, held, halt).await
    }

    async fn expire(&self, expiry: &Expiry) -> Result<Expired, Fault> {
        self.expire_in_its_own_session(expiry).await
    }

    async fn expire_tombstones(&self, pipeline: &str, retention: Duration) -> Result<bool, Fault> {
        self.expire_tombstones_of(pipeline, retention).await
    }

    fn database_id(&self) -> Arc<str> {
        self.id.clone()
    }
}

#[async_trait]
impl Sink for Transactional {
    async fn describe(&self, table: &TableName) -> Result<Table, Fault> {
        self.database.describe(table).await
    }

    fn writer(&self) -> Box<dyn Writer> {
        Box::new(SessionWriter::new(self.database.clone()))
    }
}
