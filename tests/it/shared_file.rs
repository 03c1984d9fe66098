//! Two workers that both have more to do than they can, on one SQLite file: neither waits long for its turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    tier::count,
    topic::{Orders, Topic},
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

const SAMPLE: Duration = Duration::from_millis(100);
/// The longest that a saturated worker may go without a commit.
const LONGEST: Duration = seconds(2);

/// A producer that always keeps this many records ahead of what is applied.
const AHEAD: u64 = 150_000;

struct Backlog {
    stop: Arc<AtomicBool>,
    /// Told by the test.
    applied: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Backlog {
    fn start(topic: &Topic) -> Self {
        let (stop, applied) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, told, topic) = (stop.clone(), applied.clone(), topic.clone());
        let thread = thread::spawn(move || {
            let (producer, mut orders, mut sent) = (topic.producer(), Orders::seeded(91, 20_000), 0);
            while !stopping.load(Ordering::Relaxed) {
                if sent < told.load(Ordering::Relaxed) + AHEAD {
                    orders.take(1_000).iter().for_each(|order| producer.send(order));
                    sent += 1_000;
                } else {
                    pause(Duration::from_millis(5));
                }
            }
            producer.flush();
        });
        Self { stop, applied, thread }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the producer ends well");
    }
}

/// One worker, as it is watched.
struct Watched {
    worker: Worker,
    commits: f64,
    since: Instant,
    longest: Duration,
}

impl Watched {
    fn start(file: &PipelineFile) -> Self {
        Self { worker: Worker::start(file), commits: 0.0, since: Instant::now(), longest: Duration::ZERO }
    }

    fn commits(&self) -> f64 {
        self.worker.metric("oncesink_batch_seconds_count", &[r#"result="committed""#]).unwrap_or(0.0)
    }

    /// The log has a row for each.
    fn records(&self) -> f64 {
        self.worker.applied_by("log")
    }

    fn is_saturated(&mut self) -> bool {
        self.worker.assert_runs();
        self.worker.held() > 0
    }

    /// What passes before this does not count.
    fn begin(&mut self) {
        (self.commits, self.since) = (self.commits(), Instant::now());
    }

    fn look(&mut self) {
        let commits = self.commits();
        self.longest = self.longest.max(self.since.elapsed());
        if commits > self.commits {
            (self.commits, self.since) = (commits, Instant::now());
        }
    }
}

#[test]
fn two_saturated_workers_share_a_sqlite_file() {
    let span = seconds(u64::from(count(20, 60)));
    let topic = Topic::create("shared_file", 8);
    let database = Database::create(Kind::Sqlite, "shared_file");
    create_order_tables(&database);
    let file = PipelineFile::new("shared_file", &topic, &database, &order_routes(&topic.name));
    let backlog = Backlog::start(&topic);

    // One alone, for comparison.
    let mut first = Watched::start(&file);
    wait_until(seconds(60), "the first worker is at work", || first.is_saturated() && first.records() > 20_000.0);
    let alone = rate(std::slice::from_ref(&first), &backlog, seconds(5));

    let mut workers = [first, Watched::start(&file)];
    wait_until(seconds(60), "both workers are at work", || {
        tell(&workers, &backlog);
        workers.iter_mut().all(|watched| watched.is_saturated() && watched.commits() > 0.0)
    });
    // Their shares differ by what they took before, so each is counted from here.
    let before = workers.each_ref().map(Watched::records);
    workers.iter_mut().for_each(Watched::begin);
    let (began, mut saturated) = (Instant::now(), Duration::ZERO);
    while saturated < span {
        assert!(began.elapsed() < 3 * span, "both were saturated for {saturated:.1?} only");
        let last = Instant::now();
        pause(SAMPLE);
        tell(&workers, &backlog);
        if workers.iter_mut().all(Watched::is_saturated) {
            workers.iter_mut().for_each(Watched::look);
            saturated += last.elapsed();
        } else {
            workers.iter_mut().for_each(Watched::begin);
        }
    }
    let together = workers.each_ref().map(Watched::records).iter().sum::<f64>() - before.iter().sum::<f64>();
    let together = together / began.elapsed().as_secs_f64();
    for (watched, before) in workers.iter().zip(before) {
        eprintln!("{:.0} records in {saturated:.1?}, longest without a commit {:.2?}", watched.records() - before, watched.longest);
    }
    eprintln!("records/s: {alone:.0} by one worker, {together:.0} by two ({:.0} %)", 100.0 * together / alone);
    for watched in &workers {
        assert!(watched.longest <= LONGEST, "{:.2?} without a commit", watched.longest);
    }

    backlog.finish();
    let records = topic.read();
    let expected = i64::try_from(records.len()).expect("a count");
    wait_until(seconds(180), "every record is applied", || applied(&database) >= expected);
    for watched in &mut workers {
        assert_eq!(watched.worker.stop(), Some(0), "{}", watched.worker.log());
    }
    assert_orders(&database, &records);
}

fn tell(workers: &[Watched], backlog: &Backlog) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let applied = workers.iter().map(Watched::records).sum::<f64>() as u64;
    backlog.applied.store(applied, Ordering::Relaxed);
}

/// Records a second over some time.
fn rate(workers: &[Watched], backlog: &Backlog, time: Duration) -> f64 {
    let records = || workers.iter().map(Watched::records).sum::<f64>();
    let (began, before) = (Instant::now(), records());
    while began.elapsed() < time {
        tell(workers, backlog);
        pause(SAMPLE);
    }
    (records() - before) / began.elapsed().as_secs_f64()
}
