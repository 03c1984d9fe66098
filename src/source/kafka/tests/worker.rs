use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use oncesink_sinks::model::{NextOffset, Partition};

use crate::source::{
    Buffer, Change, Channels, Commit, Input, Sequence, Source, Start,
    kafka::{KafkaConfig, KafkaSource, connect},
};

/// What a database would hold: a checkpoint for each partition, and each record that was applied.
#[derive(Debug, Default)]
pub(super) struct Database {
    pub next: BTreeMap<Partition, i64>,
    pub owner: BTreeMap<Partition, usize>,
    pub applied: BTreeMap<Partition, Vec<i64>>,
    pub wrong: Vec<String>,
    /// How often a partition was given to a worker.
    pub claims: usize,
    pub blocks: usize,
}

impl Database {
    pub(super) fn total(&self) -> usize {
        self.applied.values().map(Vec::len).sum()
    }
}

pub(super) type Shared = Arc<Mutex<Database>>;

/// A small engine: claims in the database, applies each record at once, commits, drains on a revocation.
pub(super) struct Worker {
    thread: Option<JoinHandle<Duration>>,
    stop: Arc<AtomicBool>,
    pub assigned: Arc<AtomicUsize>,
}

/// Sequences are never given twice in a test, whoever gives them.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

pub(super) fn next_sequence() -> Sequence {
    Sequence(SEQUENCE.fetch_add(1, Ordering::Relaxed) + 1)
}

impl Worker {
    pub(super) fn start(config: KafkaConfig, database: &Shared) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (stop, assigned) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (source, channels) = connect(config, Arc::new(Buffer::new(1 << 26)), Duration::from_secs(20)).unwrap();
        let engine = Engine { number, source, database: database.clone(), running: BTreeMap::new(), given: BTreeSet::new() };
        let thread = thread::spawn({
            let (stop, assigned) = (stop.clone(), assigned.clone());
            move || engine.run(channels, &stop, &assigned)
        });
        Self { thread: Some(thread), stop, assigned }
    }

    /// Closes, and tells how long that took.
    pub(super) fn close(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

struct Engine {
    number: usize,
    source: KafkaSource,
    database: Shared,
    running: BTreeMap<Partition, Sequence>,
    given: BTreeSet<(Partition, Sequence)>,
}

impl Engine {
    fn run(mut self, mut channels: Channels, stop: &AtomicBool, assigned: &AtomicUsize) -> Duration {
        let mut closing: Option<Instant> = None;
        loop {
            if closing.is_none() && stop.load(Ordering::Relaxed) {
                self.source.close();
                closing = Some(Instant::now());
            }
            match channels.changes.try_recv() {
                Ok(change) => {
                    self.change(change);
                    assigned.store(self.running.len(), Ordering::Relaxed);
                    continue;
                }
                Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => return closing.map_or(Duration::ZERO, |at| at.elapsed()),
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => {}
            }
            match channels.inputs.try_recv() {
                Ok(input) => self.input(input),
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn change(&mut self, change: Change) {
        let mut database = self.database.lock().unwrap();
        match change {
            Change::Assigned { partitions, topics, reply } => {
                let mut starts = Vec::new();
                for found in partitions {
                    let low = found.ends.map(|ends| ends.low.get());
                    if topics.iter().all(|topic| topic.partitions.is_empty()) || low.is_none() {
                        database.wrong.push(format!("{}: the ends were not found", found.partition));
                    }
                    let from = *database.next.entry(found.partition.clone()).or_insert(low.unwrap_or_default());
                    let sequence = next_sequence();
                    database.owner.insert(found.partition.clone(), self.number);
                    database.claims += 1;
                    self.running.insert(found.partition.clone(), sequence);
                    self.given.insert((found.partition.clone(), sequence));
                    starts.push(Start { partition: found.partition, sequence, from: Some(NextOffset::new(from)) });
                }
                assert!(reply.send(starts), "the assignment was answered in time");
            }
            Change::Revoked { partitions, reply } => {
                let mut commits = Vec::new();
                for partition in partitions {
                    self.running.remove(&partition);
                    database.owner.remove(&partition);
                    let next = NextOffset::new(database.next.get(&partition).copied().unwrap_or_default());
                    commits.push(Commit { partition, next, metadata: "db/exactly-once".to_owned() });
                }
                reply.send(commits);
            }
            Change::Lost { partitions } => {
                for partition in partitions {
                    self.running.remove(&partition);
                    database.owner.remove(&partition);
                }
            }
            Change::Reachable(_) | Change::Ends { .. } | Change::Committed { .. } | Change::LookedUp { .. } => {}
            Change::Failed { reason, detail } => database.wrong.push(format!("{reason}: {detail}")),
        }
    }

    fn input(&mut self, input: Input) {
        let mut database = self.database.lock().unwrap();
        match input {
            Input::Records(records) => {
                self.source.buffer().release(records.cost());
                database.blocks += 1;
                let partition = records.partition.clone();
                if !self.given.contains(&(partition.clone(), records.sequence)) {
                    database.wrong.push(format!("{partition}: records under a sequence that was never given"));
                }
                if self.running.get(&partition) != Some(&records.sequence) {
                    return; // Stale.
                }
                if database.owner.get(&partition) != Some(&self.number) {
                    database.wrong.push(format!("{partition}: records of a partition that is another's"));
                }
                for record in records.iter() {
                    let next = database.next.get(&partition).copied().unwrap_or_default();
                    if record.offset != next {
                        database.wrong.push(format!("{partition}: {} where {next} was due", record.offset));
                    }
                    let expected = format!("{}/{}", partition.index, record.offset);
                    if record.value != Some(expected.as_bytes()) {
                        database.wrong.push(format!("{partition}@{}: another record's value", record.offset));
                    }
                    database.applied.entry(partition.clone()).or_default().push(record.offset);
                    database.next.insert(partition.clone(), record.offset + 1);
                }
                let next = NextOffset::new(database.next.get(&partition).copied().unwrap_or_default());
                self.source.commit(vec![Commit { partition, next, metadata: "db/exactly-once".to_owned() }]);
            }
            Input::Passed { partition, next, .. } => {
                database.wrong.push(format!("{partition}: {next} passed, though every offset holds a record"));
            }
            Input::Recreated { partition, .. } => database.wrong.push(format!("{partition}: nobody made the topic again")),
            Input::OutOfRange { partition, .. } => database.wrong.push(format!("{partition}: out of range")),
        }
    }
}

/// Waits until it is so.
pub(super) fn eventually(what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
