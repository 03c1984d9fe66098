//! One assigned partition: its state, its ledger, who writes it.

use std::time::Duration;

use oncesink_sinks::{
    checkpoint::Held,
    claim::Claimed,
    model::{Claim, Delivery, LastRecord, NextOffset, Partition},
};
use tokio::time::Instant;

use super::{
    backoff::Backoff,
    halt::{Halt, HaltLog, Met},
    ledger::Ledger,
    report::{PartitionReport, PartitionState},
    trace,
};
use crate::source::{Ends, Found, Sequence};

/// A partition from its assignment to its revocation. A new assignment is a new lane.
#[derive(Debug)]
pub struct Lane {
    pub partition: Partition,
    /// Index of the writer that it sticks to, so that at most one transaction of it is in flight.
    pub writer: usize,
    pub delivery: Delivery,
    state: State,
    pub sequence: Sequence,
    pub claim: Claim,
    pub ledger: Ledger,
    /// The record that must stand below the first one, if it is still delivered.
    pub expected: Option<LastRecord>,
    pub ends: Option<Ends>,
    /// What the group holds, as the client last told.
    pub acknowledged: Option<NextOffset>,
    /// Under at-most-once: the highest offset that Kafka was asked to commit, ahead of what is written.
    pub asked: Option<NextOffset>,
    /// When something of this lane last changed: an idle check older than that proves nothing.
    pub changed: Instant,
    /// The last halt, until progress shows that it is over; it may be under trial again.
    pub halted: Option<Halt>,
    pub log: HaltLog,
    /// The table was described again because of this lane, without progress since.
    pub described_again: bool,
    pub backoff: Backoff,
    /// The timestamp of the newest record that is applied, in milliseconds since the Unix epoch.
    pub newest: Option<i64>,
}

/// Where a lane stands.
///
/// ```text
/// Asking ─► Claiming ─► Checking ─► Running ─► Draining ─► (gone)
///   ▲          │           │          │  │
///   │          ▼           ▼          ▼  ▼
///   └────── Resting ◄── Halting (what is taken is applied first)
/// ```
#[derive(Debug)]
pub enum State {
    /// Kafka is asked for ends and commits.
    Asking,
    /// The database is asked; `Found` is what Kafka said.
    Claiming {
        found: Found,
    },
    /// Claimed, but the start lies outside the log as it was before: the ends are looked up again.
    Checking {
        claimed: Claimed,
    },
    Running,
    /// Intake is closed; what is on its way is finished, then it is given back.
    Draining,
    /// Intake is closed; what is on its way is finished, then it halts.
    Halting {
        halt: Halt,
    },
    /// Nothing is on its way; tried again at that time. `halted` says why, unless another worker holds the partition.
    Resting {
        until: Instant,
    },
}

impl State {
    const fn name(&self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Claiming { .. } => "claiming",
            Self::Checking { .. } => "checking",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Halting { .. } => "halting",
            Self::Resting { .. } => "resting",
        }
    }
}

impl Lane {
    #[must_use]
    pub fn new(partition: Partition, writer: usize) -> Self {
        trace::lane(&partition, "new", State::Asking.name());
        Self {
            partition,
            writer,
            delivery: Delivery::ExactlyOnce,
            state: State::Asking,
            sequence: Sequence::default(),
            claim: Claim::default(),
            ledger: Ledger::new(NextOffset::ZERO, None),
            expected: None,
            ends: None,
            acknowledged: None,
            asked: None,
            changed: Instant::now(),
            halted: None,
            log: HaltLog::default(),
            described_again: false,
            backoff: Backoff::default(),
            newest: None,
        }
    }

    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The only way from one state to another.
    pub fn go(&mut self, state: State) {
        trace::lane(&self.partition, self.state.name(), state.name());
        self.state = state;
    }

    /// Whoever takes it out of the engine says what became of it.
    pub fn ends(&self, how: &'static str) {
        trace::lane(&self.partition, self.state.name(), how);
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    /// It has come to rest at a halt, and is not on trial.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        self.halted.is_some() && matches!(self.state, State::Resting { .. })
    }

    /// Whether batches of this lane may still be handed to its writer.
    #[must_use]
    pub fn may_write(&self) -> bool {
        matches!(self.state, State::Running | State::Draining | State::Halting { .. })
    }

    /// Kafka has acknowledged a commit of this lane's own at `next` or above: only then at-most-once may write what is below.
    #[must_use]
    pub fn is_acknowledged(&self, next: NextOffset) -> bool {
        // One above all that was asked is not the answer: the client tells it of an earlier time.
        self.acknowledged.is_some_and(|acknowledged| acknowledged >= next && self.asked.is_some_and(|asked| acknowledged <= asked))
    }

    /// The row as this lane left it.
    #[must_use]
    pub fn held(&self) -> Held {
        Held { claim: self.claim, next: self.ledger.durable() }
    }

    /// Whether Kafka may be told what is durable: not where the claim was refused or another worker has it.
    #[must_use]
    pub fn may_commit(&self) -> bool {
        self.may_write() || self.halted.as_ref().is_some_and(|halt| halt.met != Met::Claim)
    }

    /// Nothing happened for that long, and nothing is on its way.
    #[must_use]
    pub fn is_idle_since(&self, instant: Instant) -> bool {
        self.is_running() && self.ledger.is_settled() && self.changed < instant
    }

    pub fn touch(&mut self) {
        self.changed = Instant::now();
    }

    pub fn rest(&mut self, delay: Duration) {
        self.go(State::Resting { until: Instant::now() + delay });
    }

    #[must_use]
    pub fn report(&self) -> PartitionReport {
        let state = match (&self.halted, &self.state) {
            (Some(halt), _) | (None, State::Halting { halt }) => PartitionState::Halted(halt.clone()),
            (None, State::Running) => PartitionState::Running,
            (None, State::Draining) => PartitionState::Draining,
            (None, State::Asking | State::Claiming { .. } | State::Checking { .. } | State::Resting { .. }) => PartitionState::Claiming,
        };
        PartitionReport {
            state,
            claim: self.claim,
            checkpoint: self.ledger.applied(),
            committed: self.ledger.committed(),
            end: self.ends.map(|ends| ends.high),
        }
    }
}
