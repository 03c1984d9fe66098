//! What may happen in a state, and what must never.

use crate::{
    action::{Action, Fault},
    product::Product,
    state::{Commit, Effect, OFFSETS, Phase, State, Stored},
};

/// A rule left out of the product, which the search must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    NoFloor,
    NoDurable,
    EpochZeroAdopted,
    NoClaimId,
    BlindRetry,
    CommitFirst,
    NoIdleCheck,
    EpochNotRaised,
}

/// How much of the world is explored: everything that can happen with so many of these faults.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub partitions: usize,
    pub offsets: u8,
    /// The offset that holds no visible record.
    pub invisible: u8,
    /// `kafka.start: latest`: the log grows while it is read. Otherwise `earliest`, of a log that is there.
    pub latest: bool,
    pub exactly_once: bool,
    pub faults: u8,
    pub restores: u8,
    pub kinds: &'static [Fault],
    pub mistake: Option<Mistake>,
}

/// What was found to be wrong.
pub type Violation = String;

#[derive(Debug)]
pub struct Rules {
    pub bounds: Bounds,
    pub product: Product,
}

impl Rules {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, product: Product::new() }
    }

    pub fn initial(&self) -> State {
        let mut state = State { faults_left: self.bounds.faults, restores_left: self.bounds.restores, ..State::default() };
        for worker in &mut state.workers {
            (worker.lives, worker.exactly_once) = (true, self.bounds.exactly_once);
        }
        for topic in &mut state.kafka[..self.bounds.partitions] {
            topic.high = if self.bounds.latest { 0 } else { self.bounds.offsets };
        }
        state
    }

    pub fn is(&self, mistake: Mistake) -> bool {
        self.bounds.mistake == Some(mistake)
    }

    /// The state after `action`; `None` where it cannot happen.
    pub fn act(&self, before: &State, action: Action) -> Option<Result<State, Violation>> {
        let mut state = *before;
        if let Some(fault) = action.fault() {
            if !self.bounds.kinds.contains(&fault) {
                return None;
            }
            state.faults_left = state.faults_left.checked_sub(1)?;
        }
        let done = match action {
            Action::Restart { w, switch } => self.restart(&mut state, w, switch),
            Action::Crash { w } => Self::crash(&mut state, w),
            Action::Assign { w, p } => Self::assign(&mut state, w, p),
            Action::Revoke { w, p } => Self::revoke(&mut state, w, p),
            Action::Steal { p } => Self::steal(&mut state, p),
            Action::HearLost { w, p } => Self::hear_lost(&mut state, w, p),
            Action::Produce { p } => self.produce(&mut state, p),
            Action::Commit { w, p } => Self::commit(&mut state, w, p),
            Action::DeleteOffset { p } => Self::delete_offset(&mut state, p),
            Action::ResetOffset { p, to_end } => Self::reset_offset(&mut state, p, to_end),
            Action::Copy => Self::copy(&mut state),
            Action::Restore { empty } => Self::restore(&mut state, empty),
            Action::LookUp { w, p } => self.look_up(&mut state, w, p),
            Action::Claim { w, p } => self.claim(&mut state, w, p, true),
            Action::ClaimAsStranger { w, p } => self.claim_as_stranger(&mut state, w, p),
            Action::ClaimUnseen { w, p } => self.claim(&mut state, w, p, false),
            Action::Check { w, p } => self.check(&mut state, w, p),
            Action::Send { w, spans } => self.send(&mut state, w, spans),
            Action::Effect { w } => self.effect(&mut state, w),
            Action::Abort { w } => Self::abort(&mut state, w),
            Action::OrphanEffect { w } => self.orphan_effect(&mut state, w),
            Action::OrphanAbort { w } => Self::orphan_abort(&mut state, w),
            Action::Reply { w } => Self::reply(&mut state, w),
            Action::LoseReply { w } => self.lose_reply(&mut state, w),
            Action::Ask { w } => self.ask(&mut state, w),
            Action::SendAgain { w } => self.send_again(&mut state, w),
        }?;
        Some(done.and_then(|()| self.hold(&state)).map(|()| state))
    }

    pub fn is_visible(&self, offset: u8) -> bool {
        offset != self.bounds.invisible
    }

    /// Records that are meant to be in the table and are not.
    pub fn missing(&self, state: &State, p: usize, below: u8) -> Option<u8> {
        let is_missing = |offset: &u8| {
            self.is_visible(*offset) && state.kafka[p].excused >> offset & 1 == 0 && state.database[p].effects[usize::from(*offset)] == Effect::None
        };
        (0..below).find(is_missing)
    }

    /// What holds in every state.
    fn hold(&self, state: &State) -> Result<(), Violation> {
        for p in 0..self.bounds.partitions {
            let Stored { row, effects } = &state.database[p];
            if row.claim.epoch == 0 {
                continue;
            }
            let reached = row.next.max(row.durable);
            if let Some(offset) = self.missing(state, p, reached) {
                return Err(format!("the row of p{p} says {reached}, but no row of the table holds record {offset}: it is lost"));
            }
            if let Some(offset) = (row.next..OFFSETS as u8).find(|offset| effects[usize::from(*offset)] == Effect::ExactlyOnce) {
                return Err(format!("record {offset} of p{p} took effect under exactly-once, above the checkpoint {}", row.next));
            }
            let committed = state.kafka[p].committed;
            if !state.was_restored && committed.kind == Commit::Ours && committed.next > reached {
                return Err(format!("Kafka was told {} of p{p}, but only {reached} is durable", committed.next));
            }
        }
        Ok(())
    }

    /// What holds once nothing happens any more.
    pub fn rest(&self, state: &State) -> Result<(), Violation> {
        for p in 0..self.bounds.partitions {
            let Some(owner) = usize::from(state.kafka[p].owner).checked_sub(1) else { return Err(format!("nobody reads p{p}")) };
            let lane = &state.workers[owner].lanes[p];
            let high = state.kafka[p].high;
            match lane.phase {
                // Every halt was justified when it was met.
                Phase::Halted => continue,
                Phase::Running if lane.applied == high => {}
                phase => return Err(format!("w{owner} has p{p} at {} of {high}, {phase:?}", lane.applied)),
            }
            if let Some(offset) = self.missing(state, p, high) {
                return Err(format!("nothing is left to do, and record {offset} of p{p} is in no row of the table: it is lost"));
            }
        }
        Ok(())
    }
}

/// Nothing: it cannot happen.
pub type Done = Option<Result<(), Violation>>;
