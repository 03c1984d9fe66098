//! Of two writes with a version the newer wins, whatever order they come in.

use super::order;
use crate::{
    model::WriteMode,
    testing::{
        Broken,
        broken::equal,
        trial::Trial,
        worker::{NULL, int},
    },
};

pub(super) async fn an_older_version_is_stale(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::Upsert).await?.with_version("v");
    equal("over several batches", worker.stale_of(&[order(1, int(5), "five"), order(1, int(4), "four")]).await?, 1)?;
    equal("the newer stays", trial.shown().await?, ["1|5|five"])?;
    equal("of equal versions", worker.stale_of(&[order(1, int(5), "again")]).await?, 0)?;
    equal("the later record wins", trial.shown().await?, ["1|5|again"])?;
    let applied = worker.write(&[order(1, int(7), "seven"), order(1, int(6), "six"), order(2, int(1), "one"), order(1, int(7), "seventh")]).await?;
    equal("in one batch", applied.stale, [1])?;
    equal("the same holds", trial.shown().await?, ["1|7|seventh", "2|1|one"])
}

pub(super) async fn a_null_version_never_wins(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::Upsert).await?.with_version("v");
    equal("NULL against NULL", worker.stale_of(&[order(1, NULL, "first"), order(1, NULL, "second")]).await?, 0)?;
    equal("the later record wins", trial.shown().await?, ["1|-|second"])?;
    equal("NULL against a value", worker.stale_of(&[order(1, int(-5), "value"), order(1, NULL, "late")]).await?, 1)?;
    equal("the value stays", trial.shown().await?, ["1|-5|value"])
}

pub(super) async fn update_goes_by_the_version_too(trial: &Trial) -> Result<(), Broken> {
    trial.worker(WriteMode::Upsert).await?.write(&[order(1, int(5), "five"), order(2, NULL, "null")]).await?;
    let mut worker = trial.worker(WriteMode::Update).await?.with_version("v");
    let applied = worker.write(&[order(1, int(4), "late"), order(2, int(4), "four"), order(3, int(9), "none")]).await?;
    equal("a row that is not there is not stale", applied.stale, [1])?;
    equal("what is newer is written", trial.shown().await?, ["1|5|five", "2|4|four"])
}
