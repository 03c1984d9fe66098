//! A second signal ends `run` at once; every other command ends at the first.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    checker::{create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    holder::Holder,
    servers::Server,
    states::silent_database,
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::{Worker, path},
};

const TERM: i32 = 15;
const INT: i32 = 2;
/// What counts as at once.
const AT_ONCE: Duration = seconds(1);

fn send(worker: &Worker, signal: i32) {
    match signal {
        INT => worker.interrupt(),
        _ => worker.terminate(),
    }
}

#[track_caller]
fn assert_ends_at_once(mut worker: Worker, signal: i32) {
    let sent = Instant::now();
    send(&worker, signal);
    let code = worker.wait(seconds(30));
    let took = sent.elapsed();
    assert_eq!(code, Some(128 + signal), "exit code; it printed:\n{}", worker.log());
    assert!(took < AT_ONCE, "it took {took:.1?}");
}

/// A drain that cannot end: its batch waits for a lock.
#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let topic = Topic::create("second_signal", 2);
    let database = Database::create(Kind::Postgres, "second_signal");
    create_order_tables(&database);
    topic.send(&Orders::seeded(81, 100).take(500));
    let _holder = Holder::of(&database, "LOCK TABLE orders IN EXCLUSIVE MODE");
    for (first, second) in [(TERM, TERM), (TERM, INT), (INT, INT), (INT, TERM)] {
        // Each by a name of its own: the last one's session does not matter.
        let file = PipelineFile::new("second_signal", &topic, &database, &order_routes(&topic.name));
        let mut worker = Worker::start(&file);
        wait_until(seconds(60), "a batch is in its hands", || {
            worker.assert_runs();
            worker.held() > 0
        });
        send(&worker, first);
        worker.wait_for_log(seconds(10), &["intake closed"]);
        assert_ends_at_once(worker, second);
    }
}

/// The drain is over, but the broker does not hear the client's last words.
#[test]
fn a_second_signal_ends_the_leaving_of_the_group_at_once() {
    let server = Server::kafka();
    let topic = Topic::create_on(server.get("plaintext"), "second_at_close", 2);
    let database = Database::create(Kind::Postgres, "second_at_close");
    create_order_tables(&database);
    topic.send(&Orders::seeded(82, 100).take(500));
    let mut worker = Worker::start(&PipelineFile::new("second_at_close", &topic, &database, &order_routes(&topic.name)));
    wait_until(seconds(60), "all is applied", || database.count("order_log") == 500);
    server.freeze();
    worker.terminate();
    worker.wait_for_log(seconds(10), &["intake closed"]);
    assert_ends_at_once(worker, TERM);
}

#[test]
fn an_interrupt_stops_as_a_termination_does() {
    let topic = Topic::create("interrupt", 2);
    let database = Database::create(Kind::Postgres, "interrupt");
    create_order_tables(&database);
    topic.send(&Orders::seeded(83, 100).take(500));
    let mut worker = Worker::start(&PipelineFile::new("interrupt", &topic, &database, &order_routes(&topic.name)));
    wait_until(seconds(60), "all is applied", || database.count("order_log") == 500);
    worker.interrupt();
    assert_eq!(worker.wait(seconds(10)), Some(0), "{}", worker.log());
}

/// They have nothing to finish, whatever they wait for.
#[test]
fn every_other_command_ends_at_the_first_signal() {
    let commands: [&[&str]; 5] = [&["plan"], &["migrate"], &["status"], &["status", "--watch"], &["skip", "--execute", "orders:0@1"]];
    for command in commands {
        for signal in [TERM, INT] {
            let (file, seen) = silent_database("command");
            let (verb, rest) = command.split_first().expect("a verb");
            let mut worker = Worker::command(&[&[*verb, path(&file)], rest].concat());
            seen(&mut worker);
            assert_ends_at_once(worker, signal);
        }
    }
}

#[test]
fn a_status_that_is_watched_ends_at_the_first_signal() {
    let topic = Topic::create("watched", 2);
    let database = Database::create(Kind::Postgres, "watched");
    create_order_tables(&database);
    let file = PipelineFile::new("watched", &topic, &database, &order_routes(&topic.name));
    let mut worker = Worker::command(&["status", path(&file), "--watch"]);
    worker.wait_for_log(seconds(60), &[&topic.name]);
    assert_ends_at_once(worker, INT);
}

/// It ends, and its workers with it.
#[test]
fn a_demo_ends_at_the_first_signal() {
    for signal in [TERM, INT] {
        let mut demo = Worker::command(&["demo"]);
        wait_until(seconds(60), "its two workers run", || {
            demo.assert_runs();
            demo.children().len() == 2
        });
        let workers = demo.children();
        assert_ends_at_once(demo, signal);
        let runs = |worker: &u32| fs::read_to_string(format!("/proc/{worker}/status")).is_ok_and(|status| !status.contains("State:\tZ"));
        wait_until(seconds(20), "its workers end too", || !workers.iter().any(runs));
    }
}
