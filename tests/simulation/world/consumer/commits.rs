//! Offset commits: taken, refused, or without an answer.

use oncesink::source::{Change, Commit};
use oncesink_sinks::model::{NextOffset, Partition};
use rand::{Rng, seq::IndexedRandom};
use tokio::time::sleep;

use super::Consumer;
use crate::world::{
    World,
    dice::milliseconds,
    events::Event,
    group::{CommitCode, MemberId},
    weather::Weather,
    worker::WorkerId,
};

impl Consumer {
    /// What the group holds, as the client tells it now and then.
    pub(super) fn tell_committed(&self) {
        let mut world = self.sim.lock();
        if world.life(self.worker).is_some_and(|life| life.cut_off) || !world.chance(self.worker, 10) {
            return;
        }
        let committed =
            |partition: &Partition| Some((partition.clone(), NextOffset::new(world.group.committed_offset(partition)))).filter(|(_, next)| next.get() > 0);
        let partitions: Vec<(Partition, NextOffset)> = self.assigned.iter().filter_map(committed).collect();
        if !partitions.is_empty() {
            let _ = self.changes.send(Change::Committed { partitions });
        }
    }

    pub(super) fn commit(&mut self, commits: Vec<Commit>) {
        let mut world = self.sim.lock();
        if world.life(self.worker).is_some_and(|life| life.cut_off) {
            return;
        }
        for commit in commits {
            let Some(dice) = world.strikes(Weather::CommitFailures, 50) else {
                world.take_commit(self.worker, self.member, commit);
                continue;
            };
            let code = CommitCode::ALL.choose(dice).copied().unwrap_or(CommitCode::RequestTimedOut);
            // Without an answer: one in three never arrived, one took effect, one takes effect later.
            let fate = if code.is_missing_answer() { dice.random_range(0..3) } else { 0 };
            let delay = milliseconds(dice, 50, 2000);
            world.story.count(code.event());
            world.story.tell(format_args!("{}: the commit of {} of {} fails: {code:?}", self.worker, commit.next, commit.partition));
            match fate {
                0 => {}
                1 => {
                    world.story.count(Event::CommitTookEffect);
                    world.take_commit(self.worker, self.member, commit);
                }
                _ => {
                    world.story.count(Event::CommitTookEffectLater);
                    let (sim, worker, member) = (self.sim.clone(), self.worker, self.member);
                    tokio::spawn(async move {
                        sleep(delay).await;
                        sim.lock().take_commit(worker, member, commit);
                    });
                }
            }
        }
    }
}

impl World {
    fn take_commit(&mut self, worker: WorkerId, member: MemberId, commit: Commit) {
        self.story.tell(format_args!("{worker}: commits {} of {}", commit.next, commit.partition));
        let (partition, next) = (commit.partition.clone(), commit.next);
        let taken = self.group.commit(member, commit);
        if taken.is_ok() {
            self.witness_offset_taken(&partition, next);
        }
        if let Err(code) = taken {
            self.story.count(code.event());
            self.story.count(Event::CommitOfStranger);
        }
    }
}
