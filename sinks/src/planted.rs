//! Bugs that tests plant in the product's own code, to see them caught.
//!
//! [`planted!`](crate::planted) is `false` in every build but those with the feature `faults`; there a test chooses at run time.

macro_rules! bugs {
    ($($(#[$says:meta])+ $name:ident,)+) => {
        /// A mistake that somebody could make in this code. Each is caught by the simulation: by a seed, or by the decision that it spoils.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[$says])+ $name,)+
        }

        impl Bug {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

bugs! {
    // The claim and the start.
    /// A claim keeps the epoch of the one before.
    ClaimKeepsEpoch,
    /// A claim starts where Kafka's group stands, although there is a checkpoint.
    StartsAtCommitted,

    // The fence.
    /// It takes every row for ours.
    NoFence,
    /// It looks at the offset only.
    FenceWithoutEpoch,
    /// Claims of one epoch, which a restored database gives twice, are the same to it.
    ClaimIdNotCompared,
    /// A row that went back in time is written on from where the worker is.
    RewoundIsMine,
    /// `durable` stays where the claim found it.
    DurableNotRaised,
    /// At-least-once moves the floor, too.
    FloorMoves,
    /// Rows are locked in whatever order the batch has them.
    LocksOutOfOrder,

    // What a batch writes.
    /// Compaction and statements forget the version.
    NoVersionGuard,
    /// Of several rows of a key the first one is kept.
    FirstRowWins,
    /// A delete that follows a write of its key in one batch is left out.
    DeleteIsForgotten,
    /// A partition that was given up and came again brings its old rows back into the batch.
    ForgottenRowsReturn,
    /// A span ends one record too late.
    OffByOne,

    // Processed events.
    /// Batches do not hold the generation: a roll-over may come between two that bring one id.
    GenerationNotHeld,
    /// Ids expire although Kafka may deliver their records again.
    ExpiresTooEarly,
    /// Of an id that is twice in a batch, both rows are written.
    RepeatInBatchIsWritten,
    /// Only the newest generation is looked at.
    OlderGenerationsForgotten,

    // Tombstones.
    /// A write is not compared with the delete that was applied before it.
    TombstoneIsIgnored,
    /// A write of the same version as the delete before it is stale.
    EqualVersionLoses,

    // Remembered events.
    /// Events are remembered before their COMMIT.
    RemembersBeforeCommit,
    /// Marks are believed whatever generation is in force.
    ScreensByOldGeneration,
    /// A mark is believed although its record lies above what the database holds.
    MarkAboveDatabaseIsBelieved,

    // Splitting, and records that are refused.
    /// The record at the cut is in neither half.
    SplitLosesOneRecord,
    /// The later half is not put back.
    SplitLosesLaterHalf,
    /// Both halves bear one id: under at-least-once the later one is taken for applied.
    HalvesShareTheirId,
    /// One refused record halts all partitions of its batch.
    PoisonHaltsWholeBatch,
    /// One refused record has its whole batch skipped.
    PoisonSkipsWholeBatch,
    /// What the world is at fault for is skipped like a bad record.
    WorldsFaultIsSkipped,

    // Outcomes.
    /// Kafka's offset is committed when a batch is handed to its writer, not when it is durable.
    CommitBeforeWrite,
    /// A lost COMMIT reply is answered by sending the batch again without asking.
    BlindRetry,
    /// A lost COMMIT reply is taken for a good one.
    UnknownIsApplied,
    /// The next batch is handed over while the outcome of the last one is asked.
    AskingStopsNothing,
    /// A fenced batch counts as applied.
    FencedIsApplied,
    /// Idle lanes do not look at their rows.
    NoIdleCheck,

    // At-most-once.
    /// A batch is written before Kafka has acknowledged its offsets.
    WritesBeforeAcknowledged,
    /// What was written is read again where the group's offset is put back.
    WrittenIsReadAgain,

    // Rebalances and intake.
    /// Records of an earlier start are taken.
    StaleSequenceTaken,
    /// Records below the checkpoint are taken.
    RecordBelowCheckpointTaken,
    /// Room of records that came too late is never given back.
    StaleRecordsKeepTheirRoom,
    /// A lane goes on after its revocation was answered.
    RevokedLaneStays,
    /// A revocation is answered at once, and commits what was taken.
    DrainCommitsWhatWasTaken,
    /// The late answer to a revocation takes away the lane of a new assignment.
    OldDrainTakesNewLane,
}

#[cfg(feature = "faults")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in everything that this thread runs from now on.
#[cfg(feature = "faults")]
pub fn plant(bug: Option<Bug>) {
    CHOSEN.set(bug);
}

#[cfg(feature = "faults")]
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    CHOSEN.get() == Some(bug)
}

/// Whether this bug is planted: a constant `false` without the feature `faults`.
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(feature = "faults")]
        let planted = $crate::planted::is_planted($crate::planted::Bug::$bug);
        #[cfg(not(feature = "faults"))]
        let planted = false;
        planted
    }};
}
