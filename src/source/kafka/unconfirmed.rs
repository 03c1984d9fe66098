use std::time::{Duration, Instant};

use oncesink_sinks::model::NextOffset;

/// A partition whose committed offset has not moved for this long, though a higher one was committed, has failed commits.
const LIMIT: Duration = Duration::from_secs(15);

/// Commits of one partition that Kafka has not shown yet. This client calls nobody back for a manual asynchronous commit, but its
/// statistics tell the offset that was committed last.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(Option<Waiting>);

#[derive(Debug)]
struct Waiting {
    next: NextOffset,
    shown: i64,
    since: Instant,
}

impl Unconfirmed {
    pub(super) fn ask(&mut self, next: NextOffset, now: Instant) {
        match &mut self.0 {
            // Its time goes on, else a stream of commits that all fail would never be noticed.
            Some(waiting) => waiting.next = next,
            None => self.0 = Some(Waiting { next, shown: i64::MIN, since: now }),
        }
    }

    /// Whether what was asked for has failed.
    pub(super) fn hear(&mut self, shown: i64, now: Instant) -> bool {
        let Some(waiting) = &mut self.0 else { return false };
        if shown >= waiting.next.get() {
            self.0 = None;
        } else if shown != waiting.shown {
            (waiting.shown, waiting.since) = (shown, now);
        } else if now.duration_since(waiting.since) >= LIMIT {
            self.0 = None;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits `next` and hears `shown` once a second; tells after how many seconds it has failed.
    fn seconds_to_failure(mut at: impl FnMut(i64) -> (i64, i64)) -> Option<u64> {
        let (begin, mut unconfirmed) = (Instant::now(), Unconfirmed::default());
        (0..60).find(|second| {
            let now = begin + Duration::from_secs(*second);
            let (next, shown) = at(i64::try_from(*second).unwrap());
            unconfirmed.ask(NextOffset::new(next), now);
            unconfirmed.hear(shown, now)
        })
    }

    #[test]
    fn commits_that_kafka_follows_late_have_not_failed() {
        assert_eq!(seconds_to_failure(|second| (second * 100, (second - 3) * 100)), None);
        assert_eq!(seconds_to_failure(|_| (100, 100)), None);
    }

    #[test]
    fn commits_that_kafka_never_shows_have_failed() {
        assert_eq!(seconds_to_failure(|second| (second * 100 + 1, -1001)), Some(15));
    }
}
