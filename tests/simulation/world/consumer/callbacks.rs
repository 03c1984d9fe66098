//! The callbacks of the group: in time, late, twice, or never.

use std::time::Duration;

use oncesink::source::{Change, Commit, Reply, Start};
use oncesink_sinks::model::Partition;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{Consumer, list};
use crate::world::{dice::chance, events::Event, group::Order, weather::Weather, worker::gate};

/// How a callback is repeated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    No,
    /// Before the first one is answered, whose answer then is nobody's.
    AtOnce,
    /// After the first one was answered, or given up.
    Afterwards,
}

impl Consumer {
    /// The assign callback: nothing else happens on this thread until it is answered or its time is over.
    pub(super) async fn assign(&mut self, partitions: Vec<Partition>) {
        self.sim.pause(self.worker, 1, 20).await;
        gate(&self.sim, self.worker).await;
        let repeat = self.repeats(Event::AssignRepeated);
        let mut answer = self.announce(&partitions).await;
        if repeat == Repeat::AtOnce {
            answer = self.announce(&partitions).await;
        }
        self.take_starts(answer).await;
        if repeat == Repeat::Afterwards {
            let answer = self.announce(&partitions).await;
            self.take_starts(answer).await;
        }
    }

    async fn announce(&mut self, partitions: &[Partition]) -> oneshot::Receiver<Vec<Start>> {
        // Nothing is fetched until the engine says from where.
        partitions.iter().for_each(|partition| self.stand_still(partition));
        let (reply, answer) = oneshot::channel();
        let (found, topics) = self.ask_kafka(partitions).await;
        let mut world = self.sim.lock();
        world.story.tell(format_args!("{}: assigned {}", self.worker, list(partitions)));
        world.story.count(Event::Assigned);
        world.witness.hand_over(self.worker, partitions);
        self.assigned.extend(partitions.iter().cloned());
        let _ = self.changes.send(Change::Assigned { partitions: found, topics, reply: Reply::new(move |starts| reply.send(starts).is_ok()) });
        answer
    }

    async fn take_starts(&mut self, answer: oneshot::Receiver<Vec<Start>>) {
        match self.wait(answer).await {
            Some(starts) => self.start(starts),
            None => self.sim.lock().story.count(Event::AssignLate),
        }
    }

    pub(super) async fn revoke(&mut self, partitions: Vec<Partition>) {
        let partitions: Vec<Partition> = partitions.into_iter().filter(|partition| self.assigned.contains(partition)).collect();
        self.hand_back(&partitions).await;
        self.sim.lock().group.gave_back(self.member, &partitions);
        self.sim.group_changed.notify_waiters();
    }

    /// The revoke callback; the group is not told of it here.
    pub(super) async fn hand_back(&mut self, partitions: &[Partition]) {
        let repeat = self.repeats(Event::RevokeRepeated);
        let mut answer = self.ask_back(partitions);
        if repeat == Repeat::AtOnce {
            answer = self.ask_back(partitions);
        }
        let is_answered = self.take_commits(answer).await;
        self.unanswered = if is_answered { Vec::new() } else { partitions.to_vec() };
        self.unassign(partitions);
        if repeat == Repeat::Afterwards {
            let answer = self.ask_back(partitions);
            self.take_commits(answer).await;
        }
    }

    fn ask_back(&mut self, partitions: &[Partition]) -> oneshot::Receiver<Vec<Commit>> {
        let (reply, answer) = oneshot::channel();
        let mut world = self.sim.lock();
        world.story.tell(format_args!("{}: revoked {}", self.worker, list(partitions)));
        world.story.count(Event::Revoked);
        let (sim, worker) = (self.sim.clone(), self.worker);
        let given = world.witness.assignments(worker, partitions);
        let reply = Reply::new(move |commits: Vec<Commit>| {
            let mut world = sim.lock();
            world.witness_steps(worker);
            for commit in &commits {
                world.witness_offset_commit(worker, commit);
            }
            // From the answer on the partitions are not the engine's, whether or not anybody still waited for it.
            world.witness.give_back(worker, &given);
            drop(world);
            reply.send(commits).is_ok()
        });
        let _ = self.changes.send(Change::Revoked { partitions: partitions.to_vec(), reply });
        answer
    }

    async fn take_commits(&mut self, answer: oneshot::Receiver<Vec<Commit>>) -> bool {
        let (began, freezes) = (Instant::now(), self.freezes());
        let answer = self.wait(answer).await;
        let mut world = self.sim.lock();
        // (g) An engine that runs answers within the time that it grants itself.
        let drain = world.plan.drain_timeout + Duration::from_millis(200);
        if began.elapsed() > drain && world.freezes(self.worker) == freezes {
            world.story.violation(format!("(g) {} has not answered a revocation within {drain:?}", self.worker));
        }
        if answer.is_none() {
            world.story.count(Event::RevokeLate);
        }
        drop(world);
        let is_answered = answer.is_some();
        if let Some(commits) = answer {
            self.commit(commits);
        }
        is_answered
    }

    /// (g) The thread that polls waits for an answer, but never longer than its budget.
    async fn wait<T>(&mut self, answer: oneshot::Receiver<T>) -> Option<T> {
        let budget = self.sim.lock().plan.callback_budget;
        let began = Instant::now();
        let answer = timeout(budget, answer).await;
        if began.elapsed() > budget + Duration::from_millis(5) {
            self.sim.lock().story.violation(format!("(g) {} waits for its engine longer than {budget:?}", self.worker));
        }
        gate(&self.sim, self.worker).await;
        answer.ok()?.ok()
    }

    fn freezes(&self) -> u64 {
        self.sim.lock().freezes(self.worker)
    }

    fn repeats(&self, event: Event) -> Repeat {
        let mut world = self.sim.lock();
        let Some(dice) = world.strikes(Weather::RepeatedCallbacks, 60) else { return Repeat::No };
        let repeat = if chance(dice, 50) { Repeat::AtOnce } else { Repeat::Afterwards };
        world.story.count(event);
        repeat
    }

    /// The client stops reading them, but what it has handed over, or is about to, still comes.
    fn unassign(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.assigned.remove(partition);
            self.stand_still(partition);
        }
    }

    /// They are gone already, and the engine hears of it, perhaps twice.
    pub(super) fn lose(&mut self, partitions: &[Partition]) {
        let repeat = self.repeats(Event::LostRepeated);
        {
            let mut world = self.sim.lock();
            world.story.tell(format_args!("{}: lost {}", self.worker, list(partitions)));
            world.story.count(Event::Lost);
            world.witness.lose(self.worker, partitions);
        }
        self.unassign(partitions);
        // Records that were fetched before the client knew come before it says so.
        self.deliver_stale();
        // What the engine had not given back when the group stopped waiting is lost as well.
        let mut partitions = partitions.to_vec();
        partitions.append(&mut self.unanswered);
        if partitions.is_empty() {
            return;
        }
        if repeat != Repeat::No {
            let _ = self.changes.send(Change::Lost { partitions: partitions.clone() });
        }
        let _ = self.changes.send(Change::Lost { partitions });
    }

    /// Learns, as the next heartbeat would tell, that the group has gone on without this member; joins again.
    pub(super) fn notice_expulsion(&mut self) {
        let (is_fenced, all) = {
            let mut world = self.sim.lock();
            let hears = world.life(self.worker).is_some_and(|life| !life.cut_off);
            if !hears || self.is_fenced || world.group.is_member(self.member) {
                return;
            }
            // What it was told before, and has not heard, it never hears.
            while let Ok(order) = self.orders.try_recv() {
                world.story.count(match order {
                    Order::Assign(_) => Event::AssignNeverDelivered,
                    Order::Revoke(_) => Event::RevokeNeverDelivered,
                });
            }
            (world.group.is_fenced(self.member), self.assigned.iter().cloned().collect::<Vec<_>>())
        };
        if is_fenced {
            self.end_fenced(&all);
            return;
        }
        self.lose(&all);
        let (sender, orders) = mpsc::unbounded_channel();
        self.orders = orders;
        self.member = self.sim.lock().join(self.worker, self.instance, sender);
        self.sim.group_changed.notify_waiters();
    }

    /// Fatal to a client: another process has its instance id. It may say at once that its partitions are lost, or only when it is closed.
    fn end_fenced(&mut self, all: &[Partition]) {
        self.is_fenced = true;
        let at_once = {
            let mut world = self.sim.lock();
            world.story.tell(format_args!("{}: is fenced, another process has its instance id", self.worker));
            world.story.count(Event::MemberFenced);
            world.fence(self.worker);
            world.chance(self.worker, 50)
        };
        if at_once {
            self.lose(all);
        }
        let _ = self.changes.send(Change::Failed { reason: "fatal-client-error", detail: "the instance id is used by another process".to_owned() });
    }
}
