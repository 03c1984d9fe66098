//! What the engine knows of an outside store that remembers which events are durable.
//!
//! The database's transaction alone decides what takes effect. Such a store stands around it: before the transaction it says which
//! events need not be written again, after the commit it is told which have been. So it can repeat an event (a crash between commit and
//! mark, a mark that is lost or too old): at-least-once. It never loses one: only what is durable is ever remembered, and what
//! was remembered of a database that has been restored to an older copy is not believed.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    fault::Fault,
    model::{ClaimId, EventIdKind, NextOffset, Partition},
};

/// The remembered events of one pipeline. Cheap to share; every worker has its own.
///
/// Every call may be dropped half-way and made again: what it has done by then is true.
#[async_trait]
pub trait Dedup: fmt::Debug + Send + Sync {
    /// What there is of the store, and whether it may be used. Changes nothing.
    ///
    /// # Errors
    /// `Halt` for a store that forgets by itself, or refuses this user; `Retry` where it cannot be reached.
    async fn verify(&self) -> Result<DedupFacts, Fault>;

    /// Makes partitions known that the database has just given to this worker. Called after each claim, and succeeds before anything of
    /// these partitions is screened.
    ///
    /// # Errors
    /// Nothing may be screened; to be called again after a pause, with the same claims.
    async fn claimed(&self, held: &[Reached]) -> Result<Found, Fault>;

    /// For each event, whether it is durable already: then it may be left out. Of two new events of the same id in `events`, or in
    /// batches that are not yet remembered, neither is known.
    ///
    /// # Errors
    /// Nothing is known of any event: the batch waits, it is not written unscreened.
    async fn screen(&self, events: &[Event<'_>]) -> Result<Screened, ScreenError>;

    /// Remembers events that a batch has written, after its COMMIT is known to have succeeded. `generation` is the answer of that batch's own
    /// screening. `reached` are the batch's partitions, all of them and also if no event is to be remembered; events of other
    /// partitions, or at an offset that is not below the reached one, are passed over.
    ///
    /// # Errors
    /// Some of the events may be remembered, all of them truly; to be called again with the same arguments. Giving up repeats
    /// events, and loses none.
    async fn remember(&self, generation: &Generation, reached: &[Reached], events: &[Event<'_>]) -> Result<Remembered, Fault>;
}

/// How far a claim has come in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    pub partition: Partition,
    /// Tells this claim from every other one, also in a database that was restored.
    pub claim: ClaimId,
    /// Everything below is durable in the database: [`crate::claim::Claimed::durable`], then the `to` of each committed span. What
    /// Kafka's group holds is not meant.
    pub durable: NextOffset,
}

/// One event as its record carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub partition: &'a Partition,
    /// Of its record.
    pub offset: i64,
    pub route: &'a str,
    pub id: &'a str,
    pub id_kind: EventIdKind,
}

/// The time between two rewinds. A mark that was written in one is unknown in every other. Never the same twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation(Arc<str>);

impl Generation {
    /// `name`: one that nobody ever had.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a claim found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The partitions whose database has gone back: it was restored to an older copy, or its checkpoint was moved. Nothing that was remembered before
    /// is known from here on, in the whole pipeline.
    pub rewound: Vec<Rewound>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewound {
    pub partition: Partition,
    /// What the database holds.
    pub durable: NextOffset,
    /// What it had held once.
    pub once: NextOffset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screened {
    /// One for each event, in their order.
    pub known: Vec<bool>,
    /// Handed to [`Dedup::remember`] with the same batch.
    pub generation: Generation,
}

/// Why events could not be screened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScreenError {
    /// These partitions were never made known, or another claim of them was, or the store has seen a further offset than this claim's:
    /// ask the database who holds them. Whoever does calls [`Dedup::claimed`] with what it says, and screens again.
    #[error("another claim of {} partition(s) was made known meanwhile", .0.len())]
    NotHeld(Vec<Partition>),
    #[error(transparent)]
    Failed(Fault),
}

impl From<Fault> for ScreenError {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// What became of a batch's marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The partitions of which nothing was remembered, because another claim or a rewind came between: their events may repeat.
    pub passed_over: Vec<Partition>,
}

/// A store as a person may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupFacts {
    /// Without credentials.
    pub address: String,
    pub version: String,
    /// What can make it forget, or others read along.
    pub warnings: Vec<String>,
}
