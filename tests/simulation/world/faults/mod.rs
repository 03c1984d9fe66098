//! What goes wrong, and when: a list that the seed decides before anything runs.
//!
//! Each fault has a number and random numbers of its own, so that one can be left out and the others stay what they are.

use std::{collections::BTreeSet, fmt, time::Duration};

use rand::{Rng, RngCore, SeedableRng, seq::IndexedRandom};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Shared, World,
    dice::{Dice, chance, milliseconds, stream},
    events::Event,
    weather::Weather,
};
use crate::seeds::Plan;

mod database;
mod log;
mod redis;
mod workers;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Weather(Weather),
    Kill,
    Freeze,
    CutOff,
    Restart,
    Join,
    Leave,
    /// A second process with an instance id that is in use.
    Duplicate,
    Rebalance,
    DatabaseCrash,
    FailOver,
    Backup,
    Restore,
    OffsetsDeleted,
    NewPartition,
    /// A record that the tables refuse for a while.
    Poison,
    /// A transaction of a producer that takes its time, and is aborted half of the time.
    Transaction,
    Trim,
    TrimPastCheckpoint,
    Compact,
    Recreate,
    RedisFlushed,
    RedisReplicates,
    RedisFailsOver,
}

const MENU: &[(Fault, u32)] = &[
    (Fault::Kill, 10),
    (Fault::Freeze, 10),
    (Fault::CutOff, 10),
    (Fault::Restart, 4),
    (Fault::Join, 4),
    (Fault::Leave, 3),
    (Fault::Duplicate, 6),
    (Fault::Rebalance, 8),
    (Fault::DatabaseCrash, 5),
    (Fault::FailOver, 4),
    (Fault::Backup, 6),
    (Fault::Restore, 5),
    (Fault::OffsetsDeleted, 3),
    (Fault::NewPartition, 3),
    (Fault::Poison, 4),
    (Fault::Transaction, 5),
    (Fault::Trim, 3),
    (Fault::TrimPastCheckpoint, 5),
    (Fault::Compact, 6),
    (Fault::Recreate, 5),
    (Fault::Weather(Weather::SlowDatabase), 6),
    (Fault::Weather(Weather::DatabaseDown), 5),
    (Fault::Weather(Weather::TooManyConnections), 2),
    (Fault::Weather(Weather::ConnectionCuts), 7),
    (Fault::Weather(Weather::Deadlocks), 5),
    (Fault::Weather(Weather::LostCommits), 12),
    (Fault::Weather(Weather::DiskFull), 3),
    (Fault::Weather(Weather::PermissionRevoked), 3),
    (Fault::Weather(Weather::TableChanged), 3),
    (Fault::Weather(Weather::CommitFailures), 6),
    (Fault::Weather(Weather::LookUpFailures), 5),
    (Fault::Weather(Weather::RepeatedCallbacks), 6),
    (Fault::RedisFlushed, 3),
    (Fault::RedisReplicates, 6),
    (Fault::RedisFailsOver, 5),
    (Fault::Weather(Weather::SlowRedis), 3),
    (Fault::Weather(Weather::RedisAway), 4),
    (Fault::Weather(Weather::RedisAnswersLost), 4),
    (Fault::Weather(Weather::RedisFull), 2),
];

/// One fault of a seed's list.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled {
    pub number: u32,
    at: Duration,
    fault: Fault,
    seed: u64,
}

/// Draws the list of a seed.
pub fn draw(plan: &Plan, seed: u64) -> Vec<Scheduled> {
    let menu: Vec<(Fault, u32)> = MENU.iter().copied().filter(|(fault, _)| plan.allows(*fault)).collect();
    let mut dice = stream(seed, "faults", 0);
    let (mut at, mut list) = (Duration::ZERO, Vec::new());
    loop {
        at += milliseconds(&mut dice, 100, 3200);
        let Some((fault, _)) = menu.choose_weighted(&mut dice, |(_, weight)| *weight).ok().filter(|_| at < plan.trouble) else { return list };
        list.push(Scheduled { number: list.len() as u32 + 1, at, fault: *fault, seed: dice.next_u64() });
    }
}

impl Plan {
    fn allows(&self, fault: Fault) -> bool {
        match fault {
            Fault::Duplicate => self.is_static,
            Fault::Backup | Fault::Restore => self.restores,
            Fault::OffsetsDeleted => self.deletes_offsets,
            Fault::Trim => self.trims,
            Fault::TrimPastCheckpoint => self.cuts,
            Fault::Compact => self.compacts,
            Fault::Recreate => self.recreates,
            Fault::RedisFlushed | Fault::RedisReplicates | Fault::RedisFailsOver => self.remembers,
            Fault::Weather(Weather::SlowRedis | Weather::RedisAway | Weather::RedisAnswersLost | Weather::RedisFull) => self.remembers,
            _ => true,
        }
    }
}

/// Has the faults of the list strike, each in its time, but those that are left out.
pub async fn chaos(sim: Shared, list: &[Scheduled], left_out: &BTreeSet<u32>) {
    let begin = Instant::now();
    for scheduled in list {
        sleep_until(begin + scheduled.at).await;
        if !left_out.contains(&scheduled.number) {
            let strike = Strike { sim: &sim, number: scheduled.number, dice: Dice::seed_from_u64(scheduled.seed) };
            strike.hit(scheduled.fault);
        }
    }
    let end = begin + sim.lock().plan.trouble;
    sleep_until(end).await;
}

/// Ends all trouble: nobody stands still, and the world is as it should be.
pub fn heal(sim: &Shared) {
    let mut world = sim.lock();
    world.story.tell(format_args!("all trouble ends"));
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

/// A fault at work.
struct Strike<'a> {
    sim: &'a Shared,
    number: u32,
    dice: Dice,
}

impl Strike<'_> {
    fn hit(mut self, fault: Fault) {
        match fault {
            Fault::Weather(weather) => self.weather(weather),
            Fault::Kill => self.kill(),
            Fault::Freeze => self.freeze(),
            Fault::CutOff => self.cut_off(),
            Fault::Restart => self.restart(),
            Fault::Join => self.join(),
            Fault::Leave => self.leave(),
            Fault::Duplicate => self.duplicate(),
            Fault::Rebalance => self.rebalance(),
            Fault::DatabaseCrash => self.crash_database(),
            Fault::FailOver => self.fail_over(),
            Fault::Backup => self.back_up(),
            Fault::Restore => self.restore(),
            Fault::OffsetsDeleted => self.delete_offsets(),
            Fault::NewPartition => self.add_partition(),
            Fault::Poison => self.poison(),
            Fault::Transaction => self.transaction(),
            Fault::Trim => self.trim(),
            Fault::TrimPastCheckpoint => self.trim_past_checkpoint(),
            Fault::Compact => self.compact(),
            Fault::Recreate => self.recreate(),
            Fault::RedisFlushed => self.flush_redis(),
            Fault::RedisReplicates => self.replicate_redis(),
            Fault::RedisFailsOver => self.fail_redis_over(),
        }
    }

    fn weather(&mut self, weather: Weather) {
        let lasts = self.milliseconds(500, 6000);
        let mut world = self.sim.lock();
        self.fired(&mut world, None, format_args!("{} for {lasts:?}", weather.text()));
        world.begin_weather(weather, Instant::now() + lasts, self.dice.clone());
    }

    fn rebalance(&mut self) {
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::RebalanceForced), format_args!("the group rebalances"));
        world.group.rebalance_wanted = true;
        drop(world);
        self.sim.group_changed.notify_waiters();
    }

    fn fired(&self, world: &mut World, event: Option<Event>, what: fmt::Arguments<'_>) {
        world.story.fault(self.number, event, what);
    }

    fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        milliseconds(&mut self.dice, from, to)
    }

    fn chance(&mut self, percent: u32) -> bool {
        chance(&mut self.dice, percent)
    }

    fn number(&mut self, below: usize) -> usize {
        self.dice.random_range(0..below.max(1))
    }

    fn later(&self, delay: Duration, act: impl FnOnce(&Shared) + Send + 'static) {
        let sim = self.sim.clone();
        tokio::spawn(async move {
            sleep(delay).await;
            act(&sim);
        });
    }
}
