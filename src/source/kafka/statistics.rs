//! What the client tells of itself every second: the only place that says how far it has read where no record was visible, and which
//! partitions it has given up on.

use std::{borrow::Cow, collections::BTreeMap};

use oncesink_sinks::model::NextOffset;
use serde::Deserialize;

use crate::source::Ends;

#[derive(Debug, Deserialize)]
pub(super) struct Statistics<'a> {
    #[serde(borrow, default)]
    brokers: BTreeMap<Cow<'a, str>, Broker<'a>>,
    #[serde(borrow, default)]
    topics: BTreeMap<Cow<'a, str>, Topic<'a>>,
}

#[derive(Debug, Deserialize)]
struct Broker<'a> {
    nodeid: i64,
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(default)]
    req: Requests,
}

#[derive(Debug, Default, Deserialize)]
struct Requests {
    #[serde(rename = "Fetch", default)]
    fetch: u64,
}

#[derive(Debug, Deserialize)]
struct Topic<'a> {
    #[serde(borrow, default)]
    partitions: BTreeMap<Cow<'a, str>, Entry<'a>>,
}

#[derive(Debug, Deserialize)]
struct Entry<'a> {
    broker: i64,
    fetchq_cnt: i64,
    #[serde(borrow)]
    fetch_state: Cow<'a, str>,
    next_offset: i64,
    committed_offset: i64,
    #[serde(default = "unknown")]
    lo_offset: i64,
    #[serde(default = "unknown")]
    ls_offset: i64,
}

/// What librdkafka prints of an offset that it has not heard yet is negative, too.
const fn unknown() -> i64 {
    -1
}

/// One partition, as the client reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub fetching: Fetching,
    /// Records wait in the client's queue, of this partition or another.
    pub queued: bool,
    pub next: i64,
    pub committed: i64,
    pub broker: i64,
    /// Fetch requests sent to that broker so far.
    pub fetches: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetching {
    Active,
    /// Neither fetched nor about to be: after an out-of-range answer.
    Stopped,
    /// Its offset is being looked up or validated.
    Preparing,
}

impl<'a> Statistics<'a> {
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    pub(super) fn any_broker_is_up(&self) -> bool {
        self.brokers.values().any(|broker| broker.state == "UP")
    }

    pub(super) fn report(&self, topic: &str, partition: i32) -> Option<Report> {
        let entry = self.topics.get(topic)?.partitions.get(partition.to_string().as_str())?;
        let fetches = self.brokers.values().filter(|broker| broker.nodeid == entry.broker).map(|broker| broker.req.fetch).sum();
        let fetching = match &*entry.fetch_state {
            "active" => Fetching::Active,
            "none" | "stopped" => Fetching::Stopped,
            _ => Fetching::Preparing,
        };
        Some(Report { fetching, queued: entry.fetchq_cnt > 0, next: entry.next_offset, committed: entry.committed_offset, broker: entry.broker, fetches })
    }
}

impl Statistics<'_> {
    /// Log start and last stable offset, once both were heard.
    pub(super) fn ends(&self, topic: &str, partition: i32) -> Option<Ends> {
        let entry = self.topics.get(topic)?.partitions.get(partition.to_string().as_str())?;
        (entry.lo_offset >= 0 && entry.ls_offset >= 0).then_some(Ends { low: NextOffset::new(entry.lo_offset), high: NextOffset::new(entry.ls_offset) })
    }
}

/// Watches the reports of one partition for what they can be believed to say.
///
/// A single report may lie: the position in it is the one of the last round of fetching, which may lie before a pause, a seek or an
/// assignment. So a position counts once the same broker has been sent two more fetch requests (the second proves that the first was
/// answered), it is still the same, and nothing waits in the queue.
#[derive(Debug, Default)]
pub(super) struct Witness {
    first: Option<Report>,
    stopped: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// Everything below was read and handed over.
    ReadUpTo(i64),
    /// The client has stopped fetching it, twice in a row.
    GivenUp,
}

impl Witness {
    /// A record, a pause, a seek or an assignment: what was seen before says nothing any more.
    pub(super) fn disturb(&mut self) {
        *self = Self::default();
    }

    pub(super) fn hear(&mut self, report: Report) -> Verdict {
        if report.fetching == Fetching::Stopped {
            self.first = None;
            self.stopped = self.stopped.saturating_add(1);
            return if self.stopped >= 2 { Verdict::GivenUp } else { Verdict::Nothing };
        }
        self.stopped = 0;
        if report.fetching != Fetching::Active || report.queued || report.next < 0 {
            self.first = None;
            return Verdict::Nothing;
        }
        match self.first {
            Some(first) if first.next == report.next && first.broker == report.broker && report.fetches >= first.fetches => {
                if report.fetches - first.fetches >= 2 { Verdict::ReadUpTo(report.next) } else { Verdict::Nothing }
            }
            _ => {
                self.first = Some(report);
                Verdict::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(next: i64, fetches: u64) -> Report {
        Report { fetching: Fetching::Active, queued: false, next, committed: -1001, broker: 1, fetches }
    }

    #[test]
    fn a_position_counts_once_two_more_fetches_confirm_it() {
        let mut witness = Witness::default();
        assert_eq!(witness.hear(report(10, 5)), Verdict::Nothing);
        assert_eq!(witness.hear(report(10, 6)), Verdict::Nothing);
        assert_eq!(witness.hear(report(10, 7)), Verdict::ReadUpTo(10));
        assert_eq!(witness.hear(report(12, 8)), Verdict::Nothing, "a new position is a new claim");
        assert_eq!(witness.hear(report(12, 10)), Verdict::ReadUpTo(12));
    }

    #[test]
    fn a_broker_that_does_not_answer_confirms_nothing() {
        let mut witness = Witness::default();
        for _ in 0..10 {
            assert_eq!(witness.hear(report(10, 5)), Verdict::Nothing);
        }
    }

    #[test]
    fn a_disturbance_a_queue_or_another_broker_starts_anew() {
        let disturbances: [fn(&mut Witness); 3] = [
            Witness::disturb,
            |witness| assert_eq!(witness.hear(Report { queued: true, ..report(10, 6) }), Verdict::Nothing),
            |witness| assert_eq!(witness.hear(Report { broker: 2, ..report(10, 600) }), Verdict::Nothing),
        ];
        for disturb in disturbances {
            let mut witness = Witness::default();
            witness.hear(report(10, 5));
            disturb(&mut witness);
            assert_eq!(witness.hear(report(10, 7)), Verdict::Nothing);
        }
    }

    #[test]
    fn a_partition_that_stays_stopped_is_given_up() {
        let mut witness = Witness::default();
        let stopped = Report { fetching: Fetching::Stopped, ..report(-1001, 5) };
        assert_eq!(witness.hear(stopped), Verdict::Nothing);
        assert_eq!(witness.hear(stopped), Verdict::GivenUp);
    }

    #[test]
    fn only_what_is_needed_of_the_statistics_is_read() {
        let json = br#"{"name":"x","brokers":{"k:1/1":{"name":"k","nodeid":1,"state":"UP","req":{"Fetch":7,"Produce":1}}},
            "topics":{"orders":{"topic":"orders","partitions":{"3":{"partition":3,"broker":1,"fetchq_cnt":0,"fetch_state":"active",
            "next_offset":42,"committed_offset":40,"ls_offset":42},"-1":{"partition":-1,"broker":-1,"fetchq_cnt":0,"fetch_state":"none",
            "next_offset":-1001,"committed_offset":-1001}}}}}"#;
        let statistics = Statistics::parse(json).unwrap();
        assert!(statistics.any_broker_is_up());
        assert_eq!(statistics.report("orders", 3), Some(Report { committed: 40, ..report(42, 7) }));
        assert_eq!(statistics.report("orders", 4), None);
    }
}
