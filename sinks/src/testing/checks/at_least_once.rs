//! The offset is committed to Kafka after the rows; a crash between the two repeats a batch.

use super::{line, starts::claim};
use crate::{
    claim::{Committed, NotClaimed, StartReason},
    model::{BatchId, Delivery, NextOffset, WriteMode},
    outcome::Standing,
    refusal::Refusal,
    sink::ApplyError,
    start::commit_metadata,
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{Worker, partition},
    },
};

async fn worker(trial: &Trial, write: WriteMode) -> Result<Worker, Broken> {
    trial.worker_under(Delivery::AtLeastOnce, write).await
}

pub(super) async fn a_repeat_is_written_again(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial, WriteMode::Append).await?;
    let batch = worker.batch(&[line(1, "a")]);
    worker.apply(&batch).await?;
    let applied = Err(ApplyError::Fenced(vec![(partition(0), Standing::Applied)]));
    equal("the same batch, whose reply was lost, is known by its id", worker.apply(&batch).await, applied)?;
    let mut again = batch;
    again.id = BatchId(again.id.0.wrapping_add(1));
    worker.apply(&again).await?;
    equal("its records, delivered again, are not", trial.shown().await?, ["1|a", "1|a"])
}

pub(super) async fn the_floor_stays(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial, trial.any_mode()).await?;
    worker.write(&[line(1, "a"), line(2, "b")]).await?;
    let row = worker.row(0).await?;
    equal("the row knows its delivery", row.delivery, Delivery::AtLeastOnce)?;
    equal("only what is durable moves", (row.next_offset, row.durable), (NextOffset::ZERO, NextOffset::new(2)))?;
    let mut ahead = worker.batch(&[line(9, "ahead")]);
    (ahead.spans[0].from, ahead.spans[0].to) = (NextOffset::new(5), NextOffset::new(6));
    let rewound = Standing::Rewound { row: NextOffset::new(2), expected: NextOffset::new(5) };
    equal("a gap is not passed over", worker.writer.apply(&ahead).await, Err(ApplyError::Fenced(vec![(partition(0), rewound)])))?;
    let mut old = worker.batch(&[line(3, "c")]);
    let mut other = self::worker(trial, trial.any_mode()).await?;
    old.spans[0].from = NextOffset::ZERO;
    equal("an old claim is fenced", worker.writer.apply(&old).await, Err(ApplyError::Fenced(vec![(partition(0), Standing::Taken)])))?;
    other.holdings[0].next = NextOffset::new(2);
    other.write(&[line(3, "c")]).await?;
    equal("who holds it goes on", trial.shown().await?, ["1|a", "2|b", "3|c"])
}

pub(super) async fn commits_decide_the_start(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial, trial.any_mode()).await?;
    worker.write(&[line(1, "a"), line(2, "b")]).await?;
    let id = worker.process.checkpoint.database_id();
    let mut request = worker.request.clone();
    let ours = |next: i64| Committed::At { next: NextOffset::new(next), metadata: commit_metadata(&id, Delivery::AtLeastOnce) };
    request.wanted[0].committed = Committed::Unknown;
    equal("without an answer of Kafka's there is no start", claim(&worker.process, &request).await?, Err(NotClaimed::NeedsCommitted))?;
    request.wanted[0].committed = ours(3);
    let above = Refusal::CommittedAboveDurable { committed: NextOffset::new(3), durable: NextOffset::new(2) };
    equal("a commit above what is durable is of another time", claim(&worker.process, &request).await?, Err(NotClaimed::Refused(above)))?;
    for (committed, next, because) in [
        (Committed::Nothing, 0, StartReason::Checkpoint),
        (ours(1), 1, StartReason::CommittedOffset),
        (ours(2), 2, StartReason::CommittedOffset),
        (Committed::At { next: NextOffset::new(1), metadata: String::new() }, 1, StartReason::CommittedOffset),
    ] {
        let what = format!("the start by {committed:?}");
        request.wanted[0].committed = committed;
        let claimed = claim(&worker.process, &request).await?;
        let start = claimed.as_ref().map(|claimed| (claimed.next.get(), claimed.durable.get(), claimed.because));
        holds(&what, &claimed, start == Ok((next, 2, because)))?;
    }
    let floor = worker.row(0).await?.next_offset;
    equal("no claim moves the floor", floor, NextOffset::ZERO)
}
