//! What each write mode makes of the records of one key, in one batch and over several.

use super::{delete, line, order};
use crate::{
    fault::FaultClass,
    model::{Rule, WriteMode},
    sink::ApplyError,
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{ABSENT, NULL, Record, int, text},
    },
};

pub(super) async fn append_writes_every_record(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::Append).await?;
    let many: Vec<Record> = (0..1_000).map(|id| line(id, "x")).collect();
    let applied = worker.write(&many).await?;
    equal("none is left out", (applied.stale, applied.deduplicated), (vec![0], vec![0]))?;
    worker.write(&[line(7, "x"), line(7, "x")]).await?;
    equal("each record is a row", trial.rows().await?.len(), 1_002)?;
    equal("equal ones too", trial.shown().await?.iter().filter(|row| *row == "7|x").count(), 3)
}

pub(super) async fn upsert_leaves_the_last_record_of_each_key(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::Upsert).await?;
    worker.write(&[order(2, int(1), "a"), order(1, int(2), "b"), order(2, NULL, "c")]).await?;
    equal("in one batch", trial.shown().await?, ["1|2|b", "2|-|c"])?;
    let applied = worker.write(&[order(1, int(1), "d"), order(3, int(5), "e")]).await?;
    equal("over several", trial.shown().await?, ["1|1|d", "2|-|c", "3|5|e"])?;
    equal("without a version nothing is stale", (applied.stale, applied.deduplicated), (vec![0], vec![0]))
}

pub(super) async fn what_a_record_lacks_is_left_alone(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::Upsert).await?;
    worker.write(&[order(1, int(1), "a"), Record::write(vec![int(2), int(2), ABSENT])]).await?;
    let later = [Record::write(vec![int(1), int(3), ABSENT]), order(2, ABSENT, "b"), Record::write(vec![int(3), NULL, ABSENT])];
    worker.write(&later).await?;
    equal("absent is not NULL", trial.shown().await?, ["1|3|a", "2|2|b", "3|-|-"])?;
    let parts = [Record::write(vec![int(4), int(1), ABSENT]), order(4, ABSENT, "c"), Record::write(vec![int(4), int(2), ABSENT])];
    worker.write(&parts).await?;
    worker.write(&[Record::write(vec![int(1), ABSENT, ABSENT]), Record::write(vec![int(5), ABSENT, ABSENT])]).await?;
    equal("in one batch too, and where nothing but the key is there", trial.shown().await?, ["1|3|a", "2|2|b", "3|-|-", "4|2|c", "5|-|-"])
}

pub(super) async fn a_new_row_needs_its_required_columns(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::Upsert).await?;
    let whole = |id: i64, note: &str, n: i64| Record::write(vec![int(id), text(note), int(n)]);
    let partial = |id: i64, note: &str| Record::write(vec![int(id), text(note), ABSENT]);
    worker.write(&[whole(1, "a", 1), whole(2, "b", 2)]).await?;
    worker.write(&[partial(1, "c")]).await?;
    equal("a row that is there does not", trial.shown().await?, ["1|c|1", "2|b|2"])?;
    let batch = worker.batch(&[partial(2, "d"), partial(3, "e")]);
    match worker.apply(&batch).await {
        Err(ApplyError::Failed(fault)) => {
            equal("a new one without it is the data's fault", fault.class, FaultClass::Poison)?;
            equal("the fault names the column", fault.column.as_deref(), Some("n"))?;
        }
        other => holds("a new row without a required column is refused", other, false)?,
    }
    equal("and nothing of the batch stays", trial.shown().await?, ["1|c|1", "2|b|2"])
}

pub(super) async fn update_makes_no_row(trial: &Trial) -> Result<(), Broken> {
    trial.worker(WriteMode::Upsert).await?.write(&[order(1, int(1), "a")]).await?;
    let mut worker = trial.worker(WriteMode::Update).await?;
    let applied = worker.write(&[order(1, int(2), "b"), order(2, int(2), "none"), order(1, ABSENT, "c")]).await?;
    equal("a row that is there is changed, and no other is made", trial.shown().await?, ["1|2|c"])?;
    equal("a record without a row has taken its effect", (applied.stale, applied.deduplicated), (vec![0], vec![0]))
}

pub(super) async fn insert_if_new_leaves_the_first_record_of_each_key(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::InsertIfNew).await?;
    let applied = worker.write(&[order(1, int(1), "a"), order(2, int(1), "b"), order(1, int(9), "late")]).await?;
    equal("in one batch", trial.shown().await?, ["1|1|a", "2|1|b"])?;
    equal("one that found its row counts as deduplicated", applied.deduplicated, [1])?;
    let applied = worker.write(&[order(2, int(9), "late"), order(3, int(1), "c")]).await?;
    equal("over several", trial.shown().await?, ["1|1|a", "2|1|b", "3|1|c"])?;
    equal("and counts there, too", (applied.stale, applied.deduplicated), (vec![0], vec![1]))
}

pub(super) async fn accumulate_takes_every_record_into_account(trial: &Trial) -> Result<(), Broken> {
    let rules = [("balance", Rule::Add), ("peak", Rule::Max), ("low", Rule::Min), ("note", Rule::Coalesce), ("first_seen", Rule::First)];
    let mut worker = trial.worker(WriteMode::Accumulate).await?.with_rules(&rules);
    let row = |id: i64, n: i64, word: &str| Record::write(vec![int(id), int(n), int(n), int(n), text(word), text(word), text(word)]);
    let nulls = |id: i64| Record::write(vec![int(id), NULL, NULL, NULL, NULL, NULL, NULL]);
    worker.write(&[row(1, 10, "a"), row(1, -3, "b"), nulls(2)]).await?;
    equal("in one batch", trial.shown().await?, ["1|7|10|-3|b|a|b", "2|-|-|-|-|-|-"])?;
    worker.write(&[row(1, 4, "c"), row(2, 5, "c")]).await?;
    equal("over several; NULL counts as nothing", trial.shown().await?, ["1|11|10|-3|c|a|c", "2|5|5|5|c|c|c"])?;
    worker.write(&[nulls(1), Record::write(vec![int(2), int(1), ABSENT, ABSENT, ABSENT, ABSENT, ABSENT])]).await?;
    equal("NULL never wins but under replace, and what is absent is left alone", trial.shown().await?, ["1|11|10|-3|c|a|-", "2|6|5|5|c|c|c"])
}

pub(super) async fn a_delete_removes_its_row(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker(WriteMode::Upsert).await?;
    worker.write(&(0..6).map(|id| order(id, int(1), "x")).collect::<Vec<_>>()).await?;
    worker.write(&[delete(0, ABSENT), delete(9, ABSENT), delete(1, ABSENT), order(1, int(2), "again"), order(2, int(2), "y"), delete(2, ABSENT)]).await?;
    equal("what comes last counts", trial.shown().await?, ["1|2|again", "3|1|x", "4|1|x", "5|1|x"])?;
    worker.write(&[delete(3, ABSENT), Record::write(vec![int(3), ABSENT, text("new")])]).await?;
    equal("a row that is made after a delete has nothing of the old one", trial.shown().await?, ["1|2|again", "3|-|new", "4|1|x", "5|1|x"])
}
