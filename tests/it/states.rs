//! The states of a worker, each with how it is reached and how it is seen.

use std::{
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    holder::Holder,
    kafka::Outgoing,
    servers::{Server, shared_kafka, unique},
    stopping::{Ends, Reached, State},
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::{Worker, free_address, run_until_end},
};

/// `shutdown_timeout` of these workers.
pub const DRAIN_LIMIT: Duration = seconds(5);
const IN_TIME: Ends = Ends::InTime { within: DRAIN_LIMIT };
const CUT: Ends = Ends::Cut { after: DRAIN_LIMIT };
const CUT_WITHOUT_THE_BROKER: Ends = Ends::CutWithoutTheBroker { after: DRAIN_LIMIT };
/// Where the file says nothing; Kubernetes waits 30 s.
const CUT_BY_DEFAULT: Ends = Ends::Cut { after: seconds(25) };

const fn state(name: &'static str, ends: Ends, reach: fn() -> Reached) -> State {
    State { name, ends, reach }
}

pub fn before_the_work() -> [State; 10] {
    [
        state("right after the start", Ends::AtOnce, right_after_the_start),
        state("the broker refuses", Ends::AtOnce, the_broker_refuses),
        state("the broker is silent", Ends::AtOnce, the_broker_is_silent),
        state("the database refuses", Ends::AtOnce, the_database_refuses),
        state("the database is silent", Ends::AtOnce, the_database_is_silent),
        state("the database is silent, --until-end", Ends::AtOnce, the_database_is_silent_until_end),
        state("the topic is missing", Ends::AtOnce, the_topic_is_missing),
        state("the table is missing", Ends::AtOnce, the_table_is_missing),
        state("a grant is missing", Ends::AtOnce, a_grant_is_missing),
        state("joined without a partition", Ends::AtOnce, joined_without_a_partition),
    ]
}

pub fn at_work() -> [State; 5] {
    [
        state("full load", IN_TIME, full_load),
        state("idle", Ends::AtOnce, idle),
        state("halted by a bad record", Ends::Halted, halted_by_a_bad_record),
        state("halted by a missing table", Ends::Halted, halted_by_a_missing_table),
        state("draining in a rebalance", CUT, draining_in_a_rebalance),
    ]
}

pub fn database_in_the_way() -> [State; 13] {
    [
        state("a claim waits for its row", Ends::AtOnce, a_claim_waits_for_its_row),
        state("claims wait for their rows", Ends::AtOnce, claims_wait_for_their_rows),
        state("a batch waits for a lock", CUT, a_batch_waits_for_a_lock),
        state("a batch waits for a lock, --until-end", CUT, a_batch_waits_for_a_lock_until_end),
        state("a batch waits for a lock, shutdown_timeout left out", CUT_BY_DEFAULT, a_batch_waits_for_a_lock_by_default),
        state("a batch waits for a lock that is freed", IN_TIME, a_batch_waits_for_a_lock_that_is_freed),
        state("a batch waits for a SQLite file", CUT, a_batch_waits_for_a_file),
        state("a batch waits for a SQLite file that is freed", IN_TIME, a_batch_waits_for_a_file_that_is_freed),
        state("the outcome of a batch is asked for", CUT, an_outcome_is_asked_for),
        state("the outcome of a batch is asked for and told", IN_TIME, an_outcome_is_asked_for_and_told),
        state("a batch is tried again and again", CUT, a_batch_is_tried_again),
        state("a batch is tried again until the database is back", Ends::InTime { within: seconds(20) }, a_batch_is_tried_again_until_it_is_back),
        state("max_buffer is full", CUT, max_buffer_is_full),
    ]
}

pub fn broker_in_the_way() -> [State; 3] {
    [
        state("the broker is stopped, all is applied", Ends::WithoutTheBroker, the_broker_is_stopped),
        state("the broker is frozen, all is applied", Ends::WithoutTheBroker, the_broker_is_frozen),
        state("the broker is frozen, a batch waits for a lock", CUT_WITHOUT_THE_BROKER, the_broker_is_frozen_and_a_batch_waits),
    ]
}

/// A topic, a database with the tables of orders, and the file that joins them.
struct Job {
    topic: Topic,
    database: Database,
    file: PipelineFile,
}

impl Job {
    fn new(label: &str, partitions: i32) -> Self {
        Self::of(Topic::create(label, partitions), Database::create(Kind::Postgres, label), label)
    }

    fn of(topic: Topic, database: Database, label: &str) -> Self {
        create_order_tables(&database);
        let file = brief(PipelineFile::new(label, &topic, &database, &order_routes(&topic.name)));
        Self { topic, database, file }
    }

    fn send(&self, records: usize) {
        self.topic.send(&Orders::seeded(71, 1_000).take(records));
    }

    fn worker(&self) -> Worker {
        Worker::start(&self.file)
    }

    /// A worker that has applied these records and has nothing else to do.
    fn idle_worker(&self, records: usize) -> Worker {
        self.send(records);
        let mut worker = self.worker();
        wait_until(seconds(60), "all is applied", || {
            worker.assert_runs();
            applied(&self.database) == i64::try_from(records).expect("a count") && worker.held() == 0
        });
        worker
    }

    /// Holds the table, and a worker whose batch waits for it.
    fn worker_at_a_lock(&self, worker: impl FnOnce() -> Worker) -> (Worker, Holder) {
        let holder = Holder::of(&self.database, "LOCK TABLE orders IN EXCLUSIVE MODE");
        self.send(1_000);
        let mut worker = worker();
        self.wait_for_a_lock(&mut worker);
        assert!(worker.held() > 0, "a batch is in its hands");
        (worker, holder)
    }

    fn wait_for_a_lock(&self, worker: &mut Worker) {
        let waiting = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'", self.database.name());
        wait_until(seconds(60), "a transaction of the worker waits for a lock", || {
            worker.assert_runs();
            self.database.number(&waiting) > 0
        });
    }
}

fn brief(file: PipelineFile) -> PipelineFile {
    file.also(&format!("shutdown_timeout: {}s", DRAIN_LIMIT.as_secs()))
}

/// Takes every connection and never says a word.
struct Silence {
    address: String,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silence {
    fn begin() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let held = Arc::new(Mutex::new(Vec::new()));
        let holding = held.clone();
        // Ends with the tests' process.
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| holding.lock().expect("nobody panics with it").push(stream)));
        Self { address, held }
    }

    fn wait_for_a_caller(&self, worker: &mut Worker) {
        wait_until(seconds(60), "the worker has connected", || {
            worker.assert_runs();
            !self.held.lock().expect("nobody panics with it").is_empty()
        });
    }
}

fn right_after_the_start() -> Reached {
    let job = Job::new("right_after_the_start", 1);
    job.send(100);
    let worker = job.worker();
    // Before that the kernel ends it, as it ends every process.
    while !worker.catches(15) {
        thread::yield_now();
    }
    Reached::new(worker, job)
}

fn the_broker_refuses() -> Reached {
    let database = Database::create(Kind::Postgres, "broker_refuses");
    create_order_tables(&database);
    let address = free_address();
    let mut worker = Worker::start(&brief(PipelineFile::with("broker_refuses", &address, &database.url(), &order_routes("orders"))));
    worker.wait_for_log(seconds(60), &["waiting", &address]);
    Reached::new(worker, ())
}

fn the_broker_is_silent() -> Reached {
    let database = Database::create(Kind::Postgres, "broker_is_silent");
    create_order_tables(&database);
    let silence = Silence::begin();
    let mut worker = Worker::start(&brief(PipelineFile::with("broker_is_silent", &silence.address, &database.url(), &order_routes("orders"))));
    silence.wait_for_a_caller(&mut worker);
    Reached::new(worker, silence)
}

fn the_database_refuses() -> Reached {
    let address = free_address();
    let url = format!("postgres://postgres@{address}/shop");
    let mut worker = Worker::start(&brief(PipelineFile::with("database_refuses", shared_kafka(), &url, &order_routes("orders"))));
    worker.wait_for_log(seconds(60), &["waiting", &address]);
    Reached::new(worker, ())
}

/// A file whose database takes connections and never answers.
pub fn silent_database(label: &str) -> (PipelineFile, impl FnOnce(&mut Worker)) {
    let silence = Silence::begin();
    let url = format!("postgres://postgres@{}/shop", silence.address);
    let file = brief(PipelineFile::with(label, shared_kafka(), &url, &order_routes("orders")));
    (file, move |worker: &mut Worker| silence.wait_for_a_caller(worker))
}

fn the_database_is_silent() -> Reached {
    let (file, seen) = silent_database("database_is_silent");
    let mut worker = Worker::start(&file);
    seen(&mut worker);
    Reached::new(worker, ())
}

fn the_database_is_silent_until_end() -> Reached {
    let (file, seen) = silent_database("database_is_silent");
    let mut worker = Worker::start_with(&file, &["--until-end"]);
    seen(&mut worker);
    Reached::new(worker, ())
}

fn the_topic_is_missing() -> Reached {
    let name = unique("nowhere");
    let database = Database::create(Kind::Postgres, "topic_is_missing");
    create_order_tables(&database);
    let mut worker = Worker::start(&brief(PipelineFile::with("topic_is_missing", shared_kafka(), &database.url(), &order_routes(&name))));
    worker.wait_for_log(seconds(60), &["waiting", &name]);
    Reached::new(worker, ())
}

fn the_table_is_missing() -> Reached {
    let topic = Topic::create("table_is_missing", 2);
    let database = Database::create(Kind::Postgres, "table_is_missing");
    let mut worker = Worker::start(&brief(PipelineFile::new("table_is_missing", &topic, &database, &order_routes(&topic.name))));
    worker.wait_for_log(seconds(60), &["waiting", "table orders"]);
    Reached::new(worker, ())
}

fn a_grant_is_missing() -> Reached {
    let job = Job::new("grant_is_missing", 2);
    let user = unique("app");
    job.database.execute(&format!("CREATE ROLE {user} LOGIN PASSWORD 'right'"));
    job.database.execute(&format!("GRANT CREATE ON DATABASE {} TO {user}", job.database.name()));
    let mut worker = Worker::start(&job.file.clone().database(&format!("\"{}\"", job.database.url_as(&user, "right"))));
    worker.wait_for_log(seconds(60), &["waiting", "GRANT"]);
    Reached::new(worker, job)
}

fn joined_without_a_partition() -> Reached {
    let job = Job::new("without_a_partition", 1);
    let first = job.idle_worker(100);
    let mut second = job.worker();
    wait_until(seconds(60), "the second worker is a member without a partition", || {
        second.assert_runs();
        second.page("/ready").is_some_and(|(status, _)| status == 200) && second.states().is_empty()
    });
    Reached::new(second, (job, first))
}

fn full_load() -> Reached {
    let job = Job::new("full_load", 4);
    job.send(150_000);
    let mut worker = job.worker();
    wait_until(seconds(60), "it is at work, with records in its hands", || {
        worker.assert_runs();
        worker.applied() > 0.0 && worker.held() > 0
    });
    let (file, database, topic) = (job.file.clone(), job.database.clone(), job.topic.clone());
    Reached::new(worker, job).after(move || {
        let done = applied(&database);
        assert!(0 < done && done < 150_000, "{done} were applied: the stop came in the middle");
        assert_eq!(done, database.number("SELECT sum(next_offset) FROM oncesink.oncesink_checkpoint"), "what was applied, the checkpoints say");
        run_until_end(&file).expect_code(0);
        assert_orders(&database, &topic.read());
    })
}

fn idle() -> Reached {
    let job = Job::new("idle", 4);
    Reached::new(job.idle_worker(1_000), job)
}

fn wait_until_halted(worker: &mut Worker) {
    wait_until(seconds(60), "its partition is halted", || {
        worker.assert_runs();
        worker.states().iter().any(|state| state == "halted")
    });
}

fn halted_by_a_bad_record() -> Reached {
    let job = Job::new("halted_by_a_record", 1);
    let mut worker = job.idle_worker(100);
    job.topic.send(&[Outgoing::json("1", r#"{"id":"one","version":1,"note":"n"}"#)]);
    wait_until_halted(&mut worker);
    Reached::new(worker, job)
}

fn halted_by_a_missing_table() -> Reached {
    let job = Job::new("halted_by_a_table", 1);
    let mut worker = job.idle_worker(100);
    job.database.execute("DROP TABLE orders");
    job.send(100);
    wait_until_halted(&mut worker);
    Reached::new(worker, job)
}

fn draining_in_a_rebalance() -> Reached {
    let job = Job::new("draining", 4);
    let (first, holder) = job.worker_at_a_lock(|| job.worker());
    let second = job.worker();
    wait_until(seconds(60), "the first worker drains what the second is to have", || first.states().iter().any(|state| state == "draining"));
    Reached::new(first, (job, holder, second))
}

/// The rows of the checkpoint are locked by somebody else when the worker comes.
fn claiming(label: &str, partitions: i32) -> Reached {
    let job = Job::new(label, partitions);
    job.send(100);
    run_until_end(&job.file).expect_code(0);
    let holder = Holder::of(&job.database, "SELECT 1 FROM oncesink.oncesink_checkpoint FOR UPDATE");
    job.send(100);
    let mut worker = job.worker();
    wait_until(seconds(60), "its partitions are not claimed yet", || {
        worker.assert_runs();
        let states = worker.states();
        states.len() == usize::try_from(partitions).expect("a count") && states.iter().all(|state| state == "claiming")
    });
    Reached::new(worker, (job, holder))
}

/// One alone waits in the database.
fn a_claim_waits_for_its_row() -> Reached {
    claiming("claim_waits", 1)
}

/// Of several none waits: they are asked for again and again.
fn claims_wait_for_their_rows() -> Reached {
    claiming("claims_wait", 4)
}

fn a_batch_waits_for_a_lock() -> Reached {
    let job = Job::new("batch_waits", 2);
    let (worker, holder) = job.worker_at_a_lock(|| job.worker());
    Reached::new(worker, (job, holder))
}

fn a_batch_waits_for_a_lock_until_end() -> Reached {
    let job = Job::new("batch_waits", 2);
    let (worker, holder) = job.worker_at_a_lock(|| Worker::start_with(&job.file, &["--until-end"]));
    Reached::new(worker, (job, holder))
}

fn a_batch_waits_for_a_lock_by_default() -> Reached {
    let job = Job::new("batch_waits_long", 2);
    let file = PipelineFile::new("batch_waits_long", &job.topic, &job.database, &order_routes(&job.topic.name));
    let (worker, holder) = job.worker_at_a_lock(|| Worker::start(&file));
    Reached::new(worker, (job, holder))
}

fn a_batch_waits_for_a_lock_that_is_freed() -> Reached {
    let job = Job::new("batch_waits_shortly", 2);
    let (mut worker, holder) = job.worker_at_a_lock(|| job.worker());
    job.wait_for_a_lock(&mut worker);
    let (database, topic) = (job.database.clone(), job.topic.clone());
    Reached::new(worker, job).then(move || drop(holder)).after(move || assert_orders(&database, &topic.read()))
}

/// A file that somebody holds, and a worker with records for it.
fn at_a_file() -> (Job, Worker, Holder) {
    let job = Job::of(Topic::create("file_is_held", 2), Database::create(Kind::Sqlite, "file_is_held"), "file_is_held");
    let mut worker = job.idle_worker(100);
    let holder = Holder::of(&job.database, "BEGIN IMMEDIATE");
    job.send(1_000);
    wait_until(seconds(60), "it has records in its hands and cannot write them", || {
        worker.assert_runs();
        worker.held() > 0
    });
    (job, worker, holder)
}

fn a_batch_waits_for_a_file() -> Reached {
    let (job, worker, holder) = at_a_file();
    Reached::new(worker, (job, holder))
}

fn a_batch_waits_for_a_file_that_is_freed() -> Reached {
    let (job, worker, holder) = at_a_file();
    let (database, topic) = (job.database.clone(), job.topic.clone());
    let held = worker.held();
    Reached::new(worker, job).then(move || drop(holder)).after(move || {
        assert!(held > 0 && applied(&database) > 100, "what it held is applied");
        let records = topic.read();
        let within = records.iter().filter(|record| record.offset < next_offset(&database, record.partition)).cloned().collect::<Vec<_>>();
        assert_orders(&database, &within);
    })
}

fn next_offset(database: &Database, partition: i32) -> i64 {
    database.number(&format!("SELECT next_offset FROM oncesink_checkpoint WHERE partition = {partition}"))
}

/// The connection breaks in the middle of a COMMIT, and the row that would tell what became of it is held by somebody else.
fn asking() -> (Job, Worker, Holder) {
    let job = Job::new("outcome", 1);
    let mut worker = job.idle_worker(100);
    job.database.execute(
        "CREATE FUNCTION wait_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(25); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON order_log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_long()",
    );
    job.send(10);
    let of_worker = |what: &str| format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND {what}", job.database.name());
    let commits = of_worker("query = 'COMMIT' AND wait_event = 'PgSleep'");
    wait_until(seconds(60), "a COMMIT is on its way", || {
        worker.assert_runs();
        job.database.number(&commits) > 0
    });
    // The table, not its rows: PostgreSQL hands a table on in the order of asking, and a row to whoever looks first.
    let holder = Holder::in_line(&job.database, "LOCK TABLE oncesink.oncesink_checkpoint IN EXCLUSIVE MODE");
    job.wait_for_a_lock(&mut worker);
    job.database.execute(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND query = 'COMMIT' AND wait_event = 'PgSleep'",
        job.database.name()
    ));
    holder.wait();
    job.database.execute("ALTER TABLE order_log DISABLE TRIGGER waits");
    worker.wait_for_log(seconds(60), &["the reply to COMMIT is lost"]);
    job.wait_for_a_lock(&mut worker);
    (job, worker, holder)
}

fn an_outcome_is_asked_for() -> Reached {
    let (job, worker, holder) = asking();
    Reached::new(worker, (job, holder))
}

fn an_outcome_is_asked_for_and_told() -> Reached {
    let (job, worker, holder) = asking();
    let (database, topic) = (job.database.clone(), job.topic.clone());
    Reached::new(worker, job).then(move || drop(holder)).after(move || assert_orders(&database, &topic.read()))
}

/// A PostgreSQL of its own that is stopped while the worker has a batch for it.
fn without_database(label: &str, file: impl FnOnce(PipelineFile) -> PipelineFile) -> (Server, Job, Worker) {
    let mut server = Server::postgres();
    let mut job = Job::of(Topic::create(label, 2), Database::create_on(server.get("url"), label), label);
    job.file = file(PipelineFile::new(label, &job.topic, &job.database, &order_routes(&job.topic.name)));
    let mut worker = job.idle_worker(100);
    server.stop();
    job.send(1_000);
    wait_until(seconds(60), "a batch was tried several times", || {
        worker.assert_runs();
        worker.metric("oncesink_retries_total", &[]).is_some_and(|retries| retries >= 4.0)
    });
    (server, job, worker)
}

fn a_batch_is_tried_again() -> Reached {
    let (server, job, worker) = without_database("tried_again", brief);
    Reached::new(worker, (server, job))
}

fn a_batch_is_tried_again_until_it_is_back() -> Reached {
    let (server, job, worker) = without_database("tried_until", |file| file.also("shutdown_timeout: 20s"));
    let server = Arc::new(Mutex::new(server));
    let (starting, database) = (server.clone(), job.database.clone());
    Reached::new(worker, job).then(move || starting.lock().expect("nobody panics with it").start()).after(move || {
        assert!(applied(&database) > 100, "what it held is applied");
        drop(server);
    })
}

fn max_buffer_is_full() -> Reached {
    const LIMIT: u64 = 4 * 1024 * 1024;
    let mut server = Server::postgres();
    let mut job = Job::of(Topic::create("buffer_is_full", 4), Database::create_on(server.get("url"), "buffer_is_full"), "buffer_is_full");
    job.file = job.file.also("max_buffer: 4MiB\nbatch: { bytes: 1MiB }");
    let mut worker = job.idle_worker(100);
    server.stop();
    job.send(100_000);
    wait_until(seconds(60), "max_buffer is full", || {
        worker.assert_runs();
        worker.holds_its_limit(LIMIT)
    });
    Reached::new(worker, (server, job))
}

/// On a broker of its own, with all applied.
fn on_its_own_broker(label: &str) -> (Server, Job, Worker) {
    let server = Server::kafka();
    let topic = Topic::create_on(server.get("plaintext"), label, 4);
    let job = Job::of(topic, Database::create(Kind::Postgres, label), label);
    let worker = job.idle_worker(1_000);
    (server, job, worker)
}

fn the_broker_is_stopped() -> Reached {
    let (mut server, job, mut worker) = on_its_own_broker("broker_stopped");
    server.stop();
    wait_until(seconds(60), "it says that Kafka is away", || {
        worker.assert_runs();
        worker.page("/ready").is_some_and(|(status, body)| status == 503 && body.contains("Kafka"))
    });
    Reached::new(worker, (server, job))
}

fn the_broker_is_frozen() -> Reached {
    let (server, job, worker) = on_its_own_broker("broker_frozen");
    server.freeze();
    Reached::new(worker, (server, job))
}

fn the_broker_is_frozen_and_a_batch_waits() -> Reached {
    let server = Server::kafka();
    let topic = Topic::create_on(server.get("plaintext"), "frozen_and_locked", 2);
    let job = Job::of(topic, Database::create(Kind::Postgres, "frozen_and_locked"), "frozen_and_locked");
    let (worker, holder) = job.worker_at_a_lock(|| job.worker());
    server.freeze();
    Reached::new(worker, (server, job, holder))
}
