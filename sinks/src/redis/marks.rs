//! The mark of one event: its key, and what it says.
//!
//! The value is the coordinate of the record that made the event durable. With it a mark proves itself: below the database's own next
//! offset of that partition the event is in the database, and above it cannot be.

use std::{fmt::Write, time::Duration};

use redis::{Cmd, FromRedisValue, Value};

use super::fault::unknown;
use crate::{
    dedup::{Event, Generation},
    fault::Fault,
    model::Coordinate,
};

/// Names of one pipeline's keys.
#[derive(Debug)]
pub(super) struct Keys {
    /// `oncesink:{pipeline}:`, escaped.
    start: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, pipeline: &str) -> Self {
        let mut start = String::new();
        escape(&mut start, prefix, false);
        start.push(':');
        escape(&mut start, pipeline, true);
        start.push(':');
        Self { start }
    }

    /// One hash a pipeline: generation, claims and offsets change together.
    pub(super) fn state(&self) -> String {
        format!("{}next", self.start)
    }

    /// A key to ask for.
    pub(super) fn never_written(&self) -> String {
        format!("{}-", self.start)
    }

    /// The key of each event.
    pub(super) fn marks(&self, generation: &Generation, events: &[Event<'_>]) -> Vec<String> {
        self.each(generation, events, |_, key| key.to_owned())
    }

    /// For each event the command that remembers it.
    pub(super) fn remember(&self, generation: &Generation, events: &[Event<'_>], ttl: Duration) -> Vec<Cmd> {
        let ttl = ttl.as_millis().to_string();
        let mut record = String::new();
        self.each(generation, events, |event, key| {
            record.clear();
            // Writing to a string cannot fail.
            let _ = write!(record, "{}", event.partition.at(event.offset));
            // Made at once as long as it gets: a million times a second growing costs more than all else of it.
            let mut command = Cmd::with_capacity(5, "SETPX".len() + key.len() + record.len() + ttl.len());
            command.arg("SET").arg(key).arg(&record).arg("PX").arg(&ttl);
            command
        })
    }

    /// Two events never share a key: all but the last part are escaped. What the keys of a route begin with is written once.
    fn each<'a, T>(&self, generation: &Generation, events: &'a [Event<'a>], mut take: impl FnMut(&Event<'a>, &str) -> T) -> Vec<T> {
        let (mut key, mut route, mut start) = (String::new(), None, 0);
        let of_event = |event: &'a Event<'a>| {
            if route.replace(event.route) != Some(event.route) {
                key.clear();
                key.push_str(&self.start);
                key.push_str(generation.as_str());
                key.push(':');
                escape(&mut key, event.route, true);
                key.push(':');
                start = key.len();
            }
            key.truncate(start);
            key.push_str(event.id);
            take(event, &key)
        };
        events.iter().map(of_event).collect()
    }
}

/// Without what separates the parts of a key, and without braces: in a Cluster the part between them alone would choose the node.
fn escape(key: &mut String, part: &str, separators: bool) {
    for character in part.chars() {
        match character {
            '{' | '}' | '%' => {}
            ':' if separators => {}
            _ => {
                key.push(character);
                continue;
            }
        }
        // Writing to a string cannot fail.
        let _ = write!(key, "%{:02x}", u32::from(character));
    }
}

/// The record that a mark names.
pub(super) fn coordinate(answer: Value) -> Result<Option<Coordinate>, Fault> {
    let text = Option::<String>::from_redis_value(answer).map_err(|_| unknown())?;
    // Not ours, or of another version: nothing to rely on. The event is written again, and the mark with it.
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{EventIdKind, Partition};

    fn generation() -> Generation {
        Generation::new("0000000000000001")
    }

    #[test]
    fn two_events_never_share_a_key() {
        let partition = Partition::new("orders", 0);
        let parts = ["a", "a:b", "b", "b:a", "a%3ab", "a{b}", "a%7bb%7d", ""];
        let mut keys = BTreeSet::new();
        for pipeline in parts {
            for route in parts {
                for id in parts {
                    let event = Event { partition: &partition, offset: 0, route, id, id_kind: EventIdKind::Producer };
                    let [key] = Keys::new("oncesink", pipeline).marks(&generation(), &[event]).try_into().unwrap();
                    assert!(keys.insert(key), "{pipeline} {route} {id}");
                }
            }
        }
    }

    #[test]
    fn names_do_not_choose_the_node() {
        let partition = Partition::new("orders", 0);
        let events = [Event { partition: &partition, offset: 0, route: "{r}", id: "7", id_kind: EventIdKind::Producer }];
        let key = Keys::new("one{sink}", "{shop}").marks(&generation(), &events).concat();
        assert!(!key.contains(['{', '}']), "{key}");
        assert!(key.starts_with("one%7bsink%7d:"), "{key}");
    }

    #[test]
    fn the_events_of_several_routes_have_the_keys_that_each_has_alone() {
        let partition = Partition::new("orders", 0);
        let events = [("a", "1"), ("a", "22"), ("b", "3"), ("a", "")].map(|(route, id)| Event {
            partition: &partition,
            offset: 0,
            route,
            id,
            id_kind: EventIdKind::Producer,
        });
        let keys = Keys::new("oncesink", "shop");
        let alone: Vec<String> = events.iter().flat_map(|event| keys.marks(&generation(), &[*event])).collect();
        assert_eq!(keys.marks(&generation(), &events), alone);
        assert_eq!(alone[1], "oncesink:shop:0000000000000001:a:22");
    }

    #[test]
    fn a_mark_names_its_record() {
        let record = Partition::new("orders", 0).at(49);
        let read = |text: &str| coordinate(Value::BulkString(text.as_bytes().to_vec())).unwrap();
        assert_eq!(read(&record.to_string()), Some(record));
        assert_eq!(read("x"), None);
        assert_eq!(coordinate(Value::Nil).unwrap(), None);
    }
}
