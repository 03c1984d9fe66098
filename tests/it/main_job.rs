//! The promise: some workers, one of them is killed again and again while it works, and every record has taken effect once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    checker::{applied, assert_exact_at_the_stop, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    random::Random,
    tier::count,
    topic::{Orders, Topic},
    trail,
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

const PARTITIONS: i32 = 6;

/// Records that come for as long as the test needs a backlog.
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Stream {
    /// Some thousand records a second, acknowledged; the same ones for the same seed.
    pub fn start(topic: &Topic, seed: u64) -> Self {
        Self::of(topic, Orders::seeded(seed, 5_000), 200)
    }

    /// So many of these orders twenty times a second.
    pub fn of(topic: &Topic, mut orders: Orders, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, topic) = (stop.clone(), topic.clone());
        let thread = thread::spawn(move || {
            let producer = topic.producer();
            while !stopping.load(Ordering::Relaxed) {
                for order in orders.take(count) {
                    producer.send(&order);
                }
                pause(Duration::from_millis(50));
            }
            producer.flush();
        });
        Self { stop, thread: Some(thread) }
    }

    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("started").join().expect("the producer ends well");
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// How the workers are members of the group.
#[derive(Clone, Copy, Debug)]
enum Members {
    /// The broker finds a dead one by its session; the others keep what does not move.
    Cooperative,
    /// The same, but everything is taken away from everybody at each rebalance.
    Eager,
    /// One comes back under its own name and has its partitions at once: more kills in less time.
    Static,
}

fn main_job(kind: Kind, label: &str, count: u32, kills: u32, members: Members) {
    let topic = Topic::create(label, PARTITIONS);
    let database = Database::create(kind, label);
    create_order_tables(&database);
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
    let file = if matches!(members, Members::Eager) { file.property("partition.assignment.strategy", "range") } else { file };
    if kind != Kind::Sqlite {
        trail::lay(&database, &file);
    }
    // Before the first worker has made its group there is something to do.
    topic.send(&Orders::seeded(1, 5_000).take(20_000));
    let stream = Stream::start(&topic, 2);

    let start = |index: usize| match members {
        Members::Cooperative | Members::Eager => Worker::start(&file),
        Members::Static => Worker::start_with(&file, &["--set", &format!("kafka.instance_id=worker-{index}")]),
    };
    let mut workers: Vec<Worker> = (0..usize::try_from(count).expect("small")).map(start).collect();
    let mut random = Random::seeded(3);
    let mut at_kill = 0;
    for number in 1..=kills {
        let victim = usize::try_from(random.below(u64::from(count))).expect("small");
        kill_at_work(&mut workers, victim, number);
        at_kill = applied(&database);
        workers[victim] = start(victim);
    }

    stream.finish();
    let records = assert_exact_at_the_stop(&topic, &database, &file, &mut workers, seconds(180));
    let expected = i64::try_from(records.len()).expect("a count");
    assert!(at_kill < expected, "the last kill came when all was done");
    if kind != Kind::Sqlite {
        trail::assert_orderly(&database, &records);
    }
    println!("{label}: {count} workers, {kills} kills, {expected} records");
}

/// Kills a worker that is seen applying, at a moment when it holds records that are not applied yet.
pub fn kill_at_work(workers: &mut [Worker], victim: usize, number: u32) {
    let mut before = None;
    wait_until(seconds(90), &format!("worker {victim} works before kill {number}"), || {
        for worker in workers.iter_mut() {
            worker.assert_runs();
        }
        let applied = workers[victim].applied();
        let moved = before.is_some_and(|before| applied > before);
        if moved && workers[victim].held() > 0 {
            workers[victim].kill();
            return true;
        }
        before = before.or(Some(applied));
        false
    });
}

/// How often a worker is killed where that is not the test's own matter.
pub fn kills() -> u32 {
    count(3, 12)
}

/// Two static members, one of which is killed again and again at work and comes back, until the group has committed everything; then both stop.
#[track_caller]
pub fn kill_until_committed(limit: Duration, topics: &[&Topic], file: &PipelineFile, seed: u64) {
    let start = |index: usize| Worker::start_with(file, &["--set", &format!("kafka.instance_id=worker-{index}")]);
    let mut workers: Vec<Worker> = (0..2).map(start).collect();
    let mut random = Random::seeded(seed);
    for number in 1..=kills() {
        let victim = usize::try_from(random.below(2)).expect("small");
        kill_at_work(&mut workers, victim, number);
        workers[victim] = start(victim);
    }
    wait_until_committed(limit, topics, file, &mut workers);
    for worker in &mut workers {
        assert_eq!(worker.stop(), Some(0), "a worker's exit code:\n{}", worker.log());
    }
}

#[track_caller]
pub fn wait_until_committed(limit: Duration, topics: &[&Topic], file: &PipelineFile, workers: &mut [Worker]) {
    wait_until(limit, "the group has committed everything", || {
        workers.iter_mut().for_each(Worker::assert_runs);
        topics.iter().all(|topic| topic.lag(&file.group()) == Some(0))
    });
}

/// Two workers, and three as well in the long tier.
fn main_jobs(kind: Kind, label: &str, members: Members) {
    for workers in 2..=count(2, 3) {
        main_job(kind, label, workers, count(10, 30), members);
    }
}

#[test]
fn main_job_on_postgres() {
    main_jobs(Kind::Postgres, "main_job_postgres", Members::Cooperative);
}

#[test]
fn main_job_with_eager_members_on_postgres() {
    main_jobs(Kind::Postgres, "main_job_eager", Members::Eager);
}

#[test]
fn main_job_with_static_members_on_postgres() {
    main_jobs(Kind::Postgres, "main_job_static", Members::Static);
}

#[test]
fn main_job_on_sqlite() {
    main_jobs(Kind::Sqlite, "main_job_sqlite", Members::Cooperative);
}

#[test]
fn main_job_on_mysql() {
    main_jobs(Kind::MySql, "main_job_mysql", Members::Static);
}

#[test]
fn main_job_on_mariadb() {
    main_jobs(Kind::MariaDb, "main_job_mariadb", Members::Static);
}

#[test]
fn smoke_one_kill_on_postgres() {
    main_job(Kind::Postgres, "smoke_postgres", 2, 1, Members::Static);
}

#[test]
fn smoke_one_kill_on_sqlite() {
    main_job(Kind::Sqlite, "smoke_sqlite", 2, 1, Members::Static);
}

#[test]
fn smoke_one_kill_on_mysql() {
    main_job(Kind::MySql, "smoke_mysql", 2, 1, Members::Static);
}

#[test]
fn smoke_one_kill_on_mariadb() {
    main_job(Kind::MariaDb, "smoke_mariadb", 2, 1, Members::Static);
}
