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

    /// Two events never share a key: all but the last part are escaped.
    pub(super) fn mark(&self, generation: &Generation, event: &Event<'_>) -> String {
        let mut key = String::with_capacity(self.start.len() + generation.as_str().len() + event.route.len() + event.id.len() + 2);
        key.push_str(&self.start);
        key.push_str(generation.as_str());
        key.push(':');
        escape(&mut key, event.route, true);
        key.push(':');
        key.push_str(event.id);
        key
    }

    pub(super) fn set(&self, generation: &Generation, event: &Event<'_>, ttl: Duration) -> Cmd {
        let mut command = redis::cmd("SET");
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        command.arg(self.mark(generation, event)).arg(event.partition.at(event.offset).to_string()).arg("PX").arg(ttl);
        command
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
    use crate::model::Partition;

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
                    let event = Event { partition: &partition, offset: 0, route, id };
                    assert!(keys.insert(Keys::new("oncesink", pipeline).mark(&generation(), &event)), "{pipeline} {route} {id}");
                }
            }
        }
    }

    #[test]
    fn names_do_not_choose_the_node() {
        let partition = Partition::new("orders", 0);
        let key = Keys::new("one{sink}", "{shop}").mark(&generation(), &Event { partition: &partition, offset: 0, route: "{r}", id: "7" });
        assert!(!key.contains(['{', '}']), "{key}");
        assert!(key.starts_with("one%7bsink%7d:"), "{key}");
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
