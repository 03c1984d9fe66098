//! Everything outside the engine: Kafka's group and log, the database, the workers' lives, and what goes wrong with them.
//!
//! One mutex holds it all. It is never held over an await, and the runtime has one thread, so a seed decides every order of events.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{sync::Notify, time::Instant};

use crate::{seeds::Plan, story::Story};

pub mod consumer;
pub mod database;
pub mod faults;
pub mod group;
pub mod invariants;
pub mod log;
pub mod routes;
pub mod session;
pub mod worker;

use database::ServerState;
use faults::Weather;
use group::Group;
use invariants::Witness;
use log::Log;
use worker::{Life, WorkerId};

/// The world, shared by everything in it.
pub type Shared = Arc<Sim>;

#[derive(Debug)]
pub struct Sim {
    world: Mutex<World>,
    /// A lock was freed, or a connection broke.
    pub locks_freed: Notify,
    /// Somebody joined, left, or gave partitions back.
    pub group_changed: Notify,
    /// A worker was frozen, thawed or killed.
    pub life_changed: Notify,
}

#[derive(Debug)]
pub struct World {
    pub plan: Plan,
    pub random: SmallRng,
    pub story: Story,
    pub log: Log,
    pub group: Group,
    pub server: ServerState,
    pub weather: BTreeMap<Weather, Instant>,
    pub workers: BTreeMap<WorkerId, Life>,
    pub witness: Witness,
    pub next_worker: u64,
    /// No more faults are drawn: everything must come to rest.
    pub quiet: bool,
    pub was_restored: bool,
}

impl Sim {
    pub fn new(plan: Plan, seed: u64) -> Shared {
        let mut log = Log::default();
        for (kind, partitions) in &plan.topics {
            log.add_topic(*kind, *partitions);
        }
        let group = Group::new(plan.protocol);
        let world = World {
            plan,
            random: SmallRng::seed_from_u64(seed),
            story: Story::new(),
            log,
            group,
            server: ServerState::default(),
            weather: BTreeMap::new(),
            workers: BTreeMap::new(),
            witness: Witness::default(),
            next_worker: 0,
            quiet: false,
            was_restored: false,
        };
        Arc::new(Self { world: Mutex::new(world), locks_freed: Notify::new(), group_changed: Notify::new(), life_changed: Notify::new() })
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for a random time between these bounds, in milliseconds.
    pub async fn pause(&self, from: u64, to: u64) {
        let delay = self.lock().milliseconds(from, to);
        tokio::time::sleep(delay).await;
    }

    pub fn into_story(self: Arc<Self>) -> Story {
        std::mem::replace(&mut self.lock().story, Story::new())
    }
}

impl World {
    pub fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(from..=to))
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// Whether this kind of trouble lasts now.
    pub fn is(&self, weather: Weather) -> bool {
        self.weather.get(&weather).is_some_and(|until| Instant::now() < *until)
    }

    /// Whether this kind of trouble lasts now and strikes this time.
    pub fn strikes(&mut self, weather: Weather, percent: u32) -> bool {
        let strikes = self.is(weather) && self.chance(percent);
        if strikes {
            self.story.count(weather.name());
        }
        strikes
    }
}
