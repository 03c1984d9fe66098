//! The broker puts a worker out of the group, without its fault: it comes back by itself, or says why it cannot.

use crate::{
    group,
    main_job::Stream,
    membership::{Job, works},
    tier::count,
    trail,
    wait::{seconds, wait_for, wait_until},
    worker::Worker,
};

/// The member id is gone (`UNKNOWN_MEMBER_ID`): its partitions are lost, and what is in flight meets the fence or its new claim.
#[test]
fn a_worker_that_is_put_out_of_the_group_joins_again() {
    let job = Job::new("put_out");
    let (brokers, group) = (&job.topic.brokers, job.file.group());
    let stream = Stream::start(&job.topic, 15);
    let client = |index: usize| format!("worker-{index}");
    let mut workers = [0, 1].map(|index| Worker::start_with(&job.file, &["--set", &format!("kafka.properties.client.id={}", client(index))]));
    for round in 0..count(4, 20) {
        let victim = usize::from(round % 2 == 1);
        let begin = trail::end(&job.database);
        wait_until(seconds(60), &format!("worker {victim} works before round {round}"), || {
            workers.iter_mut().for_each(Worker::assert_runs);
            trail::steps(&job.database, &workers[victim], begin, i64::MAX).moves > 0 && workers[victim].held() > 0
        });
        let member = wait_for(seconds(30), "the broker names the member", || group::member(brokers, &group, &client(victim)));
        let claimed = trail::end(&job.database);
        group::put_out(brokers, &group, &member);
        wait_until(seconds(60), &format!("worker {victim} is another member after round {round}, and claims again"), || {
            workers.iter_mut().for_each(Worker::assert_runs);
            group::member(brokers, &group, &client(victim)).is_some_and(|now| now != member)
                && trail::steps(&job.database, &workers[victim], claimed, i64::MAX).claims > 0
        });
        let settled = trail::end(&job.database);
        wait_until(seconds(60), &format!("every partition moves after round {round}"), || trail::moving(&job.database, settled) == 4);
    }
    stream.finish();
    job.assert_exact();
    for worker in &mut workers {
        assert_eq!(worker.stop(), Some(0), "{}", worker.log());
        assert!(worker.log().contains("partitions lost"), "it was put out:\n{}", worker.log());
    }
    job.assert_exact();
    assert_eq!(job.topic.lag(&group), Some(0));
}

/// With one instance id for two processes the broker takes the newer one for a restart of the older one.
#[test]
fn of_two_workers_with_one_instance_id_the_older_one_ends_and_says_why() {
    let job = Job::new("twins");
    let stream = Stream::start(&job.topic, 17);
    let twin = || Worker::start_with(&job.file, &["--set", "kafka.instance_id=twin"]);
    let mut older = twin();
    wait_until(seconds(60), "the older worker works", || works(&older) && older.held() > 0);
    let mut newer = twin();
    assert_eq!(older.wait(seconds(60)), Some(1), "the older worker's exit code:\n{}", older.log());
    let said = format!(
        "exit 1: {}: instance-id-taken: another process has joined the group with kafka.instance_id twin, and the broker has put this one out",
        job.file.name
    );
    assert!(older.log().contains(&said), "{}", older.log());
    wait_until(seconds(60), "the newer worker works", || {
        newer.assert_runs();
        works(&newer)
    });
    stream.finish();
    job.assert_exact();
    assert_eq!(newer.stop(), Some(0), "{}", newer.log());
    job.assert_exact();
}
