//! Waiting for a condition, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Asks until the answer is `true`; panics with `what` when the time is over.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(limit, what, || condition().then_some(()));
}

/// Asks until there is an answer; panics with `what` when the time is over.
#[track_caller]
pub fn wait_for<T>(limit: Duration, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        pause(Duration::from_millis(50));
    }
}

/// The time of a schedule (how long a database stays down), and the gap between two looks. Never a wait for an effect.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
