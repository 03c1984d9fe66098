//! The database's disk is full: the worker waits, says so, loses nothing, and goes on by itself once there is room.
//! The disk is a small one of memory, which only root may mount; elsewhere these tests fail and say that.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    checker::{assert_orders, create_order_tables, order_routes},
    database::Database,
    file::PipelineFile,
    kafka::Outgoing,
    servers::{Server, unique},
    topic::{Orders, Topic},
    wait::{pause, seconds, wait_until},
    worker::{Worker, oncesink, path},
};

const MIB: usize = 1024 * 1024;

/// A file that takes the room which the test gives back later.
fn ballast(disk: &Path, size: usize) -> PathBuf {
    let path = disk.join("ballast");
    let mut file = File::create(&path).expect("the small disk can be written");
    for _ in 0..size / MIB {
        file.write_all(&[1; MIB]).expect("there is room for the ballast");
    }
    path
}

/// Rows of a kilobyte.
fn wide(orders: &mut Orders, count: usize) -> Vec<Outgoing> {
    let widen = |order: Outgoing| {
        let text = String::from_utf8(order.value.expect("a value")).expect("text");
        Outgoing::json(order.key.expect("a key"), text.replacen(r#""note":""#, &format!(r#""note":"{}"#, "x".repeat(1_000)), 1))
    };
    orders.take(count).into_iter().map(widen).collect()
}

/// `ballast` leaves room for a part of the records only.
fn waits_for_room(label: &str, database: &Database, ballast: &Path) {
    let topic = Topic::create(label, 4);
    create_order_tables(database);
    topic.send(&wide(&mut Orders::seeded(121, 500), 15_000));
    let file = PipelineFile::new(label, &topic, database, &order_routes(&topic.name)).also("batch: { rows: 500 }");
    let mut worker = Worker::start(&file);
    worker.wait_for_log(seconds(120), &["disk-full", "a batch failed and is tried again until it succeeds"]);
    let records = topic.read();
    let expected = i64::try_from(records.len()).expect("a count");
    let log = || database.try_rows("SELECT count(*) FROM order_log").ok().and_then(|rows| rows.first()?.first()?.as_deref()?.parse::<i64>().ok());
    let is_waiting = |worker: &mut Worker| {
        worker.assert_runs();
        let page = worker.page("/ready").is_some_and(|(status, body)| status == 503 && body.contains("disk-full"));
        page && worker.page("/status").is_some_and(|(_, body)| body.contains("disk-full"))
    };
    wait_until(seconds(60), "the worker says that the disk is full", || is_waiting(&mut worker));
    assert!(worker.metric("oncesink_retries_total", &[r#"class="pause""#]) >= Some(1.0), "it is a pause");
    // It does not end, halt, or go on without the rows that have no room.
    pause(seconds(10));
    wait_until(seconds(60), "the worker still says that the disk is full", || is_waiting(&mut worker));
    assert_eq!(worker.page("/live").map(|(status, _)| status), Some(200), "waiting is not being stuck");
    assert_eq!(worker.metric("oncesink_partition_halted", &[]).unwrap_or(0.0), 0.0, "nothing is halted:\n{}", worker.log());
    let applied = log().expect("the table can be read");
    assert!(applied < expected, "the disk was full before all was applied");
    println!("{label}: full after {applied} of {expected} records");

    fs::remove_file(ballast).expect("the ballast goes");
    wait_until(seconds(120), "every record is applied", || {
        worker.assert_runs();
        log() >= Some(expected)
    });
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_orders(database, &records);
    assert_eq!(topic.lag(&file.group()), Some(0));
    oncesink(&["status", path(&file)]).expect_code(0);
}

#[test]
fn the_disk_of_postgres_is_full() {
    let disk = Server::small_disk("160m");
    let directory = Path::new(disk.get("path"));
    // Dropped before the disk, which it uses.
    let server = Server::postgres();
    let superuser = Database::Postgres { url: server.get("url").to_owned() };
    let database = Database::create_on(server.get("url"), "disk_full");
    // Made by the server itself, which runs as a user of its own.
    let (place, tablespace) = (directory.join("tablespace"), unique("small"));
    superuser.execute(&format!("COPY (SELECT 1) TO PROGRAM 'cat >/dev/null && mkdir -m 700 {}'", place.display()));
    superuser.execute(&format!("CREATE TABLESPACE {tablespace} LOCATION '{}'", place.display()));
    superuser.execute(&format!("ALTER DATABASE {} SET TABLESPACE {tablespace}", database.name()));
    let ballast = ballast(directory, 136 * MIB);
    waits_for_room("disk_full", &database, &ballast);
}

#[test]
fn the_disk_of_a_sqlite_file_is_full() {
    let disk = Server::small_disk("96m");
    let directory = Path::new(disk.get("path"));
    let database = Database::Sqlite { path: directory.join("target.db") };
    database.execute("PRAGMA journal_mode = WAL");
    let ballast = ballast(directory, 84 * MIB);
    waits_for_room("disk_full_sqlite", &database, &ballast);
}
