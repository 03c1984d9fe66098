//! What happened in a seed: a hash that tells two runs apart, counts for the histogram, and the last lines for people.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many lines are kept to be printed when a seed fails.
const KEPT: usize = 20_000;

/// The event log of one seed.
#[derive(Debug)]
pub struct Story {
    started: Instant,
    hash: u64,
    lines: VecDeque<String>,
    pub counts: BTreeMap<&'static str, u64>,
    pub violations: Vec<String>,
}

impl Story {
    pub fn new() -> Self {
        Self { started: Instant::now(), hash: 0, lines: VecDeque::new(), counts: BTreeMap::new(), violations: Vec::new() }
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

    /// Counts a fault that fired or a transition that was taken.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
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

    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
