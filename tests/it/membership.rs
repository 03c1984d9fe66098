//! Workers come, go and freeze. Nothing is lost, nothing takes effect twice.

use std::time::Duration;

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    main_job::Stream,
    proxy::Proxy,
    topic::{Orders, Topic},
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

struct Job {
    topic: Topic,
    database: Database,
    file: PipelineFile,
}

impl Job {
    fn new(label: &str) -> Self {
        let topic = Topic::create(label, 4);
        let database = Database::create(Kind::Postgres, label);
        create_order_tables(&database);
        topic.send(&Orders::seeded(11, 1_000).take(5_000));
        let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
        Self { topic, database, file }
    }

    #[track_caller]
    fn assert_exact(&self) {
        let records = self.topic.read();
        let expected = i64::try_from(records.len()).expect("a count");
        wait_until(seconds(120), "every record is applied", || applied(&self.database) >= expected);
        assert_orders(&self.database, &records);
    }
}

/// Attempts that the fence turned away.
fn fenced(worker: &Worker) -> f64 {
    worker.metric("oncesink_fenced_total", &[]).unwrap_or(0.0)
}

fn works(worker: &Worker) -> bool {
    worker.applied() > 0.0
}

#[test]
fn a_worker_joins_and_leaves() {
    let job = Job::new("join_and_leave");
    let stream = Stream::start(&job.topic, 12);
    let mut first = Worker::start(&job.file);
    wait_until(seconds(60), "the first worker works", || works(&first));
    let mut second = Worker::start(&job.file);
    wait_until(seconds(60), "the second worker has partitions and works", || works(&second));
    assert_eq!(first.stop(), Some(0), "the first worker leaves in order:\n{}", first.log());
    let before = second.applied();
    wait_until(seconds(60), "the second worker goes on", || second.applied() > before + 1_000.0);
    stream.finish();
    job.assert_exact();
    assert_eq!(second.stop(), Some(0), "the second worker leaves in order:\n{}", second.log());
    job.assert_exact();
    assert_eq!(job.topic.lag(&job.file.group()), Some(0));
}

/// The hardest zombie: its batch is on its way while its partitions go to another worker, and arrives after that.
#[test]
fn a_worker_frozen_past_its_session_is_fenced() {
    let job = Job::new("frozen");
    let (server, name) = job.database.server_and_name();
    let proxy = Proxy::to(&server);
    let url = job.database.url().replacen(&server, proxy.address(), 1);
    // A transaction begins every second or so: the wire can be held between two of them.
    let by_proxy =
        PipelineFile::with("frozen_by_proxy", &job.topic.brokers, &url, &order_routes(&job.topic.name)).named(&job.file.name).also("batch: { linger: 1s }");
    let stream = Stream::start(&job.topic, 13);
    let mut frozen = Worker::start(&by_proxy);
    let mut other = Worker::start(&job.file);
    wait_until(seconds(60), "both workers work", || works(&frozen) && works(&other));
    // Not inside a transaction, which the server would end: the whole batch is to come late, and to meet the fence.
    wait_until(seconds(60), "the wire is held between two transactions", || {
        proxy.hold();
        pause(Duration::from_millis(100));
        let busy = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state <> 'idle' AND client_port IN ({})", proxy.ports());
        let is_between = job.database.number(&busy) == 0;
        if !is_between {
            proxy.release();
        }
        is_between
    });
    wait_until(seconds(60), "the worker has a batch on its way", || proxy.something_waits());
    let holds = frozen.metric("oncesink_buffer_bytes", &[]).is_some_and(|bytes| bytes > 0.0);
    assert!(holds, "a freeze counts only if there is something in its hands");
    frozen.freeze();
    let owned = "SELECT count(DISTINCT owner) FROM oncesink.oncesink_checkpoint";
    wait_until(seconds(60), "the other worker has taken all partitions over", || job.database.number(owned) == 1);
    let before = other.applied();
    wait_until(seconds(60), "the other worker goes on", || other.applied() > before + 1_000.0);
    proxy.release();
    frozen.thaw();
    wait_until(seconds(30), "the thawed worker's attempt is seen fenced", || {
        frozen.assert_runs();
        fenced(&frozen) > 0.0
    });
    wait_until(seconds(60), "the thawed worker works again", || {
        frozen.assert_runs();
        job.database.number(owned) == 2
    });
    stream.finish();
    job.assert_exact();
    for worker in [&mut frozen, &mut other] {
        assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    }
    job.assert_exact();
}

#[test]
fn many_workers_come_and_go() {
    let job = Job::new("come_and_go");
    let stream = Stream::start(&job.topic, 14);
    let mut stays = Worker::start(&job.file);
    wait_until(seconds(60), "the first worker works", || works(&stays));
    for round in 0..4 {
        let mut guest = Worker::start(&job.file);
        wait_until(seconds(60), &format!("guest {round} works"), || works(&guest));
        assert_eq!(guest.stop(), Some(0), "guest {round}:\n{}", guest.log());
        pause(seconds(1));
    }
    stream.finish();
    job.assert_exact();
    assert_eq!(stays.stop(), Some(0), "{}", stays.log());
}
