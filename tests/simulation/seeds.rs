//! A seed: what is drawn from it, one run of it, and many runs over threads.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use oncesink::engine::{BatchLimits, EngineSettings, RetrySettings};
use oncesink_sinks::planted::{self, Bug};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::time::{Instant, sleep};

use crate::{
    oracle,
    world::{
        Shared, Sim, World,
        faults::{self, chaos},
        group::{Protocol, coordinate},
        log::TopicKind,
        worker::{self, State, WorkerId},
    },
};

/// What a seed decides before anything runs.
#[derive(Clone, Debug)]
pub struct Plan {
    pub topics: Vec<(TopicKind, usize)>,
    pub workers: usize,
    pub protocol: Protocol,
    /// How long faults are drawn.
    pub trouble: Duration,
    /// Entries that are produced while they are.
    pub entries: usize,
    pub buffer: usize,
    pub restores: bool,
    pub trims: bool,
    pub deletes_offsets: bool,
    /// Bad records are left out; otherwise they halt their partition until somebody mends the world.
    pub skips: bool,
    /// How long a callback waits for the engine; below what a drain may take, so that some answers come too late.
    pub callback_budget: Duration,
    /// The longest that a statement takes in fair weather, in milliseconds.
    pub latency: u64,
    writers: usize,
    rows: usize,
    linger: Duration,
    records_per_second: Option<u32>,
}

impl Plan {
    fn draw(random: &mut SmallRng) -> Self {
        use TopicKind::{Events, Ledger, Orders};
        let kinds: &[TopicKind] = [&[Orders, Ledger][..], &[Orders, Ledger], &[Orders, Events], &[Ledger, Events]].choose(random).copied().unwrap_or(&[Orders]);
        let topics: Vec<(TopicKind, usize)> = kinds.iter().map(|kind| (*kind, random.random_range(2..=3))).collect();
        let is_exact = !kinds.contains(&Events);
        // A log that was cut above what a claim may start at is a halt, and rightly: nobody can mend it.
        let restores = random.random_bool(0.5);
        let deletes_offsets = random.random_bool(0.5);
        let trims = !restores && (is_exact || !deletes_offsets);
        Self {
            topics,
            workers: random.random_range(2..=3),
            protocol: if random.random_bool(0.5) { Protocol::Eager } else { Protocol::Cooperative },
            trouble: Duration::from_secs(random.random_range(40..=70)),
            entries: random.random_range(2200..=3200),
            buffer: *[1 << 10, 4 << 10, 1 << 20].choose(random).unwrap_or(&4096),
            restores,
            trims,
            deletes_offsets,
            skips: random.random_bool(0.4),
            writers: random.random_range(1..=3),
            rows: random.random_range(4..=16),
            linger: Duration::from_millis(random.random_range(1..=40)),
            callback_budget: Duration::from_millis(*[300, 3000, 3000].choose(random).unwrap_or(&3000)),
            latency: *[2, 3, 10].choose(random).unwrap_or(&3),
            records_per_second: random.random_bool(0.15).then_some(400),
        }
    }

    /// The product's settings, with its waits shortened: simulated time costs little, but not nothing.
    pub fn engine_settings(&self, worker: WorkerId) -> EngineSettings {
        EngineSettings {
            pipeline: Arc::from("simulated"),
            owner: Arc::from(worker.to_string()),
            writers: self.writers,
            batch: BatchLimits { rows: self.rows, bytes: 1 << 20, linger: self.linger },
            retry: RetrySettings { initial_delay: Duration::from_millis(50), max_delay: Duration::from_secs(2), give_up_after: None },
            records_per_second: self.records_per_second,
            shutdown_timeout: Duration::from_secs(8),
            drain_timeout: Duration::from_millis(2500),
            halt_retry: Duration::from_secs(3),
            idle_check: Duration::from_secs(3),
            ..EngineSettings::default()
        }
    }
}

/// What a seed came to.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    pub hash: u64,
    pub histogram: BTreeMap<&'static str, u64>,
    pub violations: Vec<String>,
    pub story: Vec<String>,
}

/// Runs one seed on this thread, with a bug planted or without.
pub fn simulate(seed: u64, bug: Option<Bug>) -> Outcome {
    planted::plant(bug);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let outcome = runtime.block_on(run(seed));
    drop(runtime);
    planted::plant(None);
    outcome
}

async fn run(seed: u64) -> Outcome {
    let mut random = SmallRng::seed_from_u64(seed);
    let plan = Plan::draw(&mut random);
    let sim = Sim::new(plan.clone(), random.random());
    sim.lock().story.tell(format_args!("seed {seed}: {plan:?}"));
    tokio::spawn(coordinate(sim.clone()));
    tokio::spawn(reap(sim.clone()));
    for _ in 0..plan.workers {
        worker::start(&sim);
    }
    let producer = tokio::spawn(produce(sim.clone()));
    chaos(sim.clone()).await;
    producer.abort();
    let at_rest = settle(&sim).await;
    let (batches, violations, hash, histogram);
    {
        let mut world = sim.lock();
        if at_rest {
            oracle::judge(&mut world);
        }
        batches = world.witness.batches;
        world.story.counts.insert("batches", batches);
        world.count_totals();
        hash = world.story.hash();
        histogram = world.story.counts.clone();
        violations = world.story.violations.clone();
    }
    Outcome { seed, hash, histogram, violations, story: sim.into_story().into_lines() }
}

/// Producers: bursts, now here, now there.
async fn produce(sim: Shared) {
    let (entries, trouble) = {
        let world = sim.lock();
        (world.plan.entries, world.plan.trouble)
    };
    let bursts = entries / 12;
    let gap = u64::try_from(trouble.as_millis()).unwrap_or(0) / bursts as u64;
    loop {
        sim.pause(0, gap * 2).await;
        let mut world = sim.lock();
        let partitions = world.log.partitions();
        let Some(partition) = partitions.choose(&mut world.random).cloned() else { return };
        let length = world.random.random_range(4..=20);
        let world = &mut *world;
        for _ in 0..length {
            world.log.produce(&partition, world.plan.skips, &mut world.random);
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
        worker::start(sim);
    }
    let stopped = {
        let mut world = sim.lock();
        world.move_offsets_after_a_restore();
        let stopped = world.refuse_one_more();
        // A last record everywhere: its offset commit makes good for those that failed. Some partitions end in a gap.
        let world = &mut *world;
        for partition in world.log.partitions() {
            for _ in 0..3 {
                world.log.produce(&partition, world.plan.skips, &mut world.random);
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
        world.story.count("halted partition beside others");
        world.server.refused_payloads.clear();
        world.story.tell(format_args!("the table is altered: it takes the refused record"));
    }
    if !wait(sim, |world| oracle::behind(world, None)).await || !wait(sim, oracle::held).await {
        return false;
    }
    if !restored_at_rest(sim).await {
        return false;
    }
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
    if !sim.lock().restore() {
        return true;
    }
    sim.locks_freed.notify_waiters();
    sim.lock().story.count("database restored at rest");
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
