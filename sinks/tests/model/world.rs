//! What happens around the protocol: workers live and die, the group gives and takes, the database goes back in time.

use crate::{
    rules::{Done, Rules},
    state::{Commit, Committed, Flight, Lane, PARTITIONS, Phase, Span, State, Stored, WORKERS, Worker},
};

impl Rules {
    pub fn restart(&self, state: &mut State, w: usize, switch: bool) -> Done {
        let worker = &mut state.workers[w];
        if worker.lives {
            return None;
        }
        worker.lives = true;
        worker.exactly_once ^= switch;
        Some(Ok(()))
    }

    /// What it had sent to the server stays there, until the server has done it or rolled it back.
    pub fn crash(state: &mut State, w: usize) -> Done {
        if !state.workers[w].lives {
            return None;
        }
        let Worker { flight, spans, orphan, exactly_once, .. } = state.workers[w];
        let is_open = matches!(flight, Flight::Open | Flight::LostOpen);
        let orphan = if is_open && !orphan.iter().any(Span::is_in) { spans } else { orphan };
        state.forget_batch(w);
        state.workers[w] = Worker { exactly_once, orphan, ..Worker::default() };
        for topic in state.kafka.iter_mut().filter(|topic| usize::from(topic.owner) == w + 1) {
            topic.owner = 0;
        }
        Some(Ok(()))
    }

    pub fn assign(state: &mut State, w: usize, p: usize) -> Done {
        let (worker, topic) = (&mut state.workers[w], &mut state.kafka[p]);
        if !worker.lives || worker.lanes[p].phase != Phase::Absent || ![0, w + 1].contains(&usize::from(topic.owner)) {
            return None;
        }
        topic.owner = w as u8 + 1;
        worker.lanes[p].phase = Phase::Asking;
        Some(Ok(()))
    }

    pub fn revoke(state: &mut State, w: usize, p: usize) -> Done {
        if usize::from(state.kafka[p].owner) != w + 1 {
            return None;
        }
        state.workers[w].lanes[p] = Lane::default();
        state.kafka[p].owner = 0;
        Some(Ok(()))
    }

    pub fn steal(state: &mut State, p: usize) -> Done {
        let owner = usize::from(state.kafka[p].owner).checked_sub(1)?;
        let thief = WORKERS - 1 - owner;
        if !state.workers[thief].lives {
            return None;
        }
        state.kafka[p].owner = thief as u8 + 1;
        // What is left there of an earlier assignment is stale.
        state.workers[thief].lanes[p] = Lane { phase: Phase::Asking, ..Lane::default() };
        Some(Ok(()))
    }

    pub fn hear_lost(state: &mut State, w: usize, p: usize) -> Done {
        let is_stale = state.workers[w].lanes[p].phase != Phase::Absent && usize::from(state.kafka[p].owner) != w + 1;
        is_stale.then(|| {
            state.workers[w].lanes[p] = Lane::default();
            Ok(())
        })
    }

    pub fn produce(&self, state: &mut State, p: usize) -> Done {
        let high = &mut state.kafka[p].high;
        (*high < self.bounds.offsets).then(|| {
            *high += 1;
            Ok(())
        })
    }

    /// Whoever believes to hold the partition may tell Kafka, at any time and in any order: more than the broker takes.
    pub fn commit(state: &mut State, w: usize, p: usize) -> Done {
        let lane = &state.workers[w].lanes[p];
        (lane.phase == Phase::Running).then(|| {
            state.kafka[p].committed = Committed { kind: Commit::Ours, next: lane.applied };
            Ok(())
        })
    }

    pub fn delete_offset(state: &mut State, p: usize) -> Done {
        state.kafka[p].committed = Committed::default();
        Some(Ok(()))
    }

    pub fn reset_offset(state: &mut State, p: usize, to_end: bool) -> Done {
        let next = if to_end { state.kafka[p].high } else { 0 };
        state.kafka[p].committed = Committed { kind: Commit::Foreign, next };
        Some(Ok(()))
    }

    pub fn copy(state: &mut State) -> Done {
        let is_empty = state.database == [Stored::default(); PARTITIONS];
        (!state.has_copy && !is_empty && state.may_go_back()).then(|| {
            (state.has_copy, state.copy) = (true, state.database);
            Ok(())
        })
    }

    /// Every connection is gone with it.
    pub fn restore(state: &mut State, empty: bool) -> Done {
        if !empty && !state.has_copy {
            return None;
        }
        state.restores_left = state.restores_left.checked_sub(1)?;
        state.was_restored = true;
        state.database = if empty { [Stored::default(); PARTITIONS] } else { state.copy };
        state.has_copy = false;
        for worker in &mut state.workers {
            worker.orphan = [Span::default(); PARTITIONS];
            if matches!(worker.flight, Flight::Open | Flight::LostOpen) {
                worker.flight = Flight::Lost;
            }
        }
        Some(Ok(()))
    }
}
