//! A rebalance storm: nothing is lost, nothing takes effect twice, and hardly anything is even read twice.

use std::time::{Duration, Instant};

use crate::{
    main_job::Stream,
    membership::{Job, works},
    random::Random,
    tier::count,
    wait::{pause, seconds, wait_until},
    worker::Worker,
};

/// A member joins or leaves that often.
const EVERY: Duration = seconds(2);
/// Beside the one that stays. With it there are as many as the topic has partitions.
const GUESTS: usize = 3;

/// What a record of the test costs in `max_buffer` at least: its value alone is that long.
const SMALLEST_RECORD: u64 = 30;
const MAX_BUFFER: u64 = 1024 * 1024;
/// What the producer sends in a second, about.
const SECOND_OF_STREAM: i64 = 4_000;

/// What a worker says of itself at its end.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Records that it took into a batch.
    read: u64,
    /// Records that Kafka would have delivered again by its committed offsets: commits in the middle of a rebalance are refused.
    /// The checkpoint is where reading starts, so nobody reads them again.
    redelivered: u64,
    rebalances: u64,
    /// Partitions that were given away before what was in flight of them was finished, or without being asked for.
    cut: u64,
}

impl Told {
    fn by(worker: &Worker) -> Self {
        let log = worker.log();
        let number = |behind: &str| {
            let before = log.split(behind).next().unwrap_or_default();
            let digits = before.rsplit(|letter: char| !letter.is_ascii_digit() && letter != ',').next().unwrap_or_default();
            digits.replace(',', "").parse().unwrap_or(0)
        };
        let cut = |line: &&str| line.contains("given away before their last batch is finished") || line.contains("partitions lost");
        Self {
            read: number(" records, mean "),
            redelivered: number("; rebalances "),
            rebalances: number("; retries "),
            cut: log.lines().filter(cut).count() as u64,
        }
    }
}

#[test]
fn a_member_joins_or_leaves_every_two_seconds_for_a_minute() {
    let job = Job::new("storm");
    let file = job.file.clone().also("max_buffer: 1MiB\nbatch: { bytes: 1MiB }");
    let stream = Stream::start(&job.topic, 18);
    let mut stays = Worker::start(&file);
    wait_until(seconds(60), "the first worker works", || works(&stays));
    let (mut guests, mut gone): (Vec<Worker>, Vec<Worker>) = (Vec::new(), Vec::new());
    let mut random = Random::seeded(19);
    let (begin, changes) = (Instant::now(), count(30, 150));
    for number in 1..=changes {
        pause((begin + EVERY * number).saturating_duration_since(Instant::now()));
        if guests.is_empty() || (guests.len() < GUESTS && random.below(2) == 0) {
            guests.push(Worker::start(&file));
        } else {
            // The oldest: it may have been there for two seconds only.
            let guest = guests.remove(0);
            guest.terminate();
            gone.push(guest);
        }
        stays.assert_runs();
    }
    let took = begin.elapsed();
    assert!(took < EVERY * (changes + 5), "{changes} changes took {took:?}: that was no storm");

    wait_until(seconds(60), "the lag is recovered while records still come", || job.topic.lag(&file.group()).is_some_and(|lag| lag < SECOND_OF_STREAM));
    let recovered = begin.elapsed().checked_sub(took).unwrap_or_default();
    stream.finish();
    let records = job.assert_exact() as u64;
    for guest in &guests {
        guest.terminate();
    }
    gone.append(&mut guests);
    for guest in &mut gone {
        assert_eq!(guest.wait(seconds(40)), Some(0), "a guest's exit code:\n{}", guest.log());
    }
    assert_eq!(stays.stop(), Some(0), "{}", stays.log());
    job.assert_exact();
    assert_eq!(job.topic.lag(&file.group()), Some(0));

    let told = gone.iter().map(Told::by).fold(Told::by(&stays), |sum, one| Told {
        read: sum.read + one.read,
        redelivered: sum.redelivered + one.redelivered,
        rebalances: sum.rebalances + one.rebalances,
        cut: sum.cut + one.cut,
    });
    println!("storm: {changes} changes in {took:?}, lag recovered {recovered:?} after, {records} records, {told:?}");
    let by_guests: u64 = gone.iter().map(|guest| Told::by(guest).read).sum();
    assert!(by_guests > 0 && told.rebalances > u64::from(changes), "the partitions moved: {told:?}, {by_guests} records read by guests");
    // A worker that is asked for a partition finishes what it has taken of it, so nobody reads that again. Only where the group does not
    // wait for it (its time is up, or the partition is lost) it drops what is in its hands: its buffer at most.
    let in_flight = told.cut * MAX_BUFFER / SMALLEST_RECORD;
    assert!(told.read >= records && told.read - records <= in_flight, "{} records were read again, {in_flight} were in flight: {told:?}", told.read - records);
}
