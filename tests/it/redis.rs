//! Events that Redis remembers: most repeats are stopped, and nothing is ever lost for it, whatever becomes of Redis.

use std::time::Duration;

use crate::{
    database::{Database, Kind},
    event_log::{WEEK, assert_each_event_once, assert_each_record_once, create_tables, file, kill_at_events, repeats},
    file::PipelineFile,
    kafka::Outgoing,
    main_job::{kills, wait_until_committed},
    servers::{Server, ask_redis, shared_redis},
    topic::Topic,
    wait::{pause, seconds, wait_until},
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
#[test]
fn all_layers_together_on_postgres() {
    let keys = "dedup: [checkpoint, processed-event, redis]\n    event_id: value.event";
    let (topic, database) = kill_at_events(Kind::Postgres, "redis_layers", keys, &small_batches(shared_redis()));
    assert_each_event_once(&topic, &database);
}

/// A worker at work on numbered records, each an event of its own, and a Redis that things happen to.
struct Job {
    topic: Topic,
    database: Database,
    file: PipelineFile,
    sent: usize,
}

impl Job {
    fn new(label: &str, database: Database, redis: &str, delivery: &str) -> Self {
        let topic = Topic::create(label, 4);
        topic.keep_for(WEEK);
        create_tables(&database);
        let keys = format!("delivery: {delivery}\n    dedup: [redis]\n    event_id: value.event");
        let file = file(label, &topic, &database, &keys).also(&small_batches(redis)).also("rate_limit: { records_per_second: 3000 }");
        Self { topic, database, file, sent: 0 }
    }

    fn send(&mut self, count: usize) {
        let record = |number: usize| Outgoing::json(number.to_string(), format!(r#"{{"event":"e-{number}","id":{number},"version":1}}"#));
        self.topic.send(&(self.sent..self.sent + count).map(record).collect::<Vec<_>>());
        self.sent += count;
    }

    fn applied(&self) -> i64 {
        self.database.try_rows("SELECT count(*) FROM event_log").ok().and_then(|rows| rows.first()?.first()?.as_deref()?.parse().ok()).unwrap_or(0)
    }

    /// Waits until so many more are applied, while there is more to do.
    #[track_caller]
    fn works(&self, workers: &mut [Worker]) {
        let before = self.applied();
        wait_until(seconds(90), "some more records are applied", || {
            workers.iter_mut().for_each(Worker::assert_runs);
            self.applied() > before + 500
        });
    }

    #[track_caller]
    fn end(&self, workers: &mut [Worker]) {
        wait_until_committed(seconds(120), &[&self.topic], &self.file, workers);
    }
}

/// Flushed, killed and back without its memory, full, slow by 5 s, gone for 30 s: each at work. Nothing is lost, and under exactly-once nothing is
/// repeated.
fn harm(label: &str, delivery: &str) -> (Job, Vec<Worker>) {
    // Nothing is written to disk: a restart forgets all.
    let mut redis = Server::redis("single", &["appendonly no"]);
    let url = redis.get("url").to_owned();
    let mut job = Job::new(label, Database::create(Kind::Postgres, label), &url, delivery);
    job.send(120_000);
    let mut workers = vec![Worker::start(&job.file)];
    job.works(&mut workers);

    assert_eq!(ask_redis(&url, "FLUSHALL"), "OK");
    job.works(&mut workers);

    redis.kill_node("single");
    redis.start_node("single");
    job.works(&mut workers);

    let used = ask_redis(&url, "INFO memory").lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<u64>().ok()).expect("a number");
    assert_eq!(ask_redis(&url, &format!("CONFIG SET maxmemory {used}")), "OK");
    workers[0].wait_for_log(seconds(60), &["redis-out-of-memory"]);
    let before = job.applied();
    assert_eq!(ask_redis(&url, "CONFIG SET maxmemory 0"), "OK");
    job.works(&mut workers);
    assert!(job.applied() > before);

    redis.freeze();
    pause(Duration::from_secs(5));
    redis.thaw();
    job.works(&mut workers);

    redis.kill_node("single");
    workers[0].wait_for_log(seconds(30), &["redis-unreachable"]);
    // What was in flight has ended by now: without Redis nothing more is written.
    pause(Duration::from_secs(5));
    let at_rest = job.applied();
    pause(Duration::from_secs(25));
    assert_eq!(job.applied(), at_rest, "written unscreened");
    redis.start_node("single");
    job.works(&mut workers);
    job.end(&mut workers);
    assert_eq!(workers[0].stop(), Some(0));
    (job, workers)
}

#[test]
fn nothing_is_lost_whatever_becomes_of_redis() {
    let (job, _) = harm("redis_harmed", "at-least-once");
    let _ = repeats(&job.topic, &job.database);
}

#[test]
fn with_a_checkpoint_under_it_nothing_repeats_whatever_becomes_of_redis() {
    let (job, _) = harm("redis_harmed_exactly", "exactly-once");
    assert_each_record_once(&job.topic, &job.database);
}

#[test]
fn a_failover_by_sentinels_at_work() {
    let mut redis = Server::redis("sentinel", &[]);
    let sentinels: Vec<String> = redis.get("sentinels").split(',').map(|url| format!("\"{url}\"")).collect();
    let address = format!("{{ sentinels: [{}], master: {} }}", sentinels.join(", "), redis.get("master"));
    let mut job = Job::new("redis_sentinel", Database::create(Kind::Postgres, "redis_sentinel"), &address, "exactly-once");
    job.send(60_000);
    let mut workers = [Worker::start(&job.file), Worker::start(&job.file)];
    job.works(&mut workers);
    redis.kill_node("primary");
    job.works(&mut workers);
    job.end(&mut workers);
    let replica = redis.get("replica").to_owned();
    assert!(ask_redis(&replica, "ROLE").starts_with("master"), "the replica has taken over");
    workers.iter_mut().for_each(|worker| assert_eq!(worker.stop(), Some(0)));
    assert_each_record_once(&job.topic, &job.database);
}

#[test]
fn a_node_of_a_cluster_dies_at_work() {
    let mut redis = Server::redis("cluster", &[]);
    let nodes: Vec<String> = redis.get("cluster").split(',').map(|url| format!("\"{url}\"")).collect();
    let address = format!("{{ cluster: [{}] }}", nodes.join(", "));
    let mut job = Job::new("redis_cluster", Database::create(Kind::Postgres, "redis_cluster"), &address, "exactly-once");
    job.send(60_000);
    let mut workers = [Worker::start(&job.file), Worker::start(&job.file)];
    job.works(&mut workers);
    redis.kill_node(2);
    pause(Duration::from_secs(5));
    redis.start_node(2);
    job.works(&mut workers);
    job.end(&mut workers);
    workers.iter_mut().for_each(|worker| assert_eq!(worker.stop(), Some(0)));
    assert_each_record_once(&job.topic, &job.database);
}

/// Redis remembers what the restored database does not hold: all of it is written again.
#[test]
fn nothing_is_skipped_in_a_database_that_was_restored() {
    let mut server = Server::postgres();
    let mut job = Job::new("redis_restored", Database::create_on(server.get("url"), "redis_restored"), shared_redis(), "exactly-once");
    job.send(60_000);
    let mut workers = [Worker::start(&job.file), Worker::start(&job.file)];
    job.works(&mut workers);
    server.copy("early");
    let copied = job.applied();
    wait_until(seconds(90), "much is applied after the copy", || {
        workers.iter_mut().for_each(Worker::assert_runs);
        job.applied() > copied + 5_000
    });
    server.restore("early");
    job.end(&mut workers);
    workers.iter_mut().for_each(|worker| assert_eq!(worker.stop(), Some(0)));
    assert!(workers.iter().any(|worker| worker.log().contains("nothing that was remembered before counts any more")), "Redis saw no rewind");
    assert_each_record_once(&job.topic, &job.database);
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
    let mut workers = [Worker::start(&job.file)];
    workers[0].wait_for_log(seconds(30), &["waiting: redis: redis-evicts"]);
    assert_eq!(ask_redis(redis.get("url"), "CONFIG SET maxmemory-policy noeviction"), "OK");
    job.end(&mut workers);
    assert_eq!(workers[0].stop(), Some(0));
    assert_each_record_once(&job.topic, &job.database);
}
