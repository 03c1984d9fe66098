//! The database crashes while batches are open in it: as a whole, and by the death of one of its backends.

use std::process::Command;

use crate::{
    checker::{applied, assert_exact_at_the_stop, create_order_tables, order_routes},
    database::Database,
    fate::{Fate, Transaction},
    file::PipelineFile,
    main_job::Stream,
    servers::Server,
    tier::count,
    topic::{Orders, Topic},
    wait::{seconds, wait_for, wait_until},
    worker::Worker,
};

/// A batch that has written and has not committed.
struct Open {
    backend: String,
    transaction: Transaction,
}

fn open_batches(database: &Database) -> Vec<Open> {
    let sql = format!(
        "SELECT pid, backend_xid FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'oncesink' AND backend_xid IS NOT NULL",
        database.name()
    );
    let rows = database.try_rows(&sql).unwrap_or_default();
    rows.into_iter()
        .filter_map(|row| row.into_iter().collect::<Option<Vec<_>>>())
        .map(|row| Open { backend: row[0].clone(), transaction: Transaction::named(database, &row[1]) })
        .collect()
}

/// `crash` is given a batch that was open a moment ago, and leaves a server that runs or will.
fn crashes(label: &str, wanted: u32, mut crash: impl FnMut(&mut Server, &Open)) {
    let mut server = Server::postgres_with(&["fsync = on"]);
    let topic = Topic::create(label, 6);
    let database = Database::create_on(server.get("url"), label);
    create_order_tables(&database);
    // A batch takes a while, so that a crash which follows a look at the open ones meets them.
    database.execute("CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END'");
    database.execute("CREATE TRIGGER dawdle AFTER INSERT ON order_log FOR EACH STATEMENT EXECUTE FUNCTION dawdle()");
    topic.send(&Orders::seeded(91, 5_000).take(20_000));
    let stream = Stream::start(&topic, 92);
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
    let mut workers = [Worker::start(&file), Worker::start(&file)];
    wait_until(seconds(60), "both workers work", || workers.iter().all(|worker| worker.applied() > 0.0));

    let (mut counted, mut tried, mut at_crash) = (0, 0, 0);
    while counted < wanted {
        tried += 1;
        assert!(tried <= 4 * wanted, "{tried} crashes, of which only {counted} met an open batch");
        let open = wait_for(seconds(60), "a batch is open in the database", || {
            workers.iter_mut().for_each(Worker::assert_runs);
            Some(open_batches(&database)).filter(|open| !open.is_empty())
        });
        crash(&mut server, &open[0]);
        wait_until(seconds(60), "the database is back", || {
            let gone = open_batches(&database).iter().all(|now| open.iter().all(|before| before.backend != now.backend));
            gone && database.try_rows("SELECT 1").is_ok()
        });
        // It counts only if it undid the work of a worker. (A transaction whose number was never written down is not known any more.)
        let undone = open.iter().filter(|open| open.transaction.known_fate() == Some(Fate::Undone)).count();
        counted += u32::from(undone > 0);
        at_crash = wait_for(seconds(30), "the table can be read", || {
            database.try_rows("SELECT count(*) FROM order_log").ok()?.first()?.first()?.as_deref()?.parse::<i64>().ok()
        });
        wait_until(seconds(90), "work goes on after the crash", || {
            workers.iter_mut().for_each(Worker::assert_runs);
            applied(&database) > at_crash
        });
    }
    println!("{label}: {counted} crashes undid an open batch, of {tried}");

    stream.finish();
    let records = assert_exact_at_the_stop(&topic, &database, &file, &mut workers, seconds(180));
    assert!(at_crash < i64::try_from(records.len()).expect("a count"), "the last crash came when all was done");
}

#[test]
fn the_server_crashes_at_work() {
    crashes("immediate", count(5, 20), |server, _| {
        server.crash();
        server.start();
    });
}

/// The server ends all other sessions then, and recovers by itself.
#[test]
fn one_of_its_backends_is_killed_at_work() {
    crashes("backend_killed", count(5, 20), |_, open| {
        // It may have ended by itself; then nothing is undone, and this one does not count.
        let _ = Command::new("sh").args(["-c", &format!("kill -9 {}", open.backend)]).status().expect("a shell");
    });
}

/// MySQL and MariaDB: `kill -9` of the server while a transaction of a worker has rows in it.
fn killed_at_work(kind: &str, label: &str, wanted: u32) {
    let mut server = Server::of_database(kind);
    let topic = Topic::create(label, 6);
    let database = Database::create_on(server.get("url"), label);
    create_order_tables(&database);
    // A batch takes a while, so that a crash which follows a look at the open ones meets them.
    database.execute(
        "CREATE TRIGGER dawdle BEFORE INSERT ON order_log FOR EACH ROW \
         SET NEW.note = IF(NEW.kafka_offset % 300 = 0, CONCAT(NEW.note, LEFT(SLEEP(0.05), 0)), NEW.note)",
    );
    topic.send(&Orders::seeded(93, 5_000).take(20_000));
    let stream = Stream::start(&topic, 94);
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
    let mut workers = [Worker::start(&file), Worker::start(&file)];
    wait_until(seconds(60), "both workers work", || workers.iter().all(|worker| worker.applied() > 0.0));

    let mut at_crash = 0;
    for number in 1..=wanted {
        wait_until(seconds(60), "a batch is open in the database", || {
            workers.iter_mut().for_each(Worker::assert_runs);
            database.number("SELECT count(*) FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 100") > 0
        });
        server.crash();
        server.start();
        at_crash = wait_for(seconds(60), "the database is back", || {
            database.try_rows("SELECT count(*) FROM order_log").ok()?.first()?.first()?.as_deref()?.parse::<i64>().ok()
        });
        wait_until(seconds(90), &format!("work goes on after crash {number}"), || {
            workers.iter_mut().for_each(Worker::assert_runs);
            applied(&database) > at_crash
        });
    }

    stream.finish();
    let records = assert_exact_at_the_stop(&topic, &database, &file, &mut workers, seconds(180));
    assert!(at_crash < i64::try_from(records.len()).expect("a count"), "the last crash came when all was done");
}

#[test]
fn mysql_is_killed_at_work() {
    killed_at_work("mysql", "mysql_killed", count(3, 20));
}

#[test]
fn mariadb_is_killed_at_work() {
    killed_at_work("mariadb", "mariadb_killed", count(3, 20));
}
