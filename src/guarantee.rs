//! What a topic's delivery and a route's write mode give together: the effective guarantee, with its reasons. By this table the settings refuse
//! an `append` or a sum that would keep repeats or losses, and `plan` says what is given; docs/guarantees.md carries the same.

use oncesink_sinks::model::{Delivery, WriteMode};

/// What of a route decides what it guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub delivery: Delivery,
    pub write: WriteMode,
    /// The route names a version column: the newer row wins.
    pub version: bool,
    /// A record without a value deletes, or marks, the row of its key.
    pub deletes: bool,
    /// Kept in the database, in the transaction of the rows.
    pub marked: Events,
    /// Remembered in Redis, after it.
    pub remembered: Events,
}

impl Facts {
    /// Without a version, deletes and ids of events.
    #[must_use]
    pub const fn plain(delivery: Delivery, write: WriteMode) -> Self {
        Self { delivery, write, version: false, deletes: false, marked: Events::NotKept, remembered: Events::NotKept }
    }
}

/// Whether a route keeps the ids of events, and what an id tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    NotKept,
    /// Ids are where records stand in Kafka: they tell what Kafka delivers again.
    ByCoordinate,
    /// Ids are the producer's: they also tell what it sends again.
    ById,
}

/// What holds for a table, whatever crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Each record takes effect once.
    Once,
    /// The table ends as if each record had taken effect once; on the way a row may go back to an older state for a moment.
    CorrectInTheEnd,
    /// A crash or a rebalance can leave rows twice.
    RepeatsRemain,
    /// A crash or a failure can lose records; none takes effect twice.
    LossRemains,
}

/// The effective guarantee of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarantee {
    pub effect: Effect,
    pub because: &'static str,
    /// What no setting of this route stops, or what makes it harmless.
    pub remains: Vec<Remains>,
}

/// Something that the world can do and the route does not stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    pub what: &'static str,
    pub consequence: &'static str,
    pub harmless: bool,
}

impl Effect {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "each record takes effect once",
            Self::CorrectInTheEnd => "the right rows in the end",
            Self::RepeatsRemain => "repeats remain",
            Self::LossRemains => "each record at most once",
        }
    }
}

/// Decides what a route gives.
#[must_use]
pub fn effective(facts: Facts) -> Guarantee {
    let Facts { delivery, write, version, marked, remembered, .. } = facts;
    let (effect, because) = match (delivery, write, version) {
        (Delivery::ExactlyOnce, _, _) => (Effect::Once, "rows and checkpoint commit in one transaction, fenced by epoch and claim"),
        (Delivery::AtMostOnce, ..) => (
            Effect::LossRemains,
            "its offset is committed before its rows are written: a crash loses what was read ahead, a failure its batch; what is lost is counted",
        ),
        (Delivery::AtLeastOnce, ..) if marked != Events::NotKept => {
            (Effect::Once, "rows and event ids commit in one transaction; what a crash repeats finds its id and is left out")
        }
        (Delivery::AtLeastOnce, WriteMode::Append, _) if remembered != Events::NotKept => {
            (Effect::RepeatsRemain, "a crash repeats the batch in flight; Redis knows what it was told after the commit, and stops the rest")
        }
        (Delivery::AtLeastOnce, WriteMode::Append, _) => (Effect::RepeatsRemain, "a crash repeats the batch in flight, and append keeps every row"),
        // Refused by the settings where nothing stops the repeat.
        (Delivery::AtLeastOnce, WriteMode::Accumulate, _) => {
            (Effect::RepeatsRemain, "a crash repeats the batch in flight, and accumulate takes every record into account once more")
        }
        (Delivery::AtLeastOnce, WriteMode::InsertIfNew, _) => {
            (Effect::CorrectInTheEnd, "a crash repeats the batch in flight, which finds its rows there and leaves them as they are")
        }
        (Delivery::AtLeastOnce, WriteMode::Upsert | WriteMode::Update, true) => (
            Effect::CorrectInTheEnd,
            "a crash repeats the batch in flight; a row is only ever replaced, and a delete only ever undone, by one with the same or a higher version",
        ),
        (Delivery::AtLeastOnce, WriteMode::Upsert | WriteMode::Update, false) => {
            (Effect::CorrectInTheEnd, "a crash repeats the batch in flight; its rows go back to older states until the repeat has ended")
        }
    };
    Guarantee { effect, because, remains: remains(facts) }
}

/// What comes from the producer reaches the topic as new records: no checkpoint can know them.
fn remains(facts: Facts) -> Vec<Remains> {
    const TWICE: &str = "an event sent twice by its producer";
    const LATE: &str = "an older event sent after a newer one";
    let mut remains = match (facts.write, facts.version) {
        (WriteMode::Append, _) => {
            let consequence = "becomes two rows: append looks at no key; dedup: [processed-event] with an `event_id` stops it";
            vec![Remains { what: TWICE, consequence, harmless: false }]
        }
        (WriteMode::InsertIfNew, _) => vec![
            Remains { what: TWICE, consequence: "finds the row there and changes nothing", harmless: true },
            Remains { what: LATE, consequence: "finds the newer one's row and is left out: the first to come stays", harmless: false },
        ],
        (WriteMode::Accumulate, _) => vec![
            Remains { what: TWICE, consequence: "is taken into account twice: `add` adds it up twice", harmless: false },
            Remains { what: LATE, consequence: "counts like any other, and under `replace` and `coalesce` it overwrites the newer one", harmless: false },
        ],
        (_, true) => vec![
            Remains { what: TWICE, consequence: "writes the same row again", harmless: true },
            Remains { what: LATE, consequence: "is left out: its version is lower", harmless: true },
        ],
        (_, false) => vec![
            Remains { what: TWICE, consequence: "writes the same row again", harmless: true },
            Remains { what: LATE, consequence: "overwrites the newer one: name a `version` column", harmless: false },
        ],
    };
    if facts.deletes && facts.version && matches!(facts.write, WriteMode::Upsert | WriteMode::Update) {
        let what = "an older write that comes later than `retention.tombstones` after a newer delete";
        remains.push(Remains { what, consequence: "brings the row back", harmless: false });
        if facts.delivery == Delivery::AtLeastOnce && facts.marked == Events::NotKept {
            let what = "a delete without a version of its own that a crash repeats";
            remains.push(Remains { what, consequence: "deletes what another partition has written since: give deletes a version", harmless: false });
        }
    }
    if facts.marked == Events::ById {
        remains.retain(|remains| remains.what != TWICE);
        remains.insert(0, Remains { what: TWICE, consequence: "is left out: its id is known", harmless: true });
    } else if facts.remembered == Events::ById {
        let consequence = match facts.write {
            WriteMode::Append => {
                "is left out while Redis remembers its id, and becomes two rows where Redis does not (a crash, a failover, after redis.ttl); \
                 dedup: [processed-event] stops it for certain"
            }
            WriteMode::Accumulate => {
                "is left out while Redis remembers its id, and is taken into account twice where Redis does not (a crash, a failover, after redis.ttl); \
                 dedup: [processed-event] stops it for certain"
            }
            WriteMode::Upsert | WriteMode::Update | WriteMode::InsertIfNew => "is left out while Redis remembers its id, and else changes nothing",
        };
        let harmless = !matches!(facts.write, WriteMode::Append | WriteMode::Accumulate);
        remains.retain(|remains| remains.what != TWICE);
        remains.insert(0, Remains { what: TWICE, consequence, harmless });
    }
    if facts.marked != Events::NotKept && (facts.marked == Events::ById || facts.delivery == Delivery::AtLeastOnce) {
        remains.push(Remains { what: "a repeat that comes later than `retention.processed_events`", consequence: "takes effect again", harmless: false });
    }
    remains
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Facts> {
        let deliveries = [Delivery::AtMostOnce, Delivery::AtLeastOnce, Delivery::ExactlyOnce];
        let writes = [WriteMode::Append, WriteMode::Upsert, WriteMode::Update, WriteMode::InsertIfNew, WriteMode::Accumulate];
        let events = [Events::NotKept, Events::ByCoordinate, Events::ById];
        let kept = events.into_iter().flat_map(move |marked| events.into_iter().map(move |remembered| (marked, remembered)));
        let routes = writes.into_iter().flat_map(|write| [false, true].map(|version| (write, version)));
        let routes: Vec<_> = deliveries.into_iter().flat_map(move |delivery| routes.clone().map(move |(write, version)| (delivery, write, version))).collect();
        kept.flat_map(move |(marked, remembered)| {
            routes.clone().into_iter().map(move |(delivery, write, version)| Facts { delivery, write, version, deletes: version, marked, remembered })
        })
    }

    #[test]
    fn only_a_checkpoint_or_event_ids_promise_each_record_once() {
        for facts in all() {
            let once = facts.delivery == Delivery::ExactlyOnce || (facts.delivery == Delivery::AtLeastOnce && facts.marked != Events::NotKept);
            assert_eq!(effective(facts).effect == Effect::Once, once, "{facts:?}");
        }
    }

    #[test]
    fn what_a_repeat_changes_is_said_to_keep_repeats_under_at_least_once() {
        for facts in all() {
            let repeats =
                facts.delivery == Delivery::AtLeastOnce && matches!(facts.write, WriteMode::Append | WriteMode::Accumulate) && facts.marked == Events::NotKept;
            assert_eq!(effective(facts).effect == Effect::RepeatsRemain, repeats, "{facts:?}");
        }
    }

    #[test]
    fn a_stale_overwrite_is_named_exactly_where_no_version_is() {
        for facts in all() {
            let stale = effective(facts).remains.iter().any(|remains| remains.consequence.contains("overwrites"));
            let expected = match facts.write {
                WriteMode::Append | WriteMode::InsertIfNew => false,
                WriteMode::Upsert | WriteMode::Update => !facts.version,
                WriteMode::Accumulate => true,
            };
            assert_eq!(stale, expected, "{facts:?}");
        }
    }

    #[test]
    fn a_repeated_delete_is_named_where_nothing_stops_the_repeat() {
        for facts in all() {
            let named = effective(facts).remains.iter().any(|remains| remains.what.contains("that a crash repeats"));
            let expected = facts.delivery == Delivery::AtLeastOnce
                && facts.marked == Events::NotKept
                && facts.deletes
                && facts.version
                && matches!(facts.write, WriteMode::Upsert | WriteMode::Update);
            assert_eq!(named, expected, "{facts:?}");
        }
    }

    #[test]
    fn what_a_producer_sends_twice_is_stopped_by_its_own_ids_only() {
        for facts in all().filter(|facts| facts.write == WriteMode::Append) {
            let stopped = effective(facts).remains.iter().any(|remains| remains.consequence.contains("its id is known"));
            assert_eq!(stopped, facts.marked == Events::ById, "{facts:?}");
        }
    }

    #[test]
    fn redis_alone_promises_nothing_for_certain() {
        for facts in all().filter(|facts| facts.marked == Events::NotKept && facts.remembered != Events::NotKept) {
            let without = Facts { remembered: Events::NotKept, ..facts };
            assert_eq!(effective(facts).effect, effective(without).effect, "{facts:?}");
        }
    }
}
