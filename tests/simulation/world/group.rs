//! The simulated consumer group: who is a member, who holds what, what is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use oncesink::source::Commit;
use oncesink_sinks::{
    checkpoint::Committed,
    model::{NextOffset, Partition},
};
use rand::{Rng, seq::SliceRandom};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, timeout},
};

use super::{Shared, World, worker::WorkerId};

/// A member that was not heard for that long is put out.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// A member that has not given its partitions back by then is put out.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(9);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Everything is given back before anything is handed out.
    Eager,
    /// Only what moves is given back.
    Cooperative,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub u64);

/// What the coordinator tells a member.
#[derive(Debug)]
pub enum Order {
    Revoke(Vec<Partition>),
    Assign(Vec<Partition>),
}

#[derive(Debug)]
struct Member {
    worker: WorkerId,
    orders: UnboundedSender<Order>,
    /// What the coordinator takes it to hold.
    held: BTreeSet<Partition>,
    giving_back: BTreeSet<Partition>,
}

#[derive(Debug)]
pub struct Group {
    protocol: Protocol,
    members: BTreeMap<MemberId, Member>,
    next_member: u64,
    pub rebalance_wanted: bool,
    committed: BTreeMap<Partition, (NextOffset, String)>,
}

impl Group {
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, members: BTreeMap::new(), next_member: 0, rebalance_wanted: false, committed: BTreeMap::new() }
    }

    pub fn join(&mut self, worker: WorkerId, orders: UnboundedSender<Order>) -> MemberId {
        self.next_member += 1;
        let member = MemberId(self.next_member);
        self.members.insert(member, Member { worker, orders, held: BTreeSet::new(), giving_back: BTreeSet::new() });
        self.rebalance_wanted = true;
        member
    }

    pub fn leave(&mut self, member: MemberId) {
        if self.members.remove(&member).is_some() {
            self.rebalance_wanted = true;
        }
    }

    pub fn is_member(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    pub fn gave_back(&mut self, member: MemberId, partitions: &[Partition]) {
        if let Some(member) = self.members.get_mut(&member) {
            for partition in partitions {
                member.held.remove(partition);
                member.giving_back.remove(partition);
            }
        }
    }

    /// As the broker does it: a member of the group may commit any partition, anybody else none.
    pub fn commit(&mut self, member: MemberId, commit: Commit) -> bool {
        let accepted = self.is_member(member);
        if accepted {
            self.committed.insert(commit.partition, (commit.next, commit.metadata));
        }
        accepted
    }

    pub fn committed(&self, partition: &Partition) -> Committed {
        match self.committed.get(partition) {
            Some((next, metadata)) => Committed::At { next: *next, metadata: metadata.clone() },
            None => Committed::Nothing,
        }
    }

    pub fn committed_offset(&self, partition: &Partition) -> i64 {
        self.committed.get(partition).map_or(0, |(next, _)| next.get())
    }

    pub fn forget_commits_of(&mut self, topics: &[Arc<str>]) {
        self.committed.retain(|partition, _| !topics.contains(&partition.topic));
    }

    pub fn forget_commits(&mut self) {
        self.committed.clear();
    }

    fn all_gave_back(&self) -> bool {
        self.members.values().all(|member| member.giving_back.is_empty())
    }
}

impl World {
    /// Puts out members that were silent for too long.
    fn expire_members(&mut self) {
        let now = Instant::now();
        let silent: Vec<MemberId> = self
            .group
            .members
            .iter()
            .filter(|(_, member)| {
                self.workers.get(&member.worker).and_then(|life| life.silent_since).is_some_and(|since| now.duration_since(since) >= SESSION_TIMEOUT)
            })
            .map(|(member, _)| *member)
            .collect();
        for member in silent {
            self.put_out(member, "its session expired");
        }
    }

    fn put_out(&mut self, member: MemberId, because: &str) {
        if let Some(out) = self.group.members.get(&member) {
            self.story.tell(format_args!("group: {} is put out, {because}", out.worker));
            self.story.count("member put out");
        }
        self.group.leave(member);
    }

    /// Who shall hold what: mostly where it is, with some movement.
    fn assignment(&mut self) -> BTreeMap<MemberId, BTreeSet<Partition>> {
        let mut members: Vec<MemberId> = self.group.members.keys().copied().collect();
        members.shuffle(&mut self.random);
        let mut target: BTreeMap<MemberId, BTreeSet<Partition>> = members.iter().map(|member| (*member, BTreeSet::new())).collect();
        if members.is_empty() {
            return target;
        }
        let partitions = self.log.partitions();
        let fair = partitions.len().div_ceil(members.len());
        let mut free = Vec::new();
        for partition in partitions {
            let holder = self.group.members.iter().find(|(_, member)| member.held.contains(&partition)).map(|(id, _)| *id);
            let stays = self.random.random_range(0..10) < 7;
            match holder.and_then(|holder| target.get_mut(&holder)) {
                Some(held) if stays && held.len() < fair => {
                    held.insert(partition);
                }
                _ => free.push(partition),
            }
        }
        for partition in free {
            if let Some(member) = members.iter().min_by_key(|member| target.get(member).map_or(0, BTreeSet::len)).copied()
                && let Some(held) = target.get_mut(&member)
            {
                held.insert(partition);
            }
        }
        target
    }

    /// Takes partitions from those who shall not hold them (eager: from all), and says what comes next.
    fn begin_rebalance(&mut self) -> BTreeMap<MemberId, BTreeSet<Partition>> {
        self.group.rebalance_wanted = false;
        self.story.count(match self.group.protocol {
            Protocol::Eager => "rebalance, eager",
            Protocol::Cooperative => "rebalance, cooperative",
        });
        let target = self.assignment();
        let told: Vec<String> =
            target.iter().map(|(id, held)| format!("m{}={}", id.0, held.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"))).collect();
        self.story.tell(format_args!("group: rebalance to {}", told.join(" ")));
        let protocol = self.group.protocol;
        for (id, member) in &mut self.group.members {
            let kept = target.get(id).filter(|_| protocol == Protocol::Cooperative);
            let revoked: Vec<Partition> = member.held.iter().filter(|partition| !kept.is_some_and(|kept| kept.contains(*partition))).cloned().collect();
            if !revoked.is_empty() {
                member.giving_back = revoked.iter().cloned().collect();
                let _ = member.orders.send(Order::Revoke(revoked));
            }
        }
        target
    }

    fn end_rebalance(&mut self, target: &BTreeMap<MemberId, BTreeSet<Partition>>) {
        let late: Vec<MemberId> = self.group.members.iter().filter(|(_, member)| !member.giving_back.is_empty()).map(|(id, _)| *id).collect();
        for member in late {
            self.put_out(member, "it did not give its partitions back");
        }
        let taken: BTreeSet<Partition> = self.group.members.values().flat_map(|member| member.held.iter().cloned()).collect();
        for (id, member) in &mut self.group.members {
            let new: Vec<Partition> = target.get(id).into_iter().flatten().filter(|partition| !taken.contains(*partition)).cloned().collect();
            if !new.is_empty() {
                member.held.extend(new.iter().cloned());
                let _ = member.orders.send(Order::Assign(new));
            }
        }
    }
}

/// The coordinator: puts out who is silent, and rebalances whenever somebody came or went.
pub async fn coordinate(sim: Shared) {
    loop {
        let wanted = {
            let mut world = sim.lock();
            world.expire_members();
            world.group.rebalance_wanted
        };
        if !wanted {
            let _ = timeout(Duration::from_millis(200), sim.group_changed.notified()).await;
            continue;
        }
        sim.pause(1, 300).await;
        let target = sim.lock().begin_rebalance();
        let deadline = Instant::now() + REBALANCE_TIMEOUT;
        loop {
            {
                let mut world = sim.lock();
                world.expire_members();
                if world.group.all_gave_back() || Instant::now() >= deadline {
                    world.end_rebalance(&target);
                    break;
                }
            }
            let _ = timeout(Duration::from_millis(200), sim.group_changed.notified()).await;
        }
    }
}
