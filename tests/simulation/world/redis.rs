//! The store of remembered events of the simulated world, and what a worker's connection to it meets. It does what the scripts and commands do on
//! a real server; all that is decided is the product's.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use oncesink_sinks::{
    dedup::{DedupFacts, Event as RecordEvent, Found, Generation, Reached, Rewound},
    fault::{Fault, FaultClass},
    model::{Coordinate, EventIdKind, Partition},
    screening::{Seen, Stands, Store},
};

use super::{
    Shared, World,
    dice::milliseconds,
    events::Event,
    weather::Weather,
    worker::{self, WorkerId},
};

/// Everything that the server holds.
#[derive(Clone, Debug, Default)]
pub struct RedisState {
    state: State,
    marks: BTreeMap<MarkKey, Coordinate>,
    generations: u64,
    /// What a replica has of the state: in a Cluster a failover brings it back, while the marks of other nodes stay.
    replica: State,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MarkKey {
    generation: Arc<str>,
    route: Arc<str>,
    id: Arc<str>,
}

#[derive(Clone, Debug, Default)]
struct State {
    generation: Option<Generation>,
    partitions: BTreeMap<Partition, Stands>,
}

impl RedisState {
    /// Nothing is left.
    pub fn flush(&mut self) {
        *self = Self { generations: self.generations, ..Self::default() };
    }

    pub fn replicate(&mut self) {
        self.replica = self.state.clone();
    }

    pub fn fail_over(&mut self) {
        self.state = self.replica.clone();
    }

    pub fn seen(&self, held: &[Reached]) -> Seen {
        let partitions = held.iter().map(|reached| self.state.partitions.get(&reached.partition).copied()).collect();
        Seen { generation: self.state.generation.clone(), partitions }
    }

    pub fn marks(&self, generation: &Generation, events: &[RecordEvent<'_>]) -> Vec<Option<Coordinate>> {
        events.iter().map(|event| self.marks.get(&key(generation, event)).cloned()).collect()
    }

    pub fn mark(&mut self, generation: &Generation, events: &[RecordEvent<'_>]) {
        self.marks.extend(events.iter().map(|event| (key(generation, event), event.partition.at(event.offset))));
    }

    fn fresh(&mut self) -> Generation {
        self.generations += 1;
        Generation::new(format!("g{}", self.generations))
    }

    fn begin_anew(&mut self) {
        self.state = State { generation: Some(self.fresh()), partitions: BTreeMap::new() };
    }

    fn in_force(&mut self) -> Generation {
        if self.state.generation.is_none() {
            self.begin_anew();
        }
        self.state.generation.clone().unwrap_or_else(|| Generation::new(""))
    }

    pub fn claim(&mut self, held: &[Reached]) -> (Generation, Found) {
        let mut found = Found::default();
        for reached in held {
            let once = self.state.partitions.get(&reached.partition).map(|stands| stands.durable).filter(|once| *once > reached.durable);
            if let Some(once) = once.filter(|_| self.state.generation.is_some()) {
                found.rewound.push(Rewound { partition: reached.partition.clone(), durable: reached.durable, once });
            }
        }
        if !found.rewound.is_empty() {
            self.begin_anew();
        }
        let generation = self.in_force();
        for reached in held {
            self.state.partitions.insert(reached.partition.clone(), Stands { claim: reached.claim, durable: reached.durable });
        }
        (generation, found)
    }

    pub fn register(&mut self, held: &[Reached]) -> Generation {
        let generation = self.in_force();
        for reached in held {
            self.state.partitions.entry(reached.partition.clone()).or_insert(Stands { claim: reached.claim, durable: reached.durable });
        }
        generation
    }

    pub fn raise(&mut self, generation: &Generation, reached: &[Reached]) -> HashMap<Partition, bool> {
        let is_current = self.state.generation.as_ref() == Some(generation);
        let raise = |reached: &Reached| {
            let stands = self.state.partitions.get_mut(&reached.partition).filter(|stands| is_current && stands.claim == reached.claim);
            let taken = stands.map(|stands| stands.durable = stands.durable.max(reached.durable)).is_some();
            (reached.partition.clone(), taken)
        };
        reached.iter().map(raise).collect()
    }
}

/// A worker's connection to it.
#[derive(Debug)]
pub struct SimulatedRedis {
    sim: Shared,
    worker: WorkerId,
}

impl SimulatedRedis {
    pub fn new(sim: Shared, worker: WorkerId) -> Self {
        Self { sim, worker }
    }

    /// One round trip. Whether it took effect, whoever hears no answer cannot know.
    async fn ask<T>(&self, what: impl FnOnce(&mut World) -> Result<T, Fault>) -> Result<T, Fault> {
        worker::gate(&self.sim, self.worker).await;
        let slow = self.sim.lock().strikes(Weather::SlowRedis, 50).map(|dice| milliseconds(dice, 50, 1500)).unwrap_or(Duration::ZERO);
        tokio::time::sleep(slow).await;
        self.sim.pause(self.worker, 0, 1).await;
        worker::gate(&self.sim, self.worker).await;
        let answer = {
            let mut world = self.sim.lock();
            if world.is(Weather::RedisAway) {
                world.story.count(Event::RedisAway);
                return Err(unreachable());
            }
            let answer = what(&mut world);
            world.step(self.worker);
            if world.strikes(Weather::RedisAnswersLost, 20).is_some() { Err(unreachable()) } else { answer }
        };
        self.sim.pause(self.worker, 0, 1).await;
        worker::gate(&self.sim, self.worker).await;
        answer
    }

    async fn write<T>(&self, what: impl FnOnce(&mut World) -> T) -> Result<T, Fault> {
        let full = || Fault::new(FaultClass::Pause, "redis-out-of-memory", "Redis answered OOM");
        self.ask(|world| if world.strikes(Weather::RedisFull, 70).is_some() { Err(full()) } else { Ok(what(world)) }).await
    }
}

fn unreachable() -> Fault {
    Fault::new(FaultClass::Retry, "redis-unreachable", "Redis cannot be reached")
}

fn key(generation: &Generation, event: &RecordEvent<'_>) -> MarkKey {
    MarkKey { generation: Arc::from(generation.as_str()), route: Arc::from(event.route), id: Arc::from(event.id) }
}

#[async_trait]
impl Store for SimulatedRedis {
    async fn verify(&self) -> Result<DedupFacts, Fault> {
        Ok(DedupFacts { address: "simulated".to_owned(), version: "0".to_owned(), warnings: Vec::new() })
    }

    async fn claim(&self, held: &[Reached]) -> Result<(Generation, Found), Fault> {
        self.write(|world| {
            let (generation, found) = world.redis.claim(held);
            for rewound in &found.rewound {
                world.story.count(Event::RedisSawRewind);
                world.story.tell(format_args!("{}: redis sees {} go back from {} to {}", self.worker, rewound.partition, rewound.once, rewound.durable));
            }
            (generation, found)
        })
        .await
    }

    async fn register(&self, held: &[Reached]) -> Result<Generation, Fault> {
        self.write(|world| world.redis.register(held)).await
    }

    async fn state(&self, held: &[Reached]) -> Result<Seen, Fault> {
        self.ask(|world| Ok(world.redis.seen(held))).await
    }

    async fn raise(&self, generation: &Generation, reached: &[Reached]) -> Result<HashMap<Partition, bool>, Fault> {
        self.write(|world| {
            let taken = world.redis.raise(generation, reached);
            let refused = taken.values().filter(|taken| !**taken).count();
            (0..refused).for_each(|_| world.story.count(Event::RedisRaiseRefused));
            taken
        })
        .await
    }

    async fn marks(&self, generation: &Generation, events: &[RecordEvent<'_>]) -> Result<Vec<Option<Coordinate>>, Fault> {
        self.ask(|world| {
            let marks = world.redis.marks(generation, events);
            for (event, _) in events.iter().zip(&marks).filter(|(_, mark)| mark.is_some()) {
                world.story.count(match event.id_kind {
                    EventIdKind::Coordinate => Event::RedisKnewCoordinate,
                    EventIdKind::Producer => Event::RedisKnew,
                });
            }
            Ok(marks)
        })
        .await
    }

    /// One command an event: a crash may come between two of them.
    async fn mark(&self, generation: &Generation, events: &[RecordEvent<'_>]) -> Result<(), Fault> {
        let half = events.len().div_ceil(2);
        for events in events.chunks(half.max(1)) {
            self.write(|world| world.redis.mark(generation, events)).await?;
        }
        Ok(())
    }
}
