/// What stops a repeat, in the one order in which the backends run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DedupBackend {
    /// Event ids in Redis, around the transaction: asked before it, told after it.
    Redis,
    /// Event ids kept in a table of the target database, in the transaction of the rows.
    ProcessedEvent,
    /// The row's own unique key: a repeat finds the row that it made.
    UniqueKey,
    /// The partition's checkpoint, in the transaction of the rows.
    Checkpoint,
}

/// What the id of an event tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventIdKind {
    /// Where its own record stands in Kafka: no other record has it.
    Coordinate,
    /// What the producer says: another record may say the same, in any partition.
    #[default]
    Producer,
}

impl DedupBackend {
    /// It goes by the ids of events.
    #[must_use]
    pub const fn keeps_events(self) -> bool {
        matches!(self, Self::Redis | Self::ProcessedEvent)
    }
}
