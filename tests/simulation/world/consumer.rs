//! A worker's Kafka client: keeps the contract of `Source`, and delivers as untidily as the real one may.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use oncesink::source::{Buffer, Change, Channels, Commit, Found, Identity, Input, Sequence, Source, Start, TopicFound};
use oncesink_sinks::{
    claim::Committed,
    model::{NextOffset, Partition},
};
use tokio::{
    select,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    time::{Instant, sleep},
};

use super::{
    Shared, World,
    dice::milliseconds,
    events::Event,
    group::{MemberId, Order},
    log::PartitionLog,
    weather::Weather,
    worker::{InstanceId, WorkerId, gate},
};

mod callbacks;
mod commits;
mod deliveries;

enum Command {
    Start(Vec<Start>),
    Commit(Vec<Commit>),
    LookUp(Vec<Partition>),
    Close,
}

/// The engine's handle of the client.
#[derive(Debug)]
pub struct SimulatedSource {
    sim: Shared,
    worker: WorkerId,
    commands: UnboundedSender<Command>,
    buffer: Arc<Buffer>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

impl Source for SimulatedSource {
    fn start(&mut self, starts: Vec<Start>) {
        let _ = self.commands.send(Command::Start(starts));
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        {
            let mut world = self.sim.lock();
            for commit in &commits {
                world.witness_offset_commit(self.worker, commit);
            }
        }
        let _ = self.commands.send(Command::Commit(commits));
    }

    fn look_up(&mut self, partitions: Vec<Partition>) {
        let _ = self.commands.send(Command::LookUp(partitions));
    }

    fn close(&mut self) {
        let _ = self.commands.send(Command::Close);
    }

    fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }

    fn identity(&self) -> Identity {
        Identity { cluster: Arc::from("simulated"), group: Arc::from("oncesink-simulated") }
    }
}

/// Where a partition is being read.
#[derive(Debug)]
struct Position {
    sequence: Sequence,
    /// None: it stands still.
    next: Option<i64>,
    /// The last offset that the engine was told to be passed.
    passed: i64,
    /// Which making of the topic it reads: what it has fetched is of no other.
    incarnation: Option<u64>,
}

/// How long the client waits for an answer of the coordinator.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(4);

struct Consumer {
    sim: Shared,
    worker: WorkerId,
    instance: Option<InstanceId>,
    member: MemberId,
    orders: UnboundedReceiver<Order>,
    commands: UnboundedReceiver<Command>,
    changes: UnboundedSender<Change>,
    inputs: UnboundedSender<Input>,
    assigned: BTreeSet<Partition>,
    positions: BTreeMap<Partition, Position>,
    /// Runs that are over, of which something is still on its way.
    stale: Vec<(Partition, Sequence, i64)>,
    buffer: Arc<Buffer>,
    is_paused: bool,
    /// Another process has its instance id: it never joins again.
    is_fenced: bool,
    /// What was taken away last without an answer of the engine.
    unanswered: Vec<Partition>,
}

/// Joins the group and starts the client's thread.
pub fn start(sim: &Shared, worker: WorkerId, instance: Option<InstanceId>) -> (SimulatedSource, Channels) {
    let (commands, received_commands) = mpsc::unbounded_channel();
    let (changes, received_changes) = mpsc::unbounded_channel();
    let (inputs, received_inputs) = mpsc::unbounded_channel();
    let (sender, orders) = mpsc::unbounded_channel();
    let (member, buffer) = {
        let mut world = sim.lock();
        let buffer = Arc::new(Buffer::new(world.plan.buffer));
        (world.join(worker, instance, sender), buffer)
    };
    sim.group_changed.notify_waiters();
    let consumer = Consumer {
        sim: sim.clone(),
        worker,
        instance,
        member,
        orders,
        commands: received_commands,
        changes,
        inputs,
        assigned: BTreeSet::new(),
        positions: BTreeMap::new(),
        stale: Vec::new(),
        buffer: buffer.clone(),
        is_paused: false,
        is_fenced: false,
        unanswered: Vec::new(),
    };
    tokio::spawn(consumer.run());
    let source = SimulatedSource { sim: sim.clone(), worker, commands, buffer };
    (source, Channels { changes: received_changes, inputs: received_inputs })
}

enum Happens {
    Order(Order),
    Command(Option<Command>),
    Tick,
}

impl Consumer {
    async fn run(mut self) {
        let mut idle = false;
        loop {
            let cut_off = self.sim.lock().life(self.worker).is_some_and(|life| life.cut_off);
            let tick = self.sim.lock().milliseconds(self.worker, if idle { 20 } else { 1 }, if idle { 80 } else { 15 });
            let event = select! {
                biased;
                Some(order) = self.orders.recv(), if !cut_off => Happens::Order(order),
                command = self.commands.recv() => Happens::Command(command),
                () = sleep(tick) => Happens::Tick,
            };
            gate(&self.sim, self.worker).await;
            idle = false;
            match event {
                Happens::Order(Order::Assign(partitions)) => self.assign(partitions).await,
                Happens::Order(Order::Revoke(partitions)) => self.revoke(partitions).await,
                Happens::Command(Some(Command::Start(starts))) => self.start(starts),
                Happens::Command(Some(Command::Commit(commits))) => self.commit(commits),
                Happens::Command(Some(Command::LookUp(partitions))) => self.look_up(&partitions).await,
                Happens::Command(Some(Command::Close)) => break self.close().await,
                // The engine is gone without a word.
                Happens::Command(None) => break self.leave(),
                Happens::Tick => {
                    self.notice_expulsion();
                    self.tell_committed();
                    idle = !self.deliver();
                }
            }
        }
    }

    fn start(&mut self, starts: Vec<Start>) {
        for start in starts {
            // Given away and come back since it was asked for: then a later start is in force already, as with the real client.
            let is_late = self.positions.get(&start.partition).is_some_and(|position| position.sequence >= start.sequence);
            if is_late || !self.assigned.contains(&start.partition) {
                continue;
            }
            let from = start.from.map_or_else(|| "rest".to_owned(), |from| from.to_string());
            self.sim.lock().story.tell(format_args!("{}: start {} at {from} under {}", self.worker, start.partition, start.sequence.0));
            self.stand_still(&start.partition);
            let position = Position { sequence: start.sequence, next: start.from.map(NextOffset::get), passed: -1, incarnation: None };
            self.positions.insert(start.partition, position);
        }
    }

    /// Nothing more is fetched of a partition, but what has been fetched still comes.
    fn stand_still(&mut self, partition: &Partition) {
        if let Some(Position { sequence, next: Some(next), .. }) = self.positions.remove(partition) {
            self.stale.push((partition.clone(), sequence, next));
        }
    }

    async fn look_up(&mut self, partitions: &[Partition]) {
        self.sim.pause(self.worker, 1, 30).await;
        gate(&self.sim, self.worker).await;
        // The coordinator is asked for the commits, and an answer is waited for.
        let limit = Instant::now() + LOOK_UP_LIMIT;
        while self.sim.lock().life(self.worker).is_some_and(|life| life.cut_off) && Instant::now() < limit {
            sleep(Duration::from_millis(100)).await;
            gate(&self.sim, self.worker).await;
        }
        // It is polled before it gets to the question: the partitions may be lost by then.
        self.notice_expulsion();
        let (partitions, topics) = self.ask_kafka(partitions).await;
        self.sim.lock().story.count(Event::LookedUp);
        let _ = self.changes.send(Change::LookedUp { partitions, topics });
    }

    /// The answer may be on its way for long, and is old when it arrives.
    async fn ask_kafka(&self, partitions: &[Partition]) -> (Vec<Found>, Vec<TopicFound>) {
        let (found, delay) = {
            let mut world = self.sim.lock();
            let found = (partitions.iter().map(|partition| world.find(partition)).collect(), world.find_topics(partitions));
            let delay = world.strikes(Weather::LookUpFailures, 40).map(|dice| milliseconds(dice, 100, 2000));
            if delay.is_some() {
                world.story.count(Event::LookUpLate);
            }
            (found, delay)
        };
        if let Some(delay) = delay {
            sleep(delay).await;
            gate(&self.sim, self.worker).await;
        }
        found
    }

    async fn close(mut self) {
        let all: Vec<Partition> = self.assigned.iter().cloned().collect();
        if self.is_fenced && self.sim.lock().chance(self.worker, 50) {
            self.lose(&all);
        } else if !all.is_empty() {
            self.hand_back(&all).await;
        }
        self.leave();
    }

    /// A static member says nothing: its partitions wait for it until its session is over.
    fn leave(self) {
        let mut world = self.sim.lock();
        if self.instance.is_some() {
            world.story.count(Event::StaticStopped);
        } else {
            world.group.leave(self.member);
        }
        drop(world);
        self.sim.group_changed.notify_waiters();
    }
}

impl World {
    pub fn look_up_fails(&mut self, percent: u32) -> bool {
        let fails = self.strikes(Weather::LookUpFailures, percent).is_some();
        self.story.add(Event::LookUpFailed, u64::from(fails));
        fails
    }

    /// What Kafka says of a partition, if it says anything.
    fn find(&mut self, partition: &Partition) -> Found {
        let committed = if self.look_up_fails(30) { Committed::Unknown } else { self.group.committed(partition) };
        let ends = if self.look_up_fails(30) { None } else { self.log.partition(partition).map(PartitionLog::ends) };
        Found { partition: partition.clone(), committed, ends }
    }

    fn find_topics(&mut self, partitions: &[Partition]) -> Vec<TopicFound> {
        let names: BTreeSet<Arc<str>> = partitions.iter().map(|partition| partition.topic.clone()).collect();
        let mut found = Vec::new();
        for topic in names {
            let failed = self.look_up_fails(20);
            let partitions = match self.log.topic(&topic) {
                Some(known) if !failed => known.partitions.iter().map(|log| (log.ends(), Some(NextOffset::new(log.low)))).collect(),
                _ => Vec::new(),
            };
            found.push(TopicFound { topic, partitions });
        }
        found
    }
}

fn list(partitions: &[Partition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
