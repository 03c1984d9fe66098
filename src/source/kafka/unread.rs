//! Partitions that the group gives to nobody, and will not by itself.
//!
//! Under a cooperative strategy partitions change hands in two rounds: one takes them away from a member, and the next gives them to
//! another. The second is asked for by the member that gave them away. If that is a static member and its process dies in between, it comes
//! back under its name without any round, and nobody asks: the group is stable, and part of a topic is read by no one.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use oncesink_sinks::model::Partition;

/// Who is in the group, and what they read; only of a group in which no round is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Assignments {
    /// Member ids: each round that mends something changes them.
    pub members: BTreeSet<String>,
    pub partitions: BTreeSet<Partition>,
}

/// What is given to nobody, since when, and what is to be given to somebody.
#[derive(Debug)]
pub(super) struct Unread {
    expected: BTreeSet<Partition>,
    patience: Duration,
    suspected: Option<Suspected>,
}

#[derive(Debug)]
struct Suspected {
    members: BTreeSet<String>,
    unread: BTreeSet<Partition>,
    since: Instant,
}

impl Unread {
    /// `patience` is longer than the two rounds may lie apart.
    pub(super) fn new(expected: BTreeSet<Partition>, patience: Duration) -> Self {
        Self { expected, patience, suspected: None }
    }

    /// Hears of the group. What comes back is read by nobody, and has been so for too long.
    pub(super) fn hear(&mut self, assignments: Option<Assignments>, now: Instant) -> BTreeSet<Partition> {
        let Some(Assignments { members, partitions }) = assignments.filter(|assignments| !assignments.members.is_empty()) else {
            self.suspected = None;
            return BTreeSet::new();
        };
        // A topic that has grown: its new partitions are the client's to find, and ours once somebody has them.
        let unread: BTreeSet<Partition> = self.expected.difference(&partitions).cloned().collect();
        self.expected.extend(partitions);
        if unread.is_empty() {
            self.suspected = None;
            return unread;
        }
        match &self.suspected {
            Some(before) if before.members == members && before.unread == unread => {
                if now.saturating_duration_since(before.since) < self.patience {
                    return BTreeSet::new();
                }
                self.suspected = None;
                unread
            }
            _ => {
                self.suspected = Some(Suspected { members, unread, since: now });
                BTreeSet::new()
            }
        }
    }

    /// They are not there any more: their topic was deleted.
    pub(super) fn forget(&mut self, gone: &BTreeSet<Partition>) {
        self.expected.retain(|partition| !gone.contains(partition));
    }
}

/// The partitions of a member's assignment as the consumer protocol writes it: version, topics with their partitions, the rest.
/// None if it is not like that.
pub(super) fn parse(assignment: &[u8]) -> Option<Vec<Partition>> {
    // A member that was given nothing may have no bytes at all.
    if assignment.is_empty() {
        return Some(Vec::new());
    }
    let mut rest = assignment;
    take::<2>(&mut rest)?;
    let mut partitions = Vec::new();
    for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let (topic, behind) = rest.split_at_checked(length)?;
        rest = behind;
        let topic = str::from_utf8(topic).ok()?;
        for _ in 0..i32::from_be_bytes(take(&mut rest)?) {
            partitions.push(Partition::new(topic, i32::from_be_bytes(take(&mut rest)?)));
        }
    }
    Some(partitions)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    fn partitions(indexes: &[i32]) -> BTreeSet<Partition> {
        indexes.iter().map(|index| Partition::new("orders", *index)).collect()
    }

    fn group(members: &[&str], indexes: &[i32]) -> Option<Assignments> {
        Some(Assignments { members: members.iter().map(ToString::to_string).collect(), partitions: partitions(indexes) })
    }

    #[test]
    fn partitions_of_nobody_are_told_after_a_while_in_which_nothing_happened() {
        let (begin, mut unread) = (Instant::now(), Unread::new(partitions(&[0, 1, 2]), PATIENCE));
        let mut hear = |seconds, group| unread.hear(group, begin + Duration::from_secs(seconds));
        assert_eq!(hear(0, group(&["a", "b"], &[0, 1])), partitions(&[]));
        assert_eq!(hear(14, group(&["a", "b"], &[0, 1])), partitions(&[]));
        // A round has gone by, or is under way: all over again.
        assert_eq!(hear(16, group(&["a", "c"], &[0, 1])), partitions(&[]));
        assert_eq!(hear(20, None), partitions(&[]));
        assert_eq!(hear(25, group(&["a", "c"], &[0, 1])), partitions(&[]));
        assert_eq!(hear(40, group(&["a", "c"], &[0, 1])), partitions(&[2]));
        assert_eq!(hear(41, group(&["a", "c"], &[0, 1])), partitions(&[]), "once, and then after the same while again");
        assert_eq!(hear(56, group(&["a", "c"], &[0, 1])), partitions(&[2]));
    }

    #[test]
    fn what_was_ever_read_is_expected_until_it_is_gone() {
        let (begin, mut unread) = (Instant::now(), Unread::new(partitions(&[0]), PATIENCE));
        let mut hear = |seconds, group| unread.hear(group, begin + Duration::from_secs(seconds));
        assert_eq!(hear(0, group(&["a"], &[0, 1])), partitions(&[]));
        assert_eq!(hear(1, group(&["a"], &[0])), partitions(&[]));
        assert_eq!(hear(16, group(&["a"], &[0])), partitions(&[1]));
        unread.forget(&partitions(&[1]));
        let mut hear = |seconds, group| unread.hear(group, begin + Duration::from_secs(seconds));
        assert_eq!(hear(17, group(&["a"], &[0])), partitions(&[]));
        assert_eq!(hear(99, group(&["a"], &[0])), partitions(&[]));
    }

    #[test]
    fn an_assignment_is_read_as_the_consumer_protocol_writes_it() {
        let bytes = [&[0, 1, 0, 0, 0, 2][..], &[0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 7], &[0, 1, b'b', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1], &[255; 4]].concat();
        assert_eq!(parse(&bytes), Some(vec![Partition::new("a", 7), Partition::new("b", 0), Partition::new("b", 1)]));
        assert_eq!(parse(&[]), Some(vec![]));
        assert_eq!(parse(&[0, 1, 0, 0, 0, 0]), Some(vec![]));
        for end in 1..25 {
            assert_eq!(parse(&bytes[..end]), None, "{end} bytes");
        }
    }
}
