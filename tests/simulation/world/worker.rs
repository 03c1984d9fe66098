//! The lives of the workers: started, frozen, thawed, killed, stopped.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use oncesink::{
    engine::{Parts, Report},
    source::{Buffer, Source},
};
use oncesink_sinks::{remembering::Remembering, screening::Screening, transaction::Transactional};
use rand::Rng;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

use super::{
    Shared, World, consumer,
    dice::{Dice, stream},
    events::Event,
    redis::SimulatedRedis,
    routes::SimulatedRouter,
    session::SimulatedDatabase,
};
use crate::engine;

/// One process. A restarted worker is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(pub u64);

impl std::fmt::Display for WorkerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "w{}", self.0)
    }
}

/// The name under which a static member is known; the process that takes another's place has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    /// Stopped by SIGSTOP: it goes on where it was.
    Frozen,
    /// Killed: no task of it takes another step.
    Dead,
    /// It was told to stop.
    Stopping,
    /// Its engine returned.
    Ended,
}

#[derive(Debug)]
pub struct Life {
    pub state: State,
    pub instance: Option<InstanceId>,
    /// Another process has its instance id, so its client has failed for good.
    is_fenced: bool,
    /// How often it was frozen.
    pub freezes: u64,
    pub dice: Dice,
    /// The group's coordinator does not hear it, though it reads and writes on.
    pub cut_off: bool,
    /// Since when the coordinator has not heard it.
    pub silent_since: Option<Instant>,
    /// It is killed or frozen at its n-th step with the database from now on: in the middle of a transaction, not between.
    pub armed: Option<(u32, State)>,
    stop: Option<oneshot::Sender<()>>,
    /// What its engine tells of itself.
    pub report: watch::Receiver<Report>,
    pub buffer: Arc<Buffer>,
    wake: Arc<Notify>,
}

impl World {
    pub fn life(&self, worker: WorkerId) -> Option<&Life> {
        self.workers.get(&worker)
    }

    pub fn workers_in(&self, state: State) -> Vec<WorkerId> {
        self.workers.iter().filter(|(_, life)| life.state == state).map(|(worker, _)| *worker).collect()
    }

    /// What every engine says of itself, for whoever reads why a seed came to no rest.
    pub fn tell_states(&mut self) {
        for worker in self.workers_in(State::Running) {
            let Some(life) = self.workers.get(&worker) else { continue };
            let report = life.report.borrow().clone();
            self.story.tell(format_args!("{worker}: {} bytes counted, limit {}, failing: {:?}", life.buffer.bytes(), self.plan.buffer, report.failing));
            for (partition, state) in report.partitions {
                self.story.tell(format_args!("{worker}: {partition} {:?}, checkpoint {}, committed {:?}", state.state, state.checkpoint, state.committed));
            }
        }
    }

    fn change(&mut self, worker: WorkerId, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.workers.get_mut(&worker) {
            change(life);
            // A static member that has ended is silent as well: nobody told the group.
            let silent = life.cut_off || matches!(life.state, State::Frozen | State::Dead | State::Ended);
            life.silent_since = if silent { life.silent_since.or_else(|| Some(Instant::now())) } else { None };
            life.wake.notify_waiters();
        }
    }

    pub fn freeze(&mut self, worker: WorkerId) {
        self.story.tell(format_args!("{worker} is frozen"));
        self.change(worker, |life| {
            life.state = State::Frozen;
            life.freezes += 1;
        });
    }

    pub fn freezes(&self, worker: WorkerId) -> u64 {
        self.life(worker).map_or(0, |life| life.freezes)
    }

    pub fn fence(&mut self, worker: WorkerId) {
        self.change(worker, |life| life.is_fenced = true);
    }

    pub fn thaw(&mut self, worker: WorkerId) {
        if self.life(worker).is_some_and(|life| life.state == State::Frozen) {
            self.story.tell(format_args!("{worker} is thawed"));
            self.change(worker, |life| life.state = State::Running);
        }
    }

    pub fn kill(&mut self, worker: WorkerId) {
        self.story.tell(format_args!("{worker} is killed"));
        self.change(worker, |life| life.state = State::Dead);
    }

    /// A step of this worker with the database: an armed strike may hit it here.
    pub fn step(&mut self, worker: WorkerId) {
        let Some(life) = self.workers.get_mut(&worker) else { return };
        let Some((steps, state)) = life.armed else { return };
        if steps > 0 {
            life.armed = Some((steps - 1, state));
            return;
        }
        life.armed = None;
        if life.state != State::Running {
            return;
        }
        if state == State::Dead {
            self.kill(worker);
            self.story.count(Event::WorkerKilledAtStep);
        } else {
            self.freeze(worker);
            self.story.count(Event::WorkerFrozenAtStep);
        }
        self.let_connections_die(worker);
    }

    pub fn cut_off(&mut self, worker: WorkerId, cut_off: bool) {
        self.story.tell(format_args!("{worker} {} the coordinator", if cut_off { "is cut off from" } else { "reaches again" }));
        self.change(worker, |life| life.cut_off = cut_off);
    }

    pub fn stop(&mut self, worker: WorkerId) {
        self.story.tell(format_args!("{worker} is told to stop"));
        self.change(worker, |life| {
            life.state = State::Stopping;
            if let Some(stop) = life.stop.take() {
                let _ = stop.send(());
            }
        });
    }
}

/// Returns at once for a running worker, at its thaw for a frozen one, and never for a dead one.
pub async fn gate(sim: &Shared, worker: WorkerId) {
    loop {
        let wake = {
            let world = sim.lock();
            match world.life(worker).map(|life| (life.state, life.wake.clone())) {
                Some((State::Frozen, wake)) => Some(wake),
                Some((State::Dead, _)) => None,
                _ => return,
            }
        };
        match wake {
            Some(wake) => wake.notified().await,
            None => std::future::pending().await,
        }
    }
}

/// Starts one more process with the product's engine in it.
pub fn start(sim: &Shared, instance: Option<InstanceId>) -> WorkerId {
    let (stop, stopped) = oneshot::channel();
    let (publish, report) = watch::channel(Report::default());
    let worker = {
        let mut world = sim.lock();
        world.next_worker += 1;
        WorkerId(world.next_worker)
    };
    let (source, channels) = consumer::start(sim, worker, instance);
    let (seed, id) = {
        let mut world = sim.lock();
        let mut dice = stream(world.seed, "worker", worker.0);
        let seed = dice.random();
        let life = Life {
            state: State::Running,
            instance,
            is_fenced: false,
            freezes: 0,
            dice,
            cut_off: false,
            silent_since: None,
            armed: None,
            stop: Some(stop),
            report,
            buffer: source.buffer().clone(),
            wake: Arc::new(Notify::new()),
        };
        world.workers.insert(worker, life);
        world.story.tell(format_args!("{worker} starts{}", instance.map(|id| format!(" as i{}", id.0)).unwrap_or_default()));
        world.story.count(Event::WorkerStarted);
        (seed, world.server.id.clone())
    };
    let database = Arc::new(SimulatedDatabase::new(sim.clone(), worker));
    let transactional = Arc::new(Transactional::new(database, id, seed));
    let store = Arc::new(Screening::new(SimulatedRedis::new(sim.clone(), worker)));
    let sink = Arc::new(Remembering::new(transactional.clone(), transactional, store));
    let router = Arc::new(SimulatedRouter::new(sim.clone(), worker));
    let settings = sim.lock().plan.engine_settings(worker);
    let shutdown = async move {
        // A dropped sender is a world that ended, not a stop.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let parts = Parts { settings, source: Box::new(source), channels, sink: sink.clone(), checkpoint: sink, router, seed, report: publish };
    let running = engine::start(parts, shutdown);
    let process = Process { sim: sim.clone(), worker, running: Some(Box::pin(running)), waiting: None };
    let sim = sim.clone();
    let task = tokio::spawn(process);
    tokio::spawn(async move {
        let ended = task.await;
        let mut world = sim.lock();
        match ended {
            Ok(None) => world.story.tell(format_args!("{worker} is gone")),
            Ok(Some(ended)) => {
                world.story.tell(format_args!("{worker} ended: {ended}"));
                let asked = world.life(worker).is_some_and(|life| life.state == State::Stopping || life.is_fenced);
                if !asked {
                    world.story.violation(format!("the engine of {worker} ended by itself: {ended}"));
                }
                world.change(worker, |life| life.state = State::Ended);
            }
            Err(failure) => world.story.violation(format!("the engine of {worker} panicked: {failure}")),
        }
        drop(world);
        sim.life_changed.notify_waiters();
    });
    worker
}

/// The main task of a process: it takes no step while the worker is frozen, and is gone when the worker is dead.
struct Process {
    sim: Shared,
    worker: WorkerId,
    running: Option<Pin<Box<dyn Future<Output = String> + Send>>>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Future for Process {
    /// What the engine returned; none if the worker was killed.
    type Output = Option<String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let (state, wake) = match self.sim.lock().life(self.worker) {
                Some(life) => (life.state, life.wake.clone()),
                None => return Poll::Ready(None),
            };
            if state == State::Dead {
                self.running = None;
                return Poll::Ready(None);
            }
            // Registered before the engine is polled, so that a freeze or a kill while it waits is seen.
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { wake.notified().await }));
            if waiting.as_mut().poll(context).is_ready() {
                self.waiting = None;
                continue;
            }
            if state == State::Frozen {
                return Poll::Pending;
            }
            let Some(running) = self.running.as_mut() else { return Poll::Ready(None) };
            let polled = running.as_mut().poll(context);
            self.sim.lock().witness_steps(self.worker);
            return polled.map(Some);
        }
    }
}
