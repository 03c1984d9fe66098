//! Events that Redis remembers: most repeats are stopped, and nothing is ever lost for it, whatever becomes of Redis.

use std::time::Duration;

use crate::{
    database::{Database, Kind},
    event_log::{WEEK, assert_each_event_once, assert_each_record_once, create_tables, file, kill_at_events, numbered, repeats},
    file::PipelineFile,
    main_job::{kills, wait_until_committed},
    restore::put_back,
    servers::{Server, ask_redis, shared_redis},
    topic::Topic,
    wait::{pause, seconds, wait_for, wait_until},
    worker::{Worker, oncesink, path},
};

/// The default.
const WRITERS: usize = 4;
const ROWS: usize = 100;

/// What a crash can lose the marks of: batches that were committed, and Redis not yet told.
fn in_flight(kills: u32) -> usize {
    WRITERS * ROWS * usize::try_from(kills).expect("small")
}

fn small_batches(redis: &str) -> String {
    format!("redis: {redis}\nbatch: {{ rows: {ROWS} }}")
}

/// Of 4,000 repeats of the producer, and all that the kills bring again, only what was in flight at a kill comes through.
fn by_id(kind: Kind, label: &str) {
    let keys = "delivery: at-least-once\n    dedup: [redis]\n    event_id: value.event";
    let (topic, database) = kill_at_events(kind, label, keys, &small_batches(shared_redis()));
    let repeats = repeats(&topic, &database);
    // A mark that is lost also lets the producer's later repeat of its event through.
    let most = in_flight(kills()) * 2;
    assert!(repeats <= most, "{repeats} repeats, and at most {most} were in flight");
    println!("{label}: {repeats} repeats of at most {most}");
}

#[test]
fn most_repeats_are_stopped_on_postgres() {
    by_id(Kind::Postgres, "redis_postgres");
}

#[test]
fn most_repeats_are_stopped_on_mysql() {
    by_id(Kind::MySql, "redis_mysql");
}

#[test]
fn most_repeats_are_stopped_on_mariadb() {
    by_id(Kind::MariaDb, "redis_mariadb");
}

#[test]
fn most_repeats_are_stopped_on_sqlite() {
    by_id(Kind::Sqlite, "redis_sqlite");
}

/// All three layers, in whatever order the file has them: each event once.
fn all_layers(kind: Kind, label: &str) {
    let keys = "dedup: [checkpoint, processed-event, redis]\n    event_id: value.event";
    let (topic, database) = kill_at_events(kind, label, keys, &small_batches(shared_redis()));
    assert_each_event_once(&topic, &database);
}

#[test]
fn all_layers_together_on_postgres() {
    all_layers(Kind::Postgres, "redis_layers_postgres");
}

#[test]
fn all_layers_together_on_mysql() {
    all_layers(Kind::MySql, "redis_layers_mysql");
}

#[test]
fn all_layers_together_on_mariadb() {
    all_layers(Kind::MariaDb, "redis_layers_mariadb");
}

#[test]
fn all_layers_together_on_sqlite() {
    all_layers(Kind::Sqlite, "redis_layers_sqlite");
}

/// Workers on numbered records, each an event of its own, and a Redis that things happen to.
struct Job {
    topic: Topic,
    database: Database,
    file: PipelineFile,
    sent: usize,
    workers: Vec<Worker>,
}

impl Job {
    fn new(label: &str, database: Database, redis: &str, delivery: &str) -> Self {
        let topic = Topic::create(label, 4);
        topic.keep_for(WEEK);
        create_tables(&database);
        let keys = format!("delivery: {delivery}\n    dedup: [redis]\n    event_id: value.event");
        let file = file(label, &topic, &database, &keys).also(&small_batches(redis)).also("rate_limit: { records_per_second: 3000 }");
        Self { topic, database, file, sent: 0, workers: Vec::new() }
    }

    fn send(&mut self, count: usize) {
        self.topic.send(&numbered(self.sent..self.sent + count));
        self.sent += count;
    }

    fn start(&mut self, workers: usize) {
        self.workers.extend((0..workers).map(|_| Worker::start(&self.file)));
    }

    fn applied(&self) -> i64 {
        self.database.count("event_log")
    }

    /// Nothing while the database does not answer.
    fn try_applied(&self) -> Option<i64> {
        self.database.try_count("event_log")
    }

    /// Waits until so many more are applied, while there is more to do.
    #[track_caller]
    fn applies(&mut self, count: i64) {
        let before = wait_for(seconds(60), "the database answers", || self.try_applied());
        wait_until(seconds(120), "some more records are applied", || {
            self.workers.iter_mut().for_each(Worker::assert_runs);
            self.try_applied().is_some_and(|applied| applied > before + count)
        });
    }

    /// Waits until all is applied, and stops.
    #[track_caller]
    fn end(&mut self) {
        wait_until_committed(seconds(180), &[&self.topic], &self.file, &mut self.workers);
        self.stop();
    }

    #[track_caller]
    fn stop(&mut self) {
        self.workers.iter_mut().for_each(|worker| assert_eq!(worker.stop(), Some(0), "{}", worker.log()));
    }
}

/// A delivery, and what the tables must be under it.
type Promise = (&'static str, fn(&Topic, &Database));

/// As Redis alone promises.
const AT_LEAST_ONCE: Promise = ("at-least-once", |topic, database| {
    let _ = repeats(topic, database);
});

/// With a checkpoint under it.
const EXACTLY_ONCE: Promise = ("exactly-once", assert_each_record_once);

/// What a job has before it again and again: more than it can do until the next look.
const AHEAD: usize = 20_000;

/// A job into each database, all by one Redis.
struct Jobs {
    jobs: Vec<Job>,
    right: fn(&Topic, &Database),
}

impl Jobs {
    /// At work.
    fn new(label: &str, redis: &str, (delivery, right): Promise, workers: usize) -> Self {
        let job = |(kind, name): (Kind, &str)| {
            let label = format!("{label}_{name}");
            Job::new(&label, Database::create(kind, &label), redis, delivery)
        };
        let kinds = [(Kind::Postgres, "postgres"), (Kind::MySql, "mysql"), (Kind::MariaDb, "mariadb"), (Kind::Sqlite, "sqlite")];
        let mut jobs = Self { jobs: kinds.into_iter().map(job).collect(), right };
        jobs.jobs.iter_mut().for_each(|job| job.start(workers));
        jobs.work();
        jobs
    }

    /// All go on. Whoever had done everything before the slowest is looked at could not.
    #[track_caller]
    fn work(&mut self) {
        let before = self.applied();
        wait_until(seconds(120), "some more records are applied to every database", || {
            self.jobs.iter_mut().flat_map(|job| &mut job.workers).for_each(Worker::assert_runs);
            let applied = self.applied();
            for (job, applied) in self.jobs.iter_mut().zip(&applied) {
                // Repeats may make more of it than was sent.
                if job.sent < usize::try_from(*applied).expect("a count") + AHEAD {
                    job.send(AHEAD);
                }
            }
            applied.iter().zip(&before).all(|(applied, before)| *applied > before + 500)
        });
    }

    /// How often each job's workers have said this.
    fn said(&self, text: &str) -> Vec<usize> {
        self.jobs.iter().map(|job| job.workers.iter().map(|worker| worker.log().matches(text).count()).sum()).collect()
    }

    /// Waits until each job has said it once more than `before`.
    #[track_caller]
    fn wait_until_said(&self, text: &str, before: &[usize]) {
        wait_until(seconds(60), &format!("every job says {text}"), || self.said(text).iter().zip(before).all(|(said, before)| said > before));
    }

    fn applied(&self) -> Vec<i64> {
        self.jobs.iter().map(Job::applied).collect()
    }

    /// Waits until nothing more comes: what was under way has ended.
    #[track_caller]
    fn wait_for_rest(&self) -> Vec<i64> {
        let (mut last, mut looks) = (self.applied(), 0);
        wait_until(seconds(60), "nothing more is applied", || {
            pause(Duration::from_millis(500));
            let now = self.applied();
            looks = if now == last { looks + 1 } else { 0 };
            last = now;
            looks == 6
        });
        last
    }

    #[track_caller]
    fn end(mut self) {
        wait_until(seconds(300), "every group has committed everything", || {
            self.jobs.iter_mut().flat_map(|job| &mut job.workers).for_each(Worker::assert_runs);
            self.jobs.iter().all(|job| job.topic.lag(&job.file.group()) == Some(0))
        });
        for job in &mut self.jobs {
            job.stop();
            (self.right)(&job.topic, &job.database);
        }
    }
}

/// Flushed, killed and back without its memory, full, slow by 5 s, gone for 30 s: each at work, on every database.
fn harm(label: &str, promise: Promise) {
    // Nothing is written to disk: a restart forgets all.
    let mut redis = Server::redis("single", &["appendonly no"]);
    let url = redis.get("url").to_owned();
    let mut jobs = Jobs::new(label, &url, promise, 1);

    assert_eq!(ask_redis(&url, "FLUSHALL"), "OK");
    jobs.work();

    redis.kill_node("single");
    redis.start_node("single");
    jobs.work();

    let used = ask_redis(&url, "INFO memory").lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok()).expect("a number");
    assert_eq!(ask_redis(&url, &format!("CONFIG SET maxmemory {used}")), "OK");
    jobs.wait_until_said("redis-out-of-memory", &[0; 4]);
    assert_eq!(ask_redis(&url, "CONFIG SET maxmemory 0"), "OK");
    jobs.work();

    redis.freeze();
    pause(Duration::from_secs(5));
    redis.thaw();
    jobs.work();

    let before = jobs.said("redis-unreachable");
    redis.kill_node("single");
    jobs.wait_until_said("redis-unreachable", &before);
    let at_rest = jobs.wait_for_rest();
    pause(Duration::from_secs(25));
    assert_eq!(jobs.applied(), at_rest, "written unscreened");
    redis.start_node("single");
    jobs.work();
    jobs.end();
}

#[test]
fn nothing_is_lost_whatever_becomes_of_redis() {
    harm("redis_harmed", AT_LEAST_ONCE);
}

#[test]
fn with_a_checkpoint_under_it_nothing_repeats_whatever_becomes_of_redis() {
    harm("redis_harmed_exactly", EXACTLY_ONCE);
}

fn fail_over(label: &str, promise: Promise) {
    let mut redis = Server::redis("sentinel", &[]);
    let sentinels: Vec<String> = redis.get("sentinels").split(',').map(|url| format!("\"{url}\"")).collect();
    let address = format!("{{ sentinels: [{}], master: {} }}", sentinels.join(", "), redis.get("master"));
    let mut jobs = Jobs::new(label, &address, promise, 2);
    let before = jobs.said("a batch failed");
    redis.kill_node("primary");
    jobs.wait_until_said("a batch failed", &before);
    jobs.work();
    jobs.end();
    let replica = redis.get("replica").to_owned();
    assert!(ask_redis(&replica, "ROLE").starts_with("master"), "the replica has taken over");
}

#[test]
fn nothing_is_lost_in_a_failover_by_sentinels() {
    fail_over("redis_sentinel", AT_LEAST_ONCE);
}

#[test]
fn with_a_checkpoint_under_it_nothing_repeats_in_a_failover_by_sentinels() {
    fail_over("redis_sentinel_exactly", EXACTLY_ONCE);
}

fn lose_a_node(label: &str, promise: Promise) {
    let mut redis = Server::redis("cluster", &[]);
    let nodes: Vec<String> = redis.get("cluster").split(',').map(|url| format!("\"{url}\"")).collect();
    let mut jobs = Jobs::new(label, &format!("{{ cluster: [{}] }}", nodes.join(", ")), promise, 2);
    let before = jobs.said("a batch failed");
    redis.kill_node(2);
    jobs.wait_until_said("a batch failed", &before);
    redis.start_node(2);
    jobs.work();
    jobs.end();
}

#[test]
fn nothing_is_lost_when_a_node_of_a_cluster_dies() {
    lose_a_node("redis_cluster", AT_LEAST_ONCE);
}

#[test]
fn with_a_checkpoint_under_it_nothing_repeats_when_a_node_of_a_cluster_dies() {
    lose_a_node("redis_cluster_exactly", EXACTLY_ONCE);
}

/// Redis remembers what the restored database does not hold: all of it is written again.
fn restored(kind: &str) {
    let mut server = Server::of_database(kind);
    let label = format!("redis_restored_{kind}");
    let mut job = Job::new(&label, Database::create_on(server.get("url"), &label), shared_redis(), "exactly-once");
    job.send(60_000);
    job.start(2);
    job.applies(500);
    server.copy("early");
    job.applies(5_000);
    server.restore("early");
    job.end();
    assert_rewound(&job);
}

#[track_caller]
fn assert_rewound(job: &Job) {
    assert!(job.workers.iter().any(|worker| worker.log().contains("nothing that was remembered before counts any more")), "Redis saw no rewind");
    assert_each_record_once(&job.topic, &job.database);
}

#[test]
fn nothing_is_skipped_in_a_database_that_was_restored_on_postgres() {
    restored("postgres");
}

#[test]
fn nothing_is_skipped_in_a_database_that_was_restored_on_mysql() {
    restored("mysql");
}

#[test]
fn nothing_is_skipped_in_a_database_that_was_restored_on_mariadb() {
    restored("mariadb");
}

/// The file is put back between two runs.
#[test]
fn nothing_is_skipped_in_a_file_that_was_restored_on_sqlite() {
    let mut job = Job::new("redis_restored_sqlite", Database::create(Kind::Sqlite, "redis_restored_sqlite"), shared_redis(), "exactly-once");
    job.send(5_000);
    job.start(1);
    job.end();
    let Database::Sqlite { path } = &job.database else { unreachable!("it is SQLite") };
    let (path, copy) = (path.clone(), path.with_extension("copy"));
    job.database.execute(&format!("VACUUM INTO '{}'", copy.display()));
    job.send(5_000);
    job.workers.clear();
    job.start(1);
    job.end();
    assert_eq!(job.applied(), 10_000);
    put_back(&path, &copy);
    assert_eq!(job.applied(), 5_000, "the copy is in its place");
    job.workers.clear();
    job.start(1);
    wait_until(seconds(90), "what the file had lost is applied again", || job.applied() >= 10_000);
    job.end();
    assert_rewound(&job);
}

/// The time to live is below what the topic keeps, and nothing else stops a repeat.
#[test]
fn a_short_memory_is_refused_where_nothing_else_stops_a_repeat() {
    let mut job = Job::new("redis_ttl", Database::create(Kind::Postgres, "redis_ttl"), &format!("{{ url: {}, ttl: 1h }}", shared_redis()), "at-least-once");
    job.send(1);
    let refused = ["redis.ttl is 1h", "and nothing else stops it"];
    oncesink(&["plan", path(&job.file)]).expect_code(78).expect_text(&refused);
    oncesink(&["run", path(&job.file), "--until-end"]).expect_code(78).expect_text(&refused);
    let exactly = Job::new(
        "redis_ttl_exactly",
        Database::create(Kind::Postgres, "redis_ttl_exactly"),
        &format!("{{ url: {}, ttl: 1h }}", shared_redis()),
        "exactly-once",
    );
    oncesink(&["plan", path(&exactly.file)]).expect_code(0).expect_text(&["redis.ttl is 1h"]);
}

/// A server that forgets by itself is refused, and waited for.
#[test]
fn a_redis_that_evicts_is_refused_and_waited_for() {
    let redis = Server::redis("single", &["maxmemory 50mb", "maxmemory-policy allkeys-lru"]);
    let mut job = Job::new("redis_evicts", Database::create(Kind::Postgres, "redis_evicts"), redis.get("url"), "exactly-once");
    job.send(10);
    oncesink(&["plan", path(&job.file)]).expect_code(1).expect_text(&["redis-evicts", "redis.eviction: allow"]);
    job.start(1);
    job.workers[0].wait_for_log(seconds(30), &["waiting: redis: redis-evicts"]);
    assert_eq!(ask_redis(redis.get("url"), "CONFIG SET maxmemory-policy noeviction"), "OK");
    job.end();
    assert_each_record_once(&job.topic, &job.database);
}
