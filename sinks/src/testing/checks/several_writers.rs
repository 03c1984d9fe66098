//! Several processes at once: whatever comes between, each record takes effect once.

use std::{collections::BTreeSet, sync::Arc};

use tokio::{sync::Barrier, task::JoinSet};

use super::{line, processed_events::repeats};
use crate::{
    fault::FaultClass,
    model::{NextOffset, WriteMode},
    sink::ApplyError,
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{PIPELINE, int, request},
    },
};

const WORKERS: i32 = 4;

/// The ends of all tasks, or what the first that failed says.
async fn all<T: 'static>(mut tasks: JoinSet<Result<T, Broken>>) -> Result<Vec<T>, Broken> {
    let mut ends = Vec::new();
    while let Some(end) = tasks.join_next().await {
        ends.push(end.map_err(|error| Broken::new(format_args!("a writer has panicked: {error}")))??);
    }
    Ok(ends)
}

/// They take one partition from each other all the time.
pub(super) async fn writers_take_turns(trial: &Trial) -> Result<(), Broken> {
    let mut tasks = JoinSet::new();
    for _ in 0..WORKERS {
        let mut worker = trial.worker(trial.any_mode()).await?;
        tasks.spawn(async move {
            let mut applied = 0;
            while applied < 10 {
                // The row says at which offset it was written.
                let batch = worker.batch(&[line(worker.holding(0).next.get(), "x")]);
                match worker.apply(&batch).await {
                    Ok(_) => applied += 1,
                    Err(ApplyError::Fenced(_)) => {
                        worker.claim().await?;
                        // So that a sink that fences whoever comes is given up in time.
                        tokio::task::yield_now().await;
                    }
                    Err(ApplyError::Failed(fault)) if fault.class == FaultClass::Retry => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        });
    }
    all(tasks).await?;
    let expected: Vec<String> = (0..40).map(|offset| format!("{offset}|x")).collect::<BTreeSet<_>>().into_iter().collect();
    let mut found = trial.shown().await?;
    found.sort_unstable();
    equal("the batches of all tile the log", found, expected)?;
    let rows = trial.open().await?.checkpoint.read(PIPELINE).await?;
    equal("and so says the checkpoint", rows.iter().map(|row| row.next_offset).collect::<Vec<_>>(), [NextOffset::new(40)])
}

pub(super) async fn writers_of_several_partitions_do_not_lose_each_other(trial: &Trial) -> Result<(), Broken> {
    let begin = Arc::new(Barrier::new(usize::try_from(WORKERS).unwrap_or(1)));
    let mut tasks = JoinSet::new();
    for index in 0..WORKERS {
        let mut worker = trial.worker_without_claim(trial.any_mode()).await?;
        worker.request = request(&[index]);
        worker.claim().await?;
        let begin = begin.clone();
        tasks.spawn(async move {
            begin.wait().await;
            let mut number = 0;
            while number < 20 {
                let id = i64::from(index) * 1_000 + number;
                let batch = worker.batch(&[line(id, "x").of(index)]);
                match worker.apply(&batch).await {
                    Ok(_) => number += 1,
                    Err(ApplyError::Failed(fault)) if fault.class == FaultClass::Retry => {}
                    Err(error) => return Err(error.into()),
                }
            }
            equal("its checkpoint is where its rows end", worker.row(index).await?.next_offset, NextOffset::new(20))
        });
    }
    all(tasks).await?;
    equal("every record of every writer is there", trial.rows().await?.len(), 80)?;
    let ids: BTreeSet<_> = trial.rows().await?.into_iter().map(|mut row| row.remove(0)).collect();
    equal("once", ids.len(), 80)
}

pub(super) async fn of_two_writers_one_brings_the_event(trial: &Trial) -> Result<(), Broken> {
    const EVENTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let begin = Arc::new(Barrier::new(2));
    let mut tasks = JoinSet::new();
    for index in 0..2 {
        let mut worker = trial.worker_without_claim(WriteMode::Append).await?.with_events("route");
        worker.request = request(&[index]);
        worker.claim().await?;
        let begin = begin.clone();
        tasks.spawn(async move {
            let mut known = 0;
            begin.wait().await;
            for (number, event) in (0..).zip(EVENTS) {
                known += repeats(&mut worker, &[line(number, "x").of(index).with_event(event)]).await?;
            }
            Ok(known)
        });
    }
    let known: u64 = all(tasks).await?.into_iter().sum();
    equal("one of the two finds each event known", known, EVENTS.len() as u64)?;
    let rows: Vec<_> = trial.rows().await?.into_iter().map(|mut row| Some(row.remove(0))).collect();
    equal("each has one row", rows, (0..6).map(int).collect::<Vec<_>>())
}

/// Who is answered has the partition until the next answer: two claims never have one epoch.
pub(super) async fn one_claim_at_a_time_holds(trial: &Trial) -> Result<(), Broken> {
    let begin = Arc::new(Barrier::new(usize::try_from(WORKERS).unwrap_or(1)));
    let mut tasks = JoinSet::new();
    for _ in 0..WORKERS {
        let mut worker = trial.worker_without_claim(trial.any_mode()).await?;
        let begin = begin.clone();
        tasks.spawn(async move {
            begin.wait().await;
            let mut epochs = Vec::new();
            for _ in 0..5 {
                worker.claim().await?;
                epochs.push(worker.holding(0).claimed.claim.epoch.0);
            }
            Ok(epochs)
        });
    }
    let mut epochs: Vec<i64> = all(tasks).await?.into_iter().flatten().collect();
    epochs.sort_unstable();
    let count = epochs.len();
    epochs.dedup();
    holds("each claim has its own epoch", &epochs, epochs.len() == count)
}
