//! One of three brokers is killed, again and again, while two workers work: partitions change their leaders, and the group its
//! coordinator.

use crate::{
    checker::{assert_exact_at_the_stop, create_order_tables, order_routes},
    cluster::Cluster,
    database::{Database, Kind},
    file::PipelineFile,
    main_job::Stream,
    random::Random,
    tier::count,
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::Worker,
};

/// Each broker is the preferred leader of two partitions.
const REPLICAS: &[&[i32]] = &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[1, 3, 2], &[2, 1, 3], &[3, 2, 1]];

fn leaders(cluster: &Cluster, topic: &Topic) -> Vec<Option<i32>> {
    (0..topic.partitions).map(|partition| cluster.leader(&topic.name, partition)).collect()
}

/// Both have records in their hands and get on with them.
#[track_caller]
fn wait_for_work(workers: &mut [Worker; 2], what: &str) {
    for (index, worker) in workers.iter_mut().enumerate() {
        let before = worker.applied();
        wait_until(seconds(90), &format!("worker {index} works {what}"), || {
            worker.assert_runs();
            worker.applied() > before && worker.metric("oncesink_buffer_bytes", &[]).is_some_and(|bytes| bytes > 0.0)
        });
    }
}

#[test]
fn brokers_are_killed_and_leaders_change() {
    let mut cluster = Cluster::start();
    let topic = cluster.topic("brokers", REPLICAS);
    let database = Database::create(Kind::Postgres, "brokers");
    create_order_tables(&database);
    topic.send(&Orders::seeded(111, 1_000).take(5_000));
    let stream = Stream::of(&topic, Orders::seeded(112, 1_000), 50);
    let file = PipelineFile::new("brokers", &topic, &database, &order_routes(&topic.name));
    let mut workers = [Worker::start(&file), Worker::start(&file)];
    let mut random = Random::seeded(113);
    for number in 1..=count(2, 8) {
        wait_for_work(&mut workers, &format!("before kill {number}"));
        // By turns the group's coordinator, and whoever leads some partition.
        let partition = i32::try_from(random.below(REPLICAS.len() as u64)).expect("small");
        let victim = if number % 2 == 1 { cluster.coordinator(&file.group()) } else { cluster.leader(&topic.name, partition).expect("a leader") };
        cluster.kill(victim);
        wait_until(seconds(90), "the others lead every partition and the group", || {
            leaders(&cluster, &topic).iter().all(|leader| leader.is_some_and(|leader| leader != victim)) && cluster.coordinator(&file.group()) != victim
        });
        wait_for_work(&mut workers, &format!("without broker {victim}"));
        cluster.restart(victim);
        cluster.wait_for_replicas(&topic.name);
        cluster.elect_preferred_leaders();
        wait_until(seconds(60), "every partition is led by its preferred leader again", || {
            leaders(&cluster, &topic).iter().zip(REPLICAS).all(|(leader, replicas)| *leader == replicas.first().copied())
        });
        wait_for_work(&mut workers, &format!("with broker {victim} again"));
    }
    stream.finish();
    assert_exact_at_the_stop(&topic, &database, &file, &mut workers, seconds(180));
}
