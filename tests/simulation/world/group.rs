//! The simulated consumer group: who is a member, who holds what, what is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use oncesink::source::Commit;
use oncesink_sinks::{
    claim::Committed,
    model::{NextOffset, Partition},
};
use rand::{Rng, seq::SliceRandom};
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, sleep, timeout},
};

use super::{
    Shared, World,
    dice::{Dice, milliseconds},
    events::Event,
    worker::{InstanceId, WorkerId},
};

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

/// Why an offset commit was not taken, or seems not to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitCode {
    RebalanceInProgress,
    IllegalGeneration,
    UnknownMemberId,
    StaleMemberEpoch,
    FencedInstanceId,
    RequestTimedOut,
    NotCoordinator,
    CoordinatorLoadInProgress,
    CoordinatorNotAvailable,
    ConnectionLost,
    GroupAuthorizationFailed,
}

impl CommitCode {
    pub const ALL: [Self; 11] = [
        Self::RebalanceInProgress,
        Self::IllegalGeneration,
        Self::UnknownMemberId,
        Self::StaleMemberEpoch,
        Self::FencedInstanceId,
        Self::RequestTimedOut,
        Self::NotCoordinator,
        Self::CoordinatorLoadInProgress,
        Self::CoordinatorNotAvailable,
        Self::ConnectionLost,
        Self::GroupAuthorizationFailed,
    ];

    pub const fn event(self) -> Event {
        match self {
            Self::RebalanceInProgress => Event::CommitRebalanceInProgress,
            Self::IllegalGeneration => Event::CommitIllegalGeneration,
            Self::UnknownMemberId => Event::CommitUnknownMember,
            Self::StaleMemberEpoch => Event::CommitStaleEpoch,
            Self::FencedInstanceId => Event::CommitFencedInstance,
            Self::RequestTimedOut => Event::CommitTimedOut,
            Self::NotCoordinator => Event::CommitNotCoordinator,
            Self::CoordinatorLoadInProgress => Event::CommitCoordinatorLoading,
            Self::CoordinatorNotAvailable => Event::CommitCoordinatorAway,
            Self::ConnectionLost => Event::CommitConnectionLost,
            Self::GroupAuthorizationFailed => Event::CommitNotAuthorized,
        }
    }

    /// Whether the coordinator may have taken it all the same: it is an answer that is missing, not a refusal.
    pub const fn is_missing_answer(self) -> bool {
        matches!(self, Self::RequestTimedOut | Self::ConnectionLost)
    }
}

#[derive(Debug)]
struct Member {
    worker: WorkerId,
    instance: Option<InstanceId>,
    orders: UnboundedSender<Order>,
    /// What the coordinator takes it to hold.
    held: BTreeSet<Partition>,
    giving_back: BTreeSet<Partition>,
}

#[derive(Debug)]
pub struct Group {
    protocol: Protocol,
    members: BTreeMap<MemberId, Member>,
    /// Members whose instance id another one has taken.
    fenced: BTreeSet<MemberId>,
    next_member: u64,
    pub rebalance_wanted: bool,
    is_rebalancing: bool,
    /// Partitions of a topic that was deleted: nobody keeps them over the next rebalance.
    gone: BTreeSet<Partition>,
    committed: BTreeMap<Partition, (NextOffset, String)>,
    dice: Dice,
}

impl Group {
    pub fn new(protocol: Protocol, dice: Dice) -> Self {
        Self {
            protocol,
            members: BTreeMap::new(),
            fenced: BTreeSet::new(),
            next_member: 0,
            rebalance_wanted: false,
            is_rebalancing: false,
            gone: BTreeSet::new(),
            committed: BTreeMap::new(),
            dice,
        }
    }

    pub fn is_member(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    pub fn is_fenced(&self, member: MemberId) -> bool {
        self.fenced.contains(&member)
    }

    pub fn leave(&mut self, member: MemberId) {
        if self.members.remove(&member).is_some() {
            self.rebalance_wanted = true;
        }
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
    pub fn commit(&mut self, member: MemberId, commit: Commit) -> Result<(), CommitCode> {
        if self.is_fenced(member) {
            return Err(CommitCode::FencedInstanceId);
        }
        if !self.is_member(member) {
            return Err(CommitCode::UnknownMemberId);
        }
        self.committed.insert(commit.partition, (commit.next, commit.metadata));
        Ok(())
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

    /// A topic was deleted: the group's offsets of it go with it.
    pub fn topic_deleted(&mut self, topic: &Arc<str>, partitions: Vec<Partition>) {
        self.forget_commits_of(std::slice::from_ref(topic));
        self.gone.extend(partitions);
        self.rebalance_wanted = true;
    }

    fn all_gave_back(&self) -> bool {
        self.members.values().all(|member| member.giving_back.is_empty())
    }
}

impl World {
    /// A process joins. One with an instance id that a member has takes its place: it gets the same partitions, and the others hear nothing
    /// of it, unless a rebalance is going on. The old holder of the id, should it still run, is fenced.
    pub fn join(&mut self, worker: WorkerId, instance: Option<InstanceId>, orders: UnboundedSender<Order>) -> MemberId {
        let group = &mut self.group;
        group.next_member += 1;
        let id = MemberId(group.next_member);
        let mut held = BTreeSet::new();
        let before = group.members.iter().find(|(_, member)| instance.is_some() && member.instance == instance).map(|(id, _)| *id);
        match before.and_then(|before| Some((before, group.members.remove(&before)?))) {
            Some((before, member)) => {
                group.fenced.insert(before);
                if group.is_rebalancing {
                    group.rebalance_wanted = true;
                } else {
                    held = member.held;
                    if !held.is_empty() {
                        let _ = orders.send(Order::Assign(held.iter().cloned().collect()));
                    }
                    self.story.count(Event::StaticBack);
                }
                self.story.tell(format_args!("group: {worker} takes the place of {}", member.worker));
            }
            None => group.rebalance_wanted = true,
        }
        self.group.members.insert(id, Member { worker, instance, orders, held, giving_back: BTreeSet::new() });
        id
    }

    /// Puts out members that were silent for too long.
    fn expire_members(&mut self) {
        let now = Instant::now();
        let is_silent = |member: &Member| {
            self.workers.get(&member.worker).and_then(|life| life.silent_since).is_some_and(|since| now.duration_since(since) >= SESSION_TIMEOUT)
        };
        let silent: Vec<MemberId> = self.group.members.iter().filter(|(_, member)| is_silent(member)).map(|(member, _)| *member).collect();
        for member in silent {
            self.put_out(member, "its session expired");
        }
    }

    fn put_out(&mut self, member: MemberId, because: &str) {
        if let Some(out) = self.group.members.get(&member) {
            self.story.tell(format_args!("group: {} is put out, {because}", out.worker));
            self.story.count(Event::MemberPutOut);
        }
        self.group.leave(member);
    }

    /// Who shall hold what: mostly where it is, with some movement.
    fn assignment(&mut self) -> BTreeMap<MemberId, BTreeSet<Partition>> {
        let partitions = self.log.partitions();
        let group = &mut self.group;
        let mut members: Vec<MemberId> = group.members.keys().copied().collect();
        members.shuffle(&mut group.dice);
        let mut target: BTreeMap<MemberId, BTreeSet<Partition>> = members.iter().map(|member| (*member, BTreeSet::new())).collect();
        if members.is_empty() {
            return target;
        }
        let fair = partitions.len().div_ceil(members.len());
        let mut free = Vec::new();
        for partition in partitions {
            let holder = group.members.iter().find(|(_, member)| member.held.contains(&partition)).map(|(id, _)| *id);
            let stays = group.dice.random_range(0..10) < 7;
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
        self.group.is_rebalancing = true;
        self.story.count(match self.group.protocol {
            Protocol::Eager => Event::RebalanceEager,
            Protocol::Cooperative => Event::RebalanceCooperative,
        });
        let target = self.assignment();
        let told: Vec<String> =
            target.iter().map(|(id, held)| format!("m{}={}", id.0, held.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"))).collect();
        self.story.tell(format_args!("group: rebalance to {}", told.join(" ")));
        let gone = std::mem::take(&mut self.group.gone);
        let protocol = self.group.protocol;
        for (id, member) in &mut self.group.members {
            let kept = target.get(id).filter(|_| protocol == Protocol::Cooperative);
            let is_kept = |partition: &Partition| !gone.contains(partition) && kept.is_some_and(|kept| kept.contains(partition));
            let revoked: Vec<Partition> = member.held.iter().filter(|partition| !is_kept(partition)).cloned().collect();
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
        self.group.is_rebalancing = false;
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
        let delay = milliseconds(&mut sim.lock().group.dice, 1, 300);
        sleep(delay).await;
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
