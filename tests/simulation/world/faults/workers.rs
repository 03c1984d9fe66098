//! Processes that die, stand still, come and go.

use rand::seq::IndexedRandom;

use super::Strike;
use crate::world::{
    World,
    events::Event,
    worker::{self, InstanceId, State, WorkerId},
};

/// More processes than that tell nothing new.
const MOST_WORKERS: usize = 5;

impl Strike<'_> {
    pub(super) fn kill(&mut self) {
        let Some(victim) = self.victim() else { return };
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::WorkerKilled), format_args!("{victim} is killed"));
        self.strike(&mut world, victim, State::Dead);
        drop(world);
        self.replace(victim, 100, 5000);
    }

    pub(super) fn freeze(&mut self) {
        let Some(victim) = self.victim() else { return };
        let lasts = self.milliseconds(500, 15_000);
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::WorkerFrozen), format_args!("{victim} is frozen for {lasts:?}"));
        self.strike(&mut world, victim, State::Frozen);
        drop(world);
        self.later(lasts, move |sim| sim.lock().thaw(victim));
    }

    pub(super) fn cut_off(&mut self) {
        let Some(victim) = self.victim() else { return };
        let lasts = self.milliseconds(500, 15_000);
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::WorkerCutOff), format_args!("{victim} does not reach the coordinator for {lasts:?}"));
        world.cut_off(victim, true);
        drop(world);
        self.later(lasts, move |sim| {
            let mut world = sim.lock();
            if world.life(victim).is_some_and(|life| life.cut_off) {
                world.cut_off(victim, false);
            }
        });
    }

    pub(super) fn restart(&mut self) {
        let Some(victim) = self.victim() else { return };
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::WorkerRestarted), format_args!("{victim} is restarted"));
        world.stop(victim);
        drop(world);
        self.replace(victim, 500, 5000);
    }

    pub(super) fn join(&mut self) {
        let mut world = self.sim.lock();
        if world.workers_in(State::Running).len() >= MOST_WORKERS - 1 {
            return;
        }
        self.fired(&mut world, Some(Event::WorkerJoined), format_args!("one more worker"));
        let instance = world.new_instance();
        drop(world);
        worker::start(self.sim, instance);
    }

    pub(super) fn leave(&mut self) {
        if self.sim.lock().workers_in(State::Running).len() <= 2 {
            return;
        }
        let Some(victim) = self.victim() else { return };
        let mut world = self.sim.lock();
        self.fired(&mut world, Some(Event::WorkerLeft), format_args!("{victim} leaves"));
        world.stop(victim);
    }

    pub(super) fn duplicate(&mut self) {
        let mut world = self.sim.lock();
        let mut victims = world.workers_in(State::Running);
        if victims.len() >= MOST_WORKERS {
            return;
        }
        victims.extend(world.workers_in(State::Frozen));
        let Some(victim) = victims.choose(&mut self.dice).copied() else { return };
        self.fired(&mut world, Some(Event::InstanceTwice), format_args!("another process uses the instance id of {victim}"));
        let instance = world.instance(victim);
        drop(world);
        worker::start(self.sim, instance);
    }

    /// One of those that run.
    fn victim(&mut self) -> Option<WorkerId> {
        let running = self.sim.lock().workers_in(State::Running);
        running.choose(&mut self.dice).copied()
    }

    /// Half of the time in the middle of what it does next with the database.
    fn strike(&mut self, world: &mut World, victim: WorkerId, state: State) {
        if self.chance(50) {
            let steps = self.number(24) as u32;
            if let Some(life) = world.workers.get_mut(&victim) {
                life.armed = Some((steps, state));
            }
            return;
        }
        match state {
            State::Dead => world.kill(victim),
            _ => world.freeze(victim),
        }
        world.let_connections_die(victim);
    }

    /// Another process takes the place of one that is gone, under the same instance id where members are static.
    fn replace(&mut self, victim: WorkerId, from: u64, to: u64) {
        let instance = self.sim.lock().instance(victim);
        let delay = self.milliseconds(from, to);
        self.later(delay, move |sim| {
            worker::start(sim, instance);
        });
    }
}

impl World {
    fn instance(&self, worker: WorkerId) -> Option<InstanceId> {
        self.life(worker)?.instance
    }
}
