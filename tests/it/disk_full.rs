//! The database's disk is full: the worker waits, says so, loses nothing, and goes on by itself once there is room.
//! The disk is a small one of memory, which only root may mount; elsewhere these tests fail and say that.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
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
    create_order_tables(&database);
    let ballast = ballast(directory, 136 * MIB);
    waits_for_room("disk_full", &database, &ballast);
}

/// The disk of the log table's file; those of the server's own logs have room.
fn the_disk_of_a_table_is_full(kind: &str, settings: impl Fn(&str) -> Vec<String>) {
    let disk = Server::small_disk("64m");
    let directory = disk.get("path");
    let settings = settings(directory);
    // Dropped before the disk, which it uses.
    let server = Server::of_database_with(kind, &settings.iter().map(String::as_str).collect::<Vec<_>>());
    let label = format!("disk_full_{kind}");
    let database = Database::create_on(server.get("url"), &label);
    create_order_tables(&database);
    let table = database.rows("SHOW CREATE TABLE order_log")[0][1].clone().expect("a statement");
    database.execute("DROP TABLE order_log");
    database.execute(&format!("{table} DATA DIRECTORY = '{directory}'"));
    let ballast = ballast(Path::new(directory), 54 * MIB);
    waits_for_room(&label, &database, &ballast);
}

#[test]
fn the_disk_of_a_table_of_mysql_is_full() {
    the_disk_of_a_table_is_full("mysql", |directory| vec![format!("--innodb-directories={directory}")]);
}

#[test]
fn the_disk_of_a_table_of_mariadb_is_full() {
    the_disk_of_a_table_is_full("mariadb", |_| Vec::new());
}

/// A COMMIT that finds no room in MySQL's binary log is not refused: it waits inside the server, which looks once a minute. Nobody tells the
/// worker, so it loses the reply, asks, and has to wait as well.
#[test]
fn the_disk_of_the_binary_log_of_mysql_is_full() {
    let disk = Server::small_disk("64m");
    let directory = disk.get("path");
    // Dropped before the disk, which it uses.
    let server = Server::of_database_with("mysql", &[&format!("--log-bin={directory}/binary")]);
    let database = Database::create_on(server.get("url"), "binary_log_full");
    create_order_tables(&database);
    let ballast = ballast(Path::new(directory), 54 * MIB);
    let topic = Topic::create("binary_log_full", 4);
    topic.send(&wide(&mut Orders::seeded(122, 500), 15_000));
    let records = topic.read();
    let expected = i64::try_from(records.len()).expect("a count");
    // It waits for an answer 15 s longer than this.
    let file = PipelineFile::new("binary_log_full", &topic, &database, &order_routes(&topic.name))
        .also("batch: { rows: 500 }")
        .database(&format!("{{ url: \"{}\", statement_timeout: 1s }}", database.url()));
    let mut worker = Worker::start(&file);
    let waiting = "SELECT count(*) FROM information_schema.PROCESSLIST WHERE INFO = 'COMMIT' AND TIME > 5";
    wait_until(seconds(120), "a COMMIT waits in the server", || {
        worker.assert_runs();
        database.number(waiting) > 0
    });
    worker.wait_for_log(seconds(60), &["the reply to COMMIT is lost; asking the database what became of it"]);
    assert!(database.number(waiting) > 0, "the server still waits for room");
    assert!(applied(&database) < expected, "the disk was full before all was applied");
    assert_eq!(worker.page("/live").map(|(status, _)| status), Some(200), "waiting is not being stuck");
    assert_eq!(worker.metric("oncesink_partition_halted", &[]).unwrap_or(0.0), 0.0, "nothing is halted:\n{}", worker.log());
    println!("binary_log_full: full after {} of {expected} records", applied(&database));

    fs::remove_file(ballast).expect("the ballast goes");
    wait_until(seconds(180), "every record is applied", || {
        worker.assert_runs();
        applied(&database) >= expected
    });
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_orders(&database, &records);
    assert_eq!(topic.lag(&file.group()), Some(0));
}

#[test]
fn the_disk_of_a_sqlite_file_is_full() {
    let disk = Server::small_disk("96m");
    let directory = Path::new(disk.get("path"));
    let database = Database::Sqlite { path: directory.join("target.db") };
    database.execute("PRAGMA journal_mode = WAL");
    create_order_tables(&database);
    let ballast = ballast(directory, 84 * MIB);
    waits_for_room("disk_full_sqlite", &database, &ballast);
}
