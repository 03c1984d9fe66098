//! 200,000 events of orders, always the same ones: each order in several versions, some sent twice, some out of order.

use rand::{Rng, SeedableRng, rngs::SmallRng};

pub const TOPIC: &str = "orders";
pub const PARTITIONS: i32 = 6;
pub const EVENTS: usize = 200_000;

/// Orders that are under way at once, so that their events lie mixed in the log.
const OPEN: usize = 400;

/// One event as its producer sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub order: i64,
    pub version: i64,
}

impl Event {
    /// All events of an order go to one partition, as with any keyed producer.
    pub fn partition(self) -> i32 {
        i32::try_from(self.order % i64::from(PARTITIONS)).unwrap_or(0)
    }

    pub fn key(self) -> String {
        self.order.to_string()
    }

    pub fn value(self) -> String {
        const STATES: [&str; 5] = ["placed", "paid", "packed", "shipped", "delivered"];
        let state = STATES.get(usize::try_from(self.version - 1).unwrap_or(0)).unwrap_or(&"delivered");
        let cents = (self.order * 7919 + self.version * 131) % 100_000;
        format!(r#"{{"id":{},"version":{},"customer":"customer-{:05}","status":"{state}","total_cents":{cents}}}"#, self.order, self.version, self.order % 9973)
    }
}

/// The events in the order in which they are sent.
pub struct Events {
    random: SmallRng,
    /// Versions still to be sent, of each order under way.
    open: Vec<Vec<Event>>,
    next_order: i64,
    sent: usize,
    again: Option<Event>,
}

impl Events {
    pub fn new() -> Self {
        Self { random: SmallRng::seed_from_u64(20_261_121), open: Vec::new(), next_order: 1, sent: 0, again: None }
    }

    /// The versions of a new order, the last one to be sent first. One order in five has two of them swapped.
    fn place_order(&mut self) -> Vec<Event> {
        let order = self.next_order;
        self.next_order += 1;
        let mut versions: Vec<Event> = (1..=self.random.random_range(2..=5)).rev().map(|version| Event { order, version }).collect();
        if self.random.random_bool(0.2) {
            let at = self.random.random_range(1..versions.len());
            versions.swap(at - 1, at);
        }
        versions
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.sent == EVENTS {
            return None;
        }
        self.sent += 1;
        if let Some(event) = self.again.take() {
            return Some(event);
        }
        while self.open.len() < OPEN {
            let order = self.place_order();
            self.open.push(order);
        }
        let at = self.random.random_range(0..self.open.len());
        let event = self.open.get_mut(at)?.pop()?;
        if self.open.get(at).is_some_and(Vec::is_empty) {
            self.open.swap_remove(at);
        }
        // A producer that got no answer sends again, and the topic has the event twice.
        if self.random.random_bool(0.03) {
            self.again = Some(event);
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn events_are_the_same_each_time_and_hold_repeats_and_old_versions() {
        let events: Vec<Event> = Events::new().collect();
        assert_eq!(events.len(), EVENTS);
        assert_eq!(events, Events::new().collect::<Vec<_>>());
        let (mut newest, mut repeats, mut late): (BTreeMap<i64, i64>, usize, usize) = <_>::default();
        for event in &events {
            let seen = newest.entry(event.order).or_insert(0);
            match event.version.cmp(seen) {
                std::cmp::Ordering::Equal => repeats += 1,
                std::cmp::Ordering::Less => late += 1,
                std::cmp::Ordering::Greater => *seen = event.version,
            }
        }
        assert!(repeats > 4_000 && late > 8_000, "{repeats} repeats, {late} late");
    }
}
