//! The simulated topics: what producers wrote, and which entries a reader never sees.

use std::{collections::BTreeMap, sync::Arc};

use oncesink_sinks::model::{Delivery, NextOffset, Partition};
use rand::{Rng, rngs::SmallRng};

use oncesink::source::Ends;

/// What a record does. Its text is `payload,id,version,kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactKind {
    Write,
    Delete,
    /// A route's filter leaves it out.
    Filtered,
    /// It cannot be decoded, and the route says to skip such.
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Unique in a seed: it names the record.
    pub payload: i64,
    pub id: i64,
    pub version: i64,
    pub kind: FactKind,
}

impl Fact {
    pub fn text(&self) -> String {
        let kind = match self.kind {
            FactKind::Write => 'w',
            FactKind::Delete => 'd',
            FactKind::Filtered => 'f',
            FactKind::Bad => return format!("{},not a number", self.payload),
        };
        format!("{},{},{},{kind}", self.payload, self.id, self.version)
    }

    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split(',');
        let mut number = || parts.next()?.parse().ok();
        let (payload, id, version) = (number()?, number()?, number()?);
        let kind = match parts.next()? {
            "w" => FactKind::Write,
            "d" => FactKind::Delete,
            "f" => FactKind::Filtered,
            _ => return None,
        };
        Some(Self { payload, id, version, kind })
    }

    /// Whether it has rows in the tables.
    pub fn is_visible(&self) -> bool {
        matches!(self.kind, FactKind::Write | FactKind::Delete)
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Entry {
    Record(Fact),
    /// The end of a transaction, or an aborted record: it takes an offset and is never delivered.
    Control,
}

/// What is written about in a topic, and so what can be asked of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKind {
    /// Exactly-once: an append table, and an upsert table with a version whose keys come from every partition.
    Orders,
    /// Exactly-once: an append table, and an upsert table without version whose keys keep to one partition; with deletes.
    Ledger,
    /// At-least-once: an upsert table with a version.
    Events,
}

impl TopicKind {
    pub const fn delivery(self) -> Delivery {
        match self {
            Self::Orders | Self::Ledger => Delivery::ExactlyOnce,
            Self::Events => Delivery::AtLeastOnce,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Ledger => "ledger",
            Self::Events => "events",
        }
    }
}

#[derive(Debug)]
pub struct Topic {
    pub name: Arc<str>,
    pub kind: TopicKind,
    pub partitions: Vec<PartitionLog>,
}

#[derive(Debug, Default)]
pub struct PartitionLog {
    pub low: i64,
    /// From offset 0 on; what lies below `low` is not read any more.
    pub entries: Vec<Entry>,
}

impl PartitionLog {
    pub fn high(&self) -> i64 {
        self.entries.len() as i64
    }

    pub fn ends(&self) -> Ends {
        Ends { low: NextOffset::new(self.low), high: NextOffset::new(self.high()) }
    }

    /// The records of `[from, to)` that a reader sees and that have rows.
    pub fn visible(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, &Fact)> {
        let range = from.clamp(0, self.high()) as usize..to.clamp(0, self.high()) as usize;
        let start = range.start as i64;
        self.entries.get(range).unwrap_or_default().iter().enumerate().filter_map(move |(index, entry)| match entry {
            Entry::Record(fact) if fact.is_visible() => Some((start + index as i64, fact)),
            _ => None,
        })
    }
}

/// All topics of a seed.
#[derive(Debug, Default)]
pub struct Log {
    pub topics: Vec<Topic>,
    next_payload: i64,
    /// Clock of the versions: producers are late by a few steps now and then.
    clock: BTreeMap<i64, i64>,
}

impl Log {
    pub fn add_topic(&mut self, kind: TopicKind, partitions: usize) {
        let partitions = (0..partitions).map(|_| PartitionLog::default()).collect();
        self.topics.push(Topic { name: Arc::from(kind.name()), kind, partitions });
    }

    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.iter().find(|topic| &*topic.name == name)
    }

    pub fn partition(&self, partition: &Partition) -> Option<&PartitionLog> {
        self.topic(&partition.topic)?.partitions.get(usize::try_from(partition.index).ok()?)
    }

    pub fn partition_mut(&mut self, partition: &Partition) -> Option<&mut PartitionLog> {
        self.topics.iter_mut().find(|topic| topic.name == partition.topic)?.partitions.get_mut(usize::try_from(partition.index).ok()?)
    }

    pub fn partitions(&self) -> Vec<Partition> {
        let mut all: Vec<Partition> = self
            .topics
            .iter()
            .flat_map(|topic| (0..topic.partitions.len()).map(|index| Partition { topic: topic.name.clone(), index: index as i32 }))
            .collect();
        all.sort_unstable();
        all
    }

    /// Appends one entry: mostly a write, sometimes one of the others.
    pub fn produce(&mut self, partition: &Partition, with_bad: bool, random: &mut SmallRng) -> Entry {
        let Some(kind) = self.topic(&partition.topic).map(|topic| topic.kind) else { return Entry::Control };
        let roll = random.random_range(0..100);
        let entry = if roll < 6 {
            Entry::Control
        } else {
            self.next_payload += 1;
            let partition_number = i64::from(partition.index);
            let small = random.random_range(0..12_i64);
            let id = match kind {
                // Any key in any partition: the version alone decides.
                TopicKind::Orders | TopicKind::Events => small,
                TopicKind::Ledger => small * 100 + partition_number,
            };
            // The partition's number keeps versions of different partitions apart: between them, equal ones have no order.
            let clock = self.clock.entry(id).or_insert(0);
            *clock += i64::from(random.random_range(0..10) < 7);
            let late = if random.random_range(0..10) < 3 { random.random_range(0..4) } else { 0 };
            let version = (*clock - late).max(0) * 16 + partition_number;
            let fact_kind = match roll {
                6..10 => FactKind::Filtered,
                10..12 if with_bad => FactKind::Bad,
                12..24 if kind == TopicKind::Ledger => FactKind::Delete,
                _ => FactKind::Write,
            };
            Entry::Record(Fact { payload: self.next_payload, id, version, kind: fact_kind })
        };
        if let Some(log) = self.partition_mut(partition) {
            log.entries.push(entry);
        }
        entry
    }

    pub fn add_partition(&mut self, topic: usize) -> Option<Partition> {
        let topic = self.topics.get_mut(topic)?;
        topic.partitions.push(PartitionLog::default());
        Some(Partition { topic: topic.name.clone(), index: topic.partitions.len() as i32 - 1 })
    }
}
