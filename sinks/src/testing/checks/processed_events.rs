//! The id of an event is kept in the transaction of its row: what repeats it takes no effect.

use std::time::{Duration, Instant};

use super::line;
use crate::{
    checkpoint::{Checkpoint, Expired, Expiry},
    model::{Delivery, NextOffset, WriteMode},
    testing::{
        Broken,
        broken::{equal, holds},
        trial::Trial,
        worker::{NULL, PIPELINE, Record, Worker, int, partition},
    },
};

/// More looks than any sink needs until what is due is done.
const LOOKS: u32 = 32;

const HOUR: Duration = Duration::from_secs(3_600);

async fn worker(trial: &Trial) -> Result<Worker, Broken> {
    Ok(trial.worker(WriteMode::Append).await?.with_events("route"))
}

fn event(id: i64, event: &'static str) -> Record {
    line(id, "x").with_event(event)
}

/// How many of these were known.
pub(super) async fn repeats(worker: &mut Worker, records: &[Record]) -> Result<u64, Broken> {
    Ok(worker.write(records).await?.deduplicated[0])
}

async fn ids(trial: &Trial) -> Result<Vec<String>, Broken> {
    Ok(trial.shown().await?.into_iter().map(|row| row.trim_end_matches("|x").to_owned()).collect())
}

async fn look(checkpoint: &dyn Checkpoint, pipeline: &str, retention: Duration, committed: i64) -> Result<Expired, Broken> {
    let committed = if committed == 0 { Vec::new() } else { vec![(partition(0), NextOffset::new(committed))] };
    let expiry = Expiry { pipeline: pipeline.into(), retention, committed };
    // The look before may be one that its place has not yet seen the end of.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match checkpoint.expire(&expiry).await? {
            Expired::SomebodyElseLooks => holds("nobody else looks for ever", (), Instant::now() < deadline)?,
            expired => return Ok(expired),
        }
        tokio::task::yield_now().await;
    }
}

pub(super) async fn an_event_takes_effect_once(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    equal("in one batch the first counts", repeats(&mut worker, &[event(1, "b"), event(2, "a"), event(3, "b"), event(4, "c")]).await?, 1)?;
    equal("over several", repeats(&mut worker, &[event(5, "a"), event(6, "d")]).await?, 1)?;
    equal("a batch of repeats only", repeats(&mut worker, &[event(7, "a"), event(8, "d")]).await?, 2)?;
    equal("each event has one row", ids(trial).await?, ["1", "2", "4", "6"])?;
    equal("the checkpoint passes repeats too", worker.row(0).await?.next_offset, NextOffset::new(8))
}

pub(super) async fn an_event_is_of_its_route_and_pipeline(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    worker.write(&[event(1, "a")]).await?;
    worker = worker.with_events("another");
    equal("to another route it is new", repeats(&mut worker, &[event(2, "a")]).await?, 0)?;
    let mut other = trial.worker_without_claim(WriteMode::Append).await?.with_events("route");
    other.request.pipeline = "another".into();
    other.claim().await?;
    equal("to another pipeline too", repeats(&mut other, &[event(3, "a")]).await?, 0)?;
    equal("so it has three rows", ids(trial).await?, ["1", "2", "3"])
}

/// Whatever the place makes of letters, accents and spaces at an end.
pub(super) async fn an_event_is_known_byte_by_byte(trial: &Trial) -> Result<(), Broken> {
    const IDS: [&str; 11] = ["a", "A", "a ", " a", "ä", "a\u{308}", "ﬁ", "fi", "'", "\\", "%"];
    let mut worker = worker(trial).await?;
    let events: Vec<Record> = (0..).zip(IDS).map(|(id, name)| event(id, name)).collect();
    equal("they differ", repeats(&mut worker, &events).await?, 0)?;
    equal("and are known", repeats(&mut worker, &events).await?, IDS.len() as u64)
}

pub(super) async fn a_batch_that_fails_leaves_no_event(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    let batch = worker.batch(&[event(1, "a"), Record::write(vec![int(2), NULL]).with_event("b")]);
    holds("the place refuses it", (), worker.apply(&batch).await.is_err())?;
    equal("what was not written is not known", repeats(&mut worker, &[event(1, "a"), event(2, "b")]).await?, 0)?;
    equal("and takes effect later", ids(trial).await?, ["1", "2"])
}

pub(super) async fn events_are_kept_for_their_retention(trial: &Trial) -> Result<(), Broken> {
    let mut worker = worker(trial).await?;
    let checkpoint = worker.process.checkpoint.clone();
    worker.write(&[event(1, "a")]).await?;
    for _ in 0..LOOKS {
        look(&*checkpoint, PIPELINE, HOUR, 0).await?;
    }
    equal("they are kept for an hour", repeats(&mut worker, &[event(2, "a")]).await?, 1)?;
    look(&*checkpoint, "another", HOUR, 0).await?;
    for _ in 0..LOOKS {
        look(&*checkpoint, PIPELINE, Duration::ZERO, 0).await?;
    }
    equal("the longest retention of all pipelines counts", repeats(&mut worker, &[event(3, "a")]).await?, 1)?;
    look(&*checkpoint, "another", Duration::ZERO, 0).await?;
    for _ in 0..LOOKS {
        look(&*checkpoint, PIPELINE, Duration::ZERO, 0).await?;
    }
    equal("then they expire", repeats(&mut worker, &[event(4, "a")]).await?, 0)?;
    equal("and take effect again", ids(trial).await?, ["1", "4"])
}

pub(super) async fn no_event_expires_that_may_be_delivered_again(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker_under(Delivery::AtLeastOnce, WriteMode::Append).await?.with_events("route");
    let checkpoint = worker.process.checkpoint.clone();
    worker.write(&[event(1, "a"), event(2, "b")]).await?;
    let looks = async |committed| {
        for _ in 1..LOOKS {
            look(&*checkpoint, PIPELINE, Duration::ZERO, committed).await?;
        }
        look(&*checkpoint, PIPELINE, Duration::ZERO, committed).await
    };
    for committed in [0, 1] {
        equal("Kafka may deliver one of them again", looks(committed).await?, Expired::Waits { partition: format!("pipeline {PIPELINE}, orders:0") })?;
        equal("so both are known", repeats(&mut worker, &[event(3, "a"), event(4, "b")]).await?, 2)?;
    }
    let reached = worker.row(0).await?.durable.get();
    let last = looks(reached).await?;
    holds("nothing is waited for once all is committed", &last, !matches!(last, Expired::Waits { .. }))?;
    equal("and they expire", repeats(&mut worker, &[event(5, "a")]).await?, 0)
}
