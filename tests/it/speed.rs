//! What it costs, as ratios and figures of one run. `tests/run long` runs these alone, one after the other, and prints what they
//! measured; beside other tests they would measure those.

mod backends;
mod cpu;
mod figure;
mod known_ids;

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};
use tokio::runtime::{self, Runtime};

use crate::{
    database::{Database, Kind, Session},
    file::PipelineFile,
    kafka::{Outgoing, Producer, Record},
    random::Random,
    servers::{Server, fresh_directory, unique},
    topic::{Topic, block_on},
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

const RECORDS: usize = 1_000_000;
const ROUNDS: usize = 5;
/// More, since what is asked for is closer to what one round differs by.
const SIDE_BY_SIDE: usize = 7;
const MIB: u64 = 1024 * 1024;
const DELIVERIES: [&str; 2] = ["exactly-once", "at-least-once"];

/// A database server with settings as somebody chooses them who has much to write: memory for what is written, and durable commits.
/// `None` for a file.
fn database_server(kind: Kind) -> Option<Server> {
    let innodb = ["--innodb-buffer-pool-size=4G", "--innodb-flush-log-at-trx-commit=1"];
    match kind {
        Kind::Postgres => Some(Server::postgres_with(&["shared_buffers = 4GB", "max_wal_size = 8GB", "fsync = on"])),
        Kind::MySql => Some(Server::of_database_with("mysql", &[&innodb[..], &["--innodb-redo-log-capacity=4G", "--sync-binlog=1"]].concat())),
        Kind::MariaDb => Some(Server::of_database_with("mariadb", &[&innodb[..], &["--innodb-log-file-size=4G"]].concat())),
        Kind::Sqlite => None,
    }
}

fn database_on(server: Option<&Server>, label: &str) -> Database {
    server.map_or_else(|| Database::create(Kind::Sqlite, label), |server| Database::create_on(server.get("url"), label))
}

/// Orders of eight columns, about 150 bytes of JSON, on half as many keys as records.
fn orders(count: usize, mut each: impl FnMut(Outgoing)) {
    let mut random = Random::seeded(5);
    let keys = u64::try_from(count / 2).expect("a count");
    for version in 0..count {
        let id = random.below(keys);
        let status = ["new", "paid", "sent", "done"][usize::try_from(random.below(4)).expect("small")];
        let note = "x".repeat(10 + usize::try_from(random.below(60)).expect("small"));
        let value = format!(
            r#"{{"order_id":{id},"customer_id":{},"status":"{status}","amount_cents":{},"currency":"EUR","note":"{note}","version":{version},"updated_at":{}}}"#,
            random.below(100_000),
            random.below(1_000_000),
            1_760_000_000_000 + version
        );
        each(Outgoing::json(id.to_string(), value));
    }
}

/// Fast rather than soon.
fn producer(topic: &Topic) -> Producer {
    Producer::new(&topic.brokers, &topic.name, &[("linger.ms", "50"), ("batch.size", "1000000")])
}

/// On a broker of the test's own: the topic has a name as topics have, since names are part of what is kept of an event.
fn filled(brokers: &str, count: usize) -> Topic {
    filled_with(brokers, "orders", count, |order| order)
}

fn filled_with(brokers: &str, name: &str, count: usize, mut sent: impl FnMut(Outgoing) -> Outgoing) -> Topic {
    let topic = Topic::create_named(brokers, name, 4);
    let producer = producer(&topic);
    orders(count, |order| producer.send(&sent(order)));
    producer.flush();
    topic
}

fn create_table(database: &Database) {
    database.execute("DROP TABLE IF EXISTS orders");
    database.execute(
        "CREATE TABLE orders (order_id bigint PRIMARY KEY, customer_id bigint NOT NULL, status text NOT NULL, amount_cents bigint NOT NULL, \
         currency text NOT NULL, note text NOT NULL, version bigint NOT NULL, updated_at bigint NOT NULL)",
    );
}

/// One run over a whole topic, from nothing.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// From the start of the process to its first row.
    first: Duration,
    /// Records a second between a fifth and four fifths of the topic.
    rate: f64,
    peak: u64,
    /// Seconds that the worker's process took.
    own: f64,
}

fn run(topic: &Topic, database: &Database, delivery: &str) -> Run {
    run_with(topic, database, RECORDS, &format!("delivery: {delivery}"), "")
}

/// `keys` stand in the route, `also` before the routes.
fn run_with(topic: &Topic, database: &Database, count: usize, keys: &str, also: &str) -> Run {
    create_table(database);
    let route = format!("routes: [ {{ topic: {}, table: orders, version: version, {keys} }} ]\n", topic.name);
    let group = format!("group: {}", unique("speed"));
    let file = PipelineFile::new("speed", topic, database, &route).named("speed").kafka(&group).also(also);
    run_file(&file, topic, database, count)
}

fn run_file(file: &PipelineFile, topic: &Topic, database: &Database, count: usize) -> Run {
    let mut checkpoint = Checkpoint::of(database, topic);
    let began = Instant::now();
    let mut worker = Worker::start(file);
    let (mut first, mut at_fifth, mut rate) = (None, None, 0.0);
    let all = i64::try_from(count).expect("a count");
    wait_until(seconds(600), "every record is applied", || {
        worker.assert_runs();
        let durable = checkpoint.durable();
        let now = began.elapsed();
        if durable > 0 {
            first.get_or_insert(now);
        }
        if durable >= all / 5 {
            let (since, from) = *at_fifth.get_or_insert((now, durable));
            if durable <= all * 4 / 5 && now > since {
                rate = records(durable - from) / (now - since).as_secs_f64();
            }
        }
        durable >= all
    });
    let (peak, own) = (worker.peak_memory(), cpu::seconds_of(worker.id()));
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    Run { first: first.expect("rows came"), rate, peak, own }
}

/// Asks for the checkpoint over one session: making one each time costs what is measured.
struct Checkpoint {
    runtime: Runtime,
    session: Session,
    sql: String,
}

impl Checkpoint {
    /// The sum over the partitions of a topic.
    fn of(database: &Database, topic: &Topic) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let session = runtime.block_on(database.connect()).expect("a session");
        let sql = format!("SELECT coalesce(sum(durable), 0) FROM {} WHERE topic = '{}'", database.checkpoints(), topic.name);
        Self { runtime, session, sql }
    }

    /// 0 while the bookkeeping tables are not there.
    fn durable(&mut self) -> i64 {
        let rows = self.runtime.block_on(self.session.try_rows(&self.sql)).unwrap_or_default();
        rows.first().and_then(|row| row[0].as_deref()?.parse().ok()).unwrap_or(0)
    }
}

fn records(count: i64) -> f64 {
    f64::from(u32::try_from(count).expect("a small count"))
}

/// Another order in each round, there and back: what one run leaves the server to do is not always done beside the same other.
fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| if round.is_multiple_of(2) { (round + place) % count } else { (round + count - place) % count })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Both at once, each into a database of its own, so that whatever slows the machine down slows both: one after the other, two runs of the same differ
/// by more than what is asked for here.
#[test]
fn exactly_once_costs_at_most_a_twentieth() {
    let (kafka, server) = (Server::kafka_for_figures(), database_server(Kind::Postgres));
    let topic = filled(kafka.get("plaintext"), 2 * RECORDS);
    let databases = DELIVERIES.map(|_| database_on(server.as_ref(), "side_by_side"));
    let mut ratios = Vec::new();
    for round in 0..SIDE_BY_SIDE {
        let rates = thread::scope(|scope| {
            let started: Vec<_> = order(round, DELIVERIES.len())
                .map(|delivery| {
                    let (topic, database, keys) = (&topic, &databases[delivery], format!("delivery: {}", DELIVERIES[delivery]));
                    database.recreate();
                    (delivery, scope.spawn(move || run_with(topic, database, 2 * RECORDS, &keys, "").rate))
                })
                .collect();
            let mut rates = DELIVERIES.map(|_| 0.0);
            for (delivery, run) in started {
                rates[delivery] = run.join().expect("the run ends");
            }
            rates
        });
        println!("side by side: {} {:.0} records/s, {} {:.0}", DELIVERIES[0], rates[0], DELIVERIES[1], rates[1]);
        ratios.push(rates[0] / rates[1]);
    }
    let ratio = median(ratios);
    println!("exactly-once / at-least-once: {ratio:.2}");
    assert!(ratio >= 0.95, "exactly-once is at {ratio:.2} of at-least-once");
}

/// Peak memory at defaults, and the time to the first row.
#[test]
fn a_worker_is_small_and_soon_at_work() {
    let (kafka, server) = (Server::kafka_for_figures(), database_server(Kind::Postgres));
    let topic = filled(kafka.get("plaintext"), RECORDS);
    let database = database_on(server.as_ref(), "speed");
    for delivery in DELIVERIES {
        let runs = [(); 3].map(|()| {
            database.recreate();
            run(&topic, &database, delivery)
        });
        for run in &runs {
            println!("{delivery}: {:.0} records/s, first rows after {:.2} s, peak {} MiB", run.rate, run.first.as_secs_f64(), run.peak / MIB);
        }
        let first = median(runs.iter().map(|run| run.first.as_secs_f64()).collect());
        let peak = runs.iter().map(|run| run.peak).max().expect("some runs");
        assert!(first <= 1.0, "{delivery}: the first rows came after {first:.2} s");
        assert!(peak <= 100 * MIB, "{delivery}: {} MiB held at defaults", peak / MIB);
    }
}

/// The same rows by the same statement, from memory, is the limit on SQLite: parsing, Kafka and the checkpoint come on top.
#[test]
fn sqlite_reaches_most_of_the_same_statement_from_memory() {
    let kafka = Server::kafka_for_figures();
    let topic = filled(kafka.get("plaintext"), RECORDS);
    let rows: Vec<Order> = topic.read().iter().map(Order::parse).collect();
    let (mut ours, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        limits.push(from_memory(&rows));
        ours.push(run(&topic, &Database::create(Kind::Sqlite, "speed_sqlite"), "exactly-once").rate);
    }
    println!("from Kafka: {ours:.0?} records/s; from memory: {limits:.0?} records/s");
    let ratio = median(ours) / median(limits);
    println!("from Kafka / from memory: {ratio:.2}");
    assert!(ratio >= 0.6, "{ratio:.2} of the same statement from memory");
}

struct Order {
    numbers: [i64; 5],
    texts: [String; 3],
}

impl Order {
    fn parse(record: &Record) -> Self {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("orders are JSON");
        let number = |name: &str| value[name].as_i64().expect("a number");
        let text = |name: &str| value[name].as_str().expect("a text").to_owned();
        Self {
            numbers: [number("order_id"), number("customer_id"), number("amount_cents"), number("version"), number("updated_at")],
            texts: [text("status"), text("currency"), text("note")],
        }
    }
}

/// Records a second of multi-row upserts in transactions of 5,000 records, the newest of each key, sorted.
fn from_memory(rows: &[Order]) -> f64 {
    const ROWS: usize = 512;
    let path = fresh_directory("from_memory").join("target.db");
    let database = Database::Sqlite { path: path.clone() };
    database.execute("PRAGMA journal_mode = WAL");
    create_table(&database);
    let text = |rows: usize| {
        let tuples = vec!["(?,?,?,?,?,?,?,?)"; rows].join(",");
        format!(
            "INSERT INTO orders AS t (order_id, customer_id, amount_cents, version, updated_at, status, currency, note) VALUES {tuples} ON CONFLICT (order_id) \
             DO UPDATE SET customer_id = excluded.customer_id, amount_cents = excluded.amount_cents, version = excluded.version, updated_at = \
             excluded.updated_at, status = excluded.status, currency = excluded.currency, note = excluded.note WHERE t.version <= excluded.version"
        )
    };
    let whole = text(ROWS);
    let began = Instant::now();
    block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).synchronous(sqlx::sqlite::SqliteSynchronous::Full);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("the file opens");
        for batch in rows.chunks(5_000) {
            let mut newest: Vec<&Order> = batch.iter().collect();
            newest.sort_by_key(|order| (order.numbers[0], -order.numbers[3]));
            newest.dedup_by_key(|order| order.numbers[0]);
            connection.execute("BEGIN IMMEDIATE").await.expect("a transaction");
            for part in newest.chunks(ROWS) {
                let sql = if part.len() == ROWS { whole.clone() } else { text(part.len()) };
                let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(part.len() == ROWS);
                for order in part {
                    for number in order.numbers {
                        query = query.bind(number);
                    }
                    for text in &order.texts {
                        query = query.bind(text.as_str());
                    }
                }
                query.execute(&mut connection).await.expect("the rows are written");
            }
            connection.execute("COMMIT").await.expect("the commit");
        }
        connection.close().await.expect("the file closes");
    });
    records(i64::try_from(rows.len()).expect("a count")) / began.elapsed().as_secs_f64()
}

/// From a producer's `send` to the COMMIT by the server's own clock, at a quarter of full load.
#[test]
fn a_record_is_visible_soon_at_a_quarter_of_full_load() {
    let (kafka, server) = (Server::kafka_for_figures(), database_server(Kind::Postgres));
    let database = database_on(server.as_ref(), "latency");
    let full = run(&filled(kafka.get("plaintext"), RECORDS), &database, "exactly-once").rate;
    let topic = Topic::create_on(kafka.get("plaintext"), "latency", 4);
    database.execute("CREATE TABLE events (id bigint PRIMARY KEY, sent bigint NOT NULL, note text NOT NULL)");
    let file = PipelineFile::new("latency", &topic, &database, &format!("routes: [ {{ topic: {}, table: events }} ]\n", topic.name));
    let mut worker = Worker::start(&file);
    // As Kafka's own producer waits since 4.0.
    let producer = Producer::new(&topic.brokers, &topic.name, &[("linger.ms", "5")]);
    let note = "x".repeat(100);
    // Ten records each time the schedule says so, over twenty seconds, after twenty to warm the broker up.
    let (warm, lasts) = (seconds(20), seconds(40));
    let began = Instant::now();
    let (mut id, mut measured_from) = (0_i64, None);
    while began.elapsed() < lasts {
        if began.elapsed() >= warm {
            measured_from.get_or_insert(id);
        }
        let due = began.elapsed().as_secs_f64() * full / 4.0;
        while records(id) < due {
            for _ in 0..10 {
                let sent = SystemTime::now().duration_since(UNIX_EPOCH).expect("a date").as_micros();
                producer.send(&Outgoing::json(id.to_string(), format!(r#"{{"id":{id},"sent":{sent},"note":"{note}"}}"#)));
                id += 1;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    producer.flush();
    wait_until(seconds(60), "every record is applied", || {
        worker.assert_runs();
        database.count("events") >= id
    });
    pause(seconds(1));
    let delay = "extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000 - sent / 1000.0";
    let from = measured_from.expect("it was warm at some time");
    let at = |share: f64| {
        database.rows(&format!("SELECT round((percentile_cont({share}) WITHIN GROUP (ORDER BY {delay}))::numeric, 1)::text FROM events WHERE id >= {from}"))
    };
    let milliseconds = |share: f64| -> f64 { at(share)[0][0].as_ref().and_then(|text| text.parse().ok()).expect("a number") };
    let (half, most) = (milliseconds(0.5), milliseconds(0.99));
    println!("at {:.0} records/s of {full:.0}: p50 {half} ms, p99 {most} ms from produce to visible", full / 4.0);
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert!(most <= 100.0, "p99 is {most} ms");
}
