//! Everything outside the engine: Kafka's group and log, the database, the workers' lives, and what goes wrong with them.
//!
//! One mutex holds it all. It is never held over an await, and the runtime has one thread, so a seed decides every order of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oncesink_sinks::model::Partition;
use tokio::sync::Notify;

use crate::{seeds::Plan, story::Story};

pub mod consumer;
pub mod database;
pub mod dice;
pub mod events;
pub mod faults;
pub mod group;
pub mod invariants;
pub mod log;
pub mod person;
pub mod processed_events;
pub mod redis;
pub mod routes;
pub mod session;
pub mod tombstones;
pub mod weather;
pub mod worker;

use database::ServerState;
use dice::Dice;
use group::Group;
use invariants::Witness;
use log::Log;
use redis::RedisState;
use weather::{Spell, Weather};
use worker::{InstanceId, Life, WorkerId};

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
    pub seed: u64,
    pub story: Story,
    pub log: Log,
    pub group: Group,
    pub server: ServerState,
    pub redis: RedisState,
    pub weather: BTreeMap<Weather, Spell>,
    pub workers: BTreeMap<WorkerId, Life>,
    pub witness: Witness,
    pub next_worker: u64,
    pub next_instance: u64,
    pub was_restored: bool,
    /// Partitions that nobody has helped to go on.
    pub left_halted: BTreeSet<Partition>,
}

impl Sim {
    pub fn new(plan: Plan, seed: u64) -> Shared {
        let mut log = Log::default();
        log.sends_twice = plan.sends_twice;
        for (kind, partitions) in &plan.topics {
            log.add_topic(*kind, *partitions);
        }
        let group = Group::new(plan.protocol, dice::stream(seed, "group", 0));
        let world = World {
            plan,
            seed,
            story: Story::new(),
            log,
            group,
            server: ServerState::default(),
            redis: RedisState::default(),
            weather: BTreeMap::new(),
            workers: BTreeMap::new(),
            witness: Witness::default(),
            next_worker: 0,
            next_instance: 0,
            was_restored: false,
            left_halted: BTreeSet::new(),
        };
        Arc::new(Self { world: Mutex::new(world), locks_freed: Notify::new(), group_changed: Notify::new(), life_changed: Notify::new() })
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that this worker waits for takes its time, in milliseconds.
    pub async fn pause(&self, worker: WorkerId, from: u64, to: u64) {
        let delay = self.lock().milliseconds(worker, from, to);
        tokio::time::sleep(delay).await;
    }

    pub fn into_story(self: Arc<Self>) -> Story {
        std::mem::replace(&mut self.lock().story, Story::new())
    }
}

impl World {
    /// The random numbers of whatever concerns this worker.
    pub fn dice(&mut self, worker: WorkerId) -> &mut Dice {
        &mut self.workers.get_mut(&worker).expect("a worker has a life before anything happens to it").dice
    }

    pub fn milliseconds(&mut self, worker: WorkerId, from: u64, to: u64) -> Duration {
        dice::milliseconds(self.dice(worker), from, to)
    }

    pub fn chance(&mut self, worker: WorkerId, percent: u32) -> bool {
        dice::chance(self.dice(worker), percent)
    }

    /// An instance id that nobody had yet, where members are static.
    pub fn new_instance(&mut self) -> Option<InstanceId> {
        self.next_instance += 1;
        self.plan.is_static.then_some(InstanceId(self.next_instance))
    }
}
