//! The broker that coordinates the group cannot be reached by one worker, while those that lead the partitions can: it goes on reading
//! and writing until its session is over, and its last batch arrives when its partitions are another's.

use std::{slice, time::Duration};

use crate::{
    checker::{assert_exact_at_the_stop, create_order_tables, order_routes},
    cluster::Cluster,
    database::{Database, Kind},
    file::PipelineFile,
    kafka::committed,
    main_job::Stream,
    proxy::Proxy,
    topic::Orders,
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

const OWNERS: &str = "SELECT count(DISTINCT owner) FROM oncesink.oncesink_checkpoint";

fn counted(worker: &Worker, metric: &str) -> f64 {
    worker.metric(metric, &[]).unwrap_or(0.0)
}

/// Holds the wire to the database where no transaction is open, which the server would end: the whole next batch is to come late.
fn hold_between_transactions(proxy: &Proxy, database: &Database) {
    wait_until(seconds(60), "the wire is held between two transactions", || {
        proxy.hold();
        pause(Duration::from_millis(100));
        let (name, ports) = (database.name(), proxy.ports());
        let busy = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state <> 'idle' AND client_port IN ({ports})");
        let is_between = database.number(&busy) == 0;
        if !is_between {
            proxy.release();
        }
        is_between
    });
    wait_until(seconds(60), "a batch is on its way", || proxy.something_waits());
}

#[test]
fn a_worker_that_does_not_reach_the_coordinator_writes_on_and_is_fenced() {
    let label = "coordinator";
    let cluster = Cluster::start();
    let database = Database::create(Kind::Postgres, label);
    create_order_tables(&database);
    let draft = PipelineFile::with(label, cluster.brokers(), &database.url(), "routes: []");
    // Makes the topic of the offsets, of which a partition's leader is the coordinator.
    committed(cluster.brokers(), &draft.group(), "none", 1);
    let coordinator = cluster.coordinator(&draft.group());
    let (left, right) = (coordinator % 3 + 1, (coordinator + 1) % 3 + 1);
    let topic = cluster.topic(label, &[&[left, right], &[right, left], &[left, right], &[right, left]]);

    let (server, _) = database.server_and_name();
    let database_wire = Proxy::to(&server);
    let by_wire = PipelineFile::with(label, &cluster.by_wire(), &database.url().replacen(&server, database_wire.address(), 1), &order_routes(&topic.name))
        .named(&draft.name)
        // Failed commits are noticed within it.
        .property("session.timeout.ms", "30000")
        // A transaction begins every second or so: the wire can be held between two of them.
        .also("batch: { linger: 1s }");
    let direct = PipelineFile::with(label, cluster.brokers(), &database.url(), &order_routes(&topic.name)).named(&draft.name);
    topic.send(&Orders::seeded(121, 1_000).take(5_000));
    let stream = Stream::of(&topic, Orders::seeded(122, 1_000), 50);

    let mut cut_off = Worker::start(&by_wire);
    wait_until(seconds(60), "the worker works", || cut_off.applied() >= 5_000.0);
    assert!(counted(&cut_off, "oncesink_offset_commit_failures_total") < 1.0);
    let wire = cluster.wire(coordinator);
    wire.hold();
    let before = cut_off.applied();
    wait_until(seconds(29), "it writes on and counts the commits that fail", || {
        cut_off.assert_runs();
        cut_off.applied() > before + 5_000.0 && counted(&cut_off, "oncesink_offset_commit_failures_total") > 0.0
    });
    assert!(wire.something_waits(), "the coordinator does not hear it");
    hold_between_transactions(&database_wire, &database);
    assert!(counted(&cut_off, "oncesink_buffer_bytes") > 0.0, "it has a batch in its hands");

    let mut other = Worker::start(&direct);
    wait_until(seconds(90), "the other worker has every partition and works", || {
        cut_off.assert_runs();
        other.applied() > 0.0 && database.number(OWNERS) == 1
    });
    database_wire.release();
    wait_until(seconds(60), "the batch that comes late is fenced", || {
        cut_off.assert_runs();
        counted(&cut_off, "oncesink_fenced_total") > 0.0
    });
    // The one that is cut off gives way: the other keeps everything.
    let epochs = "SELECT sum(epoch) FROM oncesink.oncesink_checkpoint";
    let (held, before) = (database.number(epochs), other.applied());
    wait_until(seconds(60), "the other worker goes on", || other.applied() > before + 10_000.0);
    assert_eq!(database.number(epochs), held, "nobody took a partition from it");

    wire.release();
    wait_until(seconds(120), "the worker that was cut off has partitions again", || {
        cut_off.assert_runs();
        other.assert_runs();
        database.number(OWNERS) == 2
    });
    let before = cut_off.applied();
    wait_until(seconds(60), "it goes on", || cut_off.applied() > before + 1_000.0);
    // It also ends in order without its coordinator.
    wire.hold();
    assert_eq!(cut_off.stop(), Some(0), "{}", cut_off.log());
    wire.release();

    stream.finish();
    assert_exact_at_the_stop(&topic, &database, &direct, slice::from_mut(&mut other), seconds(120));
}
