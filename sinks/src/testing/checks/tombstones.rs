//! A delete takes the row away, and is remembered: what is older does not bring the row back.

use std::time::{Duration, Instant};

use super::{delete, order};
use crate::{
    model::WriteMode,
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{ABSENT, NULL, PIPELINE, Worker, int, request},
    },
};

async fn worker(trial: &Trial) -> Result<Worker, Broken> {
    Ok(trial.worker(WriteMode::Upsert).await?.with_version("v"))
}

pub(super) async fn a_write_that_is_older_than_a_delete_is_stale(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    equal("over several batches", worker.stale_of(&[order(1, int(5), "five"), delete(1, int(7)), order(1, int(6), "late")]).await?, 1)?;
    equal("the row stays away", trial.shown().await?, Vec::<String>::new())?;
    equal("an equal version", worker.stale_of(&[order(1, int(7), "seven")]).await?, 0)?;
    equal("is not older", trial.shown().await?, ["1|7|seven"])?;
    equal("a delete that comes before all that it deletes", worker.stale_of(&[delete(2, int(9)), order(2, int(8), "late")]).await?, 1)?;
    let applied = worker.write(&[order(3, int(1), "one"), delete(3, int(3)), order(3, int(2), "late"), delete(4, int(2)), order(4, int(3), "three")]).await?;
    equal("in one batch", applied.stale, [1])?;
    equal("the same holds", trial.shown().await?, ["1|7|seven", "4|3|three"])?;
    equal("NULL is older than any", worker.stale_of(&[order(2, NULL, "late")]).await?, 1)
}

pub(super) async fn a_delete_without_a_version_takes_that_of_its_row(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    equal("of the row", worker.stale_of(&[order(1, int(5), "five"), delete(1, ABSENT), order(1, int(4), "late")]).await?, 1)?;
    equal("of the last delete", worker.stale_of(&[delete(1, ABSENT), order(1, int(4), "late")]).await?, 1)?;
    equal("no more", worker.stale_of(&[order(1, int(5), "again")]).await?, 0)?;
    equal("of nothing, nothing", worker.stale_of(&[delete(2, ABSENT), order(2, int(1), "one")]).await?, 0)?;
    equal("and it always deletes", trial.shown().await?, ["1|5|again", "2|1|one"])
}

pub(super) async fn an_older_delete_is_stale(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    equal("older than the row", worker.stale_of(&[order(1, int(5), "five"), delete(1, int(4))]).await?, 1)?;
    equal("the row stays", trial.shown().await?, ["1|5|five"])?;
    equal("older than a delete", worker.stale_of(&[delete(2, int(5)), delete(2, int(3)), order(2, int(4), "late")]).await?, 2)?;
    equal("which keeps its version", trial.shown().await?, ["1|5|five"])
}

/// Which of the two is later nobody can tell, and a write that is read once more must not bring the row back.
pub(super) async fn of_one_version_in_two_partitions_the_delete_stays(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    worker.request = request(&[0, 1]);
    worker.claim().await?;
    let write = |id: i64, note: &str| order(id, int(5), note).of(1);
    equal("a write that comes after the delete", worker.stale_of(&[delete(1, int(5)), write(1, "late")]).await?, 1)?;
    equal("in one batch too", worker.write(&[delete(2, int(5)), write(2, "late")]).await?.stale, [1])?;
    equal("a delete that comes after the write", worker.stale_of(&[write(3, "five"), delete(3, int(5))]).await?, 0)?;
    equal("leaves nothing either", trial.shown().await?, Vec::<String>::new())?;
    equal("within a partition the later record counts", worker.stale_of(&[delete(4, int(5)), order(4, int(5), "four")]).await?, 0)?;
    equal("and is there", trial.shown().await?, ["4|5|four"])
}

pub(super) async fn an_update_forgets_no_delete(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    worker.stale_of(&[order(1, int(5), "five"), delete(1, int(6))]).await?;
    let mut updates = trial.worker(WriteMode::Update).await?.with_version("v");
    equal("an update makes no row", updates.stale_of(&[order(1, int(7), "seven")]).await?, 0)?;
    worker.claim().await?;
    equal("and the delete is remembered", worker.stale_of(&[order(1, int(5), "late")]).await?, 1)?;
    equal("for what is older", trial.shown().await?, Vec::<String>::new())
}

pub(super) async fn tombstones_are_of_their_pipeline(trial: &Trial) -> Result<(), Broken> {
    worker(trial).await?.stale_of(&[delete(1, int(6))]).await?;
    let mut other = trial.worker_without_claim(WriteMode::Upsert).await?.with_version("v");
    other.request = crate::claim::ClaimRequest { pipeline: "another".into(), ..request(&[0]) };
    other.claim().await?;
    equal("another pipeline knows nothing of it", other.stale_of(&[order(1, int(5), "five")]).await?, 0)?;
    equal("and writes", trial.shown().await?, ["1|5|five"])
}

pub(super) async fn tombstones_expire(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    let checkpoint = worker.process.checkpoint.clone();
    worker.stale_of(&[delete(1, int(6)), delete(2, int(6))]).await?;
    holds("no more are left for another look", (), !checkpoint.expire_tombstones(PIPELINE, Duration::from_secs(3_600)).await?)?;
    equal("they are kept for their retention", worker.stale_of(&[order(1, int(5), "late")]).await?, 1)?;
    checkpoint.expire_tombstones("another", Duration::ZERO).await?;
    equal("another pipeline's retention is its own", worker.stale_of(&[order(1, int(5), "late")]).await?, 1)?;
    // The clock of the place may count in milliseconds.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        checkpoint.expire_tombstones(PIPELINE, Duration::ZERO).await?;
        if worker.stale_of(&[order(1, int(5), "five")]).await? == 0 {
            break;
        }
        holds("an old tombstone goes once its retention is over", (), Instant::now() < deadline)?;
    }
    equal("then nothing is older", trial.shown().await?, ["1|5|five"])
}
