//! What goes wrong, when, and for how long.

use std::time::Duration;

use oncesink_sinks::model::{Coordinate, Delivery, Epoch};
use rand::{Rng, seq::IndexedRandom};
use tokio::time::{Instant, sleep};

use super::{
    Shared, World,
    log::{Entry, TopicKind},
    worker::{self, State, WorkerId},
};

/// Trouble that lasts for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    SlowDatabase,
    DatabaseDown,
    TooManyConnections,
    ConnectionCuts,
    Deadlocks,
    LostCommits,
    DiskFull,
    PermissionRevoked,
    TableChanged,
    CommitFailures,
    LookUpFailures,
}

impl Weather {
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowDatabase => "slow statement",
            Self::DatabaseDown => "database down",
            Self::TooManyConnections => "too many connections",
            Self::ConnectionCuts => "connection cut",
            Self::Deadlocks => "deadlock",
            Self::LostCommits => "COMMIT without answer",
            Self::DiskFull => "disk full",
            Self::PermissionRevoked => "permission revoked",
            Self::TableChanged => "table changed",
            Self::CommitFailures => "offset commit failed",
            Self::LookUpFailures => "look-up failed",
        }
    }
}

/// What may be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Weather(Weather),
    Kill,
    Freeze,
    CutOff,
    Restart,
    Join,
    Leave,
    Rebalance,
    DatabaseCrash,
    Backup,
    Restore,
    OffsetsDeleted,
    NewPartition,
    Poison,
    Trim,
}

const MENU: &[(Fault, u32)] = &[
    (Fault::Kill, 10),
    (Fault::Freeze, 10),
    (Fault::CutOff, 7),
    (Fault::Restart, 4),
    (Fault::Join, 4),
    (Fault::Leave, 3),
    (Fault::Rebalance, 8),
    (Fault::DatabaseCrash, 5),
    (Fault::Backup, 6),
    (Fault::Restore, 5),
    (Fault::OffsetsDeleted, 3),
    (Fault::NewPartition, 3),
    (Fault::Poison, 4),
    (Fault::Trim, 3),
    (Fault::Weather(Weather::SlowDatabase), 6),
    (Fault::Weather(Weather::DatabaseDown), 5),
    (Fault::Weather(Weather::TooManyConnections), 2),
    (Fault::Weather(Weather::ConnectionCuts), 7),
    (Fault::Weather(Weather::Deadlocks), 5),
    (Fault::Weather(Weather::LostCommits), 12),
    (Fault::Weather(Weather::DiskFull), 3),
    (Fault::Weather(Weather::PermissionRevoked), 3),
    (Fault::Weather(Weather::TableChanged), 3),
    (Fault::Weather(Weather::CommitFailures), 4),
    (Fault::Weather(Weather::LookUpFailures), 5),
];

/// Draws faults until the plan's time is over.
pub async fn chaos(sim: Shared) {
    let end = Instant::now() + sim.lock().plan.trouble;
    while Instant::now() < end {
        sim.pause(100, 3500).await;
        let fault = {
            let mut world = sim.lock();
            let random = &mut world.random;
            MENU.choose_weighted(random, |(_, weight)| *weight).map(|(fault, _)| *fault)
        };
        if let Ok(fault) = fault {
            strike(&sim, fault);
        }
    }
}

/// Ends all trouble: nobody stands still, and the world is as it should be.
///
/// One record may stay refused: it must stop its own partition only.
pub fn heal(sim: &Shared) {
    let mut world = sim.lock();
    world.story.tell(format_args!("all trouble ends"));
    world.quiet = true;
    world.weather.clear();
    for worker in world.workers.keys().copied().collect::<Vec<_>>() {
        if let Some(life) = world.workers.get_mut(&worker) {
            life.armed = None;
        }
        world.thaw(worker);
        if world.life(worker).is_some_and(|life| life.cut_off) {
            world.cut_off(worker, false);
        }
    }
}

fn strike(sim: &Shared, fault: Fault) {
    match fault {
        Fault::Weather(weather) => {
            let mut world = sim.lock();
            let lasts = world.milliseconds(500, 6000);
            world.story.tell(format_args!("fault: {} for {lasts:?}", weather.name()));
            world.weather.insert(weather, Instant::now() + lasts);
            world.fired();
        }
        Fault::Kill => with_worker(sim, |sim, victim| {
            let mut world = sim.lock();
            world.strike_worker(victim, State::Dead);
            world.story.count("worker killed");
            world.fired();
            drop(world);
            replace(sim, 100, 5000);
        }),
        Fault::Freeze => with_worker(sim, |sim, victim| {
            let mut world = sim.lock();
            world.strike_worker(victim, State::Frozen);
            world.story.count("worker frozen");
            world.fired();
            let lasts = world.milliseconds(500, 15_000);
            later(sim, lasts, move |sim| sim.lock().thaw(victim));
        }),
        Fault::CutOff => with_worker(sim, |sim, victim| {
            let mut world = sim.lock();
            world.cut_off(victim, true);
            world.story.count("worker cut off from the coordinator");
            world.fired();
            let lasts = world.milliseconds(500, 15_000);
            later(sim, lasts, move |sim| {
                let mut world = sim.lock();
                if world.life(victim).is_some_and(|life| life.cut_off) {
                    world.cut_off(victim, false);
                }
            });
        }),
        Fault::Restart => with_worker(sim, |sim, victim| {
            let mut world = sim.lock();
            world.stop(victim);
            world.story.count("worker restarted");
            world.fired();
            drop(world);
            replace(sim, 500, 5000);
        }),
        Fault::Join => {
            let may = sim.lock().workers_in(State::Running).len() < 4;
            if may {
                let mut world = sim.lock();
                world.story.count("worker joined");
                world.fired();
                drop(world);
                worker::start(sim);
            }
        }
        Fault::Leave => {
            let may = sim.lock().workers_in(State::Running).len() > 2;
            if may {
                with_worker(sim, |sim, victim| {
                    let mut world = sim.lock();
                    world.stop(victim);
                    world.story.count("worker left");
                    world.fired();
                });
            }
        }
        Fault::Rebalance => {
            let mut world = sim.lock();
            world.story.count("rebalance forced");
            world.fired();
            world.group.rebalance_wanted = true;
            drop(world);
            sim.group_changed.notify_waiters();
        }
        Fault::DatabaseCrash => {
            let mut world = sim.lock();
            world.database_stops("crashes");
            world.story.count("database crashed");
            world.fired();
            drop(world);
            sim.locks_freed.notify_waiters();
        }
        Fault::Backup => sim.lock().back_up(),
        Fault::Restore => {
            sim.lock().restore();
            sim.locks_freed.notify_waiters();
        }
        Fault::OffsetsDeleted => {
            let mut world = sim.lock();
            if world.plan.deletes_offsets {
                world.story.tell(format_args!("fault: the group's offsets are deleted"));
                world.story.count("group offsets deleted");
                world.fired();
                world.group.forget_commits();
            }
        }
        Fault::NewPartition => {
            let mut world = sim.lock();
            let topics = world.log.topics.len();
            let topic = world.random.random_range(0..topics);
            if world.log.partitions().len() < 8
                && let Some(partition) = world.log.add_partition(topic)
            {
                world.story.tell(format_args!("fault: {partition} is new"));
                world.story.count("partition added");
                world.fired();
                world.group.rebalance_wanted = true;
            }
        }
        Fault::Poison => poison(sim),
        Fault::Trim => sim.lock().trim(),
    }
}

fn with_worker(sim: &Shared, act: impl FnOnce(&Shared, WorkerId)) {
    let victim = {
        let mut world = sim.lock();
        let running = world.workers_in(State::Running);
        running.choose(&mut world.random).copied()
    };
    if let Some(victim) = victim {
        act(sim, victim);
    }
}

/// Another process takes the place of one that is gone.
fn replace(sim: &Shared, from: u64, to: u64) {
    let delay = sim.lock().milliseconds(from, to);
    later(sim, delay, |sim| {
        worker::start(sim);
    });
}

fn later(sim: &Shared, delay: Duration, act: impl FnOnce(&Shared) + Send + 'static) {
    let sim = sim.clone();
    tokio::spawn(async move {
        sleep(delay).await;
        act(&sim);
    });
}

/// A record that nobody has read yet is one that the tables refuse, until somebody alters them.
fn poison(sim: &Shared) {
    let mut world = sim.lock();
    let partitions = world.log.partitions();
    let Some(partition) = partitions.choose(&mut world.random).cloned() else { return };
    let entry = {
        let World { log, random, plan, .. } = &mut *world;
        log.produce(&partition, plan.skips, random)
    };
    let Entry::Record(fact) = entry else { return };
    // Where no table tells which records were left out, none may be.
    if world.plan.skips && partition.topic.as_ref() == TopicKind::Events.name() {
        return;
    }
    world.witness.refused.insert(fact.payload);
    world.story.tell(format_args!("fault: payload {} of {partition} is refused by the tables", fact.payload));
    world.fired();
    world.server.refused_payloads.insert(fact.payload);
    let lasts = world.milliseconds(1000, 8000);
    later(sim, lasts, move |sim| {
        sim.lock().server.refused_payloads.remove(&fact.payload);
    });
}

impl World {
    fn fired(&mut self) {
        self.story.count("faults fired");
    }

    /// Half of the time in the middle of what it does next with the database.
    fn strike_worker(&mut self, victim: WorkerId, state: State) {
        if self.chance(50) {
            let steps = self.random.random_range(0..24);
            if let Some(life) = self.workers.get_mut(&victim) {
                life.armed = Some((steps, state));
            }
            return;
        }
        match state {
            State::Dead => self.kill(victim),
            _ => self.freeze(victim),
        }
        self.let_connections_die(victim);
    }

    fn database_stops(&mut self, how: &str) {
        let lasts = self.milliseconds(200, 4000);
        self.story.tell(format_args!("fault: the database {how} for {lasts:?}"));
        self.weather.insert(Weather::DatabaseDown, Instant::now() + lasts);
        self.server.disconnect_all();
    }

    fn back_up(&mut self) {
        if self.plan.restores && self.every_partition_was_claimed() {
            self.story.tell(format_args!("a backup is taken"));
            self.server.backup = Some(self.server.tables.clone());
        }
    }

    /// Yesterday's database: what Kafka still has comes again. Partitions that it does not know would rightly halt.
    pub fn restore(&mut self) -> bool {
        let Some(backup) = self.server.backup.clone() else { return false };
        if self.log.partitions().iter().any(|partition| !backup.checkpoints.contains_key(partition)) {
            return false;
        }
        self.database_stops("is restored from a backup, and is away");
        self.server.tables = backup;
        self.was_restored = true;
        self.story.count("database restored");
        self.fired();
        true
    }

    fn every_partition_was_claimed(&self) -> bool {
        self.log.partitions().iter().all(|partition| self.server.tables.checkpoints.get(partition).is_some_and(|row| row.claim.epoch > Epoch(0)))
    }

    /// Under at-least-once a restored database is a halt that a person ends: without commits, reading begins at the floor.
    pub fn move_offsets_after_a_restore(&mut self) {
        let concerned: Vec<_> = self.log.topics.iter().filter(|topic| topic.kind.delivery() == Delivery::AtLeastOnce).map(|topic| topic.name.clone()).collect();
        if self.was_restored && !concerned.is_empty() {
            self.story.tell(format_args!("somebody deletes the group's offsets of {concerned:?}"));
            self.story.count("offsets moved by hand after a restore");
            self.group.forget_commits_of(&concerned);
        }
    }

    /// One more record that the tables refuse; the records before it are fine. None where such are skipped.
    pub fn refuse_one_more(&mut self) -> Option<Coordinate> {
        self.server.refused_payloads.clear();
        if self.plan.skips {
            return None;
        }
        // In an append table every record is written; in a keyed one a later record may take its place first.
        let mut partitions = self.log.partitions();
        partitions.retain(|partition| self.log.topic(&partition.topic).is_some_and(|topic| topic.kind.append_table().is_some()));
        let partition = partitions.choose(&mut self.random)?.clone();
        let Entry::Record(fact) = self.log.produce(&partition, false, &mut self.random) else { return None };
        if !fact.is_visible() {
            return None;
        }
        let offset = self.log.partition(&partition)?.high() - 1;
        self.story.tell(format_args!("the record {} is refused by the tables, and nothing else is wrong", partition.at(offset)));
        self.server.refused_payloads.insert(fact.payload);
        self.witness.refused.insert(fact.payload);
        Some(partition.at(offset))
    }

    /// What the engines counted, for the histogram.
    pub fn count_totals(&mut self) {
        let (mut fenced, mut rewound, mut unknown) = (0, 0, 0);
        for life in self.workers.values() {
            let report = life.report.borrow();
            fenced += report.totals.fenced;
            rewound += report.totals.rewinds;
            unknown += report.totals.unknown_commits;
        }
        for (name, times) in [("engine: fenced", fenced), ("engine: rewound", rewound), ("engine: unknown outcome", unknown)] {
            *self.story.counts.entry(name).or_insert(0) += times;
        }
    }

    /// Retention: what every start is past is not there any more.
    fn trim(&mut self) {
        if !self.plan.trims {
            return;
        }
        let partitions = self.log.partitions();
        let Some(partition) = partitions.choose(&mut self.random).cloned() else { return };
        let Some(row) = self.server.tables.checkpoints.get(&partition) else { return };
        let limit = match row.delivery {
            Delivery::ExactlyOnce => row.next_offset.get(),
            Delivery::AtLeastOnce => self.group.committed_offset(&partition),
        };
        let Some(log) = self.log.partition_mut(&partition) else { return };
        if limit <= log.low {
            return;
        }
        log.low = limit;
        self.story.tell(format_args!("fault: {partition} now begins at {limit}"));
        self.story.count("log trimmed");
        self.fired();
    }
}
