//! Two deployments under one name, each with a Kafka of its own and both with one database: only one of them may write.

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    main_job::Stream,
    servers::{Server, shared_kafka, unique},
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::Worker,
};

struct Deployment {
    topic: Topic,
    file: PipelineFile,
}

/// The same topic name, the same pipeline name, the same group.
fn deployments(label: &str, database: &Database, brokers: [&str; 2]) -> [Deployment; 2] {
    let (name, pipeline) = (unique(label), unique(label).replace('_', "-"));
    brokers.map(|brokers| {
        let topic = Topic::create_named(brokers, &name, 4);
        let file = PipelineFile::new(label, &topic, database, &order_routes(&name)).named(&pipeline);
        Deployment { topic, file }
    })
}

#[track_caller]
fn assert_exact(database: &Database, deployment: &Deployment, worker: &mut Worker) {
    let records = deployment.topic.read();
    let expected = i64::try_from(records.len()).expect("a count");
    wait_until(seconds(60), "every record is applied", || {
        worker.assert_runs();
        applied(database) >= expected
    });
    assert_orders(database, &records);
}

#[test]
fn a_second_cluster_under_one_name_halts_while_the_first_works() {
    let server = Server::kafka();
    let database = Database::create(Kind::Postgres, "two_clusters");
    create_order_tables(&database);
    let [first, second] = deployments("two_clusters", &database, [shared_kafka(), server.get("plaintext")]);
    first.topic.send(&Orders::seeded(97, 500).take(2_000));
    second.topic.send(&Orders::seeded(98, 500).take(2_000));
    let stream = Stream::start(&first.topic, 99);
    let mut holder = Worker::start(&first.file);
    wait_until(seconds(60), "the first one works", || holder.applied() > 0.0);
    let cluster = database.rows("SELECT DISTINCT cluster_id FROM oncesink.oncesink_checkpoint")[0][0].clone().expect("a cluster");

    let mut other = Worker::start(&second.file);
    other.wait_for_log(seconds(60), &["another-deployment", &cluster, "give one of the two another name"]);
    for partition in 0..4 {
        other.wait_for_log(seconds(60), &[&format!("halted {}:{partition}@", second.topic.name)]);
    }
    wait_until(seconds(30), "it is not ready, because all of its partitions are halted", || other.page("/ready").is_some_and(|(status, _)| status == 503));
    let before = holder.applied();
    wait_until(seconds(60), "the first one goes on", || holder.applied() > before + 1_000.0);
    stream.finish();
    assert_eq!(other.applied(), 0.0, "the second one wrote nothing");
    assert_eq!(other.stop(), Some(1), "{}", other.log());
    assert_exact(&database, &first, &mut holder);
    assert_eq!(holder.stop(), Some(0), "{}", holder.log());

    // Once the first is given up the second still halts: the checkpoints are not its own.
    let mut other = Worker::start(&second.file);
    other.wait_for_log(seconds(60), &["another-deployment"]);
    assert_orders(&database, &first.topic.read());
}

/// Whoever comes first has the whole topic: not a partition here and a partition there.
#[test]
fn of_two_clusters_that_start_at_once_one_has_everything() {
    let server = Server::kafka();
    let database = Database::create(Kind::Postgres, "two_at_once");
    create_order_tables(&database);
    for round in 0..crate::tier::count(2, 8) {
        database.execute("DELETE FROM orders; DELETE FROM order_log");
        let both = deployments(&format!("two_at_once_{round}"), &database, [shared_kafka(), server.get("plaintext")]);
        for (deployment, seed) in both.iter().zip(100..) {
            deployment.topic.send(&Orders::seeded(seed, 500).take(2_000));
        }
        let mut workers = both.each_ref().map(|deployment| Worker::start(&deployment.file));
        let mut winner = None;
        wait_until(seconds(60), "one of them halts and the other works", || {
            winner = (0..2).find(|index| workers[*index].applied() > 0.0 && workers[1 - index].log().contains("another-deployment"));
            winner.is_some()
        });
        let winner = winner.expect("just seen");
        assert_exact(&database, &both[winner], &mut workers[winner]);
        assert_eq!(workers[1 - winner].stop(), Some(1), "{}", workers[1 - winner].log());
        assert_eq!(workers[winner].stop(), Some(0), "{}", workers[winner].log());
        assert_orders(&database, &both[winner].topic.read());
    }
}
