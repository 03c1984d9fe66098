use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Instant,
};

use crate::source::Reply;

/// A question to the engine: the reply goes with it, the answer is waited for here.
pub(super) fn question<T: Send + 'static>() -> (Reply<T>, Answer<T>) {
    let shared = Arc::new(Shared { slot: Mutex::new(Slot::Open), changed: Condvar::new() });
    let asked = Asked(shared.clone());
    // The whole of `asked` is moved in, so that a reply that is dropped unanswered ends the waiting.
    let reply = Reply::new(move |answer| {
        let asked = asked;
        asked.0.fill(answer)
    });
    (reply, Answer(shared))
}

pub(super) struct Answer<T>(Arc<Shared<T>>);

struct Asked<T>(Arc<Shared<T>>);

struct Shared<T> {
    slot: Mutex<Slot<T>>,
    changed: Condvar,
}

enum Slot<T> {
    Open,
    Answered(T),
    /// Nobody waits any more, or nobody will answer.
    Closed,
}

impl<T> Answer<T> {
    /// The answer, unless it does not come in time. One that comes later learns that nobody took it.
    pub(super) fn wait_until(self, deadline: Instant) -> Option<T> {
        let mut slot = self.0.slot.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if !matches!(*slot, Slot::Open) {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            slot = self.0.changed.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Answered(answer) => Some(answer),
            Slot::Open | Slot::Closed => None,
        }
    }
}

impl<T> Shared<T> {
    fn fill(&self, answer: T) -> bool {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = matches!(*slot, Slot::Open);
        if taken {
            *slot = Slot::Answered(answer);
            self.changed.notify_all();
        }
        taken
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        let mut slot = self.0.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Open) {
            *slot = Slot::Closed;
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    #[test]
    fn an_answer_in_time_is_taken() {
        let (reply, answer) = question();
        let engine = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            reply.send(7)
        });
        assert_eq!(answer.wait_until(Instant::now() + Duration::from_secs(10)), Some(7));
        assert!(engine.join().unwrap());
    }

    #[test]
    fn a_late_answer_learns_that_it_is_late() {
        let (reply, answer) = question();
        assert_eq!(answer.wait_until(Instant::now()), None);
        assert!(!reply.send(7));
    }

    #[test]
    fn an_answer_that_never_comes_is_not_waited_for() {
        let (reply, answer) = question::<()>();
        drop(reply);
        let begin = Instant::now();
        assert_eq!(answer.wait_until(begin + Duration::from_secs(10)), None);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
