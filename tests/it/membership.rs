//! Workers come, go and freeze. Nothing is lost, nothing takes effect twice.

use std::time::{Duration, Instant};

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    main_job::Stream,
    proxy::Proxy,
    topic::{Orders, Topic},
    trail,
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

/// A pipeline with a trail below it, and records to begin with.
pub struct Job {
    pub topic: Topic,
    pub database: Database,
    pub file: PipelineFile,
}

impl Job {
    pub fn new(label: &str) -> Self {
        Self::on(Kind::Postgres, label)
    }

    fn on(kind: Kind, label: &str) -> Self {
        let topic = Topic::create(label, 4);
        let database = Database::create(kind, label);
        create_order_tables(&database);
        topic.send(&Orders::seeded(11, 1_000).take(5_000));
        let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
        trail::lay(&database, &file);
        Self { topic, database, file }
    }

    /// Waits until everything is applied, and judges tables and trail. Tells how many records the topic holds.
    #[track_caller]
    pub fn assert_exact(&self) -> usize {
        let records = self.topic.read();
        let expected = i64::try_from(records.len()).expect("a count");
        wait_until(seconds(120), "every record is applied", || applied(&self.database) >= expected);
        assert_orders(&self.database, &records);
        trail::assert_orderly(&self.database, &records);
        records.len()
    }
}

/// Attempts that the fence turned away.
fn fenced(worker: &Worker) -> f64 {
    worker.metric("oncesink_fenced_total", &[]).unwrap_or(0.0)
}

pub fn works(worker: &Worker) -> bool {
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

/// Where the database stands when a worker is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrozenAt {
    /// Its whole batch is still on its way: it arrives after the partitions have gone to another worker, and meets the fence.
    BetweenTransactions,
    /// It holds the checkpoint rows: the server ends the transaction, or nobody could take the partitions over.
    InsideTransaction,
}

impl FrozenAt {
    /// What the server says of the worker's sessions then: none of them works, since the wire is held.
    fn is_reached(self, database: &Database, proxy: &Proxy) -> bool {
        let (name, ports) = (database.name(), proxy.ports());
        let sessions = match database.kind() {
            Kind::Postgres => format!(
                "SELECT count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state LIKE 'idle in transaction%')
                 FROM pg_stat_activity WHERE datname = '{name}' AND client_port IN ({ports})"
            ),
            // A session that has locked nothing stands in no one's way.
            _ => format!(
                "SELECT count(CASE WHEN COMMAND <> 'Sleep' THEN 1 END), count(CASE WHEN COMMAND = 'Sleep' AND trx_rows_locked > 0 THEN 1 END)
                 FROM information_schema.PROCESSLIST LEFT JOIN information_schema.INNODB_TRX ON trx_mysql_thread_id = ID
                 WHERE DB = '{name}' AND substring_index(HOST, ':', -1) IN ({ports})"
            ),
        };
        let numbers: Vec<i64> = database.rows(&sessions)[0].iter().flatten().map(|number| number.parse().expect("a number")).collect();
        let (working, waiting) = (numbers[0], numbers[1]);
        working == 0 && (waiting > 0) == (self == Self::InsideTransaction)
    }
}

/// The bound below which the product takes no `max.poll.interval.ms`, and a little.
const POLL_INTERVAL: &str = "30000";
const FROZEN: Duration = seconds(32);

/// Frozen with a batch in its hands, beyond its session (6 s) and `max.poll.interval.ms`, while another worker takes over.
fn frozen(kind: Kind, label: &str, at: FrozenAt, strategy: &str) {
    let job = Job::on(kind, label);
    let (server, _) = job.database.server_and_name();
    let proxy = Proxy::to(&server);
    let url = job.database.url().replacen(&server, proxy.address(), 1);
    let member = |file: PipelineFile| file.property("max.poll.interval.ms", POLL_INTERVAL).property("partition.assignment.strategy", strategy);
    let file = member(job.file.clone());
    // A transaction every second or so leaves room to hold the wire between two of them; many small ones are met inside.
    let linger = if at == FrozenAt::BetweenTransactions { "1s" } else { "5ms" };
    let by_proxy = PipelineFile::with(label, &job.topic.brokers, &url, &order_routes(&job.topic.name)).also(&format!("batch: {{ linger: {linger} }}"));
    let by_proxy = member(by_proxy).named(&file.name);
    let stream = Stream::start(&job.topic, 13);
    let mut frozen = Worker::start(&by_proxy);
    let mut other = Worker::start(&file);
    let owners = &format!("SELECT count(DISTINCT owner) FROM {}", job.database.checkpoints());
    wait_until(seconds(60), "both workers work", || works(&frozen) && works(&other) && job.database.number(owners) == 2);
    wait_until(seconds(60), "the wire is held where it is to be, with a batch in the worker's hands", || {
        proxy.hold();
        pause(Duration::from_millis(100));
        let is_there = at.is_reached(&job.database, &proxy) && frozen.held() > 0;
        if !is_there {
            proxy.release();
            pause(Duration::from_millis(20));
        }
        is_there
    });
    wait_until(seconds(60), "the worker has something on its way", || proxy.something_waits());
    frozen.freeze();
    let (since, at_freeze) = (Instant::now(), trail::end(&job.database));

    wait_until(seconds(60), "the other worker has taken all partitions over", || job.database.number(owners) == 1);
    let before = other.applied();
    wait_until(seconds(60), "the other worker goes on", || other.applied() > before + 1_000.0);
    pause(FROZEN.saturating_sub(since.elapsed()));
    proxy.release();
    frozen.thaw();
    if at == FrozenAt::BetweenTransactions {
        wait_until(seconds(30), "the thawed worker's attempt is seen fenced", || {
            frozen.assert_runs();
            fenced(&frozen) > 0.0
        });
    }
    wait_until(seconds(60), "the thawed worker has partitions again and moves them", || {
        frozen.assert_runs();
        trail::steps(&job.database, &frozen, at_freeze, i64::MAX).moves > 0
    });
    stream.finish();
    job.assert_exact();
    for worker in [&mut frozen, &mut other] {
        assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    }
    job.assert_exact();
    let (before, after) = (trail::steps(&job.database, &frozen, 0, at_freeze), trail::steps(&job.database, &frozen, at_freeze, i64::MAX));
    assert!(before.moves > 0, "it had written before it was frozen: {before:?}");
    assert!(after.claims > 0, "it has claimed anew: {after:?}");
    assert_eq!(after.under_earlier_claims, 0, "nothing is written under the claims that it was frozen with: {after:?}");
}

#[test]
fn a_worker_frozen_past_its_session_is_fenced() {
    frozen(Kind::Postgres, "frozen", FrozenAt::BetweenTransactions, "cooperative-sticky");
}

#[test]
fn a_worker_frozen_inside_its_transaction_gives_its_partitions_up_on_postgres() {
    frozen(Kind::Postgres, "frozen_inside", FrozenAt::InsideTransaction, "range");
}

#[test]
fn a_worker_frozen_inside_its_transaction_gives_its_partitions_up_on_mysql() {
    frozen(Kind::MySql, "frozen_inside_mysql", FrozenAt::InsideTransaction, "range");
}

#[test]
fn a_worker_frozen_inside_its_transaction_gives_its_partitions_up_on_mariadb() {
    frozen(Kind::MariaDb, "frozen_inside_mariadb", FrozenAt::InsideTransaction, "range");
}
