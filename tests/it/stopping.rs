//! SIGTERM in every state that a worker can be in: it ends within its grace period, and its exit code says how.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{states, wait::seconds, worker::Worker};

/// How a worker must end.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    /// Nothing of its own is to be finished: exit 0, long before `shutdown_timeout`.
    AtOnce,
    /// Nothing is to be finished, but the broker does not answer the last words: exit 0.
    WithoutTheBroker,
    /// What is on its way can be finished: exit 0 before `shutdown_timeout` is over.
    InTime { within: Duration },
    /// A partition stands still: exit 1, long before `shutdown_timeout`.
    Halted,
    /// What is on its way cannot be finished: exit 1 when `shutdown_timeout` is over, and nothing is lost.
    Cut { after: Duration },
    /// The same, and the broker does not answer the last words.
    CutWithoutTheBroker { after: Duration },
}

/// How long the Kafka client has for its last words.
const LAST_WORDS: Duration = seconds(4);

impl Ends {
    const fn code(self) -> i32 {
        match self {
            Self::AtOnce | Self::WithoutTheBroker | Self::InTime { .. } => 0,
            Self::Halted | Self::Cut { .. } | Self::CutWithoutTheBroker { .. } => 1,
        }
    }

    /// When the end comes at the earliest and at the latest.
    fn window(self) -> (Duration, Duration) {
        match self {
            Self::AtOnce | Self::Halted => (Duration::ZERO, seconds(4)),
            Self::WithoutTheBroker => (Duration::ZERO, LAST_WORDS + seconds(1)),
            Self::InTime { within } => (Duration::ZERO, within + seconds(1)),
            Self::Cut { after } => (after - Duration::from_millis(500), after + seconds(2)),
            Self::CutWithoutTheBroker { after } => (after - Duration::from_millis(500), after + LAST_WORDS + seconds(1)),
        }
    }
}

/// A worker that was seen in its state, and what keeps it there.
pub struct Reached {
    pub worker: Worker,
    pub keeps: Box<dyn Any>,
    /// What happens after the signal.
    pub then: Option<Box<dyn FnOnce()>>,
    /// What must hold after the end.
    pub after: Option<Box<dyn FnOnce()>>,
}

impl Reached {
    pub fn new(worker: Worker, keeps: impl Any) -> Self {
        Self { worker, keeps: Box::new(keeps), then: None, after: None }
    }

    pub fn then(mut self, then: impl FnOnce() + 'static) -> Self {
        self.then = Some(Box::new(then));
        self
    }

    pub fn after(mut self, after: impl FnOnce() + 'static) -> Self {
        self.after = Some(Box::new(after));
        self
    }
}

/// One row: a state, how it is reached and seen, and how a worker must end there.
pub struct State {
    pub name: &'static str,
    pub ends: Ends,
    pub reach: fn() -> Reached,
}

impl State {
    /// Reaches the state, asks for the end, and tells how long that took.
    fn end(&self) -> Duration {
        let Reached { mut worker, keeps, then, after } = (self.reach)();
        worker.assert_runs();
        worker.terminate();
        let asked = Instant::now();
        if let Some(then) = then {
            then();
        }
        let (earliest, latest) = self.ends.window();
        let code = worker.wait(latest + seconds(10));
        let took = asked.elapsed();
        assert_eq!(code, Some(self.ends.code()), "{}: exit code; it printed:\n{}", self.name, worker.log());
        assert!((earliest..=latest).contains(&took), "{}: the end came after {took:.1?}, not within {earliest:?} to {latest:?}:\n{}", self.name, worker.log());
        drop(keeps);
        if let Some(after) = after {
            after();
        }
        took
    }
}

/// All states, a few at a time: each mostly waits.
fn end_in_all(states: &[State]) {
    let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(state) = states.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let took = catch_unwind(AssertUnwindSafe(|| state.end())).ok();
                    ended.lock().expect("nobody panics with it").push((state.name, state.ends, took));
                }
            });
        }
    });
    let ended = ended.into_inner().expect("nobody panics with it");
    for (name, ends, took) in &ended {
        eprintln!("{name:<48} {ends:<20?} {}", took.map_or_else(|| "FAILED".to_owned(), |took| format!("{:.2} s", took.as_secs_f64())));
    }
    let failed: Vec<_> = ended.iter().filter(|(_, _, took)| took.is_none()).map(|(name, ..)| *name).collect();
    assert!(failed.is_empty() && ended.len() == states.len(), "not in order: {failed:?}");
}

#[test]
fn a_stop_before_the_work_begins_ends_in_order() {
    end_in_all(&states::before_the_work());
}

#[test]
fn a_stop_at_work_ends_in_order() {
    end_in_all(&states::at_work());
}

#[test]
fn a_stop_while_the_database_is_in_the_way_ends_in_order() {
    end_in_all(&states::database_in_the_way());
}

#[test]
fn a_stop_while_the_broker_is_in_the_way_ends_in_order() {
    end_in_all(&states::broker_in_the_way());
}
