//! What happened in a seed: a hash that tells two runs apart, counts for the histogram, and lines for people.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::world::events::{Event, TRANSITIONS};

/// How many lines are kept to be printed when a seed fails.
const KEPT: usize = 20_000;

/// The event log of one seed.
#[derive(Debug)]
pub struct Story {
    started: Instant,
    hash: u64,
    lines: VecDeque<String>,
    counts: Vec<u64>,
    transitions: BTreeMap<(&'static str, &'static str), u64>,
    /// The faults that fired, by their number in the seed's list, and what each did.
    pub faults: Vec<(u32, String)>,
    pub violations: Vec<String>,
}

impl Story {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            hash: 0,
            lines: VecDeque::new(),
            counts: vec![0; Event::ALL.len()],
            transitions: BTreeMap::new(),
            faults: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Everything that is told is hashed, with its time: two runs of a seed must tell the same.
    pub fn tell(&mut self, line: fmt::Arguments<'_>) {
        let text = format!("{:>9.3}s  {line}", self.started.elapsed().as_secs_f64());
        self.hash = xxh3_64_with_seed(text.as_bytes(), self.hash);
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }

    pub fn count(&mut self, event: Event) {
        self.add(event, 1);
    }

    pub fn add(&mut self, event: Event, times: u64) {
        self.counts[event as usize] += times;
    }

    /// A fault of the seed's list fired.
    pub fn fault(&mut self, number: u32, event: Option<Event>, what: fmt::Arguments<'_>) {
        self.tell(format_args!("fault {number}: {what}"));
        self.faults.push((number, format!("{:>7.3}s  {what}", self.started.elapsed().as_secs_f64())));
        if let Some(event) = event {
            self.count(event);
        }
    }

    /// A lane went from one state to another.
    pub fn transition(&mut self, from: &'static str, to: &'static str) {
        if !TRANSITIONS.contains(&(from, to)) {
            self.violation(format!("a lane goes from {from} to {to}, which no lane may"));
        }
        *self.transitions.entry((from, to)).or_insert(0) += 1;
    }

    pub fn violation(&mut self, text: String) {
        self.tell(format_args!("VIOLATION: {text}"));
        // The first ones tell the story; a broken engine would fill the memory with the rest.
        if self.violations.len() < 50 {
            self.violations.push(text);
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How often each event and each transition happened: all of them are in it.
    pub fn histogram(&self) -> BTreeMap<String, u64> {
        let events = Event::ALL.iter().map(|event| (event.text().to_owned(), self.counts[*event as usize]));
        let transitions = TRANSITIONS.iter().map(|(from, to)| (format!("lane: {from} to {to}"), self.transitions.get(&(*from, *to)).copied().unwrap_or(0)));
        events.chain(transitions).collect()
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
