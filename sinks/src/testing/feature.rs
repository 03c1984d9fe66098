use std::fmt;

/// What a sink can do beyond fenced batches and checkpoints, which every sink must. One that declares nothing but one of
/// [`Self::Append`], [`Self::Upsert`] and [`Self::InsertIfNew`] is a sink already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// [`WriteMode::Append`](crate::model::WriteMode::Append).
    Append,
    /// [`WriteMode::Upsert`](crate::model::WriteMode::Upsert).
    Upsert,
    /// [`WriteMode::Update`](crate::model::WriteMode::Update).
    Update,
    /// [`WriteMode::InsertIfNew`](crate::model::WriteMode::InsertIfNew), on a key that is unique.
    InsertIfNew,
    /// [`WriteMode::Accumulate`](crate::model::WriteMode::Accumulate), with every [`Rule`](crate::model::Rule).
    Accumulate,
    /// [`Operation::Delete`](crate::model::Operation::Delete) in tables with a key.
    Deletes,
    /// [`Operation::Mark`](crate::model::Operation::Mark) in tables with a key.
    Marks,
    /// A newer version wins, under `upsert` and `update`.
    Versions,
    /// Deletes (and marks) under a version are remembered until they expire.
    Tombstones,
    /// The ids of events are kept in the transaction of their rows until they expire.
    ProcessedEvents,
    /// [`Delivery::AtLeastOnce`](crate::model::Delivery::AtLeastOnce).
    AtLeastOnce,
    /// [`Delivery::AtMostOnce`](crate::model::Delivery::AtMostOnce).
    AtMostOnce,
    /// The place itself refuses a NULL in a required column, and the whole batch with it.
    Constraints,
    /// Several writers of several processes are at work at the same time.
    SeveralWriters,
}

impl Feature {
    pub const ALL: [Self; 14] = [
        Self::Append,
        Self::Upsert,
        Self::Update,
        Self::InsertIfNew,
        Self::Accumulate,
        Self::Deletes,
        Self::Marks,
        Self::Versions,
        Self::Tombstones,
        Self::ProcessedEvents,
        Self::AtLeastOnce,
        Self::AtMostOnce,
        Self::Constraints,
        Self::SeveralWriters,
    ];
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "append",
            Self::Upsert => "upsert",
            Self::Update => "update",
            Self::InsertIfNew => "insert-if-new",
            Self::Accumulate => "accumulate",
            Self::Deletes => "deletes",
            Self::Marks => "marks",
            Self::Versions => "versions",
            Self::Tombstones => "tombstones",
            Self::ProcessedEvents => "processed-events",
            Self::AtLeastOnce => "at-least-once",
            Self::AtMostOnce => "at-most-once",
            Self::Constraints => "constraints",
            Self::SeveralWriters => "several-writers",
        })
    }
}
