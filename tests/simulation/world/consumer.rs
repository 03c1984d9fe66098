//! A worker's Kafka client: keeps the contract of `Source`, and delivers as untidily as the real one may.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use oncesink::source::{Buffer, Change, Channels, Commit, Found, Identity, Input, RecordsBuilder, Reply, Sequence, Source, Start, TopicFound};
use oncesink_sinks::{
    checkpoint::Committed,
    model::{NextOffset, Partition},
};
use rand::Rng;
use tokio::{
    select,
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    time::{sleep, timeout},
};

use super::{
    Shared, World,
    faults::Weather,
    group::{MemberId, Order},
    log::Entry,
    worker::{WorkerId, gate},
};

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
}

struct Consumer {
    sim: Shared,
    worker: WorkerId,
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
}

/// Joins the group and starts the client's thread.
pub fn start(sim: &Shared, worker: WorkerId) -> (SimulatedSource, Channels) {
    let (commands, received_commands) = mpsc::unbounded_channel();
    let (changes, received_changes) = mpsc::unbounded_channel();
    let (inputs, received_inputs) = mpsc::unbounded_channel();
    let (sender, orders) = mpsc::unbounded_channel();
    let (member, buffer) = {
        let mut world = sim.lock();
        let buffer = Arc::new(Buffer::new(world.plan.buffer));
        (world.group.join(worker, sender), buffer)
    };
    sim.group_changed.notify_waiters();
    let consumer = Consumer {
        sim: sim.clone(),
        worker,
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
    };
    tokio::spawn(consumer.run());
    let source = SimulatedSource { sim: sim.clone(), worker, commands, buffer };
    (source, Channels { changes: received_changes, inputs: received_inputs })
}

enum Event {
    Order(Order),
    Command(Option<Command>),
    Tick,
}

impl Consumer {
    async fn run(mut self) {
        let mut idle = false;
        loop {
            let cut_off = self.sim.lock().life(self.worker).is_some_and(|life| life.cut_off);
            let tick = self.sim.lock().milliseconds(if idle { 20 } else { 1 }, if idle { 80 } else { 15 });
            let event = select! {
                biased;
                Some(order) = self.orders.recv(), if !cut_off => Event::Order(order),
                command = self.commands.recv() => Event::Command(command),
                () = sleep(tick) => Event::Tick,
            };
            gate(&self.sim, self.worker).await;
            idle = false;
            match event {
                Event::Order(Order::Assign(partitions)) => self.assign(partitions).await,
                Event::Order(Order::Revoke(partitions)) => self.revoke(partitions).await,
                Event::Command(Some(Command::Start(starts))) => self.start(starts),
                Event::Command(Some(Command::Commit(commits))) => self.commit(commits),
                Event::Command(Some(Command::LookUp(partitions))) => self.look_up(&partitions).await,
                Event::Command(Some(Command::Close)) => break self.close().await,
                // The engine is gone without a word.
                Event::Command(None) => break self.leave(),
                Event::Tick => {
                    self.notice_expulsion();
                    idle = !self.deliver();
                }
            }
        }
    }

    /// The assign callback: nothing else happens on this thread until it is answered or its time is over.
    async fn assign(&mut self, partitions: Vec<Partition>) {
        self.sim.pause(1, 20).await;
        gate(&self.sim, self.worker).await;
        let (reply, answer) = oneshot::channel();
        let budget = self.sim.lock().plan.callback_budget;
        {
            let mut world = self.sim.lock();
            world.story.tell(format_args!("{}: assigned {}", self.worker, list(&partitions)));
            world.story.count("assigned");
            let found = partitions.iter().map(|partition| world.find(partition)).collect();
            let topics = world.find_topics(&partitions);
            world.witness.hand_over(self.worker, &partitions);
            self.assigned.extend(partitions.iter().cloned());
            let _ = self.changes.send(Change::Assigned { partitions: found, topics, reply: Reply::new(move |starts| reply.send(starts).is_ok()) });
        }
        let answer = timeout(budget, answer).await;
        gate(&self.sim, self.worker).await;
        match answer {
            Ok(Ok(starts)) => self.start(starts),
            _ => self.sim.lock().story.count("assign callback over its budget"),
        }
    }

    async fn revoke(&mut self, partitions: Vec<Partition>) {
        let partitions: Vec<Partition> = partitions.into_iter().filter(|partition| self.assigned.contains(partition)).collect();
        let (reply, answer) = oneshot::channel();
        let budget = self.sim.lock().plan.callback_budget;
        {
            let mut world = self.sim.lock();
            world.story.tell(format_args!("{}: revoked {}", self.worker, list(&partitions)));
            world.story.count("revoked");
            let (sim, worker) = (self.sim.clone(), self.worker);
            let given = world.witness.assignments(worker, &partitions);
            let reply = Reply::new(move |commits: Vec<Commit>| {
                let mut world = sim.lock();
                for commit in &commits {
                    world.witness_offset_commit(worker, commit);
                }
                // From the answer on the partitions are not the engine's, whether or not anybody still waited for it.
                world.witness.give_back(worker, &given);
                drop(world);
                reply.send(commits).is_ok()
            });
            let _ = self.changes.send(Change::Revoked { partitions: partitions.clone(), reply });
        }
        let answer = timeout(budget, answer).await;
        gate(&self.sim, self.worker).await;
        match answer {
            Ok(Ok(commits)) => self.commit(commits),
            _ => self.sim.lock().story.count("revoke callback over its budget"),
        }
        self.unassign(&partitions);
        self.sim.lock().group.gave_back(self.member, &partitions);
        self.sim.group_changed.notify_waiters();
    }

    /// The client stops reading them, but what it has handed over, or is about to, still comes.
    fn unassign(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.assigned.remove(partition);
            if let Some(Position { sequence, next: Some(next), .. }) = self.positions.remove(partition) {
                self.stale.push((partition.clone(), sequence, next));
            }
        }
    }

    /// Learns, as the next heartbeat would tell, that the group has gone on without this member; joins again.
    fn notice_expulsion(&mut self) {
        let mut world = self.sim.lock();
        let hears = world.life(self.worker).is_some_and(|life| !life.cut_off);
        if !hears || world.group.is_member(self.member) {
            return;
        }
        let (sender, orders) = mpsc::unbounded_channel();
        self.orders = orders;
        let lost: Vec<Partition> = self.assigned.iter().cloned().collect();
        world.story.tell(format_args!("{}: lost {}", self.worker, list(&lost)));
        world.story.count("lost");
        self.member = world.group.join(self.worker, sender);
        drop(world);
        self.unassign(&lost);
        // Records that were fetched before the client knew come before it says so.
        self.deliver_stale();
        if !lost.is_empty() {
            let _ = self.changes.send(Change::Lost { partitions: lost });
        }
        self.sim.group_changed.notify_waiters();
    }

    fn start(&mut self, starts: Vec<Start>) {
        let mut out_of_range = Vec::new();
        {
            let mut world = self.sim.lock();
            for start in starts {
                if !self.assigned.contains(&start.partition) {
                    continue;
                }
                world.story.tell(format_args!(
                    "{}: start {} at {} under {}",
                    self.worker,
                    start.partition,
                    start.from.map_or_else(|| "rest".to_owned(), |from| from.to_string()),
                    start.sequence.0
                ));
                if let Some(Position { sequence, next: Some(next), .. }) = self.positions.remove(&start.partition) {
                    self.stale.push((start.partition.clone(), sequence, next));
                }
                let mut next = start.from.map(NextOffset::get);
                if let (Some(from), Some(log)) = (next, world.log.partition(&start.partition))
                    && (from < log.low || from > log.high())
                {
                    next = None;
                    out_of_range.push(world.find(&start.partition));
                    world.story.count("out of range");
                }
                self.positions.insert(start.partition, Position { sequence: start.sequence, next, passed: -1 });
            }
        }
        if !out_of_range.is_empty() {
            let _ = self.changes.send(Change::OutOfRange { partitions: out_of_range });
        }
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let mut world = self.sim.lock();
        let cut_off = world.life(self.worker).is_some_and(|life| life.cut_off);
        for commit in commits {
            if cut_off || world.strikes(Weather::CommitFailures, 50) {
                continue;
            }
            world.story.tell(format_args!("{}: commits {} of {}", self.worker, commit.next, commit.partition));
            if !world.group.commit(self.member, commit) {
                world.story.count("offset commit of a stranger refused");
            }
        }
    }

    async fn look_up(&mut self, partitions: &[Partition]) {
        self.sim.pause(1, 30).await;
        gate(&self.sim, self.worker).await;
        let mut world = self.sim.lock();
        world.story.count("looked up");
        let found = partitions.iter().map(|partition| world.find(partition)).collect();
        let topics = world.find_topics(partitions);
        let _ = self.changes.send(Change::LookedUp { partitions: found, topics });
    }

    async fn close(mut self) {
        let all: Vec<Partition> = self.assigned.iter().cloned().collect();
        if !all.is_empty() {
            self.revoke(all).await;
        }
        self.leave();
    }

    fn leave(self) {
        self.sim.lock().group.leave(self.member);
        self.sim.group_changed.notify_waiters();
    }

    /// Whether anything was delivered.
    fn deliver(&mut self) -> bool {
        if !self.stale.is_empty() {
            self.deliver_stale();
        }
        self.is_paused = if self.is_paused { !self.buffer.has_room_again() } else { self.buffer.is_full() };
        if self.is_paused {
            self.sim.lock().story.count("intake paused");
            return false;
        }
        let mut delivered = false;
        let partitions: Vec<Partition> = self.positions.keys().cloned().collect();
        for partition in partitions {
            let Some((sequence, next)) = self.positions.get(&partition).and_then(|position| Some((position.sequence, position.next?))) else { continue };
            let most = self.sim.lock().random.random_range(0..12);
            let reached = self.hand_over(&partition, sequence, next, most);
            let Some(position) = self.positions.get_mut(&partition) else { continue };
            delivered |= reached > next;
            position.next = Some(reached);
            let world = self.sim.lock();
            let Some(log) = world.log.partition(&partition) else { continue };
            let ends_in_gap = matches!(log.entries.last(), Some(Entry::Control));
            if reached == log.high() && ends_in_gap && position.passed < reached {
                position.passed = reached;
                let _ = self.inputs.send(Input::Passed { partition, sequence, next: NextOffset::new(reached) });
            }
        }
        delivered
    }

    /// Sends up to `most` entries from `next` on, in one piece; returns the offset after them.
    fn hand_over(&self, partition: &Partition, sequence: Sequence, next: i64, most: usize) -> i64 {
        let world = self.sim.lock();
        let Some(log) = world.log.partition(partition) else { return next };
        let mut records = RecordsBuilder::new(partition.clone(), sequence);
        let mut reached = next;
        let from = usize::try_from(next).unwrap_or(0);
        for entry in log.entries.iter().skip(from).take(most) {
            if let Entry::Record(fact) = entry {
                let (key, value) = (fact.id.to_string(), fact.text());
                records.push(reached, reached, Some(key.as_bytes()), Some(value.as_bytes()), std::iter::empty());
            }
            reached += 1;
        }
        drop(world);
        if !records.is_empty() {
            let records = records.finish();
            self.buffer.add(records.cost());
            let _ = self.inputs.send(Input::Records(records));
        }
        reached
    }

    fn deliver_stale(&mut self) {
        for (partition, sequence, next) in std::mem::take(&mut self.stale) {
            let most = {
                let mut world = self.sim.lock();
                if !world.chance(60) {
                    continue;
                }
                world.random.random_range(1..8)
            };
            if self.hand_over(&partition, sequence, next, most) > next {
                self.sim.lock().story.count("stale delivery");
            }
        }
    }
}

impl World {
    /// What Kafka says of a partition, if it says anything.
    fn find(&mut self, partition: &Partition) -> Found {
        let committed = if self.strikes(Weather::LookUpFailures, 40) { Committed::Unknown } else { self.group.committed(partition) };
        let ends = if self.strikes(Weather::LookUpFailures, 40) { None } else { self.log.partition(partition).map(super::log::PartitionLog::ends) };
        Found { partition: partition.clone(), committed, ends }
    }

    fn find_topics(&mut self, partitions: &[Partition]) -> Vec<TopicFound> {
        let names: BTreeSet<Arc<str>> = partitions.iter().map(|partition| partition.topic.clone()).collect();
        let mut found = Vec::new();
        for topic in names {
            let failed = self.strikes(Weather::LookUpFailures, 30);
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
