//! A record without a value may leave its row, and say in a column that it was deleted.

use crate::{
    model::WriteMode,
    testing::{
        Broken, Value,
        broken::equal,
        trial::Trial,
        worker::{ABSENT, Record, bool, int, text},
    },
};

fn write(id: i64, version: i64, note: &str) -> Record {
    Record::write(vec![int(id), int(version), text(note), bool(false)])
}

fn mark(id: i64, version: Option<Value>) -> Record {
    Record::mark(vec![int(id), version, ABSENT, bool(true)])
}

pub(super) async fn a_mark_keeps_the_row(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::Upsert).await?;
    worker.stale_of(&[write(1, 1, "a"), mark(1, ABSENT), mark(2, ABSENT)]).await?;
    equal("a mark sets its column, and makes no row", trial.shown().await?, ["1|1|a|true"])?;
    worker.write(&[mark(1, ABSENT), write(1, 2, "b"), write(3, 1, "c"), mark(3, ABSENT)]).await?;
    equal("the next write clears it", trial.shown().await?, ["1|2|b|false", "3|1|c|true"])
}

pub(super) async fn a_mark_is_remembered_by_its_version(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::Upsert).await?.with_version("v");
    equal("one is older", worker.stale_of(&[write(1, 5, "five"), mark(1, ABSENT), write(1, 4, "late")]).await?, 1)?;
    equal("without a version of its own it has that of the row", trial.shown().await?, ["1|5|five|true"])?;
    equal("two are older", worker.stale_of(&[mark(1, int(8)), write(1, 7, "late"), mark(1, int(6))]).await?, 2)?;
    equal("its own version becomes the row's", trial.shown().await?, ["1|8|five|true"])?;
    equal("a newer write", worker.stale_of(&[write(1, 9, "nine")]).await?, 0)?;
    equal("clears it", trial.shown().await?, ["1|9|nine|false"])?;
    equal("where no row is", worker.stale_of(&[mark(2, int(3)), write(2, 2, "late"), write(2, 3, "three")]).await?, 1)?;
    equal("it is remembered too", trial.shown().await?, ["1|9|nine|false", "2|3|three|false"])
}
