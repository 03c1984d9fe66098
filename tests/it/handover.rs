//! A worker dies in the middle of handing partitions over: somebody reads them all the same.

use crate::{
    checker::order_routes,
    file::PipelineFile,
    main_job::Stream,
    membership::{Job, works},
    proxy::Proxy,
    trail,
    wait::{seconds, wait_until},
    worker::Worker,
};

/// Under a cooperative strategy partitions change hands in two steps: the group takes them away from one member, and gives them to another
/// once that has answered. A static member that is killed between the two comes back under its name, so the group sees no reason for the second step.
#[test]
fn a_static_member_killed_while_it_gives_partitions_away_leaves_none_unread() {
    let job = Job::new("handover");
    let (server, _) = job.database.server_and_name();
    let proxy = Proxy::to(&server);
    let url = job.database.url().replacen(&server, proxy.address(), 1);
    // Long enough for a member to be back before the group misses it.
    let patient = |file: PipelineFile| file.property("session.timeout.ms", "30000");
    let by_proxy = patient(PipelineFile::with("handover", &job.topic.brokers, &url, &order_routes(&job.topic.name))).named(&job.file.name);
    let file = patient(job.file.clone());
    let first = |file: &PipelineFile| Worker::start_with(file, &["--set", "kafka.instance_id=first"]);
    let stream = Stream::start(&job.topic, 20);
    let mut killed = first(&by_proxy);
    wait_until(seconds(60), "the first worker works", || works(&killed));
    let rebalances = |worker: &Worker| worker.metric("oncesink_rebalances_total", &[]).unwrap_or(0.0);
    let before = rebalances(&killed);
    // It cannot finish what is in flight, so its answer to the group has to wait.
    proxy.hold();
    wait_until(seconds(30), "it has something in flight", || proxy.something_waits() && killed.held() > 0);
    let mut second = Worker::start_with(&file, &["--set", "kafka.instance_id=second"]);
    wait_until(seconds(30), "the group takes partitions away from the first worker", || rebalances(&killed) > before);
    killed.kill();
    proxy.release();
    let mut back = first(&file);
    let settled = trail::end(&job.database);
    wait_until(seconds(60), "every partition moves", || {
        back.assert_runs();
        second.assert_runs();
        trail::moving(&job.database, settled) == 4
    });
    assert!([&back, &second].iter().any(|worker| worker.log().contains("no member of the group reads these partitions")), "nobody had to mend it");
    stream.finish();
    job.assert_exact();
    for worker in [&mut back, &mut second] {
        assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    }
    job.assert_exact();
}
