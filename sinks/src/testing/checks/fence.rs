//! Rows and checkpoint commit together, and only for who holds the partitions and goes on where they stand.

use super::line;
use crate::{
    fault::FaultClass,
    model::{BatchId, ClaimId, NextOffset},
    outcome::Standing,
    sink::ApplyError,
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{NULL, Record, int, partition, request},
    },
};

pub(super) async fn a_batch_moves_rows_and_checkpoint_together(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    let batch = worker.batch(&[line(1, "a"), line(2, "b")]);
    worker.apply(&batch).await?;
    equal("the rows are there", trial.shown().await?, ["1|a", "2|b"])?;
    let row = worker.row(0).await?;
    equal("the checkpoint is behind them", (row.next_offset, row.durable), (NextOffset::new(2), NextOffset::new(2)))?;
    equal("it remembers its batch", row.batch, batch.id)?;
    equal("it remembers the last record below it", row.last, batch.spans[0].last)?;
    equal("it remembers the claim", row.claim, worker.holding(0).claimed.claim)?;
    worker.write(&[line(3, "c")]).await?;
    equal("the next batch goes on there", trial.shown().await?, ["1|a", "2|b", "3|c"])?;
    equal("and so does the checkpoint", worker.row(0).await?.next_offset, NextOffset::new(3))
}

pub(super) async fn an_old_claim_is_fenced(trial: &Trial) -> Result<(), Broken> {
    let mut old = trial.any_worker().await?;
    old.write(&[line(1, "a")]).await?;
    let mut new = trial.any_worker().await?;
    let late = old.batch(&[line(2, "late")]);
    equal("who has lost the partition writes nothing", old.apply(&late).await, Err(ApplyError::Fenced(vec![(partition(0), Standing::Taken)])))?;
    equal("no row", trial.shown().await?, ["1|a"])?;
    equal("no checkpoint", new.row(0).await?.next_offset, NextOffset::new(1))?;
    new.write(&[line(2, "b")]).await?;
    equal("who holds it goes on", trial.shown().await?, ["1|a", "2|b"])
}

/// A database that was restored gives an epoch twice: the id tells the two claims apart.
pub(super) async fn a_claim_that_was_never_made_is_fenced(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    let taken = Err(ApplyError::Fenced(vec![(partition(0), Standing::Taken)]));
    let mut batch = worker.batch(&[line(1, "a")]);
    batch.spans[0].claim.id = ClaimId(batch.spans[0].claim.id.0.wrapping_add(1));
    equal("another claim of this epoch is another's", worker.apply(&batch).await, taken)?;
    let mut batch = worker.batch(&[line(1, "a")]);
    batch.spans[0].claim.epoch.0 += 1;
    let rewound = Standing::Rewound { row: NextOffset::ZERO, expected: NextOffset::ZERO };
    equal("a higher epoch than the row's: the database went back", worker.apply(&batch).await, Err(ApplyError::Fenced(vec![(partition(0), rewound)])))?;
    let batch = worker.batch(&[line(1, "a").of(5)]);
    equal("without a row nothing is written", worker.apply(&batch).await, Err(ApplyError::Fenced(vec![(partition(5), Standing::Gone)])))?;
    equal("no batch makes one", worker.process.checkpoint.read(&worker.request.pipeline).await?.len(), 1)?;
    equal("and there is no row in the table", trial.shown().await?, Vec::<String>::new())
}

pub(super) async fn a_batch_takes_effect_once(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    let batch = worker.batch(&[line(1, "a"), line(2, "b")]);
    worker.apply(&batch).await?;
    let applied = Err(ApplyError::Fenced(vec![(partition(0), Standing::Applied)]));
    equal("the same batch again", worker.apply(&batch).await, applied.clone())?;
    let mut renamed = batch.clone();
    renamed.id = BatchId(batch.id.0.wrapping_add(1));
    equal("the same records under another id", worker.apply(&renamed).await, applied)?;
    equal("nothing is there twice", trial.shown().await?, ["1|a", "2|b"])
}

pub(super) async fn a_batch_that_does_not_follow_is_fenced(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    worker.write(&[line(1, "a"), line(2, "b"), line(3, "c")]).await?;
    let mut ahead = worker.batch(&[line(9, "ahead")]);
    (ahead.spans[0].from, ahead.spans[0].to) = (NextOffset::new(5), NextOffset::new(6));
    let rewound = Standing::Rewound { row: NextOffset::new(3), expected: NextOffset::new(5) };
    equal("a gap is not passed over", worker.writer.apply(&ahead).await, Err(ApplyError::Fenced(vec![(partition(0), rewound)])))?;
    let mut behind = worker.batch(&[line(9, "behind")]);
    (behind.spans[0].from, behind.spans[0].to) = (NextOffset::new(1), NextOffset::new(2));
    let contradicts = Standing::Contradicts { row: NextOffset::new(3), expected: NextOffset::new(1) };
    equal("what was passed is not written again", worker.writer.apply(&behind).await, Err(ApplyError::Fenced(vec![(partition(0), contradicts)])))?;
    equal("nothing is written", trial.shown().await?, ["1|a", "2|b", "3|c"])?;
    equal("and no checkpoint moves", worker.row(0).await?.next_offset, NextOffset::new(3))
}

pub(super) async fn one_partition_that_is_taken_fences_the_whole_batch(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker_without_claim(trial.any_mode()).await?;
    worker.request = request(&[0, 1]);
    worker.claim().await?;
    let mut other = trial.worker_without_claim(trial.any_mode()).await?;
    other.request = request(&[1]);
    other.claim().await?;
    let batch = worker.batch(&[line(1, "a"), line(2, "b").of(1)]);
    let standings = vec![(partition(0), Standing::Mine), (partition(1), Standing::Taken)];
    equal("each partition is told, in order", worker.apply(&batch).await, Err(ApplyError::Fenced(standings)))?;
    equal("nothing of it is written", trial.shown().await?, Vec::<String>::new())?;
    equal("and no checkpoint moves", (worker.row(0).await?.next_offset, worker.row(1).await?.next_offset), (NextOffset::ZERO, NextOffset::ZERO))?;
    worker.write(&[line(1, "a")]).await?;
    other.write(&[line(2, "b").of(1)]).await?;
    equal("each goes on with its own", trial.shown().await?, ["1|a", "2|b"])
}

pub(super) async fn a_batch_that_fails_leaves_nothing(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    worker.write(&[line(1, "a")]).await?;
    let before = worker.row(0).await?;
    let batch = worker.batch(&[line(2, "b"), Record::write(vec![int(3), NULL]), line(4, "d")]);
    match worker.apply(&batch).await {
        Err(ApplyError::Failed(fault)) => equal("a value that its column refuses is the data's fault", fault.class, FaultClass::Poison)?,
        other => holds("a value that its column refuses is refused", other, false)?,
    }
    equal("no row of the batch stays", trial.shown().await?, ["1|a"])?;
    equal("and the checkpoint is as it was", worker.row(0).await?, before)?;
    worker.write(&[line(2, "b")]).await?;
    equal("the writer goes on", trial.shown().await?, ["1|a", "2|b"])
}
