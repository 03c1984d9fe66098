//! The transaction of a batch.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    checkpoint::CheckpointRow,
    compact::compact,
    fault::reason,
    fence,
    model::{Batch, Partition},
    outcome::Standing,
    planted,
    session::{CommitError, Database, LockWait, Session, Step},
    sink::{Applied, ApplyError, Writer},
};

/// A writer and the connection it owns, if it has one.
#[derive(Debug)]
pub(super) struct SessionWriter {
    database: Arc<dyn Database>,
    session: Option<Box<dyn Session>>,
}

impl SessionWriter {
    pub fn new(database: Arc<dyn Database>) -> Self {
        Self { database, session: None }
    }
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

    let mut applied = Applied::default();
    for rows in &batch.content.rows {
        let compacted = compact(batch, rows);
        let (mut stale, mut deduplicated) = (compacted.stale, compacted.deduplicated);
        for round in &compacted.rounds {
            let guard = if planted!(NoVersionGuard) { None } else { rows.target.version };
            let shape = &rows.shape_table[round.shape as usize];
            let step = Step { rows, operation: round.operation, shape, selection: &round.rows, guard };
            let written = session.write(&step).await.map_err(ApplyError::Failed)?;
            stale += written.stale;
            deduplicated += written.deduplicated;
        }
        applied.stale.push(stale);
        applied.deduplicated.push(deduplicated);
    }
    Ok(applied)
}
