//! The offset is committed to Kafka before the rows; a crash between the two loses a batch.

use super::{line, starts::claim};
use crate::{
    claim::Committed,
    model::{Delivery, NextOffset},
    outcome::Standing,
    sink::ApplyError,
    start::commit_metadata,
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{Worker, partition},
    },
};

async fn worker(trial: &Trial) -> Result<Worker, Broken> {
    trial.worker_under(Delivery::AtMostOnce, trial.any_mode()).await
}

pub(super) async fn what_was_committed_is_not_read_again(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    worker.write(&[line(1, "a"), line(2, "b")]).await?;
    let row = worker.row(0).await?;
    equal("only what is durable moves", (row.delivery, row.next_offset, row.durable), (Delivery::AtMostOnce, NextOffset::ZERO, NextOffset::new(2)))?;
    let id = worker.process.checkpoint.database_id();
    let mut request = worker.request.clone();
    for (committed, next, lost) in [(None, 2, 0), (Some(1), 2, 0), (Some(7), 7, 5), (Some(7), 7, 5)] {
        request.wanted[0].committed =
            committed.map_or(Committed::Nothing, |next| Committed::At { next: NextOffset::new(next), metadata: commit_metadata(&id, Delivery::AtMostOnce) });
        let claimed = claim(&worker.process, &request).await?;
        let start = claimed.as_ref().map(|claimed| (claimed.next.get(), claimed.durable.get(), claimed.lost));
        holds("what is written is not read again, and what is lost is counted until a batch goes over it", &claimed, start == Ok((next, 2, lost)))?;
    }
    Ok(())
}

/// A batch that failed is lost: the next one begins behind it.
pub(super) async fn a_gap_is_passed_over(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    worker.write(&[line(1, "a")]).await?;
    worker.holdings[0].next = NextOffset::new(5);
    let mut batch = worker.batch(&[line(2, "b")]);
    batch.spans[0].durable = NextOffset::new(1);
    worker.apply(&batch).await?;
    equal("what lies between is passed", (trial.shown().await?, worker.row(0).await?.durable), (vec!["1|a".to_owned(), "2|b".to_owned()], NextOffset::new(6)))?;
    let applied = Err(ApplyError::Fenced(vec![(partition(0), Standing::Applied)]));
    equal("the same batch again is known by its id", worker.apply(&batch).await, applied)?;
    let mut restored = worker.batch(&[line(3, "c")]);
    restored.spans[0].durable = NextOffset::new(8);
    let rewound = Standing::Rewound { row: NextOffset::new(6), expected: NextOffset::new(8) };
    equal("a row that knows less than the worker went back", worker.apply(&restored).await, Err(ApplyError::Fenced(vec![(partition(0), rewound)])))
}
