//! How long to wait before the next attempt: exponential with full jitter, without end unless the file says otherwise.

use std::time::Duration;

use oncesink_sinks::fault::{Fault, FaultClass};
use rand::{Rng, rngs::SmallRng};
use tokio::time::Instant;

use super::RetrySettings;

/// The failures in a row of one thing that is tried again.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    attempts: u32,
    first_failure: Option<Instant>,
    retry_at: Option<Instant>,
    /// What failed last.
    failure: Option<String>,
}

impl Backoff {
    /// Notes a failure and answers when to try again.
    pub fn fail(&mut self, settings: &RetrySettings, fault: &Fault, random: &mut SmallRng) -> Instant {
        let now = Instant::now();
        self.first_failure.get_or_insert(now);
        self.failure = Some(fault.to_string());
        // Where the world is short of something, not before a second.
        let initial = if fault.class == FaultClass::Pause { settings.initial_delay.max(Duration::from_secs(1)) } else { settings.initial_delay };
        let ceiling = initial.saturating_mul(2_u32.saturating_pow(self.attempts)).min(settings.max_delay).max(Duration::from_millis(1));
        self.attempts = self.attempts.saturating_add(1);
        let delay = ceiling.mul_f64(random.random_range(0.0..=1.0));
        // Full jitter may draw nearly nothing; a millisecond keeps a refusing server from being asked in a tight loop.
        let at = now + delay.max(Duration::from_millis(1));
        self.retry_at = Some(at);
        at
    }

    pub fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Whatever is waited for is tried at once.
    pub fn hurry(&mut self) {
        self.retry_at = self.retry_at.map(|_| Instant::now());
    }

    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// The wait is over: the next attempt is under way.
    pub fn begin_attempt(&mut self) {
        self.retry_at = None;
    }

    #[must_use]
    pub fn failure(&self) -> Option<&String> {
        self.failure.as_ref()
    }

    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether `retry.give_up_after` has passed since the first failure in a row.
    #[must_use]
    pub fn has_given_up(&self, settings: &RetrySettings) -> bool {
        match (self.first_failure, settings.give_up_after) {
            (Some(first), Some(limit)) => first.elapsed() >= limit,
            _ => false,
        }
    }
}
