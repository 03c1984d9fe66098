//! The simulated topics: what producers wrote, what became of it since, and which entries a reader never sees.

use std::{collections::BTreeMap, sync::Arc};

use oncesink::source::Ends;
use oncesink_sinks::model::{Delivery, NextOffset, Partition};
use rand::Rng;

use super::dice::Dice;

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
    /// Unique in a seed: it names what happened. Only events are sent twice.
    pub payload: i64,
    /// Also the record's key in Kafka.
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
    /// The end of a transaction: it takes an offset and is never delivered.
    Control,
    /// A record of a transaction that was aborted: a reader of what is committed never sees it.
    Aborted,
    /// A record that compaction has removed. `was_applied`: for certain, before that; else it may have been.
    Vanished {
        fact: Fact,
        was_applied: bool,
    },
}

/// What is written about in a topic, and so what can be asked of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKind {
    /// Exactly-once: an append table, and an upsert table with a version whose keys come from every partition; with deletes of a version
    /// of their own.
    Orders,
    /// Exactly-once: an append table, and an upsert table without version whose keys keep to one partition; with deletes.
    Ledger,
    /// At-least-once: an append table that keeps event ids, because producers send some twice, and an upsert table with a version, and deletes.
    Events,
    /// At-most-once: an append table, and an upsert table with a version; what a failure costs is missing in both.
    Readings,
}

impl TopicKind {
    pub const fn delivery(self) -> Delivery {
        match self {
            Self::Orders | Self::Ledger => Delivery::ExactlyOnce,
            Self::Events => Delivery::AtLeastOnce,
            Self::Readings => Delivery::AtMostOnce,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Ledger => "ledger",
            Self::Events => "events",
            Self::Readings => "readings",
        }
    }
}

#[derive(Debug)]
pub struct Topic {
    pub name: Arc<str>,
    pub kind: TopicKind,
    pub partitions: Vec<PartitionLog>,
    /// It is deleted at the moment.
    pub is_away: bool,
    /// How often it was made again.
    pub incarnation: u64,
}

#[derive(Clone, Debug, Default)]
pub struct PartitionLog {
    pub low: i64,
    /// From offset 0 on; what lies below `low` is not read any more.
    pub entries: Vec<Entry>,
    /// The offsets of a transaction that is not at its end: readers do not get beyond its first record.
    open: Vec<i64>,
    /// The partition's log before the topic was deleted and made again.
    pub former: Option<Box<Self>>,
    /// Retention has passed the checkpoint at some time.
    pub has_gap: bool,
}

impl PartitionLog {
    /// The last stable offset: where a reader of what is committed ends.
    pub fn high(&self) -> i64 {
        self.open.first().copied().unwrap_or(self.entries.len() as i64)
    }

    pub fn ends(&self) -> Ends {
        Ends { low: NextOffset::new(self.low), high: NextOffset::new(self.high()) }
    }

    pub fn entry(&self, offset: i64) -> Option<&Entry> {
        self.entries.get(usize::try_from(offset).ok()?)
    }

    pub fn holds_record(&self, offset: i64) -> bool {
        matches!(self.entry(offset), Some(Entry::Record(_)))
    }

    /// What stands at `[from, to)`.
    pub fn range(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, &Entry)> {
        let range = from.clamp(0, self.high()) as usize..to.clamp(0, self.high()) as usize;
        let start = range.start as i64;
        self.entries.get(range).unwrap_or_default().iter().enumerate().map(move |(index, entry)| (start + index as i64, entry))
    }

    /// The lowest offset from which on only entries that nobody sees lead to `offset`.
    pub fn before_gap(&self, mut offset: i64) -> i64 {
        while offset > 0 && !self.holds_record(offset - 1) {
            offset -= 1;
        }
        offset
    }

    pub fn begin_transaction(&mut self, facts: Vec<Fact>) {
        for fact in facts {
            self.open.push(self.entries.len() as i64);
            self.entries.push(Entry::Record(fact));
        }
    }

    pub fn has_open_transaction(&self) -> bool {
        !self.open.is_empty()
    }

    pub fn end_transaction(&mut self, is_committed: bool) {
        for offset in std::mem::take(&mut self.open) {
            if let Some(entry) = self.entries.get_mut(offset as usize)
                && !is_committed
            {
                *entry = Entry::Aborted;
            }
        }
        self.entries.push(Entry::Control);
    }

    /// Removes what has a later record of its key below `bound`; says how many. What lies below `applied` was applied for certain.
    pub fn compact(&mut self, bound: i64, applied: i64) -> usize {
        let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
        for (offset, entry) in self.range(self.low, bound) {
            if let Entry::Record(fact) = entry {
                newest.insert(fact.id, offset);
            }
        }
        let mut removed = 0;
        for offset in self.low..bound {
            let Some(entry) = self.entries.get_mut(offset as usize) else { break };
            if let Entry::Record(fact) = *entry
                && newest.get(&fact.id).is_some_and(|last| *last > offset)
            {
                *entry = Entry::Vanished { fact, was_applied: offset < applied };
                removed += 1;
            }
        }
        removed
    }
}

/// All topics of a seed.
#[derive(Debug, Default)]
pub struct Log {
    pub topics: Vec<Topic>,
    next_payload: i64,
    /// Producers send some events twice.
    pub sends_twice: bool,
    /// Clock of the versions: producers are late by a few steps now and then.
    clock: BTreeMap<i64, i64>,
}

impl Log {
    pub fn add_topic(&mut self, kind: TopicKind, partitions: usize) {
        let partitions = (0..partitions).map(|_| PartitionLog::default()).collect();
        self.topics.push(Topic { name: Arc::from(kind.name()), kind, partitions, is_away: false, incarnation: 0 });
    }

    /// A topic that is there.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.iter().find(|topic| !topic.is_away && &*topic.name == name)
    }

    pub fn partition(&self, partition: &Partition) -> Option<&PartitionLog> {
        self.topic(&partition.topic)?.partitions.get(usize::try_from(partition.index).ok()?)
    }

    pub fn partition_mut(&mut self, partition: &Partition) -> Option<&mut PartitionLog> {
        let topic = self.topics.iter_mut().find(|topic| !topic.is_away && topic.name == partition.topic)?;
        topic.partitions.get_mut(usize::try_from(partition.index).ok()?)
    }

    /// All partitions of topics that are there.
    pub fn partitions(&self) -> Vec<Partition> {
        let mut all: Vec<Partition> = self.topics.iter().filter(|topic| !topic.is_away).flat_map(Topic::all).collect();
        all.sort_unstable();
        all
    }

    /// A record as some producer makes it. `roll` decides what it does.
    pub fn fact(&mut self, partition: &Partition, roll: u32, with_bad: bool, dice: &mut Dice) -> Fact {
        let kind = self.topics.iter().find(|topic| topic.name == partition.topic).map_or(TopicKind::Events, |topic| topic.kind);
        self.next_payload += 1;
        let partition_number = i64::from(partition.index);
        let small = dice.random_range(0..12_i64);
        let id = match kind {
            // Any key in any partition: the version alone decides.
            TopicKind::Orders | TopicKind::Events | TopicKind::Readings => small,
            TopicKind::Ledger => small * 100 + partition_number,
        };
        // The partition's number keeps versions of different partitions apart: between them, equal ones have no order.
        let clock = self.clock.entry(id).or_insert(0);
        *clock += i64::from(dice.random_range(0..10) < 7);
        let late = if dice.random_range(0..10) < 3 { dice.random_range(0..4) } else { 0 };
        let version = match kind {
            // An event that is sent once more, in another partition, has no order among equal versions: there are none.
            TopicKind::Events => (self.next_payload - late * 3) * 8 + late,
            TopicKind::Orders | TopicKind::Ledger | TopicKind::Readings => (*clock - late).max(0) * 16 + partition_number,
        };
        let fact_kind = match roll {
            6..10 => FactKind::Filtered,
            10..12 if with_bad => FactKind::Bad,
            12..24 if kind == TopicKind::Ledger => FactKind::Delete,
            12..30 if kind.has_version() => FactKind::Delete,
            _ => FactKind::Write,
        };
        Fact { payload: self.next_payload, id, version, kind: fact_kind }
    }

    /// Appends one entry: mostly a write, sometimes one of the others.
    pub fn produce(&mut self, partition: &Partition, with_bad: bool, dice: &mut Dice) -> Entry {
        let roll = dice.random_range(0..100);
        let made = self.repeated(partition, dice).unwrap_or_else(|| self.fact(partition, roll, with_bad, dice));
        let Some(log) = self.partition_mut(partition) else { return Entry::Control };
        // A topic that was made again is told from the one before by the record below the checkpoint: where there is none, it cannot be.
        let must_differ = log.former.as_ref().is_some_and(|former| log.entries.len() < former.entries.len());
        let entry = if roll < 6 && !must_differ { Entry::Control } else { Entry::Record(made) };
        log.entries.push(entry);
        entry
    }

    /// One of the latest events of the topic, which its producer sends once more.
    fn repeated(&self, partition: &Partition, dice: &mut Dice) -> Option<Fact> {
        let topic = self.topic(&partition.topic).filter(|topic| topic.kind == TopicKind::Events && self.sends_twice)?;
        if dice.random_range(0..100) >= 8 {
            return None;
        }
        let log = topic.partitions.get(dice.random_range(0..topic.partitions.len()))?;
        match log.entries.iter().rev().nth(dice.random_range(0..20))? {
            Entry::Record(fact) if fact.is_visible() => Some(*fact),
            _ => None,
        }
    }

    pub fn add_partition(&mut self, topic: usize) -> Option<Partition> {
        let topic = self.topics.get_mut(topic).filter(|topic| !topic.is_away)?;
        topic.partitions.push(PartitionLog::default());
        Some(Partition { topic: topic.name.clone(), index: topic.partitions.len() as i32 - 1 })
    }

    /// The topic is deleted; what its partitions held is remembered for the judge.
    pub fn delete_topic(&mut self, topic: usize) {
        let Some(topic) = self.topics.get_mut(topic) else { return };
        topic.is_away = true;
        for log in &mut topic.partitions {
            let mut former = std::mem::take(log);
            former.end_transaction(false);
            log.former = Some(Box::new(former));
        }
    }

    pub fn make_topic_again(&mut self, topic: usize) {
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.is_away = false;
            topic.incarnation += 1;
        }
    }
}

impl Topic {
    pub fn all(&self) -> Vec<Partition> {
        (0..self.partitions.len()).map(|index| Partition { topic: self.name.clone(), index: index as i32 }).collect()
    }
}
