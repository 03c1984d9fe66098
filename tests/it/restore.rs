//! The database goes back in time, or another one is in its place, while workers run.

use std::fs;

use crate::{
    checker::{applied, assert_log, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    main_job::Stream,
    servers::Server,
    topic::{Orders, Topic},
    wait::{seconds, wait_for, wait_until},
    worker::{Worker, oncesink, path, run_until_end},
};

struct Job {
    topic: Topic,
    database: Database,
    file: PipelineFile,
}

impl Job {
    fn on(database: Database, label: &str) -> Self {
        let topic = Topic::create(label, 4);
        create_order_tables(&database);
        let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
        Self { topic, database, file }
    }

    fn send(&self, seed: u64, count: usize) {
        self.topic.send(&Orders::seeded(seed, 1_000).take(count));
    }

    /// Nothing where the database does not answer, or has no such table.
    fn try_applied(&self) -> Option<i64> {
        self.database.try_count("order_log")
    }

    /// Everything that the topic holds is in the tables, once, and Kafka knows.
    #[track_caller]
    fn wait_until_exact(&self, workers: &mut [Worker]) {
        let records = self.topic.read();
        let expected = i64::try_from(records.len()).expect("a count");
        wait_until(seconds(150), "every record is applied", || {
            workers.iter_mut().for_each(Worker::assert_runs);
            self.try_applied().is_some_and(|applied| applied >= expected)
        });
        assert_orders(&self.database, &records);
        // A commit that a rebalance has refused is made again within half a minute.
        wait_until(seconds(45), "Kafka knows how far the group is", || self.topic.lag(&self.file.group()) == Some(0));
    }
}

fn rewinds(workers: &[Worker]) -> f64 {
    workers.iter().filter_map(|worker| worker.metric("oncesink_rewinds_total", &[])).sum()
}

#[track_caller]
fn stop(workers: &mut [Worker], code: i32) {
    for worker in workers {
        assert_eq!(worker.stop(), Some(code), "{}", worker.log());
    }
}

fn a_database_restored_under_working_workers_heals_from_the_topic(kind: &str, rounds: &[&str]) {
    let mut server = Server::of_database(kind);
    let label = format!("restored_{kind}");
    let job = Job::on(Database::create_on(server.get("url"), &label), &label);
    job.send(101, 5_000);
    let stream = Stream::start(&job.topic, 102);
    let mut workers = [Worker::start(&job.file), Worker::start(&job.file)];
    // On a new server the bookkeeping tables are made first, by one of them, which takes a busy machine its time.
    wait_until(seconds(120), "both workers work", || workers.iter().all(|worker| worker.applied() > 0.0));
    for round in rounds {
        server.copy(round);
        let copied = wait_for(seconds(60), "the copy is counted", || job.try_applied());
        wait_until(seconds(90), "much is applied after the copy", || {
            workers.iter_mut().for_each(Worker::assert_runs);
            job.try_applied().is_some_and(|applied| applied > copied + 5_000)
        });
        let before = rewinds(&workers);
        server.restore(round);
        wait_until(seconds(60), "the workers see that the database went back", || rewinds(&workers) > before);
    }
    stream.finish();
    job.wait_until_exact(&mut workers);
    println!("{label}: restored {} times, {} partitions rewound", rounds.len(), rewinds(&workers));
    stop(&mut workers, 0);
    job.wait_until_exact(&mut []);
}

#[test]
fn a_database_restored_under_working_workers_heals_on_postgres() {
    a_database_restored_under_working_workers_heals_from_the_topic("postgres", &["first", "second"]);
}

#[test]
fn a_database_restored_under_working_workers_heals_on_mysql() {
    a_database_restored_under_working_workers_heals_from_the_topic("mysql", &["older"]);
}

#[test]
fn a_database_restored_under_working_workers_heals_on_mariadb() {
    a_database_restored_under_working_workers_heals_from_the_topic("mariadb", &["older"]);
}

/// No record comes that could meet the fence: the look at the idle rows finds it.
#[test]
fn a_database_restored_under_idle_workers_heals_from_the_topic() {
    let mut server = Server::postgres();
    let job = Job::on(Database::create_on(server.get("url"), "restored_idle"), "restored_idle");
    job.send(103, 5_000);
    let mut workers = [Worker::start(&job.file), Worker::start(&job.file)];
    job.wait_until_exact(&mut workers);
    server.copy("older");
    job.send(104, 5_000);
    job.wait_until_exact(&mut workers);
    server.restore("older");
    assert_eq!(job.try_applied(), Some(5_000), "the second half is gone from the database");
    job.wait_until_exact(&mut workers);
    assert!(rewinds(&workers) > 0.0);
    stop(&mut workers, 0);
}

/// At-least-once has no checkpoint that went back with the rows: a person must know.
#[test]
fn a_restored_database_halts_at_least_once() {
    let mut server = Server::postgres();
    let mut job = Job::on(Database::create_on(server.get("url"), "restored_weaker"), "restored_weaker");
    job.file = job.file.also("defaults: { delivery: at-least-once, dedup: [] }");
    job.send(105, 2_000);
    let mut worker = Worker::start(&job.file);
    job.wait_until_exact(std::slice::from_mut(&mut worker));
    server.copy("older");
    job.send(106, 2_000);
    job.wait_until_exact(std::slice::from_mut(&mut worker));
    server.restore("older");
    worker.wait_for_log(seconds(90), &["halted", "rewound", "at-least-once cannot heal that by itself"]);
    job.send(107, 1_000);
    // Neither this worker nor a new one goes on as if nothing had happened.
    wait_until(seconds(60), "every partition is halted", || {
        worker.assert_runs();
        worker.metric("oncesink_partition_halted", &[]) >= Some(4.0)
    });
    assert_eq!(worker.stop(), Some(1), "{}", worker.log());
    run_until_end(&job.file).expect_code(1).expect_text(&["committed-above-durable"]);
    assert_eq!(job.try_applied(), Some(2_000), "nothing was written past what is missing");
}

/// Neither the running workers nor a new one write a row into a database that is not the one which they had filled.
#[track_caller]
fn assert_nothing_is_adopted(job: &Job, mut workers: [Worker; 2]) {
    job.send(109, 1_000);
    for worker in &mut workers {
        worker.wait_for_log(seconds(120), &["halted", &format!("{}:", job.topic.name)]);
    }
    // A new worker makes the bookkeeping tables again where they are missing; what it is given it refuses.
    let mut fresh = Worker::start(&job.file);
    for worker in workers.iter_mut().chain([&mut fresh]) {
        worker.wait_for_log(seconds(120), &["another-database"]);
    }
    oncesink(&["status", path(&job.file)]).expect_code(1).expect_text(&["REFUSED another-database"]);
    // A new one by itself: every partition halts, and is named.
    for worker in workers.iter_mut().chain([&mut fresh]) {
        assert_eq!(worker.stop(), Some(1), "{}", worker.log());
    }
    let places: Vec<String> = (0..job.topic.partitions).map(|partition| format!("halted {}:{partition}@", job.topic.name)).collect();
    let parts: Vec<&str> = places.iter().map(String::as_str).chain(["another-database"]).collect();
    run_until_end(&job.file).expect_code(1).expect_text(&parts);
    assert_eq!(job.database.count("order_log"), 0, "nothing is written");
    assert_eq!(job.database.count("orders"), 0, "nothing is written");
    assert_eq!(job.database.number(&format!("SELECT count(*) FROM {} WHERE epoch > 0", job.database.checkpoints())), 0, "nothing is claimed");
    let lag = job.topic.lag(&job.file.group()).expect("the group's offsets are where they were");
    assert_eq!(lag, 1_000, "Kafka is told nothing");
}

/// The database goes back to what it was before anybody had claimed, and after `prepare`.
fn restored_to_before_the_first_claim(label: &str, prepare: impl Fn(&Job)) {
    let mut server = Server::postgres();
    let job = Job::on(Database::create_on(server.get("url"), label), label);
    prepare(&job);
    server.copy("empty");
    job.send(108, 4_000);
    let mut workers = [Worker::start(&job.file), Worker::start(&job.file)];
    job.wait_until_exact(&mut workers);
    server.restore("empty");
    assert_nothing_is_adopted(&job, workers);
}

#[test]
fn a_database_restored_to_before_the_first_claim_is_not_adopted() {
    restored_to_before_the_first_claim("before_claim", |_| ());
}

/// The bookkeeping tables were made before: then it is by the missing rows alone that the workers see it.
#[test]
fn a_database_restored_to_before_the_first_claim_with_its_bookkeeping_is_not_adopted() {
    restored_to_before_the_first_claim("before_rows", |job| {
        oncesink(&["migrate", path(&job.file)]).expect_code(0);
    });
}

fn a_database_recreated_empty_is_not_adopted(kind: Kind, label: &str) {
    let job = Job::on(Database::create(kind, label), label);
    job.send(108, 4_000);
    let mut workers = [Worker::start(&job.file), Worker::start(&job.file)];
    job.wait_until_exact(&mut workers);
    job.database.recreate();
    create_order_tables(&job.database);
    assert_nothing_is_adopted(&job, workers);
    // The way out that the halt names: the group's offsets are deleted, and the database is filled from the topic.
    job.topic.delete_group(&job.file.group());
    run_until_end(&job.file).expect_code(0);
    job.wait_until_exact(&mut []);
}

#[test]
fn a_database_recreated_empty_is_not_adopted_on_postgres() {
    a_database_recreated_empty_is_not_adopted(Kind::Postgres, "recreated_database");
}

#[test]
fn a_database_recreated_empty_is_not_adopted_on_mysql() {
    a_database_recreated_empty_is_not_adopted(Kind::MySql, "recreated_mysql");
}

#[test]
fn a_database_recreated_empty_is_not_adopted_on_mariadb() {
    a_database_recreated_empty_is_not_adopted(Kind::MariaDb, "recreated_mariadb");
}

/// Idle workers find it too, without a record that would meet it.
#[test]
fn an_idle_worker_finds_that_its_database_was_recreated() {
    let job = Job::on(Database::create(Kind::Postgres, "recreated_idle"), "recreated_idle");
    job.send(110, 500);
    let mut worker = Worker::start(&job.file);
    job.wait_until_exact(std::slice::from_mut(&mut worker));
    job.database.recreate();
    create_order_tables(&job.database);
    worker.wait_for_log(seconds(90), &["halted", "missing-bookkeeping"]);
    assert_eq!(worker.stop(), Some(1), "{}", worker.log());
    assert_eq!(job.database.count("order_log"), 0);
}

/// Only the checkpoints are gone: the worker that held them does not begin anew, and goes on once they are back.
#[test]
fn deleted_checkpoints_are_waited_for() {
    let job = Job::on(Database::create(Kind::Postgres, "deleted_rows"), "deleted_rows");
    job.send(118, 2_000);
    let mut worker = Worker::start(&job.file);
    job.wait_until_exact(std::slice::from_mut(&mut worker));
    job.database.execute("CREATE TABLE kept AS SELECT * FROM oncesink.oncesink_checkpoint");
    job.database.execute("DELETE FROM oncesink.oncesink_checkpoint");
    worker.wait_for_log(seconds(90), &["halted", "checkpoint-gone", "put the right database back"]);
    job.send(119, 1_000);
    // Claimed again, and refused again.
    worker.wait_for_log(seconds(90), &["another-database"]);
    assert_eq!(job.try_applied(), Some(2_000), "nothing is written without a checkpoint");
    job.database.execute("INSERT INTO oncesink.oncesink_checkpoint SELECT * FROM kept");
    job.wait_until_exact(std::slice::from_mut(&mut worker));
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
}

/// What `docs/guarantees.md` says under "not promised": the checkpoint tells what took effect, not what is still there.
#[test]
fn an_emptied_table_is_not_healed() {
    let job = Job::on(Database::create(Kind::Postgres, "emptied"), "emptied");
    job.send(111, 1_000);
    let mut worker = Worker::start(&job.file);
    job.wait_until_exact(std::slice::from_mut(&mut worker));
    job.database.execute("TRUNCATE orders, order_log");
    let before = job.topic.read().len();
    job.send(112, 500);
    wait_until(seconds(60), "what came after is applied", || {
        worker.assert_runs();
        applied(&job.database) >= 500
    });
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    run_until_end(&job.file).expect_code(0);
    let all = job.topic.read();
    // By offset: in each partition only what came after the table was emptied.
    let rows: Vec<(i32, i64)> = job
        .database
        .rows("SELECT kafka_partition, kafka_offset FROM order_log")
        .into_iter()
        .map(|row| (row[0].as_deref().expect("a partition").parse().expect("a number"), row[1].as_deref().expect("an offset").parse().expect("a number")))
        .collect();
    let after: Vec<_> = all.into_iter().filter(|record| rows.contains(&(record.partition, record.offset))).collect();
    assert_eq!((after.len(), before), (500, 1_000), "nothing older came back");
    assert_log(&job.database, &after);
}

/// A SQLite file, put back while its worker is down.
#[test]
fn a_sqlite_file_restored_between_two_runs_heals_from_the_topic() {
    let job = Job::on(Database::create(Kind::Sqlite, "restored_sqlite"), "restored_sqlite");
    let Database::Sqlite { path: file } = &job.database else { unreachable!("it is SQLite") };
    let copy = file.with_extension("copy");
    job.send(113, 2_000);
    run_until_end(&job.file).expect_code(0);
    job.database.execute(&format!("VACUUM INTO '{}'", copy.display()));
    job.send(114, 2_000);
    run_until_end(&job.file).expect_code(0);
    assert_eq!(job.try_applied(), Some(4_000));
    put_back(file, &copy);
    assert_eq!(job.try_applied(), Some(2_000), "the copy is in its place");
    run_until_end(&job.file).expect_code(0);
    job.wait_until_exact(&mut []);
}

/// The file is replaced under a worker that runs: on POSIX its open connections stay with the old file, which has no name any
/// more. What goes there is lost with it, so nothing may go there.
#[test]
fn a_sqlite_file_replaced_under_a_running_worker_heals_from_the_topic() {
    let job = Job::on(Database::create(Kind::Sqlite, "replaced_sqlite"), "replaced_sqlite");
    let Database::Sqlite { path: file } = &job.database else { unreachable!("it is SQLite") };
    let copy = file.with_extension("copy");
    job.send(115, 2_000);
    let mut worker = Worker::start(&job.file);
    job.wait_until_exact(std::slice::from_mut(&mut worker));
    job.database.execute(&format!("VACUUM INTO '{}'", copy.display()));
    job.send(116, 2_000);
    job.wait_until_exact(std::slice::from_mut(&mut worker));
    put_back(file, &copy);
    // At once, so that the next batch meets the connection to the old file.
    job.send(117, 1_000);
    job.wait_until_exact(std::slice::from_mut(&mut worker));
    assert!(rewinds(std::slice::from_ref(&worker)) > 0.0);
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    job.wait_until_exact(&mut []);
}

/// As a person should do it: with the files beside it, which belong to the old one.
pub fn put_back(file: &std::path::Path, copy: &std::path::Path) {
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", file.display()));
    }
    fs::rename(copy, file).expect("the copy is put in its place");
}
