//! Why a partition stands still is kept beside its checkpoint, so that everybody can tell it. It moves nothing.

use super::line;
use crate::{
    checkpoint::{Held, StoredHalt},
    model::NextOffset,
    testing::{
        Broken,
        broken::equal,
        trial::Trial,
        worker::{PIPELINE, partition},
    },
};

fn halt() -> StoredHalt {
    StoredHalt { reason: "check".to_owned(), detail: "orders_total_check".to_owned(), offset: 1, at: 1_795_222_923_004 }
}

pub(super) async fn a_halt_is_kept_until_a_batch_takes_effect(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    worker.write(&[line(1, "a")]).await?;
    let before = worker.row(0).await?;
    let checkpoint = worker.process.checkpoint.clone();
    checkpoint.note_halt(PIPELINE, &partition(0), None, Some(&halt())).await?;
    let mut expected = before.clone();
    expected.halt = Some(halt());
    equal("a halt is kept, and moves nothing", worker.row(0).await?, expected)?;
    checkpoint.note_halt(PIPELINE, &partition(0), None, None).await?;
    equal("it is taken back", worker.row(0).await?, before)?;
    checkpoint.note_halt(PIPELINE, &partition(0), None, Some(&halt())).await?;
    worker.write(&[line(2, "b")]).await?;
    equal("a batch ends it", worker.row(0).await?.halt, None)?;
    checkpoint.note_halt(PIPELINE, &partition(5), None, Some(&halt())).await?;
    equal("it makes no row", checkpoint.read(PIPELINE).await?.len(), 1)
}

pub(super) async fn a_halt_of_somebody_who_is_late_is_dropped(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    worker.write(&[line(1, "a")]).await?;
    let checkpoint = worker.process.checkpoint.clone();
    let held = Held { claim: worker.holding(0).claimed.claim, next: NextOffset::new(1) };
    let overtaken = Held { next: NextOffset::ZERO, ..held };
    checkpoint.note_halt(PIPELINE, &partition(0), Some(overtaken), Some(&halt())).await?;
    equal("a batch has overtaken it", worker.row(0).await?.halt, None)?;
    checkpoint.note_halt(PIPELINE, &partition(0), Some(held), Some(&halt())).await?;
    equal("who holds the partition is heard", worker.row(0).await?.halt, Some(halt()))?;
    checkpoint.note_halt(PIPELINE, &partition(0), Some(held), None).await?;
    trial.any_worker().await?;
    checkpoint.note_halt(PIPELINE, &partition(0), Some(held), Some(&halt())).await?;
    equal("who does not is not", worker.row(0).await?.halt, None)
}
