//! Claims, and what becomes of a lane whose row is not as expected.

use oncesink_sinks::{
    claim::{NotClaimed, StartReason},
    model::NextOffset,
    outcome::Standing,
    refusal::Refusal,
    start::Start,
};

use crate::{
    rules::{Done, Mistake, Rules, Violation},
    state::{Commit, Committed, Flight, Lane, Phase, Row, Span, State},
};

impl Rules {
    pub fn look_up(&self, state: &mut State, w: usize, p: usize) -> Done {
        let found = state.kafka[p].committed;
        let lane = &mut state.workers[w].lanes[p];
        (matches!(lane.phase, Phase::Asking | Phase::Halted) && !lane.has_looked).then(|| {
            *lane = Lane { has_looked: true, found, ..lane.given_up(Phase::Asking) };
            Ok(())
        })
    }

    pub fn claim_as_stranger(&self, state: &mut State, w: usize, p: usize) -> Done {
        if usize::from(state.kafka[p].owner) == w + 1 {
            return None;
        }
        self.claim_row(state, w, p, true)
    }

    pub fn claim(&self, state: &mut State, w: usize, p: usize, is_seen: bool) -> Done {
        if usize::from(state.kafka[p].owner) != w + 1 {
            return None;
        }
        self.claim_row(state, w, p, is_seen)
    }

    /// A halted lane is tried again the same way.
    fn claim_row(&self, state: &mut State, w: usize, p: usize, is_seen: bool) -> Done {
        let worker = &state.workers[w];
        let lane = worker.lanes[p];
        if !matches!(lane.phase, Phase::Asking | Phase::Halted) || state.is_locked(p) {
            return None;
        }
        let found = if lane.has_looked { lane.found } else { state.kafka[p].committed };
        let before = state.database[p].row;
        let start = match self.start(state, w, p, found) {
            Ok(start) => start,
            Err(NotClaimed::Refused(refusal)) => {
                if !is_seen {
                    return None;
                }
                state.workers[w].lanes[p] = lane.given_up(Phase::Halted);
                return Some(Self::is_justified(state, &refusal, &before, found));
            }
            Err(other) => return Some(Err(format!("w{w} cannot claim p{p}: {other:?}"))),
        };
        self.make_rows(state, w, p, &start);
        let exactly_once = state.workers[w].exactly_once;
        let mut row = self.product.claimed(p, exactly_once, &state.database[p].row, &start, state.new_id(p));
        if self.is(Mistake::EpochNotRaised) {
            row.claim.epoch = before.claim.epoch.max(1);
        }
        if row.claim.epoch <= before.claim.epoch {
            return Some(Err(format!("w{w} claims p{p} with epoch {} after {}", row.claim.epoch, before.claim.epoch)));
        }
        state.database[p].row = row;
        // Under at-least-once the row keeps its floor: the start may lie above it.
        let next = u8::try_from(start.next.get()).expect("a small number");
        self.excuse(state, p, &before, found, next);
        if let Some(offset) = self.missing(state, p, next) {
            return Some(Err(format!("w{w} starts p{p} at {next}, and record {offset} is in no row of the table: it is lost")));
        }
        state.workers[w].lanes[p] =
            if is_seen { Lane { phase: Phase::Running, claim: row.claim, applied: next, ..Lane::default() } } else { lane.given_up(Phase::Asking) };
        Some(Ok(()))
    }

    fn start(&self, state: &State, w: usize, p: usize, found: Committed) -> Result<Start, NotClaimed> {
        let policy = self.policy(state, p);
        let mut row = state.database[p].row;
        let topic_has_rows = state.database.iter().any(|stored| stored.row.exists);
        let was_claimed = row.claim.epoch > 0;
        if self.is(Mistake::NoFloor) && was_claimed && !row.exactly_once {
            let next = NextOffset::new(i64::from(if found.kind == Commit::Nothing { policy } else { found.next }));
            return Ok(Start { next, durable: next.max(NextOffset::new(i64::from(row.durable))), because: StartReason::CommittedOffset, lost: 0 });
        }
        if self.is(Mistake::EpochZeroAdopted) && row.exists && !was_claimed {
            (row.claim.epoch, row.exactly_once) = (1, true);
        }
        let unlimited = self.is(Mistake::NoDurable) && was_claimed;
        if unlimited {
            row.durable = self.bounds.offsets;
        }
        let start = self.product.decide(p, &state.workers[w], &row, topic_has_rows, found, policy)?;
        // What is written down stays right; it is only not asked.
        let durable = start.next.max(NextOffset::new(i64::from(state.database[p].row.durable)));
        Ok(if unlimited { Start { durable, ..start } } else { start })
    }

    /// `kafka.start`.
    fn policy(&self, state: &State, p: usize) -> u8 {
        if self.bounds.latest { state.kafka[p].high } else { 0 }
    }

    /// The first claim of the topic makes rows for all its partitions.
    fn make_rows(&self, state: &mut State, w: usize, p: usize, start: &Start) {
        let is_first = !state.database.iter().any(|stored| stored.row.exists);
        for other in 0..self.bounds.partitions {
            if !state.database[other].row.exists && (other == p || is_first) {
                let next = if other == p { u8::try_from(start.next.get()).expect("a small number") } else { self.policy(state, other) };
                state.database[other].row = Row { exists: true, next, exactly_once: state.workers[w].exactly_once, ..Row::default() };
            }
        }
    }

    /// Records that nobody asks for: those before a start that neither the database nor Kafka knew better, and those that an admin's
    /// hand passed over, where the rules follow it.
    fn excuse(&self, state: &mut State, p: usize, before: &Row, found: Committed, start: u8) {
        let never_claimed = before.claim.epoch == 0;
        let by_policy = never_claimed && found.kind == Commit::Nothing;
        let by_hand = !never_claimed && !before.exactly_once && found.kind == Commit::Foreign && found.next == start;
        if by_policy || by_hand {
            state.kafka[p].excused |= (1 << start) - 1;
        }
    }

    /// A claim is refused only where the world contradicts itself.
    fn is_justified(state: &State, refusal: &Refusal, row: &Row, found: Committed) -> Result<(), Violation> {
        let never_claimed = row.claim.epoch == 0;
        let justified = match refusal {
            Refusal::CommittedButNeverClaimed { .. } => state.was_restored && never_claimed && found.kind == Commit::Ours,
            Refusal::CommittedAboveDurable { .. } => state.was_restored && !never_claimed && !row.exactly_once,
            Refusal::CheckpointGone { .. } => state.was_restored && never_claimed && found.kind != Commit::Ours,
            Refusal::ForeignCommit { .. } => never_claimed && found.kind == Commit::Foreign,
            Refusal::AnotherDeployment { .. } | Refusal::AnotherDatabase { .. } | Refusal::TopicRecreated { .. } | Refusal::NoStart => false,
        };
        if justified { Ok(()) } else { Err(format!("a claim is refused without need: {refusal}")) }
    }

    /// An idle lane compares its row.
    pub fn check(&self, state: &mut State, w: usize, p: usize) -> Done {
        let worker = &state.workers[w];
        let lane = worker.lanes[p];
        let is_busy = worker.flight != Flight::None && worker.spans[p].is_in() && worker.spans[p].claim == lane.claim;
        if lane.phase != Phase::Running || is_busy || self.is(Mistake::NoIdleCheck) {
            return None;
        }
        let standing = self.product.still(p, worker.exactly_once, &lane, &self.seen(&state.database[p].row, &lane.claim));
        let nothing = Span { from: lane.applied, to: lane.applied, claim: lane.claim };
        Some(Self::stands(state, w, p, &nothing, &standing))
    }

    /// The row, as whoever holds `claim` compares it.
    pub fn seen(&self, row: &Row, claim: &crate::state::Claim) -> Row {
        let mut row = *row;
        if self.is(Mistake::NoClaimId) {
            row.claim.id = claim.id;
        }
        if self.is(Mistake::NoDurable) {
            row.durable = self.bounds.offsets;
        }
        row
    }

    /// What a lane makes of its row. A lane that is another's by now, or has another claim, is not concerned.
    pub fn stands(state: &mut State, w: usize, p: usize, span: &Span, standing: &Standing) -> Result<(), Violation> {
        let was_restored = state.was_restored;
        let worker = &mut state.workers[w];
        let exactly_once = worker.exactly_once;
        let lane = &mut worker.lanes[p];
        if lane.phase != Phase::Running || lane.claim != span.claim {
            return Ok(());
        }
        let went_back = |what: &str| if was_restored { Ok(()) } else { Err(format!("w{w} finds the row of p{p} {what}, and nothing was restored")) };
        match standing {
            Standing::Mine => Ok(()),
            Standing::Applied => {
                lane.applied = span.to;
                Ok(())
            }
            Standing::Taken => {
                *lane = lane.given_up(Phase::Asking);
                Ok(())
            }
            Standing::Rewound { .. } => {
                // At-least-once cannot heal that: a person decides.
                let phase = if exactly_once { Phase::Asking } else { Phase::Halted };
                *lane = lane.given_up(phase);
                went_back("rewound")
            }
            Standing::Gone => {
                *lane = lane.given_up(Phase::Halted);
                went_back("gone")
            }
            Standing::Contradicts { row, expected } => Err(format!("w{w} finds p{p} at {row} where it expects {expected}")),
        }
    }
}
