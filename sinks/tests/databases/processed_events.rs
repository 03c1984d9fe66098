//! Events that were processed take no effect again, until their ids have expired.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use oncesink_sinks::{
    checkpoint::{Checkpoint, Expired, Expiry},
    model::{Batch, BatchId, DedupBackend, Delivery, NextOffset, Operation, WriteMode},
    processed_events::EventMarks,
    session::Session,
    sink::{Applied, ApplyError},
    transaction::Transactional,
};
use tokio::{sync::watch, time::timeout};

use crate::{
    on_each,
    world::{PIPELINE, V, Worker, World, partition, t},
};

on_each!(
    rows_of_one_route_share_their_events,
    an_id_is_kept_byte_by_byte,
    a_batch_that_fails_leaves_no_mark,
    of_two_transactions_one_brings_the_id,
    what_is_rolled_back_is_not_known,
    ids_expire_with_their_generation,
    ids_are_kept_for_their_retention,
    the_longest_retention_holds_for_all,
    nothing_expires_that_kafka_may_deliver_again,
    thousands_of_ids_are_told_apart,
    an_expiry_holds_no_writer_up,
);

/// A file has one transaction at a time.
mod on_servers {
    use super::{a_roll_over_gets_through_under_load, a_roll_over_waits_for_batches, one_keeps_house_at_a_time};
    crate::on_each!(on_postgres, on_mysql, on_mariadb: [a_roll_over_waits_for_batches, one_keeps_house_at_a_time, a_roll_over_gets_through_under_load]);
}

/// A worker whose route appends to a table and keeps events.
async fn worker(world: &World) -> Worker {
    world.run("CREATE TABLE log (note varchar(5) NOT NULL CHECK (length(note) <= 5))").await;
    let mut worker = world.worker("log", WriteMode::Append, None).await;
    let mut target = (*worker.target).clone();
    target.dedup = vec![DedupBackend::ProcessedEvent, DedupBackend::Checkpoint];
    worker.target = Arc::new(target);
    worker
}

fn batch(worker: &Worker, events: &[(&str, &str)]) -> Batch {
    let rows: Vec<(Operation, Vec<V>)> = events.iter().map(|(_, note)| (Operation::Write, vec![t(note)])).collect();
    let mut batch = worker.batch(&rows);
    let content = Arc::get_mut(&mut batch.content).unwrap();
    for (id, _) in events {
        content.rows[0].event_ids.push(id.as_bytes());
    }
    batch
}

async fn apply(worker: &mut Worker, events: &[(&str, &str)]) -> Result<Applied, ApplyError> {
    let batch = batch(worker, events);
    let applied = worker.writer.apply(&batch).await;
    if applied.is_ok() {
        worker.next = batch.spans[0].to;
    }
    applied
}

/// How many of these were known.
async fn repeats(worker: &mut Worker, events: &[(&str, &str)]) -> u64 {
    apply(worker, events).await.unwrap().deduplicated[0]
}

async fn notes(world: &World) -> Vec<String> {
    world.rows(&["note"], "FROM log ORDER BY note").await
}

async fn expire(sink: &Transactional, retention: Duration, committed: Vec<(oncesink_sinks::model::Partition, NextOffset)>) -> Expired {
    sink.expire(&Expiry { pipeline: PIPELINE.into(), retention, committed }).await.unwrap()
}

/// Makes the next generation the newest, at once.
async fn roll_over(sink: &Transactional) {
    loop {
        match expire(sink, Duration::ZERO, Vec::new()).await {
            Expired::RolledOver => return,
            Expired::Emptied => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn session(world: &World) -> Box<dyn Session> {
    let mut session = world.database.connect().await.unwrap();
    session.begin().await.unwrap();
    session
}

async fn mark(session: &mut dyn Session, batch: i64, ids: &[&str]) -> Vec<bool> {
    let generation = session.hold_generation().await.unwrap();
    session.mark(&EventMarks { generation, pipeline: PIPELINE, route: "route", ids, batch: BatchId(batch) }).await.unwrap()
}

/// A route that takes two topics, or whose table was described again, has two sets of rows in one batch.
async fn rows_of_one_route_share_their_events(world: World) {
    let mut worker = worker(&world).await;
    let mut both = batch(&worker, &[("a", "a1"), ("b", "b1"), ("c", "c1")]);
    let mut others = batch(&worker, &[("a", "a2"), ("d", "d1")]);
    let mut rows = Arc::get_mut(&mut others.content).unwrap().rows.remove(0);
    rows.target = Arc::new((*worker.target).clone());
    rows.records = vec![1, 2];
    Arc::get_mut(&mut both.content).unwrap().rows.push(rows);
    let applied = worker.writer.apply(&both).await.unwrap();
    assert_eq!(applied.deduplicated, [0, 1]);
    worker.next = both.spans[0].to;
    assert_eq!(repeats(&mut worker, &[("d", "d2"), ("e", "e1")]).await, 1);
    assert_eq!(notes(&world).await, ["a1", "b1", "c1", "d1", "e1"]);
}

/// Whatever the usual collation of the database makes of letters, accents and spaces at an end.
async fn an_id_is_kept_byte_by_byte(world: World) {
    let mut worker = worker(&world).await;
    let long = "x".repeat(255);
    let ids = ["a", "A", "a ", " a", "ä", "a\u{308}", "ﬁ", "fi", "'", "\\", "%", &long];
    let events: Vec<(&str, &str)> = ids.iter().map(|id| (*id, "new")).collect();
    assert_eq!(repeats(&mut worker, &events).await, 0);
    assert_eq!(repeats(&mut worker, &events).await, ids.len() as u64);
}

async fn a_batch_that_fails_leaves_no_mark(world: World) {
    let mut worker = worker(&world).await;
    let Err(ApplyError::Failed(fault)) = apply(&mut worker, &[("a", "a1"), ("b", "much too long")]).await else { panic!("the table takes it") };
    assert_eq!(fault.class.as_str(), "poison", "{fault:?}");
    assert_eq!(repeats(&mut worker, &[("a", "a1"), ("b", "b1")]).await, 0);
    assert_eq!(notes(&world).await, ["a1", "b1"]);
}

async fn of_two_transactions_one_brings_the_id(world: World) {
    worker(&world).await;
    let mut first = session(&world).await;
    assert_eq!(mark(first.as_mut(), 1, &["a", "b"]).await, [true, true]);
    let second = {
        let world = world.clone();
        tokio::spawn(async move {
            let mut session = session(&world).await;
            let marked = mark(session.as_mut(), 2, &["a", "c"]).await;
            session.commit().await.unwrap();
            marked
        })
    };
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), [false, true]);
}

async fn what_is_rolled_back_is_not_known(world: World) {
    worker(&world).await;
    let mut first = session(&world).await;
    assert_eq!(mark(first.as_mut(), 1, &["a"]).await, [true]);
    first.rollback().await.unwrap();
    let mut second = session(&world).await;
    assert_eq!(mark(second.as_mut(), 2, &["a"]).await, [true]);
    second.commit().await.unwrap();
}

async fn ids_expire_with_their_generation(world: World) {
    let mut worker = worker(&world).await;
    apply(&mut worker, &[("a", "a1")]).await.unwrap();
    for _ in 0..2 {
        roll_over(&worker.sink).await;
        assert_eq!(repeats(&mut worker, &[("a", "a2")]).await, 1, "an older generation is looked at");
    }
    apply(&mut worker, &[("b", "b1")]).await.unwrap();
    roll_over(&worker.sink).await;
    assert_eq!(repeats(&mut worker, &[("a", "a3"), ("b", "b2")]).await, 1, "a has expired, b has not");
    assert_eq!(notes(&world).await, ["a1", "a3", "b1"]);
    // Once round all tables, and each new one is empty.
    for _ in 0..5 {
        roll_over(&worker.sink).await;
    }
    assert_eq!(repeats(&mut worker, &[("a", "a4"), ("b", "b3")]).await, 0);
}

async fn ids_are_kept_for_their_retention(world: World) {
    let worker = worker(&world).await;
    let hour = Duration::from_secs(3600);
    assert_eq!(expire(&worker.sink, hour, Vec::new()).await, Expired::Nothing);
    let table = world.bookkeeping("oncesink_processed_event_generation");
    world.run(&format!("UPDATE {table} SET opened_at = opened_at - 1790000, previous_opened_at = previous_opened_at - 3610000")).await;
    assert_eq!(expire(&worker.sink, hour, Vec::new()).await, Expired::Nothing, "the newest generation is not half as old as the retention");
    world.run(&format!("UPDATE {table} SET opened_at = opened_at - 20000, previous_opened_at = previous_opened_at + 20000")).await;
    assert_eq!(expire(&worker.sink, hour, Vec::new()).await, Expired::Nothing, "the newest id of the oldest is not as old as the retention");
    world.run(&format!("UPDATE {table} SET previous_opened_at = previous_opened_at - 20000")).await;
    assert_eq!(expire(&worker.sink, hour, Vec::new()).await, Expired::RolledOver);
    assert_eq!(expire(&worker.sink, hour, Vec::new()).await, Expired::Emptied);
    assert_eq!(expire(&worker.sink, hour, Vec::new()).await, Expired::Nothing);
}

async fn the_longest_retention_holds_for_all(world: World) {
    let worker = worker(&world).await;
    let of = |pipeline: &str, seconds| Expiry { pipeline: pipeline.into(), retention: Duration::from_secs(seconds), committed: Vec::new() };
    assert_eq!(worker.sink.expire(&of("another", 3600)).await.unwrap(), Expired::Nothing);
    assert_eq!(worker.sink.expire(&of(PIPELINE, 0)).await.unwrap(), Expired::Nothing);
    assert_eq!(worker.sink.expire(&of("another", 0)).await.unwrap(), Expired::RolledOver);
}

async fn nothing_expires_that_kafka_may_deliver_again(world: World) {
    let mut worker = worker(&world).await;
    let mut request = crate::world::request();
    request.wanted[0].delivery = Delivery::AtLeastOnce;
    let claimed = worker.sink.claim(&request).await.unwrap().into_iter().next().unwrap().result.unwrap();
    worker.claimed = Some(claimed);
    let mut first = batch(&worker, &[("a", "a1"), ("b", "b1")]);
    first.delivery = Delivery::AtLeastOnce;
    worker.writer.apply(&first).await.unwrap();
    roll_over(&worker.sink).await;
    roll_over(&worker.sink).await;
    let waits = Expired::Waits { partition: format!("pipeline {PIPELINE}, orders:0") };
    assert_eq!(expire(&worker.sink, Duration::ZERO, Vec::new()).await, Expired::Emptied);
    assert_eq!(expire(&worker.sink, Duration::ZERO, Vec::new()).await, waits);
    assert_eq!(expire(&worker.sink, Duration::ZERO, vec![(partition(), NextOffset::new(1))]).await, waits, "one of the two may come again");
    assert_eq!(expire(&worker.sink, Duration::ZERO, vec![(partition(), NextOffset::new(2))]).await, Expired::RolledOver);
    assert_eq!(expire(&worker.sink, Duration::ZERO, vec![(partition(), NextOffset::ZERO)]).await, Expired::Emptied, "what was acknowledged stays so");
}

async fn thousands_of_ids_are_told_apart(world: World) {
    let mut worker = worker(&world).await;
    let ids: Vec<String> = (0..5000).map(|number| format!("event-{number}")).collect();
    let events: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "x")).collect();
    assert_eq!(repeats(&mut worker, &events[1000..3000]).await, 0);
    assert_eq!(repeats(&mut worker, &events).await, 2000);
    assert_eq!(world.rows(&["count(*)"], "FROM log").await, ["5000"]);
}

async fn a_roll_over_waits_for_batches(world: World) {
    let worker = worker(&world).await;
    let mut holds = session(&world).await;
    holds.hold_generation().await.unwrap();
    let error = worker.sink.expire(&Expiry { pipeline: PIPELINE.into(), retention: Duration::ZERO, committed: Vec::new() }).await.unwrap_err();
    assert_eq!(error.reason, "lock-timeout", "{error}");
    assert_eq!(mark(holds.as_mut(), 1, &["a"]).await, [true]);
    holds.commit().await.unwrap();
    roll_over(&worker.sink).await;
    let mut later = session(&world).await;
    assert_eq!(mark(later.as_mut(), 2, &["a"]).await, [false]);
}

async fn one_keeps_house_at_a_time(world: World) {
    let worker = worker(&world).await;
    let mut keeps = session(&world).await;
    assert!(keeps.keep_house().await.unwrap());
    assert_eq!(expire(&worker.sink, Duration::ZERO, Vec::new()).await, Expired::SomebodyElseLooks);
    drop(keeps);
    // The server notices in its own time that the session is gone.
    let deadline = Instant::now() + Duration::from_secs(20);
    while expire(&worker.sink, Duration::ZERO, Vec::new()).await == Expired::SomebodyElseLooks {
        assert!(Instant::now() < deadline, "the house is never given back");
        tokio::task::yield_now().await;
    }
}

/// Waits until so many more batches are through.
async fn more(batches: &watch::Sender<u64>, count: u64) {
    let mut batches = batches.subscribe();
    let wanted = *batches.borrow() + count;
    timeout(Duration::from_secs(60), batches.wait_for(|through| *through >= wanted)).await.expect("the writers stand still").unwrap();
}

async fn a_roll_over_gets_through_under_load(world: World) {
    let worker = worker(&world).await;
    let (ended, batches) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(0));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (world, ended, batches) = (world.clone(), ended.clone(), batches.clone());
            tokio::spawn(async move {
                let mut session = world.database.connect().await.unwrap();
                for round in 0.. {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut ids: Vec<String> = (0..1000).map(|number| format!("{writer}-{round}-{number}")).collect();
                    ids.sort_unstable();
                    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                    session.begin().await.unwrap();
                    assert!(mark(session.as_mut(), rand::random(), &ids).await.into_iter().all(|is_new| is_new));
                    session.commit().await.unwrap();
                    batches.send_modify(|count| *count += 1);
                }
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        more(&batches, 8).await;
        let began = Instant::now();
        match expire(&worker.sink, Duration::ZERO, Vec::new()).await {
            Expired::RolledOver | Expired::Emptied => slowest = slowest.max(began.elapsed()),
            other => panic!("{other:?}"),
        }
    }
    ended.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// While a hundred thousand ids expire, no batch of another writer takes longer than 50 ms; on a machine that is busy with other tests, hardly
/// longer than the longest just before.
async fn an_expiry_holds_no_writer_up(world: World) {
    let worker = worker(&world).await;
    let (ended, batches, longest) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(0), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (world, ended, batches, longest) = (world.clone(), ended.clone(), batches.clone(), longest.clone());
        tokio::spawn(async move {
            let mut session = world.database.connect().await.unwrap();
            for round in 0.. {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let ids: Vec<String> = (0..100).map(|number| format!("w-{round:08}-{number:04}")).collect();
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                let began = Instant::now();
                session.begin().await.unwrap();
                mark(session.as_mut(), rand::random(), &ids).await;
                session.commit().await.unwrap();
                longest.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
                batches.send_modify(|count| *count += 1);
            }
        })
    };
    let longest_of = async |count: u64| {
        more(&batches, count).await;
        Duration::from_micros(longest.swap(0, Ordering::Relaxed))
    };
    let (mut before, mut meanwhile) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let mut fills = world.database.connect().await.unwrap();
        for part in 0..100 {
            let ids: Vec<String> = (0..1000).map(|number| format!("e-{round}-{part:04}-{number:04}")).collect();
            fills.begin().await.unwrap();
            mark(fills.as_mut(), rand::random(), &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
            fills.commit().await.unwrap();
        }
        drop(fills);
        roll_over(&worker.sink).await;
        roll_over(&worker.sink).await;
        longest_of(2).await;
        before.push(longest_of(100).await);
        // The ids are forgotten, and then their table is emptied.
        roll_over(&worker.sink).await;
        assert_eq!(expire(&worker.sink, Duration::from_secs(3600), Vec::new()).await, Expired::Emptied);
        meanwhile.push(longest_of(2).await);
    }
    ended.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    println!("{:?}: the longest batches before {before:?}, while 100,000 ids expire {meanwhile:?}", world.kind());
    before.sort_unstable();
    meanwhile.sort_unstable();
    assert!(meanwhile[1] <= Duration::from_millis(50) || meanwhile[1] <= 2 * before[1], "{meanwhile:?}, and {before:?} before");
}
