//! A half-open connection: nothing passes any more and no side is told, while a batch holds the locks of its checkpoint rows.

use std::time::Duration;

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    database_wire::{DatabaseWire, Hit, LineFault},
    fate::Fate,
    file::PipelineFile,
    main_job::Stream,
    topic::{Orders, Topic},
    trail,
    wait::{seconds, wait_for, wait_until},
    worker::Worker,
};

/// The server ends a transaction that waits for its client after 10 s; meanwhile the group has noticed the death (6 s). The
/// rest is for the attempt that comes after it, and for a machine that is busy.
const CLAIM_LIMIT: Duration = seconds(30);

struct Job {
    topic: Topic,
    database: Database,
    wire: DatabaseWire,
    by_wire: PipelineFile,
    direct: PipelineFile,
}

impl Job {
    fn new(kind: Kind, label: &str) -> Self {
        let topic = Topic::create(label, 4);
        let database = Database::create(kind, label);
        create_order_tables(&database);
        topic.send(&Orders::seeded(85, 1_000).take(5_000));
        let wire = DatabaseWire::to(&database, "order_log");
        let direct = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
        let by_wire = PipelineFile::with(label, &topic.brokers, &wire.url(), &order_routes(&topic.name)).named(&direct.name);
        trail::lay(&database, &direct);
        Self { topic, database, wire, by_wire, direct }
    }

    /// The first batch that falls into the hole; it holds its locks there.
    #[track_caller]
    fn fall(&self, fault: LineFault) -> Hit {
        self.wire.plan(&[fault], 3);
        let hit = wait_for(seconds(60), "a batch falls into the hole", || self.wire.hits().into_iter().next());
        assert_eq!(hit.transaction.fate(), Fate::Open);
        assert!(hit.transaction.holds_checkpoints(), "others cannot claim");
        hit
    }

    #[track_caller]
    fn assert_exact(&self) {
        let records = self.topic.read();
        let expected = i64::try_from(records.len()).expect("a count");
        wait_until(seconds(120), "every record is applied", || applied(&self.database) >= expected);
        assert_orders(&self.database, &records);
        trail::assert_orderly(&self.database, &records);
    }
}

/// The worker dies, and its machine with it: the server never hears of that.
fn another_worker_claims_in_time(kind: Kind, label: &str, fault: LineFault) {
    let job = Job::new(kind, label);
    let stream = Stream::start(&job.topic, 86);
    let mut lost = Worker::start(&job.by_wire);
    let mut other = Worker::start(&job.direct);
    wait_until(seconds(60), "both workers work", || lost.applied() > 0.0 && other.applied() > 0.0);
    let hit = job.fall(fault);
    lost.kill();
    let owned = format!("SELECT count(DISTINCT owner) FROM {}", job.database.checkpoints());
    wait_until(CLAIM_LIMIT, "the other worker has claimed every partition", || {
        other.assert_runs();
        job.database.number(&owned) == 1
    });
    let took = hit.at.elapsed();
    println!("{label}: claimed {:.1} s after the line went dead", took.as_secs_f64());
    assert!(took <= CLAIM_LIMIT + seconds(1), "claimed after {took:?}");
    assert_eq!(hit.transaction.fate(), Fate::Undone, "the server has ended the dead worker's transaction by itself");
    let before = other.applied();
    wait_until(seconds(60), "the other worker goes on", || other.applied() > before + 1_000.0);
    stream.finish();
    job.assert_exact();
    assert_eq!(other.stop(), Some(0), "{}", other.log());
    job.assert_exact();
}

#[test]
fn locks_of_a_dead_worker_are_released_in_time_on_postgres() {
    another_worker_claims_in_time(Kind::Postgres, "black_hole_postgres", LineFault::BlackHole);
}

#[test]
fn locks_of_a_dead_worker_are_released_in_time_on_mysql() {
    another_worker_claims_in_time(Kind::MySql, "black_hole_mysql", LineFault::BlackHole);
}

#[test]
fn locks_of_a_dead_worker_are_released_in_time_on_mariadb() {
    another_worker_claims_in_time(Kind::MariaDb, "black_hole_mariadb", LineFault::BlackHole);
}

#[test]
fn locks_of_a_worker_that_died_in_the_middle_of_a_message_are_released_in_time_on_postgres() {
    another_worker_claims_in_time(Kind::Postgres, "black_hole_in_message_postgres", LineFault::BlackHoleInMessage);
}

#[test]
fn locks_of_a_worker_that_died_in_the_middle_of_a_message_are_released_in_time_on_mysql() {
    another_worker_claims_in_time(Kind::MySql, "black_hole_in_message_mysql", LineFault::BlackHoleInMessage);
}

#[test]
fn locks_of_a_worker_that_died_in_the_middle_of_a_message_are_released_in_time_on_mariadb() {
    another_worker_claims_in_time(Kind::MariaDb, "black_hole_in_message_mariadb", LineFault::BlackHoleInMessage);
}

/// Only its lines are dead. It waits for the server's own limit and a margin of 15 s, then asks what became of the batch.
fn a_worker_that_lives_gives_dead_lines_up_and_goes_on(kind: Kind, label: &str) {
    let job = Job::new(kind, label);
    let file = job.by_wire.clone().database(&format!("{{ url: \"{}\", statement_timeout: 5s }}", job.wire.url()));
    let stream = Stream::start(&job.topic, 87);
    let mut worker = Worker::start(&file);
    wait_until(seconds(60), "the worker works", || worker.applied() > 0.0);
    let hit = job.fall(LineFault::BlackHole);
    job.wire.end_hole();
    wait_until(seconds(20 + 20), "the worker has asked what became of its batch", || {
        worker.assert_runs();
        worker.metric("oncesink_batch_seconds_count", &[r#"result="unknown""#]).is_some_and(|unknown| unknown >= 1.0)
    });
    assert_eq!(hit.transaction.fate(), Fate::Undone, "it was never sent");
    let before = worker.applied();
    wait_until(seconds(60), "the worker goes on", || worker.applied() > before + 1_000.0);
    println!("{label}: at work again {:.1} s after the line went dead", hit.at.elapsed().as_secs_f64());
    stream.finish();
    job.assert_exact();
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    job.assert_exact();
}

#[test]
fn a_worker_that_lives_gives_dead_lines_up_on_postgres() {
    a_worker_that_lives_gives_dead_lines_up_and_goes_on(Kind::Postgres, "black_hole_alive_postgres");
}

#[test]
fn a_worker_that_lives_gives_dead_lines_up_on_mysql() {
    a_worker_that_lives_gives_dead_lines_up_and_goes_on(Kind::MySql, "black_hole_alive_mysql");
}

#[test]
fn a_worker_that_lives_gives_dead_lines_up_on_mariadb() {
    a_worker_that_lives_gives_dead_lines_up_and_goes_on(Kind::MariaDb, "black_hole_alive_mariadb");
}
