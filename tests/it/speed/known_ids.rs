//! A long memory hardly makes a record dearer: the same events beside a million known ids, and beside ten million.

use super::{ROUNDS, database_on, database_server, figure::Figure, producer, run_file};
use crate::{
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    random::Random,
    servers::{Server, unique},
    topic::Topic,
    worker::oncesink,
};

const EVENTS: usize = 400_000;

/// As digits: ten to the power of six and seven.
const SIZES: [usize; 2] = [6, 7];

fn events(brokers: &str, label: &str, seed: u64) -> Topic {
    let topic = Topic::create_on(brokers, label, 4);
    let producer = producer(&topic);
    let mut random = Random::seeded(seed);
    for number in 0..EVENTS {
        let event = format!("{:016x}{:016x}", random.next(), random.next());
        producer.send(&Outgoing::json(number.to_string(), format!(r#"{{"event":"{event}","amount":{number}}}"#)));
    }
    producer.flush();
    topic
}

/// A pipeline that knows so many ids, in the table that takes new ones and in the two that are looked at beside it.
struct Memory {
    database: Database,
}

const PIPELINE: &str = "known";
const ROUTE: &str = "events";

/// What the ids of this route are kept under: XXH3 of "known\0events".
const ROUTE_ID: i64 = 7_094_507_796_424_482_641;

impl Memory {
    fn file(&self, label: &str, topic: &Topic) -> PipelineFile {
        let route = format!(
            "routes: [ {{ name: {ROUTE}, topic: {}, table: log, write: append, delivery: at-least-once, dedup: [processed-event], event_id: value.event }} ]\n",
            topic.name
        );
        PipelineFile::new(label, topic, &self.database, &route).named(PIPELINE).kafka(&format!("group: {}", unique(label)))
    }

    fn filled(label: &str, database: Database, topic: &Topic, digits: usize) -> Self {
        let integer = if database.kind() == Kind::Sqlite { "INTEGER" } else { "bigint" };
        database.execute(&format!("CREATE TABLE log (event varchar(40), amount {integer})"));
        let memory = Self { database };
        oncesink(&["migrate", memory.file(label, topic).path.to_str().expect("a path")]).expect_code(0);
        let database = &memory.database;
        let (id, batch) = match database.kind() {
            Kind::Postgres => ("md5(cast(number AS text))", ""),
            Kind::MySql | Kind::MariaDb => ("md5(number)", ", 0"),
            Kind::Sqlite => ("lower(hex(randomblob(16)))", ""),
        };
        let digit = (0..10).map(|digit| format!("SELECT {digit} AS n")).collect::<Vec<_>>().join(" UNION ALL ");
        let number = (0..digits).map(|place| format!("d{place}.n * {}", 10_usize.pow(u32::try_from(place).expect("small")))).collect::<Vec<_>>().join(" + ");
        let digits = (0..digits).map(|place| format!("digit d{place}")).collect::<Vec<_>>().join(", ");
        for table in 1..=3 {
            // In the order of the index, which makes it as dense as a table of ids that came one by one gets in time, and sooner.
            database.execute(&format!(
                "INSERT INTO {} WITH digit AS ({digit}), numbers AS (SELECT {number} AS number FROM {digits}) \
                 SELECT {ROUTE_ID}, id{batch} FROM (SELECT {id} AS id FROM numbers WHERE number % 3 = {table} - 1) AS ids ORDER BY id",
                database.bookkeeping(&format!("oncesink_processed_event_{table}"))
            ));
        }
        if database.kind() == Kind::Postgres {
            database.execute("VACUUM ANALYZE");
            database.execute("CHECKPOINT");
        }
        memory
    }
}

fn hardly_dearer(kind: Kind, label: &str) {
    let kafka = Server::kafka_for_figures();
    let server = database_server(kind);
    let topics: Vec<Topic> = (1..).take(ROUNDS).map(|seed| events(kafka.get("plaintext"), label, seed)).collect();
    let memories = SIZES.map(|digits| Memory::filled(label, database_on(server.as_ref(), label), &topics[0], digits));
    let mut figures = SIZES.map(|_| Vec::new());
    for topic in &topics {
        for (memory, figures) in memories.iter().zip(&mut figures) {
            figures.push(Figure::of(server.as_ref(), EVENTS, || run_file(&memory.file(label, topic), topic, &memory.database, EVENTS)));
        }
    }
    let medians = figures.map(|figures| Figure::median(&figures));
    println!("| {kind:?} | records/s | own CPU s a million | database's |");
    for (digits, Figure { rate, own, database }) in SIZES.iter().zip(&medians) {
        println!("| 10^{digits} ids | {rate:.0} | {own:.1} | {database:.1} |");
    }
    for memory in &memories {
        assert_eq!(memory.database.count("log"), i64::try_from(EVENTS * ROUNDS).expect("small"), "every event is new");
        let newest = memory.database.bookkeeping("oncesink_processed_event_3");
        let apart = memory.database.number(&format!("SELECT max(route_id) - min(route_id) FROM {newest}"));
        assert_eq!(apart, 0, "what was there beforehand is of the same route");
    }
    let dearer = medians[0].rate / medians[1].rate;
    println!("{label}: a record costs {dearer:.2} times as much beside ten times the ids");
    assert!(dearer <= 1.3, "{dearer:.2}");
}

#[test]
fn ten_times_the_ids_on_postgres() {
    hardly_dearer(Kind::Postgres, "known_postgres");
}

#[test]
fn ten_times_the_ids_on_mysql() {
    hardly_dearer(Kind::MySql, "known_mysql");
}

#[test]
fn ten_times_the_ids_on_mariadb() {
    hardly_dearer(Kind::MariaDb, "known_mariadb");
}

#[test]
fn ten_times_the_ids_on_sqlite() {
    hardly_dearer(Kind::Sqlite, "known_sqlite");
}
