//! Breadth first: every state once, the shortest way to whatever is wrong, and a quiet continuation from each.

use crate::{
    action::Action,
    rules::{Rules, Violation},
    state::{Key, State},
};

/// No state: it has no quiet successor, or no parent.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub struct Explored {
    pub states: usize,
    pub steps: usize,
    /// The longest way that was needed to reach a state.
    pub depth: usize,
    /// Whatever is wrong, told in lines.
    pub wrong: Option<String>,
}

/// Where a key stands in the list of keys: open addressing, so that a state costs its key and four bytes.
struct Index {
    slots: Vec<u32>,
}

impl Index {
    fn slot(&self, keys: &[Key], key: &Key) -> usize {
        let mask = self.slots.len() - 1;
        let mixed = key.iter().fold(0_u64, |mixed, word| (mixed.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut slot = (mixed >> 20) as usize & mask;
        while self.slots[slot] != NONE && keys[self.slots[slot] as usize] != *key {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The number of `key`, and whether it is new.
    fn insert(&mut self, keys: &mut Vec<Key>, key: Key) -> (u32, bool) {
        if keys.len() * 2 >= self.slots.len() {
            self.slots = vec![NONE; self.slots.len() * 2];
            for (number, known) in keys.iter().enumerate() {
                let slot = self.slot(keys, known);
                self.slots[slot] = number as u32;
            }
        }
        let slot = self.slot(keys, &key);
        if self.slots[slot] != NONE {
            return (self.slots[slot], false);
        }
        let number = u32::try_from(keys.len()).expect("fewer than 2^32 states");
        self.slots[slot] = number;
        keys.push(key);
        (number, true)
    }
}

struct Search<'a> {
    rules: &'a Rules,
    quiet: Vec<Action>,
    others: Vec<Action>,
    keys: Vec<Key>,
    parents: Vec<u32>,
    /// For each state, the one that a quiet continuation goes to.
    next: Vec<u32>,
}

/// Explores everything within the bounds of `rules`.
pub fn explore(rules: &Rules) -> Explored {
    let partitions = rules.bounds.partitions;
    let (quiet, others) = Action::all(partitions);
    let mut search = Search { rules, quiet, others, keys: Vec::new(), parents: vec![NONE], next: Vec::new() };
    let mut index = Index { slots: vec![NONE; 1 << 16] };
    index.insert(&mut search.keys, rules.initial().normal().canonical(partitions));
    let (mut at, mut steps) = (0, 0);
    let mut is_broken = false;
    'all: while at < search.keys.len() {
        let state = State::unpack(&search.keys[at]);
        let mut next = NONE;
        for (order, action) in search.quiet.iter().chain(&search.others).enumerate() {
            let after = match rules.act(&state, *action) {
                None => continue,
                Some(Err(_)) => {
                    is_broken = true;
                    break 'all;
                }
                Some(Ok(after)) => after.normal(),
            };
            if after == state {
                continue;
            }
            steps += 1;
            let (number, is_new) = index.insert(&mut search.keys, after.canonical(partitions));
            if is_new {
                search.parents.push(at as u32);
            }
            // The same state, or the same under other names, is no progress.
            if order < search.quiet.len() && next == NONE && number != at as u32 {
                next = number;
            }
        }
        search.next.push(next);
        at += 1;
    }
    let wrong = if is_broken { Some(search.tell(at as u32)) } else { search.first_unrest().map(|(from, violation)| search.tell_unrest(from, &violation)) };
    Explored { states: search.keys.len(), steps, depth: search.path(search.keys.len() as u32 - 1).len() - 1, wrong }
}

impl Search<'_> {
    /// The first state from which a quiet continuation does not end well.
    fn first_unrest(&self) -> Option<(u32, Violation)> {
        const OPEN: u8 = 1;
        const WELL: u8 = 2;
        let mut marks = vec![0_u8; self.keys.len()];
        let mut way = Vec::new();
        for from in 0..self.keys.len() as u32 {
            let mut at = from;
            while marks[at as usize] == 0 {
                marks[at as usize] = OPEN;
                way.push(at);
                let next = self.next[at as usize];
                if next == NONE {
                    if let Err(violation) = self.rules.rest(&State::unpack(&self.keys[at as usize])) {
                        return Some((from, violation));
                    }
                    marks[at as usize] = WELL;
                } else {
                    at = next;
                }
            }
            if marks[at as usize] == OPEN {
                return Some((from, "without faults it goes in a circle".to_owned()));
            }
            for done in way.drain(..) {
                marks[done as usize] = WELL;
            }
        }
        None
    }

    /// From the first state to this one.
    fn path(&self, to: u32) -> Vec<u32> {
        let mut path = vec![to];
        while let Some(&parent) = path.last().and_then(|at| self.parents.get(*at as usize)).filter(|parent| **parent != NONE) {
            path.push(parent);
        }
        path.reverse();
        path
    }

    /// The way to a state in lines, and the state. States are kept under the least of their names: here each step gets one that fits.
    fn retell(&self, path: &[u32]) -> (Vec<String>, State) {
        let mut state = self.rules.initial();
        let mut lines = Vec::new();
        for number in &path[1..] {
            let step = self.quiet.iter().chain(&self.others).find_map(|action| match self.rules.act(&state, *action) {
                Some(Ok(after)) if after.normal().canonical(self.rules.bounds.partitions) == self.keys[*number as usize] => Some((*action, after)),
                _ => None,
            });
            let (action, after) = step.expect("each state of a path follows from the one before it");
            lines.push(action.tell(&state, &after));
            state = after;
        }
        (lines, state)
    }

    fn tell(&self, at: u32) -> String {
        let (mut lines, state) = self.retell(&self.path(at));
        for action in self.quiet.iter().chain(&self.others) {
            if let Some(Err(violation)) = self.rules.act(&state, *action) {
                lines.extend([action.tell(&state, &state), format!("=> {violation}")]);
                break;
            }
        }
        lines.join("\n")
    }

    fn tell_unrest(&self, from: u32, violation: &str) -> String {
        let mut path = self.path(from);
        let faulty = path.len() - 1;
        let mut at = self.next[from as usize];
        while at != NONE && !path.contains(&at) {
            path.push(at);
            at = self.next[at as usize];
        }
        let (mut lines, _) = self.retell(&path);
        lines.insert(faulty, "(from here on nothing more goes wrong)".to_owned());
        lines.push(format!("=> {violation}"));
        lines.join("\n")
    }
}
