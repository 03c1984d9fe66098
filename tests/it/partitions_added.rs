//! A topic gets more partitions while it is written and read: keys move, and nothing of the new partitions is missed.

use crate::{
    checker::{assert_exact_at_the_stop, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    main_job::Stream,
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::Worker,
};

fn grows_while_it_is_written(kind: Kind, label: &str) {
    let mut topic = Topic::create(label, 3);
    let database = Database::create(kind, label);
    create_order_tables(&database);
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name)).property("topic.metadata.refresh.interval.ms", "2000");
    // A key that moves must not come with one version twice: which of the two is later, only its partition could tell.
    let orders = |seed| Orders::seeded(seed, 1_000).with_distinct_versions(seed);
    let mut streams = vec![Stream::of(&topic, orders(131), 25)];
    let mut workers = [Worker::start(&file), Worker::start(&file)];
    for (seed, partitions) in [(132, 6), (133, 12)] {
        wait_until(seconds(60), "both workers work", || workers.iter_mut().all(|worker| worker.applied() > 0.0));
        topic.grow(partitions);
        // The streams before it know nothing of the new partitions, so one key is written to two of them at once.
        streams.push(Stream::of(&topic, orders(seed), 25));
        wait_until(seconds(90), "every partition is claimed and read", || {
            workers.iter_mut().for_each(Worker::assert_runs);
            database.number("SELECT count(DISTINCT kafka_partition) FROM order_log") == i64::from(partitions)
        });
    }
    streams.into_iter().for_each(Stream::finish);
    assert_exact_at_the_stop(&topic, &database, &file, &mut workers, seconds(120));
}

#[test]
fn partitions_are_added_twice_while_two_workers_work_on_postgres() {
    grows_while_it_is_written(Kind::Postgres, "added_postgres");
}

#[test]
fn partitions_are_added_twice_while_two_workers_work_on_sqlite() {
    grows_while_it_is_written(Kind::Sqlite, "added_sqlite");
}
