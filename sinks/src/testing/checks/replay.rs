//! Whatever a batch merges, sorts or leaves out: it ends as its records do one by one, in (partition, offset) order. The sink in memory
//! does just that, so both must come to the same rows. By fixed seeds.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{delete, order};
use crate::{
    model::{Rule, WriteMode},
    testing::{
        Broken, Value,
        broken::equal,
        memory::MemorySink,
        trial::Trial,
        worker::{ABSENT, NULL, Record, Worker, int, request, text},
    },
};

const PARTITIONS: i32 = 3;
const KEYS: i64 = 6;

/// What a stream of records has in it.
#[derive(Clone, Copy)]
struct Stream {
    write: WriteMode,
    deletes: bool,
    versions: bool,
}

pub(super) async fn any_upserts_end_as_row_by_row(trial: &Trial) -> Result<(), Broken> {
    both(trial, Stream { write: WriteMode::Upsert, deletes: false, versions: false }).await
}

pub(super) async fn any_upserts_and_deletes_end_as_row_by_row(trial: &Trial) -> Result<(), Broken> {
    both(trial, Stream { write: WriteMode::Upsert, deletes: true, versions: false }).await
}

pub(super) async fn any_versions_and_deletes_end_as_row_by_row(trial: &Trial) -> Result<(), Broken> {
    both(trial, Stream { write: WriteMode::Upsert, deletes: true, versions: true }).await
}

pub(super) async fn any_updates_end_as_row_by_row(trial: &Trial) -> Result<(), Broken> {
    both(trial, Stream { write: WriteMode::Update, deletes: true, versions: true }).await
}

pub(super) async fn any_first_records_end_as_row_by_row(trial: &Trial) -> Result<(), Broken> {
    both(trial, Stream { write: WriteMode::InsertIfNew, deletes: true, versions: false }).await
}

pub(super) async fn any_sums_end_as_row_by_row(trial: &Trial) -> Result<(), Broken> {
    both(trial, Stream { write: WriteMode::Accumulate, deletes: true, versions: false }).await
}

async fn both(trial: &Trial, stream: Stream) -> Result<(), Broken> {
    let memory = Trial::new(Box::new(MemorySink::with_table(trial.layout.clone())), trial.layout.clone(), trial.features.clone());
    if stream.write == WriteMode::Update {
        // An update makes no row.
        for trial in [trial, &memory] {
            trial.worker(WriteMode::Upsert).await?.write(&(0..KEYS).map(|id| order(id, NULL, "first")).collect::<Vec<_>>()).await?;
        }
    }
    let (mut here, mut there) = (worker(trial, stream).await?, worker(&memory, stream).await?);
    for seed in 0..6 {
        let mut random = SmallRng::seed_from_u64(seed);
        for batch in 0..10 {
            let records: Vec<Record> = (0..random.random_range(1..16)).map(|_| record(&mut random, stream)).collect();
            here.write(&records).await?;
            there.write(&records).await?;
            equal(&format!("seed {seed}, batch {batch}: {records:?}"), trial.rows().await?, memory.rows().await?)?;
        }
    }
    for index in 0..PARTITIONS {
        equal("and the checkpoints are where they are", here.row(index).await?.next_offset, there.row(index).await?.next_offset)?;
    }
    Ok(())
}

async fn worker(trial: &Trial, stream: Stream) -> Result<Worker, Broken> {
    let mut worker = trial.worker_without_claim(stream.write).await?;
    if stream.versions {
        worker = worker.with_version("v");
    }
    if stream.write == WriteMode::Accumulate {
        worker = worker.with_rules(&[("balance", Rule::Add), ("peak", Rule::Max), ("low", Rule::Min), ("note", Rule::Coalesce), ("first_seen", Rule::First)]);
    }
    worker.request = request(&(0..PARTITIONS).collect::<Vec<_>>());
    worker.claim().await?;
    Ok(worker)
}

fn record(random: &mut SmallRng, stream: Stream) -> Record {
    let id = random.random_range(0..KEYS);
    let deletes = stream.deletes && random.random_range(0..4) == 0;
    let record = if stream.write == WriteMode::Accumulate {
        account(random, id, deletes)
    } else if deletes {
        // With a version a delete may have its own or none.
        delete(id, if stream.versions { number(random) } else { ABSENT })
    } else {
        let version = if stream.versions { number(random).or(NULL) } else { number(random) };
        let note = order(id, version, ["a", "b", "c"][random.random_range(0..3)]);
        let mut cells = note.cells;
        if random.random_range(0..4) == 0 {
            cells[2] = ABSENT;
        }
        Record::write(cells)
    };
    record.of(random.random_range(0..PARTITIONS))
}

fn account(random: &mut SmallRng, id: i64, deletes: bool) -> Record {
    let mut cells = vec![int(id)];
    if deletes {
        cells.resize(7, ABSENT);
        return Record::delete(cells);
    }
    cells.extend((0..3).map(|_| number(random)));
    cells.extend((0..3).map(|_| match random.random_range(0..4) {
        0 => ABSENT,
        1 => NULL,
        _ => text(["a", "b", "c"][random.random_range(0..3)]),
    }));
    Record::write(cells)
}

fn number(random: &mut SmallRng) -> Option<Value> {
    match random.random_range(0..8) {
        0 => ABSENT,
        1 => NULL,
        _ => int(random.random_range(-9..30)),
    }
}
