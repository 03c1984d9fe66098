use std::time::{Duration, Instant};

use crate::source::Commit;

/// A partition whose committed offset has not moved for this long, though a higher one was committed, has failed commits.
const LIMIT: Duration = Duration::from_secs(15);

/// Commits of one partition that Kafka has not shown yet. This client calls nobody back for a manual asynchronous commit, but its
/// statistics tell the offset that was committed last. One that has failed (in the middle of a rebalance, say) is made again: without
/// records that follow nobody else would, and the group would look behind for ever.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(Option<Waiting>);

#[derive(Debug)]
struct Waiting {
    commit: Commit,
    shown: i64,
    since: Instant,
}

impl Unconfirmed {
    pub(super) fn ask(&mut self, commit: &Commit, now: Instant) {
        match &mut self.0 {
            // Its time goes on, else a stream of commits that all fail would never be noticed.
            Some(waiting) => waiting.commit = commit.clone(),
            None => self.0 = Some(Waiting { commit: commit.clone(), shown: i64::MIN, since: now }),
        }
    }

    /// What was asked for and has failed.
    pub(super) fn hear(&mut self, shown: i64, now: Instant) -> Option<Commit> {
        let waiting = self.0.as_mut()?;
        if shown >= waiting.commit.next.get() {
            self.0 = None;
        } else if shown != waiting.shown {
            (waiting.shown, waiting.since) = (shown, now);
        } else if now.duration_since(waiting.since) >= LIMIT {
            return self.0.take().map(|waiting| waiting.commit);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use oncesink_sinks::model::{NextOffset, Partition};

    use super::*;

    fn commit(next: i64) -> Commit {
        Commit { partition: Partition::new("orders", 0), next: NextOffset::new(next), metadata: String::new() }
    }

    /// Commits `next` and hears `shown` once a second; tells after how many seconds it has failed.
    fn seconds_to_failure(mut at: impl FnMut(i64) -> (i64, i64)) -> Option<u64> {
        let (begin, mut unconfirmed) = (Instant::now(), Unconfirmed::default());
        (0..60).find(|second| {
            let now = begin + Duration::from_secs(*second);
            let (next, shown) = at(i64::try_from(*second).unwrap());
            unconfirmed.ask(&commit(next), now);
            unconfirmed.hear(shown, now).is_some_and(|failed| failed.next == NextOffset::new(next))
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
