//! The transaction of a batch and of a claim, once for every database. The order of the statements is the lock order.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use rand::{RngCore, SeedableRng, rngs::SmallRng};

use crate::{
    checkpoint::{Checkpoint, CheckpointRow, ClaimAnswer, ClaimRequest, Claimed, Held, NotClaimed, SpanOutcome, StoredHalt, Wanted},
    compact::compact,
    fault::{Fault, FaultClass, reason},
    fence::{self, Standing},
    model::{Batch, BatchId, Claim, ClaimId, Delivery, Epoch, NextOffset, Partition, Table, TableName},
    planted,
    session::{CommitError, Database, LockWait, Session, Step, finish},
    sink::{Applied, ApplyError, Sink, Writer},
    start,
};

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

    /// Claims these partitions in one transaction; those whose row somebody holds are left to the second value.
    async fn claim_together(&self, request: &ClaimRequest, wanted: &[&Wanted], wait: LockWait) -> Result<(Vec<ClaimAnswer>, Vec<Partition>), Fault> {
        let mut session = self.database.connect().await?;
        session.begin().await?;
        let claimed = self.claim_in(session.as_mut(), request, wanted, wait).await;
        match claimed {
            // A claim that took effect unseen costs an epoch and nothing else: the next one has a higher.
            Ok(claimed) => finish(session.as_mut()).await.map(|()| claimed),
            Err(fault) => {
                // The session is dropped after this either way; a rollback only frees its locks sooner.
                let _ = session.rollback().await;
                Err(fault)
            }
        }
    }

    async fn claim_in(
        &self,
        session: &mut dyn Session,
        request: &ClaimRequest,
        wanted: &[&Wanted],
        wait: LockWait,
    ) -> Result<(Vec<ClaimAnswer>, Vec<Partition>), Fault> {
        let topics: Vec<Arc<str>> = wanted.iter().map(|wanted| wanted.partition.topic.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let with_rows = session.topics_with_rows(&request.pipeline, &topics).await?;
        let mut partitions: Vec<Partition> = wanted.iter().map(|wanted| wanted.partition.clone()).collect();
        partitions.sort_unstable();
        let mut rows = session.lock(&request.pipeline, &partitions, wait).await?;

        let decided: Vec<_> = wanted
            .iter()
            .map(|wanted| {
                let row = rows.iter().find(|row| row.partition == wanted.partition);
                let topic_has_rows = with_rows.contains(&wanted.partition.topic);
                (*wanted, start::decide(row, topic_has_rows, wanted, request, &self.id))
            })
            .collect();

        // Rows that are missing: those of a topic that nobody ever claimed, all at once, and those of new partitions.
        let mut absent = Vec::new();
        for (wanted, decision) in &decided {
            if let Ok(start) = decision
                && !rows.iter().any(|row| row.partition == wanted.partition)
            {
                absent.push(never_claimed(request, &wanted.partition, wanted.delivery, start.next));
                let first_of_topic = !with_rows.contains(&wanted.partition.topic);
                let siblings = request.siblings.iter().filter(|(sibling, _)| first_of_topic && sibling.topic == wanted.partition.topic);
                for (sibling, next) in siblings {
                    if !partitions.contains(sibling) && !absent.iter().any(|row: &CheckpointRow| row.partition == *sibling) {
                        absent.push(never_claimed(request, sibling, wanted.delivery, *next));
                    }
                }
            }
        }
        if !absent.is_empty() {
            absent.sort_by(|left, right| left.partition.cmp(&right.partition));
            session.insert_absent(&request.pipeline, &absent).await?;
            let missing: Vec<Partition> = partitions.iter().filter(|partition| !rows.iter().any(|row| row.partition == **partition)).cloned().collect();
            rows.extend(session.lock(&request.pipeline, &missing, wait).await?);
        }

        let mut answers = Vec::new();
        let mut held = Vec::new();
        let mut taken = Vec::new();
        for (wanted, decision) in decided {
            let row = rows.iter().find(|row| row.partition == wanted.partition);
            match (row, decision) {
                // Decided without its row, because somebody holds it or has just made it: decided again once it is locked.
                (None, Ok(_) | Err(NotClaimed::NeedsCommitted)) => held.push(wanted.partition.clone()),
                // A row that was passed over because it is locked looks like none: a refusal because of that would be wrong.
                (None, Err(_)) if wait == LockWait::SkipLocked => held.push(wanted.partition.clone()),
                (Some(row), Ok(_)) => {
                    let topic_has_rows = with_rows.contains(&wanted.partition.topic);
                    // The row that is locked now decides: between the first look and the insert another worker may have claimed it.
                    let start = if row.claim.epoch == Epoch(0) && absent.iter().any(|made| made == row) {
                        start::decide(None, topic_has_rows, wanted, request, &self.id)
                    } else {
                        start::decide(Some(row), topic_has_rows, wanted, request, &self.id)
                    };
                    match start {
                        Ok(start) => {
                            let claimed = start::claimed(row, &start, self.new_claim_id(), wanted.delivery, &request.owner);
                            let result = Ok(Claimed {
                                claim: claimed.claim,
                                next: start.next,
                                durable: start.durable,
                                last: row.last.filter(|last| last.offset < start.next.get()),
                                because: start.because,
                                batch: row.batch,
                            });
                            taken.push(claimed);
                            answers.push(ClaimAnswer { partition: wanted.partition.clone(), result });
                        }
                        Err(refused) => answers.push(ClaimAnswer { partition: wanted.partition.clone(), result: Err(refused) }),
                    }
                }
                (_, Err(refused)) => answers.push(ClaimAnswer { partition: wanted.partition.clone(), result: Err(refused) }),
            }
        }
        if !taken.is_empty() {
            taken.sort_by(|left, right| left.partition.cmp(&right.partition));
            session.save(&request.pipeline, &taken).await?;
        }
        Ok((answers, held))
    }
}

/// The row of a partition that nobody has claimed yet.
fn never_claimed(request: &ClaimRequest, partition: &Partition, delivery: Delivery, next: NextOffset) -> CheckpointRow {
    CheckpointRow {
        partition: partition.clone(),
        claim: Claim::default(),
        next_offset: next,
        durable: NextOffset::ZERO,
        delivery,
        cluster: request.cluster.clone(),
        group: request.group.clone(),
        owner: request.owner.clone(),
        last: None,
        batch: BatchId::default(),
        halt: None,
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
        let partitions: Vec<Partition> = batch.spans.iter().map(|span| span.partition.clone()).collect();
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
        Box::new(SessionWriter { database: self.database.clone(), session: None })
    }
}

/// A writer and the connection it owns, if it has one.
#[derive(Debug)]
struct SessionWriter {
    database: Arc<dyn Database>,
    session: Option<Box<dyn Session>>,
}

#[async_trait]
impl Writer for SessionWriter {
    async fn apply(&mut self, batch: &Batch) -> Result<Applied, ApplyError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.database.connect().await.map_err(ApplyError::Failed)?,
        };
        match apply_in(session.as_mut(), batch).await {
            Ok(applied) => match session.commit().await {
                Ok(()) => {
                    self.session = Some(session);
                    Ok(applied)
                }
                Err(CommitError::Refused(fault)) => Err(ApplyError::Failed(fault)),
                Err(CommitError::Unknown(fault)) => Err(ApplyError::Unknown(fault)),
            },
            Err(error) => {
                // Kept only if it is known to be clean: a connection in doubt is closed, not used again. Nor is one that takes no writes:
                // after a failover it may lead to the old server, which goes on answering for ever.
                let is_clean = session.rollback().await.is_ok();
                let takes_writes = !matches!(&error, ApplyError::Failed(fault) if fault.reason == reason::READ_ONLY);
                if is_clean && takes_writes {
                    self.session = Some(session);
                }
                Err(error)
            }
        }
    }
}

/// Everything of a batch but its COMMIT.
async fn apply_in(session: &mut dyn Session, batch: &Batch) -> Result<Applied, ApplyError> {
    session.begin().await.map_err(ApplyError::Failed)?;
    let mut partitions: Vec<Partition> = batch.spans.iter().map(|span| span.partition.clone()).collect();
    if planted!(LocksOutOfOrder) {
        partitions.reverse();
    }
    let rows = session.lock(&batch.pipeline, &partitions, LockWait::Wait).await.map_err(ApplyError::Failed)?;
    let row_of = |partition: &Partition| rows.iter().find(|row| row.partition == *partition);
    let standings: Vec<(Partition, Standing)> =
        batch.spans.iter().map(|span| (span.partition.clone(), fence::judge(span, batch.id, batch.delivery, row_of(&span.partition)))).collect();
    if standings.iter().any(|(_, standing)| *standing != Standing::Mine) {
        return Err(ApplyError::Fenced(standings));
    }
    let moved: Vec<CheckpointRow> =
        batch.spans.iter().filter_map(|span| row_of(&span.partition).map(|row| fence::moved(row, span, batch.id, batch.delivery))).collect();
    session.save(&batch.pipeline, &moved).await.map_err(ApplyError::Failed)?;

    let mut stale = Vec::with_capacity(batch.content.rows.len());
    for rows in &batch.content.rows {
        let compacted = compact(batch, rows);
        let mut lost = compacted.stale;
        for round in &compacted.rounds {
            let guard = if planted!(NoVersionGuard) { None } else { rows.target.version };
            let shape = &rows.shape_table[round.shape as usize];
            let step = Step { rows, operation: round.operation, shape, selection: &round.rows, guard };
            lost += session.write(&step).await.map_err(ApplyError::Failed)?.stale;
        }
        stale.push(lost);
    }
    Ok(Applied { stale })
}
