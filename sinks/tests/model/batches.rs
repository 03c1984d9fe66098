//! A batch from handed over to settled.

use oncesink_sinks::outcome::{SpanOutcome, Standing};

use crate::{
    action::Taken,
    rules::{Done, Mistake, Rules, Violation},
    state::{Commit, Committed, Effect, Flight, PARTITIONS, Phase, Span, State},
};

/// The partitions that are in a batch.
fn inside(spans: &[Span; PARTITIONS]) -> impl Iterator<Item = (usize, Span)> {
    spans.iter().copied().enumerate().filter(|(_, span)| span.is_in())
}

impl Rules {
    /// The rows are locked and judged; if all are its own they are written, and COMMIT is sent.
    pub fn send(&self, state: &mut State, w: usize, taken: [Taken; PARTITIONS]) -> Done {
        let worker = &state.workers[w];
        if worker.flight != Flight::None {
            return None;
        }
        let mut spans = [Span::default(); PARTITIONS];
        for p in 0..self.bounds.partitions {
            let (lane, high) = (&worker.lanes[p], state.kafka[p].high);
            let to = match taken[p] {
                Taken::Nothing => continue,
                // A quiet batch takes whatever there is; a chosen one must be another.
                _ if lane.phase != Phase::Running || lane.applied >= high => continue,
                Taken::One => lane.applied + 1,
                Taken::All => high,
            };
            spans[p] = Span { from: lane.applied, to, claim: lane.claim };
        }
        if inside(&spans).next().is_none() || inside(&spans).any(|(p, _)| state.is_locked(p)) {
            return None;
        }
        let standings = self.judge(state, w, &spans);
        if standings.iter().any(|(_, standing)| *standing != Standing::Mine) {
            return Some(standings.iter().try_for_each(|(p, standing)| Self::stands(state, w, *p, &spans[*p], standing)));
        }
        for (p, span) in inside(&spans) {
            if state.database[p].row.claim != span.claim {
                return Some(Err(format!("w{w} writes p{p} under a claim that another has taken over")));
            }
            if self.is(Mistake::CommitFirst) {
                state.kafka[p].committed = Committed { kind: Commit::Ours, next: span.to };
            }
        }
        (state.workers[w].flight, state.workers[w].spans) = (Flight::Open, spans);
        Some(Ok(()))
    }

    fn judge(&self, state: &State, w: usize, spans: &[Span; PARTITIONS]) -> Vec<(usize, Standing)> {
        let exactly_once = state.workers[w].exactly_once;
        inside(spans).map(|(p, span)| (p, self.product.judge(p, w, exactly_once, &span, &self.seen(&state.database[p].row, &span.claim)))).collect()
    }

    /// COMMIT at the server: rows, checkpoints, all at once.
    fn take_effect(&self, state: &mut State, batch: u8, spans: &[Span; PARTITIONS]) -> Result<(), Violation> {
        for (p, span) in inside(spans) {
            let stored = &mut state.database[p];
            stored.row = self.product.moved(p, batch, &span, &stored.row);
            for offset in (span.from..span.to).filter(|offset| self.is_visible(*offset)) {
                let effect = &mut stored.effects[usize::from(offset)];
                if *effect == Effect::ExactlyOnce {
                    return Err(format!("record {offset} of p{p} took effect under exactly-once, and now takes effect again"));
                }
                *effect = if stored.row.exactly_once { Effect::ExactlyOnce } else { Effect::AtLeastOnce };
            }
        }
        Ok(())
    }

    pub fn effect(&self, state: &mut State, w: usize) -> Done {
        let worker = &mut state.workers[w];
        worker.flight = match worker.flight {
            Flight::Open => Flight::Replied,
            Flight::LostOpen => Flight::Lost,
            _ => return None,
        };
        let spans = worker.spans;
        Some(self.take_effect(state, w as u8 + 1, &spans))
    }

    pub fn abort(state: &mut State, w: usize) -> Done {
        match state.workers[w].flight {
            Flight::Open => state.forget_batch(w),
            Flight::LostOpen => state.workers[w].flight = Flight::Lost,
            _ => return None,
        }
        Some(Ok(()))
    }

    pub fn orphan_effect(&self, state: &mut State, w: usize) -> Done {
        let spans = std::mem::take(&mut state.workers[w].orphan);
        inside(&spans).next()?;
        Some(self.take_effect(state, 0, &spans))
    }

    pub fn orphan_abort(state: &mut State, w: usize) -> Done {
        state.workers[w].orphan = [Span::default(); PARTITIONS];
        Some(Ok(()))
    }

    /// The worker hears that it took effect.
    pub fn reply(state: &mut State, w: usize) -> Done {
        let worker = &mut state.workers[w];
        if worker.flight != Flight::Replied {
            return None;
        }
        let spans = worker.spans;
        state.forget_batch(w);
        Some(inside(&spans).try_for_each(|(p, span)| Self::advance(state, w, p, &span)))
    }

    fn advance(state: &mut State, w: usize, p: usize, span: &Span) -> Result<(), Violation> {
        let lane = &state.workers[w].lanes[p];
        if lane.phase == Phase::Running && lane.claim == span.claim && lane.applied != span.from {
            return Err(format!("w{w} hears of a batch from {} of p{p} where {} is next", span.from, lane.applied));
        }
        Self::stands(state, w, p, span, &Standing::Applied)
    }

    pub fn lose_reply(&self, state: &mut State, w: usize) -> Done {
        let flight = &mut state.workers[w].flight;
        *flight = match *flight {
            Flight::Replied if self.is(Mistake::BlindRetry) => Flight::Blind,
            Flight::Open => Flight::LostOpen,
            Flight::Replied => Flight::Lost,
            _ => return None,
        };
        Some(Ok(()))
    }

    /// The locking read under the same claim. It waits for whoever holds the rows.
    pub fn ask(&self, state: &mut State, w: usize) -> Done {
        let spans = state.workers[w].spans;
        if state.workers[w].flight != Flight::Lost || inside(&spans).any(|(p, _)| state.is_locked(p)) {
            return None;
        }
        let outcomes: Vec<(usize, SpanOutcome)> =
            self.judge(state, w, &spans).into_iter().map(|(p, standing)| (p, self.product.outcome(p, w, standing, &state.database[p].row))).collect();
        state.forget_batch(w);
        if SpanOutcome::are_torn(&outcomes.iter().map(|(_, outcome)| outcome.clone()).collect::<Vec<_>>()) {
            return Some(Err(format!("w{w} takes its batch for torn: {outcomes:?}")));
        }
        Some(outcomes.iter().try_for_each(|(p, outcome)| match outcome.settled() {
            Standing::Applied => Self::advance(state, w, *p, &spans[*p]),
            standing => Self::stands(state, w, *p, &spans[*p], &standing),
        }))
    }

    /// A planted mistake: the batch is written once more, because nobody said that it was written.
    pub fn send_again(&self, state: &mut State, w: usize) -> Done {
        let spans = state.workers[w].spans;
        if state.workers[w].flight != Flight::Blind || inside(&spans).any(|(p, _)| state.is_locked(p)) {
            return None;
        }
        let standings = self.judge(state, w, &spans);
        state.forget_batch(w);
        if standings.iter().all(|(_, standing)| matches!(standing, Standing::Mine | Standing::Applied)) {
            let done = self.take_effect(state, 0, &spans);
            return Some(done.and_then(|()| inside(&spans).try_for_each(|(p, span)| Self::advance(state, w, p, &span))));
        }
        Some(standings.iter().try_for_each(|(p, standing)| Self::stands(state, w, *p, &spans[*p], standing)))
    }
}
