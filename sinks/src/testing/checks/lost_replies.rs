//! The reply to a COMMIT may be lost; what became of the batch is in its checkpoint rows.

use super::line;
use crate::{
    outcome::{SpanOutcome, Standing},
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{partition, request},
    },
};

fn outcome(standing: Standing, same_batch: bool) -> Vec<SpanOutcome> {
    vec![SpanOutcome { partition: partition(0), standing, same_batch }]
}

pub(super) async fn a_lost_reply_is_judged_by_the_row(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    let asks = trial.open().await?.checkpoint;
    let batch = worker.batch(&[line(1, "a")]);
    equal("it did not take effect", asks.outcome(&batch).await?, outcome(Standing::Mine, false))?;
    worker.apply(&batch).await?;
    equal("it did", asks.outcome(&batch).await?, outcome(Standing::Applied, true))?;
    let other = worker.batch(&[line(2, "b")]);
    equal("another did", asks.outcome(&other).await?, outcome(Standing::Mine, false))?;
    let unknown = worker.batch(&[line(3, "c").of(5)]);
    let told = asks.outcome(&unknown).await?;
    equal("without a row there is nothing to tell", told.first().map(|told| told.standing.clone()), Some(Standing::Gone))
}

pub(super) async fn a_batch_is_known_after_its_partition_was_taken(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker_without_claim(trial.any_mode()).await?;
    worker.request = request(&[0, 1]);
    worker.claim().await?;
    let batch = worker.batch(&[line(1, "a"), line(2, "b").of(1)]);
    worker.apply(&batch).await?;
    let never = worker.batch(&[line(3, "c")]);
    let mut other = trial.any_worker().await?;
    let told = other.process.checkpoint.outcome(&batch).await?;
    let expected = [(partition(0), Standing::Taken, true), (partition(1), Standing::Applied, true)];
    equal(
        "the row of a new holder still names the batch",
        told.iter().map(|told| (told.partition.clone(), told.standing.clone(), told.same_batch)).collect::<Vec<_>>(),
        expected,
    )?;
    holds("it took effect in both", &told, told.iter().all(SpanOutcome::took_effect) && !SpanOutcome::are_torn(&told))?;
    equal("one that did not is not named", other.process.checkpoint.outcome(&never).await?, outcome(Standing::Taken, false))?;
    other.write(&[line(3, "c")]).await?;
    equal("after its next batch the new holder's is named", other.process.checkpoint.outcome(&batch).await?[0].same_batch, false)
}
