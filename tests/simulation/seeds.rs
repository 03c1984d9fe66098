//! One run of a seed, and many runs over threads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use oncesink::engine::trace;
use oncesink_sinks::planted::{self, Bug};
use rand::{Rng, seq::IndexedRandom};
use tokio::time::{Instant, sleep};

pub use crate::plan::Plan;
use crate::{
    oracle,
    world::{
        Shared, Sim, World,
        dice::{milliseconds, stream},
        events::Event,
        faults::{self, chaos},
        group::coordinate,
        worker::{self, State},
    },
};

/// What a seed came to.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub hash: u64,
    pub histogram: BTreeMap<String, u64>,
    /// Batches that took effect.
    pub batches: u64,
    /// The faults of its list that fired, by number, and what each did.
    pub faults: Vec<(u32, String)>,
    pub violations: Vec<String>,
    pub story: Vec<String>,
}

/// Runs one seed on this thread, with a bug planted or without.
pub fn simulate(seed: u64, bug: Option<Bug>) -> Outcome {
    simulate_without(seed, bug, &BTreeSet::new())
}

/// Runs one seed with some of its faults left out.
pub fn simulate_without(seed: u64, bug: Option<Bug>, left_out: &BTreeSet<u32>) -> Outcome {
    planted::plant(bug);
    trace::begin();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let outcome = runtime.block_on(run(seed, left_out));
    drop(runtime);
    planted::plant(None);
    outcome
}

async fn run(seed: u64, left_out: &BTreeSet<u32>) -> Outcome {
    let plan = Plan::draw(&mut stream(seed, "plan", 0));
    let list = faults::draw(&plan, seed);
    let sim = Sim::new(plan.clone(), seed);
    sim.lock().story.tell(format_args!("seed {seed}: {plan:?}"));
    tokio::spawn(coordinate(sim.clone()));
    tokio::spawn(reap(sim.clone()));
    for _ in 0..plan.workers {
        let instance = sim.lock().new_instance();
        worker::start(&sim, instance);
    }
    let producer = tokio::spawn(produce(sim.clone()));
    chaos(sim.clone(), &list, left_out).await;
    producer.abort();
    let at_rest = settle(&sim).await;
    let mut world = sim.lock();
    if at_rest {
        world.witness_leavings();
        oracle::judge(&mut world);
    }
    world.count_totals();
    let batches = world.witness.batches;
    drop(world);
    let mut story = sim.into_story();
    Outcome {
        seed,
        hash: story.hash(),
        histogram: story.histogram(),
        batches,
        faults: std::mem::take(&mut story.faults),
        violations: std::mem::take(&mut story.violations),
        story: story.into_lines(),
    }
}

/// Producers: bursts, now here, now there.
async fn produce(sim: Shared) {
    let mut dice = stream(sim.lock().seed, "producers", 0);
    let (entries, trouble) = {
        let world = sim.lock();
        (world.plan.entries, world.plan.trouble)
    };
    let bursts = entries / 12;
    let gap = u64::try_from(trouble.as_millis()).unwrap_or(0) / bursts as u64;
    loop {
        sleep(milliseconds(&mut dice, 0, gap * 2)).await;
        let mut world = sim.lock();
        let length = dice.random_range(4..=20);
        let partitions = world.log.partitions();
        let Some(partition) = partitions.choose(&mut dice) else { continue };
        let skips = world.plan.skips;
        for _ in 0..length {
            world.log.produce(partition, skips, &mut dice);
        }
    }
}

/// The server's own limits: connections whose client is gone end.
async fn reap(sim: Shared) {
    loop {
        sleep(Duration::from_millis(100)).await;
        if sim.lock().reap_connections() {
            sim.locks_freed.notify_waiters();
        }
    }
}

/// All trouble ends; then everything must be read within this time, or something is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether it came to rest: only then is there anything to compare.
async fn settle(sim: &Shared) -> bool {
    faults::heal(sim);
    // Restarts that are still due come first: a group without members reads nothing.
    sleep(Duration::from_secs(6)).await;
    if sim.lock().workers_in(State::Running).is_empty() {
        let instance = sim.lock().new_instance();
        worker::start(sim, instance);
    }
    let stopped = {
        let mut world = sim.lock();
        let mut dice = stream(world.seed, "rest", 0);
        world.move_offsets_after_a_restore();
        let stopped = world.refuse_one_more(&mut dice);
        // A last record everywhere: its offset commit makes good for those that failed. Some partitions end in a gap.
        let skips = world.plan.skips;
        for partition in world.log.partitions() {
            for _ in 0..3 {
                world.log.produce(&partition, skips, &mut dice);
            }
        }
        stopped
    };
    // (h) A halted partition neither blocks nor advances another, and says where it stands.
    if let Some(stopped) = stopped {
        if !wait(sim, |world| oracle::behind(world, Some(&stopped))).await {
            return false;
        }
        let mut world = sim.lock();
        world.story.count(Event::HaltedBesideOthers);
        world.server.refused_payloads.clear();
        world.story.tell(format_args!("the table is altered: it takes the refused record"));
    }
    if !wait(sim, |world| oracle::behind(world, None)).await {
        return false;
    }
    if sim.lock().plan.is_mended {
        while !sim.lock().end_halts() {
            sleep(Duration::from_millis(20)).await;
        }
    }
    if !wait(sim, |world| oracle::behind(world, None)).await || !wait(sim, oracle::held).await {
        return false;
    }
    if !restored_at_rest(sim).await {
        return false;
    }
    sim.lock().leave_halted();
    stop_all(sim).await
}

async fn stop_all(sim: &Shared) -> bool {
    let running = sim.lock().workers_in(State::Running);
    for worker in running {
        sim.lock().stop(worker);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !sim.lock().workers_in(State::Stopping).is_empty() {
        sleep(Duration::from_millis(50)).await;
        if Instant::now() >= deadline {
            let mut world = sim.lock();
            let left = world.workers_in(State::Stopping);
            world.story.violation(format!("workers do not stop: {left:?}"));
            return false;
        }
    }
    true
}

/// A database that goes back in time while nothing is written is noticed all the same. Whether it came to rest again.
async fn restored_at_rest(sim: &Shared) -> bool {
    let is_restored = sim.lock().restore_at_rest();
    if !is_restored {
        return true;
    }
    sim.locks_freed.notify_waiters();
    // Where a person must help, every lane has stopped by then.
    sleep(Duration::from_secs(12)).await;
    sim.lock().move_offsets_after_a_restore();
    wait(sim, |world| oracle::behind(world, None)).await
}

/// Waits until nothing is behind; a violation if that takes too long.
async fn wait(sim: &Shared, behind: impl Fn(&World) -> Vec<String>) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        sleep(Duration::from_millis(250)).await;
        let mut world = sim.lock();
        let behind = behind(&world);
        if behind.is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            world.tell_states();
            world.story.violation(format!("not at rest after {PATIENCE:?} without faults: {}", behind.join(", ")));
            return false;
        }
    }
}

/// Runs seeds on `threads` threads, each with a runtime of its own; in the order of the seeds.
pub fn simulate_all(seeds: std::ops::Range<u64>, threads: usize, bug: Option<Bug>, enough: impl Fn(&Outcome) -> bool + Sync) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut outcomes = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return outcomes;
                        }
                        let mut outcome = simulate(seed, bug);
                        if enough(&outcome) {
                            next.store(seeds.end, Ordering::Relaxed);
                        }
                        if outcome.violations.is_empty() {
                            outcome.story = Vec::new();
                        }
                        outcomes.push(outcome);
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}
