//! A claim gives a partition to one worker, until the next claim.

use super::line;
use crate::{
    claim::NotClaimed,
    fault::FaultClass,
    model::{Epoch, NextOffset, TableName},
    refusal::Refusal,
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{Worker, partition, wanted},
    },
};

pub(super) async fn a_table_that_is_not_there_is_named(trial: &Trial) -> Result<(), Broken> {
    match trial.open().await?.sink.describe(&TableName::parse("never_made")).await {
        Err(fault) => {
            equal("a table that is not there is a halt", fault.class, FaultClass::Halt)?;
            equal("its reason is `missing-table`", &*fault.reason, "missing-table")?;
            holds("the fault names the table", &fault, fault.to_string().contains("never_made"))
        }
        Ok(table) => Err(Broken::new(format_args!("a table that is not there is described: {table:?}"))),
    }
}

/// Kafka's commits carry it: it tells one place from another, also from a copy that was made anew.
pub(super) async fn the_place_has_one_id(trial: &Trial) -> Result<(), Broken> {
    let (first, second) = (trial.open().await?, trial.open().await?);
    let id = first.checkpoint.database_id();
    equal("all processes see one id", second.checkpoint.database_id(), id.clone())?;
    holds("the id is a word without a slash, which ends it in Kafka's metadata", &id, !id.is_empty() && !id.contains('/'))
}

pub(super) async fn each_claim_has_a_higher_epoch_and_another_id(trial: &Trial) -> Result<(), Broken> {
    let mut first = trial.any_worker().await?;
    let batch = first.batch(&[line(1, "a"), line(2, "b")]);
    first.apply(&batch).await?;
    let second = trial.any_worker().await?;
    let (old, new) = (first.holding(0).claimed, second.holding(0).claimed);
    equal("the first claim has epoch 1", old.claim.epoch, Epoch(1))?;
    equal("the next claim has the next epoch", new.claim.epoch, Epoch(2))?;
    holds("each claim has an id of its own", (old.claim.id, new.claim.id), old.claim.id != new.claim.id)?;
    equal("a claim starts where the checkpoint is", (new.next, new.durable), (NextOffset::new(2), NextOffset::new(2)))?;
    equal("a claim tells of the record below its start", new.last, batch.spans[0].last)?;
    equal("a claim tells of the batch that moved the checkpoint", new.batch, batch.id)?;
    let row = second.row(0).await?;
    equal("the row holds the claim", row.claim, new.claim)?;
    equal("the row says who holds it", (&*row.owner, &*row.cluster, &*row.group), ("host/1", "cluster", "group"))
}

pub(super) async fn each_partition_is_answered_by_itself(trial: &Trial) -> Result<(), Broken> {
    let worker = trial.any_worker().await?;
    let mut request = worker.request.clone();
    request.wanted = vec![wanted(3), wanted(4)];
    request.wanted[0].held = Some(Epoch(9));
    let answers = worker.process.checkpoint.claim(&request).await?;
    equal("there is an answer for each partition", answers.len(), 2)?;
    for answer in answers {
        if answer.partition == partition(3) {
            equal("the refused one is refused", answer.result, Err(NotClaimed::Refused(Refusal::CheckpointGone { held: Epoch(9) })))?;
        } else {
            holds("the other one is claimed", &answer, answer.partition == partition(4) && answer.result.is_ok())?;
        }
    }
    Ok(())
}

pub(super) async fn pipelines_do_not_meet(trial: &Trial) -> Result<(), Broken> {
    let mut first = trial.any_worker().await?;
    first.write(&[line(1, "a")]).await?;
    let mut other: Worker = trial.worker_without_claim(trial.any_mode()).await?;
    other.request.pipeline = "another".into();
    equal("another pipeline has no checkpoints", other.process.checkpoint.read("another").await?.len(), 0)?;
    other.claim().await?;
    equal("another pipeline starts by itself", (other.holding(0).next, other.holding(0).claimed.claim.epoch), (NextOffset::ZERO, Epoch(1)))?;
    first.write(&[line(2, "b")]).await?;
    other.write(&[line(3, "c")]).await?;
    equal("each has its own checkpoint", (first.row(0).await?.next_offset, other.row(0).await?.next_offset), (NextOffset::new(2), NextOffset::new(1)))
}
