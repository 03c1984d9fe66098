//! The client's side of the simulated database: what travels, and what gets lost on the way.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use oncesink_sinks::{
    checkpoint::{CheckpointRow, Held, StoredHalt},
    fault::{Fault, FaultClass},
    model::{Coordinate, Delivery, Partition, Table, TableName},
    session::{Audit, Bookkeeping, CommitError, Database, DatabaseFacts, LockWait, Session, Skip, SkipMode, Step, Written},
};
use rand::Rng;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Shared, World,
    database::{Asked, ConnectionId, Lock, Transaction, key},
    dice::{chance, milliseconds},
    events::Event,
    routes,
    weather::Weather,
    worker::{WorkerId, gate},
};

const LOCK_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub struct SimulatedDatabase {
    sim: Shared,
    worker: WorkerId,
}

impl SimulatedDatabase {
    pub fn new(sim: Shared, worker: WorkerId) -> Self {
        Self { sim, worker }
    }

    async fn reach(&self) -> Result<(), Fault> {
        travel(&self.sim, self.worker).await;
        let mut world = self.sim.lock();
        if world.is(Weather::DatabaseDown) {
            world.story.count(Event::ConnectionRefused);
            return Err(Fault::new(FaultClass::Retry, "connection", "connection refused"));
        }
        if world.strikes(Weather::TooManyConnections, 60).is_some() {
            return Err(Fault::new(FaultClass::Pause, "too-many-connections", "sorry, too many clients already"));
        }
        Ok(())
    }
}

/// A message to the server or back: it takes time, and nothing moves while the worker does not.
async fn travel(sim: &Shared, worker: WorkerId) {
    gate(sim, worker).await;
    let delay = {
        let mut world = sim.lock();
        world.step(worker);
        let latency = world.plan.latency;
        if let Some(dice) = world.strikes(Weather::SlowDatabase, 30) {
            milliseconds(dice, 100, 1500)
        } else if world.chance(worker, 60) {
            Duration::ZERO
        } else {
            world.milliseconds(worker, 1, latency)
        }
    };
    if delay > Duration::ZERO {
        sleep(delay).await;
    } else {
        tokio::task::yield_now().await;
    }
    gate(sim, worker).await;
}

#[async_trait]
impl Database for SimulatedDatabase {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    async fn connect(&self) -> Result<Box<dyn Session>, Fault> {
        self.reach().await?;
        let mut world = self.sim.lock();
        let is_read_only = world.is(Weather::ReadOnly);
        let connection = world.server.connect(self.worker, is_read_only);
        Ok(Box::new(SimulatedSession { sim: self.sim.clone(), worker: self.worker, connection }))
    }

    async fn describe(&self, table: &TableName) -> Result<Table, Fault> {
        self.reach().await?;
        routes::table(table.name.as_str()).ok_or_else(|| Fault::new(FaultClass::Halt, "missing-table", format!("there is no table {table}")))
    }

    async fn facts(&self) -> Result<DatabaseFacts, Fault> {
        Ok(DatabaseFacts { address: "simulated".to_owned(), version: "simulated".to_owned(), warnings: Vec::new() })
    }

    async fn bookkeeping(&self) -> Result<Bookkeeping, Fault> {
        Ok(Bookkeeping::Current)
    }

    async fn migrate(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn grants(&self, _: &str, _: &[TableName]) -> Vec<String> {
        Vec::new()
    }

    async fn checkpoints(&self, _: &str) -> Result<Vec<CheckpointRow>, Fault> {
        self.reach().await?;
        let rows: Vec<CheckpointRow> = self.sim.lock().server.tables.checkpoints.values().cloned().collect();
        // The answer travels too: it is old when it arrives.
        travel(&self.sim, self.worker).await;
        Ok(rows)
    }

    async fn others_of(&self, _: &str, _: &str) -> Result<Vec<(String, i64)>, Fault> {
        Ok(Vec::new())
    }

    async fn database_id(&self) -> Result<Arc<str>, Fault> {
        Ok(self.sim.lock().server.id.clone())
    }

    async fn note_halt(&self, _: &str, partition: &Partition, held: Option<Held>, halt: Option<&StoredHalt>) -> Result<(), Fault> {
        self.reach().await?;
        let mut world = self.sim.lock();
        if world.is(Weather::ReadOnly) {
            return Err(read_only());
        }
        if let Some(halt) = halt {
            world.story.tell(format_args!("{}: {partition} is halted at {}: {}", self.worker, halt.offset, halt.reason));
            world.story.count(Event::HaltNoted);
            match halt.reason.as_str() {
                "topic-recreated" | "topic-cut" => world.story.count(Event::HaltedRecreated),
                "gap" => world.story.count(Event::HaltedGap),
                _ => {}
            }
        }
        if let Some(row) = world.server.tables.checkpoints.get_mut(partition)
            && held.is_none_or(|held| row.claim == held.claim && (row.delivery != Delivery::ExactlyOnce || row.next_offset == held.next))
        {
            row.halt = halt.cloned();
        }
        Ok(())
    }

    async fn skip(&self, _: &str, _: &Coordinate, _: &str, _: SkipMode) -> Result<Skip, Fault> {
        Ok(Skip::NotHaltedThere { row: None })
    }
}

#[derive(Debug)]
pub(super) struct SimulatedSession {
    pub(super) sim: Shared,
    pub(super) worker: WorkerId,
    pub(super) connection: ConnectionId,
}

/// How a COMMIT goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answered,
    /// It never reaches the server, whose end of the connection stays open for a while.
    LostOnTheWay,
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// The client gives up on it before it takes effect.
    TakesEffectLater,
}

impl SimulatedSession {
    /// Sends a statement; what can go wrong with any statement goes wrong here.
    async fn send(&self) -> Result<(), Fault> {
        travel(&self.sim, self.worker).await;
        let mut world = self.sim.lock();
        self.still_connected(&world)?;
        if let Some(dice) = world.strikes(Weather::ConnectionCuts, 8) {
            // Half of the time the server does not notice for a while, and holds on to its locks.
            if chance(dice, 50) {
                let until = Instant::now() + milliseconds(dice, 100, 4000);
                world.server.half_open(self.connection, until);
                world.story.count(Event::HalfOpen);
            } else {
                world.server.disconnect(self.connection);
                self.sim.locks_freed.notify_waiters();
            }
            return Err(connection_lost());
        }
        if world.strikes(Weather::Deadlocks, 6).is_some() {
            return Err(self.fail(&mut world, FaultClass::Retry, "deadlock", "deadlock detected"));
        }
        if world.server.transaction(self.connection).is_some_and(|transaction| transaction.failed) {
            return Err(Fault::new(FaultClass::Retry, "aborted", "current transaction is aborted"));
        }
        Ok(())
    }

    /// For whatever writes or locks: after a failover the connection may lead to a server that does not let anybody.
    pub(super) async fn send_write(&self) -> Result<(), Fault> {
        self.send().await?;
        let mut world = self.sim.lock();
        if world.server.connections.get(&self.connection).is_some_and(|connection| connection.is_read_only) {
            world.story.count(Event::ReadOnly);
            let fault = read_only();
            return Err(self.fail(&mut world, fault.class, "read-only", &fault.detail));
        }
        Ok(())
    }

    pub(super) fn still_connected(&self, world: &World) -> Result<(), Fault> {
        match world.server.connections.get(&self.connection) {
            Some(connection) if !connection.given_up => Ok(()),
            _ => Err(connection_lost()),
        }
    }

    pub(super) fn fail(&self, world: &mut World, class: FaultClass, reason: &'static str, detail: &str) -> Fault {
        if let Some(transaction) = world.server.transaction(self.connection) {
            transaction.failed = true;
        }
        world.server.stop_waiting(self.connection);
        Fault::new(class, reason, detail)
    }

    pub(super) async fn acquire(&self, lock: Lock) -> Result<(), Fault> {
        self.wait_for(Event::WaitedForLock, |world| world.server.ask(self.connection, &lock)).await
    }

    /// Waits until it is granted, for as long as the server lets anybody wait. `waits` is counted once.
    pub(super) async fn wait_for(&self, waits: Event, ask: impl Fn(&mut World) -> Asked) -> Result<(), Fault> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let mut has_waited = false;
        loop {
            let freed = self.sim.locks_freed.notified();
            {
                let mut world = self.sim.lock();
                self.still_connected(&world)?;
                match ask(&mut world) {
                    Asked::Granted => return Ok(()),
                    Asked::Deadlock => {
                        world.story.count(Event::OwnDeadlock);
                        return Err(self.fail(&mut world, FaultClass::Retry, "deadlock", "deadlock detected"));
                    }
                    Asked::Held if !has_waited => {
                        has_waited = true;
                        world.story.count(waits);
                    }
                    Asked::Held => {}
                }
            }
            if timeout_at(deadline, freed).await.is_err() {
                let mut world = self.sim.lock();
                world.story.count(Event::LockTimeout);
                return Err(self.fail(&mut world, FaultClass::Retry, "lock-timeout", "canceling statement due to lock timeout"));
            }
        }
    }

    /// COMMIT at the server. None: the connection was gone before it arrived.
    fn commit_at_server(sim: &Shared, connection: ConnectionId) -> Option<Result<(), Fault>> {
        let mut world = sim.lock();
        let worker = world.server.connections.get(&connection)?.worker;
        let transaction = world.server.connections.get_mut(&connection).and_then(|known| {
            known.committing = false;
            known.transaction.take()
        });
        world.server.free_locks(connection);
        let answer = match transaction {
            Some(transaction) if !transaction.failed => {
                world.witness_commit(worker, &transaction);
                world.server.apply(transaction);
                Ok(())
            }
            _ => Err(Fault::new(FaultClass::Retry, "aborted", "the transaction was aborted before")),
        };
        drop(world);
        sim.locks_freed.notify_waiters();
        Some(answer)
    }
}

fn read_only() -> Fault {
    Fault::new(FaultClass::Retry, "read-only", "cannot execute that in a read-only transaction")
}

fn connection_lost() -> Fault {
    Fault::new(FaultClass::Retry, "connection", "the connection was lost")
}

#[async_trait]
impl Session for SimulatedSession {
    async fn begin(&mut self) -> Result<(), Fault> {
        self.send().await?;
        let mut world = self.sim.lock();
        let Some(connection) = world.server.connections.get_mut(&self.connection) else { return Err(connection_lost()) };
        if connection.transaction.is_some() {
            world.story.violation(format!("{} begins a transaction within a transaction", self.worker));
        } else {
            connection.transaction = Some(Transaction::default());
        }
        Ok(())
    }

    async fn lock(&mut self, _: &str, partitions: &[Partition], wait: LockWait) -> Result<Vec<CheckpointRow>, Fault> {
        self.send_write().await?;
        if !partitions.is_sorted() {
            self.sim.lock().story.violation(format!("{} locks rows out of order", self.worker));
        }
        let mut rows = Vec::new();
        for partition in partitions {
            let lock = Lock::Checkpoint(partition.clone());
            {
                let world = self.sim.lock();
                self.still_connected(&world)?;
                // A row that nobody else can see yet is not there; one that is held is left out if nobody wants to wait.
                let is_seen = world.server.checkpoint(self.connection, partition).is_some();
                if !is_seen || (wait == LockWait::SkipLocked && world.server.is_held_by_another(self.connection, &lock)) {
                    continue;
                }
            }
            self.acquire(lock).await?;
            rows.extend(self.sim.lock().server.checkpoint(self.connection, partition));
        }
        Ok(rows)
    }

    async fn with_rows(&mut self, _: &str, topics: &[Arc<str>]) -> Result<Vec<Partition>, Fault> {
        self.send().await?;
        let world = self.sim.lock();
        Ok(world.server.tables.checkpoints.keys().filter(|partition| topics.contains(&partition.topic)).cloned().collect())
    }

    async fn insert_absent(&mut self, _: &str, rows: &[CheckpointRow]) -> Result<(), Fault> {
        self.send_write().await?;
        for row in rows {
            if self.sim.lock().server.checkpoint(self.connection, &row.partition).is_some() {
                continue;
            }
            // Somebody who is inserting the same row is waited for: only then is it known whether it is there.
            self.acquire(Lock::Checkpoint(row.partition.clone())).await?;
            let mut world = self.sim.lock();
            if world.server.checkpoint(self.connection, &row.partition).is_none()
                && let Some(transaction) = world.server.transaction(self.connection)
            {
                transaction.checkpoints.insert(row.partition.clone(), row.clone());
            }
        }
        Ok(())
    }

    async fn save(&mut self, _: &str, rows: &[CheckpointRow]) -> Result<(), Fault> {
        self.send_write().await?;
        let mut world = self.sim.lock();
        self.still_connected(&world)?;
        for row in rows {
            if !world.server.holds(self.connection, &Lock::Checkpoint(row.partition.clone())) {
                world.story.violation(format!("{} overwrites the row of {} without a lock", self.worker, row.partition));
            }
            world.witness_save(self.worker, self.connection, row);
            if let Some(transaction) = world.server.transaction(self.connection) {
                transaction.checkpoints.insert(row.partition.clone(), row.clone());
            }
        }
        Ok(())
    }

    async fn write(&mut self, step: &Step<'_>) -> Result<Written, Fault> {
        self.send_write().await?;
        {
            let mut world = self.sim.lock();
            if world.strikes(Weather::DiskFull, 40).is_some() {
                return Err(self.fail(&mut world, FaultClass::Pause, "disk-full", "could not extend file: no space left on device"));
            }
            if world.strikes(Weather::PermissionRevoked, 70).is_some() {
                return Err(self.fail(&mut world, FaultClass::Halt, "permission", "permission denied for table"));
            }
            if world.strikes(Weather::TableChanged, 30).is_some() {
                return Err(self.fail(&mut world, FaultClass::Changed, "column-changed", "cached plan must not change result type"));
            }
        }
        let mut written = Written::default();
        for row in step.selection {
            if let Some(key) = key(step, *row) {
                self.acquire(Lock::Row(step.rows.target.table.name.name.0.clone(), key)).await?;
            }
            let mut world = self.sim.lock();
            self.still_connected(&world)?;
            if routes::payload(step, *row).is_some_and(|payload| world.server.refused_payloads.contains(&payload)) {
                world.story.count(Event::RecordRefused);
                return Err(self.fail(&mut world, FaultClass::Poison, "out-of-range", "value out of range"));
            }
            written.stale += u64::from(world.server.write(self.connection, step, *row));
        }
        Ok(written)
    }

    async fn audit(&mut self, _: &Audit<'_>) -> Result<(), Fault> {
        self.send_write().await
    }

    async fn commit(&mut self) -> Result<(), CommitError> {
        gate(&self.sim, self.worker).await;
        self.sim.lock().step(self.worker);
        gate(&self.sim, self.worker).await;
        let (manner, transit) = {
            let mut world = self.sim.lock();
            let latency = world.plan.latency;
            let mut transit = world.milliseconds(self.worker, 0, latency);
            if let Some(dice) = world.strikes(Weather::SlowDatabase, 30) {
                transit = milliseconds(dice, 100, 1500);
            }
            let mut manner = Manner::Answered;
            if let Some(dice) = world.strikes(Weather::LostCommits, 35) {
                manner = [Manner::LostOnTheWay, Manner::AnswerLost, Manner::TakesEffectLater][dice.random_range(0..3)];
                if manner == Manner::TakesEffectLater {
                    transit = milliseconds(dice, 50, 2500);
                }
            }
            if let Some(connection) = world.server.connections.get_mut(&self.connection) {
                connection.committing = manner != Manner::LostOnTheWay;
            }
            (manner, transit)
        };
        let (answer, answered) = oneshot::channel();
        let (sim, connection) = (self.sim.clone(), self.connection);
        // What was sent is the server's: it happens whatever becomes of the client meanwhile.
        tokio::spawn(async move {
            sleep(transit).await;
            if manner != Manner::LostOnTheWay {
                let _ = answer.send(Self::commit_at_server(&sim, connection));
            }
        });
        let answer = match manner {
            Manner::Answered => answered.await.ok().flatten(),
            Manner::AnswerLost => {
                let taken = answered.await.ok().flatten();
                if matches!(taken, Some(Ok(()))) {
                    self.sim.lock().story.count(Event::CommitLostAfter);
                }
                None
            }
            Manner::LostOnTheWay => {
                let mut world = self.sim.lock();
                world.story.count(Event::CommitLostBefore);
                let until = Instant::now() + world.milliseconds(self.worker, 0, 3000);
                world.server.half_open(self.connection, until);
                None
            }
            Manner::TakesEffectLater => {
                self.sim.lock().story.count(Event::CommitLostLater);
                None
            }
        };
        self.sim.lock().step(self.worker);
        gate(&self.sim, self.worker).await;
        let mut world = self.sim.lock();
        world.witness.settle(self.connection);
        match answer {
            Some(Ok(())) => Ok(()),
            Some(Err(fault)) => Err(CommitError::Refused(fault)),
            None => {
                world.story.tell(format_args!("{}: no answer to a COMMIT", self.worker));
                Err(CommitError::Unknown(connection_lost()))
            }
        }
    }

    async fn rollback(&mut self) -> Result<(), Fault> {
        travel(&self.sim, self.worker).await;
        let mut world = self.sim.lock();
        world.witness.settle(self.connection);
        self.still_connected(&world)?;
        if let Some(connection) = world.server.connections.get_mut(&self.connection) {
            connection.transaction = None;
        }
        world.server.free_locks(self.connection);
        drop(world);
        self.sim.locks_freed.notify_waiters();
        Ok(())
    }
}

impl Drop for SimulatedSession {
    /// The server hears of a closed connection at once, or only when its limits are over.
    fn drop(&mut self) {
        let mut world = self.sim.lock();
        world.witness.settle(self.connection);
        let dead = world.is_dead(self.worker);
        let Some(connection) = world.server.connections.get(&self.connection) else { return };
        if connection.committing || connection.transaction.is_none() {
            world.server.disconnect_later(self.connection, Instant::now());
            return;
        }
        let longest = if dead { 5000 } else { 1500 };
        let delay = if world.chance(self.worker, 60) { Duration::ZERO } else { world.milliseconds(self.worker, 1, longest) };
        world.server.disconnect_later(self.connection, Instant::now() + delay);
    }
}
