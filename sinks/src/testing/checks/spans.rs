//! A record belongs to a batch if and only if its offset lies in the batch's span of its partition.

use super::line;
use crate::{
    model::{BatchId, LastRecord, NextOffset, Split},
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{partition, request},
    },
};

/// Its records were filtered, or were control records: the checkpoint passes them all the same.
pub(super) async fn a_batch_without_rows_moves_the_checkpoint(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    worker.write(&[line(1, "a")]).await?;
    let last = worker.row(0).await?.last;
    let mut batch = worker.batch(&[line(9, "z")]);
    batch.content = std::sync::Arc::default();
    batch.spans[0].to = NextOffset::new(40);
    batch.spans[0].last = None;
    worker.apply(&batch).await?;
    let row = worker.row(0).await?;
    equal("the checkpoint moves", (row.next_offset, row.durable), (NextOffset::new(40), NextOffset::new(40)))?;
    equal("the last record that was read stays", row.last, last)?;
    equal("nothing is written", trial.shown().await?, ["1|a"])
}

pub(super) async fn only_what_lies_in_the_spans_is_written(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker_without_claim(trial.any_mode()).await?;
    worker.request = request(&[0, 1]);
    worker.claim().await?;
    let mut batch = worker.batch(&[line(1, "a"), line(2, "b").of(1), line(3, "c"), line(4, "d").of(1)]);
    batch.retain(|span| span.partition == partition(0));
    batch.spans[0].to = NextOffset::new(1);
    batch.spans[0].last = Some(LastRecord { offset: 0, timestamp: 5, hash: 6 });
    worker.apply(&batch).await?;
    equal("a partition that was left out of a batch, and what lies behind its span, is not written", trial.shown().await?, ["1|a"])?;
    let offsets = (worker.row(0).await?.next_offset, worker.row(1).await?.next_offset);
    equal("no more than the span is passed", offsets, (NextOffset::new(1), NextOffset::ZERO))
}

pub(super) async fn a_batch_that_is_split_tiles_the_log(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    let whole = worker.batch(&(0..7).map(|id| line(id, "x")).collect::<Vec<_>>());
    let mut parts = vec![whole];
    let mut number = 0;
    let mut applied = 0;
    while let Some(batch) = parts.pop() {
        number += 1;
        match batch.split(BatchId(number)) {
            Split::Parts(earlier, later) => parts.extend([later, earlier]),
            Split::Whole(one) => {
                worker.apply(&one).await?;
                applied += 1;
                equal("one record more is there", trial.shown().await?.len(), applied)?;
            }
        }
    }
    equal("every part was applied", applied, 7)?;
    equal("and all are passed", worker.row(0).await?.next_offset, NextOffset::new(7))
}

pub(super) async fn what_is_known_to_be_durable_is_left_out(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    let mut batch = worker.batch(&[line(1, "a"), line(2, "b"), line(3, "c")]);
    batch.known = vec![vec![0, 2]];
    let applied = worker.apply(&batch).await?;
    holds("what was screened out counts as deduplicated", &applied, applied.deduplicated == [2] && applied.stale == [0])?;
    equal("and is not written", trial.shown().await?, ["2|b"])?;
    equal("the checkpoint passes it", worker.row(0).await?.next_offset, NextOffset::new(3))
}
