/// A way in which a sink can be wrong. The contract must find each of them, and each of its checks must find one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mistake {
    // The place.
    EveryTableIsThere,
    EachProcessHasAnId,
    PipelinesMeet,

    // Claims.
    ClaimsKeepTheEpoch,
    ClaimsKeepTheId,
    OneRefusalRefusesAll,
    SiblingsHaveNoRow,
    StartsAreDecidedAnew,
    NothingIsRefused,
    CommitsOfOthersAreRefused,
    TopicsMadeAgainAreRead,

    // Batches.
    /// It does not fence at all.
    NoFence,
    /// It compares offsets, and not who holds the partition.
    ClaimsAreNotCompared,
    /// It compares who holds the partition, and no offsets.
    OffsetsAreNotCompared,
    /// It looks at the first partition of a batch only.
    OnlyTheFirstSpanIsFenced,
    /// It writes rows, and leaves the checkpoint.
    RowsWithoutCheckpoint,
    /// It moves the checkpoint, and writes no row.
    CheckpointWithoutRows,
    /// What was written of a batch before it failed stays.
    FailedBatchesStay,
    /// The row does not name its batch.
    BatchIsNotRemembered,
    /// The row names its batch until the next claim.
    ClaimsForgetTheBatch,
    /// A batch without rows is passed over.
    EmptyBatchesAreSkipped,
    /// Records outside the spans are written, too.
    SpansAreNotLookedAt,
    /// What was screened out is written.
    KnownRowsAreWritten,
    /// A batch reads, gives way, and writes over what others have written meanwhile.
    WritersOverwriteEachOther,

    // Halts.
    HaltsAreForgotten,
    LateHaltsAreKept,
    HaltsOutliveBatches,

    // Rows.
    AppendDropsRepeats,
    FirstRowOfABatchWins,
    AbsentIsNull,
    RequiredColumnsAreMadeUp,
    UpdateMakesRows,
    InsertIfNewOverwrites,
    SumsCountOnce,
    DeletesAreIgnored,
    MarksDelete,

    // Versions and tombstones.
    VersionsAreIgnored,
    NullWins,
    TombstonesAreIgnored,
    DeletesHaveTheirOwnVersionOnly,
    OlderDeletesWin,
    /// Of a delete and a write of one version that which comes later wins, also between two partitions.
    EqualVersionsGoByTime,
    UpdatesForgetDeletes,
    TombstonesAreOfAll,
    TombstonesStayForEver,

    // Processed events.
    EventsAreNotKept,
    EventsAreOfAllRoutes,
    EventsAreFolded,
    EventsStayForEver,
    TheLastRetentionCounts,
    EventsExpireUncommitted,

    // Weaker deliveries.
    RepeatsAreFenced,
    TheFloorMoves,
    CommitsAreNotAsked,
    LostIsNotCounted,
    GapsAreFenced,
}

impl Mistake {
    pub const ALL: &'static [Self] = &[
        Self::EveryTableIsThere,
        Self::EachProcessHasAnId,
        Self::PipelinesMeet,
        Self::ClaimsKeepTheEpoch,
        Self::ClaimsKeepTheId,
        Self::OneRefusalRefusesAll,
        Self::SiblingsHaveNoRow,
        Self::StartsAreDecidedAnew,
        Self::NothingIsRefused,
        Self::CommitsOfOthersAreRefused,
        Self::TopicsMadeAgainAreRead,
        Self::NoFence,
        Self::ClaimsAreNotCompared,
        Self::OffsetsAreNotCompared,
        Self::OnlyTheFirstSpanIsFenced,
        Self::RowsWithoutCheckpoint,
        Self::CheckpointWithoutRows,
        Self::FailedBatchesStay,
        Self::BatchIsNotRemembered,
        Self::ClaimsForgetTheBatch,
        Self::EmptyBatchesAreSkipped,
        Self::SpansAreNotLookedAt,
        Self::KnownRowsAreWritten,
        Self::WritersOverwriteEachOther,
        Self::HaltsAreForgotten,
        Self::LateHaltsAreKept,
        Self::HaltsOutliveBatches,
        Self::AppendDropsRepeats,
        Self::FirstRowOfABatchWins,
        Self::AbsentIsNull,
        Self::RequiredColumnsAreMadeUp,
        Self::UpdateMakesRows,
        Self::InsertIfNewOverwrites,
        Self::SumsCountOnce,
        Self::DeletesAreIgnored,
        Self::MarksDelete,
        Self::VersionsAreIgnored,
        Self::NullWins,
        Self::TombstonesAreIgnored,
        Self::DeletesHaveTheirOwnVersionOnly,
        Self::OlderDeletesWin,
        Self::EqualVersionsGoByTime,
        Self::UpdatesForgetDeletes,
        Self::TombstonesAreOfAll,
        Self::TombstonesStayForEver,
        Self::EventsAreNotKept,
        Self::EventsAreOfAllRoutes,
        Self::EventsAreFolded,
        Self::EventsStayForEver,
        Self::TheLastRetentionCounts,
        Self::EventsExpireUncommitted,
        Self::RepeatsAreFenced,
        Self::TheFloorMoves,
        Self::CommitsAreNotAsked,
        Self::LostIsNotCounted,
        Self::GapsAreFenced,
    ];
}
