//! A state of the model, as small as it can be: what differs without consequence is made the same, so that it is visited once.

pub const WORKERS: usize = 2;
pub const PARTITIONS: usize = 2;
/// Offsets of a partition at most.
pub const OFFSETS: usize = 3;

/// A value that fits into a few bits of a [`Key`].
pub trait Small: Copy {
    fn number(self) -> u8;
    fn of(number: u8) -> Self;
}

impl Small for u8 {
    fn number(self) -> u8 {
        self
    }

    fn of(number: u8) -> Self {
        number
    }
}

impl Small for bool {
    fn number(self) -> u8 {
        u8::from(self)
    }

    fn of(number: u8) -> Self {
        number != 0
    }
}

macro_rules! small {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $value:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name { #[default] $($(#[$of])* $value),+ }

        impl Small for $name {
            fn number(self) -> u8 {
                self as u8
            }

            fn of(number: u8) -> Self {
                [$(Self::$value),+][usize::from(number)]
            }
        }
    };
}

small! {
    /// What the rows of the table hold of one record.
    Effect {
        None,
        /// A row or more, written under at-least-once.
        AtLeastOnce,
        /// The last row was written under exactly-once: there must never be another.
        ExactlyOnce,
    }
}

small! {
    /// A lane, as its worker sees it.
    Phase {
        /// As far as the worker knows, the partition is not its own.
        Absent,
        Asking,
        Running,
        Halted,
    }
}

small! {
    /// The batch that a worker has handed over.
    Flight {
        None,
        /// Its transaction is open at the server, the worker waits for the reply.
        Open,
        /// It took effect, and the reply is on its way.
        Replied,
        /// The reply is lost, and the transaction still open.
        LostOpen,
        /// The reply is lost, the transaction over: the row tells.
        Lost,
        /// A planted mistake: it is sent again without asking.
        Blind,
    }
}

small! {
    /// What the group holds of a partition.
    Commit {
        Nothing,
        /// With our metadata.
        Ours,
        /// Without: somebody set it by hand.
        Foreign,
    }
}

/// Epoch 0: nobody. The id tells claims of one epoch apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub epoch: u8,
    pub id: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub exists: bool,
    pub claim: Claim,
    pub next: u8,
    pub durable: u8,
    pub exactly_once: bool,
    /// 1 + the worker whose batch in flight moved it last; 0: a batch that nobody asks for any more.
    pub batch: u8,
}

/// What the database holds of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub row: Row,
    pub effects: [Effect; OFFSETS],
}

pub type Database = [Stored; PARTITIONS];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub kind: Commit,
    pub next: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    pub phase: Phase,
    pub claim: Claim,
    pub applied: u8,
    /// Its row was held since the partition was given, and is to be claimed again.
    pub has_held: bool,
    /// What was looked up before the claim, if that is a step of its own.
    pub has_looked: bool,
    pub found: Committed,
}

impl Lane {
    /// To be claimed again: what is remembered is that there was a row.
    pub fn given_up(&self, phase: Phase) -> Self {
        Self { phase, has_held: self.has_held || self.phase == Phase::Running, ..Self::default() }
    }
}

/// `from == to`: the partition is not in the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub from: u8,
    pub to: u8,
    pub claim: Claim,
}

impl Span {
    pub fn is_in(&self) -> bool {
        self.from != self.to
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worker {
    pub lives: bool,
    pub exactly_once: bool,
    pub lanes: [Lane; PARTITIONS],
    pub flight: Flight,
    pub spans: [Span; PARTITIONS],
    /// A transaction that a dead predecessor left open at the server.
    pub orphan: [Span; PARTITIONS],
}

/// What Kafka holds of one partition, and what a reader is meant to see of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    pub high: u8,
    pub committed: Committed,
    /// 1 + the worker to which the group gave it; 0: none.
    pub owner: u8,
    /// Records that nobody asks for: before the first start, or passed over by somebody's hand. One bit each.
    pub excused: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub database: Database,
    pub has_copy: bool,
    pub copy: Database,
    pub workers: [Worker; WORKERS],
    pub kafka: [Topic; PARTITIONS],
    pub faults_left: u8,
    pub restores_left: u8,
    pub was_restored: bool,
}

/// A state in bits.
pub type Key = [u64; 5];

impl State {
    /// Every field with its width: written once, read and written by it.
    fn each(&mut self, bits: &mut impl Bits) {
        for database in [&mut self.database, &mut self.copy] {
            for stored in database {
                let Row { exists, claim, next, durable, exactly_once, batch } = &mut stored.row;
                bits.pass(1, exists);
                bits.pass(4, &mut claim.epoch);
                bits.pass(3, &mut claim.id);
                bits.pass(2, next);
                bits.pass(2, durable);
                bits.pass(1, exactly_once);
                bits.pass(2, batch);
                stored.effects.iter_mut().for_each(|effect| bits.pass(2, effect));
            }
        }
        for worker in &mut self.workers {
            bits.pass(1, &mut worker.lives);
            bits.pass(1, &mut worker.exactly_once);
            bits.pass(3, &mut worker.flight);
            for lane in &mut worker.lanes {
                bits.pass(2, &mut lane.phase);
                bits.pass(4, &mut lane.claim.epoch);
                bits.pass(3, &mut lane.claim.id);
                bits.pass(2, &mut lane.applied);
                bits.pass(1, &mut lane.has_held);
                bits.pass(1, &mut lane.has_looked);
                bits.pass(2, &mut lane.found.kind);
                bits.pass(2, &mut lane.found.next);
            }
            for span in worker.spans.iter_mut().chain(&mut worker.orphan) {
                bits.pass(2, &mut span.from);
                bits.pass(2, &mut span.to);
                bits.pass(4, &mut span.claim.epoch);
                bits.pass(3, &mut span.claim.id);
            }
        }
        for topic in &mut self.kafka {
            bits.pass(2, &mut topic.high);
            bits.pass(2, &mut topic.committed.kind);
            bits.pass(2, &mut topic.committed.next);
            bits.pass(2, &mut topic.owner);
            bits.pass(3, &mut topic.excused);
        }
        bits.pass(1, &mut self.has_copy);
        bits.pass(4, &mut self.faults_left);
        bits.pass(2, &mut self.restores_left);
        bits.pass(1, &mut self.was_restored);
    }

    pub fn pack(mut self) -> Key {
        let mut writer = Writer(Cursor::default());
        self.each(&mut writer);
        writer.0.words
    }

    pub fn unpack(key: &Key) -> Self {
        let mut reader = Reader(Cursor { words: *key, bit: 0 });
        let mut state = Self::default();
        state.each(&mut reader);
        state
    }
}

trait Bits {
    fn pass(&mut self, width: u32, value: &mut impl Small);
}

#[derive(Default)]
struct Cursor {
    words: Key,
    bit: u32,
}

impl Cursor {
    /// The word and the shift of the next `width` bits; none straddles two words.
    fn next(&mut self, width: u32) -> (usize, u32) {
        if self.bit % 64 + width > 64 {
            self.bit = self.bit.next_multiple_of(64);
        }
        let at = self.bit;
        self.bit += width;
        ((at / 64) as usize, at % 64)
    }
}

struct Writer(Cursor);

impl Bits for Writer {
    fn pass(&mut self, width: u32, value: &mut impl Small) {
        let number = u64::from(value.number());
        assert!(number < 1 << width, "{number} does not fit into {width} bits");
        let (word, shift) = self.0.next(width);
        self.0.words[word] |= number << shift;
    }
}

struct Reader(Cursor);

impl Bits for Reader {
    fn pass(&mut self, width: u32, value: &mut impl Small) {
        let (word, shift) = self.0.next(width);
        *value = Small::of((self.0.words[word] >> shift & ((1 << width) - 1)) as u8);
    }
}
