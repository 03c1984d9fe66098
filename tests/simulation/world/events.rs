//! What can happen in a seed. Everything in these two lists must happen somewhere in a run, or it proves less than it says.

macro_rules! events {
    ($($name:ident = $text:literal,)*) => {
        /// A fault that fired, or something that it led to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Event { $($name,)* }

        impl Event {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

events! {
    // Workers.
    WorkerStarted = "worker started",
    WorkerKilled = "worker killed",
    WorkerKilledAtStep = "worker killed at a step",
    WorkerFrozen = "worker frozen",
    WorkerFrozenAtStep = "worker frozen at a step",
    WorkerCutOff = "worker cut off from the coordinator",
    WorkerRestarted = "worker restarted",
    WorkerJoined = "worker joined",
    WorkerLeft = "worker left",
    // The group.
    RebalanceForced = "rebalance forced",
    RebalanceEager = "rebalance, eager",
    RebalanceCooperative = "rebalance, cooperative",
    MemberPutOut = "member put out",
    StaticBack = "static member back without a rebalance",
    StaticStopped = "static member stopped and did not leave",
    InstanceTwice = "instance id used twice",
    MemberFenced = "old holder of an instance id fenced",
    // Callbacks.
    Assigned = "assigned",
    AssignLate = "assign callback over its budget",
    AssignRepeated = "assign callback repeated",
    AssignNeverDelivered = "assign callback never delivered: the member was put out",
    Revoked = "revoked",
    RevokeLate = "revoke callback over its budget",
    RevokeRepeated = "revoke callback repeated",
    RevokeNeverDelivered = "revoke callback never delivered: the member was put out",
    Lost = "lost",
    LostRepeated = "lost callback repeated",
    // Reading.
    Claimed = "claimed",
    LookedUp = "looked up",
    LookUpFailed = "look-up failed",
    LookUpLate = "look-up answered late",
    StaleDelivery = "stale delivery",
    IntakePaused = "intake paused",
    OutOfRange = "out of range",
    // Offset commits that fail, by code.
    CommitRebalanceInProgress = "offset commit: RebalanceInProgress",
    CommitIllegalGeneration = "offset commit: IllegalGeneration",
    CommitUnknownMember = "offset commit: UnknownMemberId",
    CommitStaleEpoch = "offset commit: StaleMemberEpoch",
    CommitFencedInstance = "offset commit: FencedInstanceId",
    CommitTimedOut = "offset commit: RequestTimedOut",
    CommitNotCoordinator = "offset commit: NotCoordinator",
    CommitCoordinatorLoading = "offset commit: CoordinatorLoadInProgress",
    CommitCoordinatorAway = "offset commit: CoordinatorNotAvailable",
    CommitConnectionLost = "offset commit: connection lost",
    CommitNotAuthorized = "offset commit: GroupAuthorizationFailed",
    CommitOfStranger = "offset commit of a stranger refused",
    CommitTookEffect = "offset commit failed and had taken effect",
    CommitTookEffectLater = "offset commit failed and takes effect later",
    OffsetsDeleted = "group offsets deleted",
    OffsetsMovedByHand = "offsets moved by hand after a restore",
    // The log.
    TransactionCommitted = "transaction in the log committed",
    TransactionAborted = "transaction in the log aborted",
    Trimmed = "log trimmed up to the checkpoint",
    TrimmedPastCheckpoint = "log trimmed past the checkpoint",
    Compacted = "log compacted",
    LastRecordCompacted = "the checkpoint's last record compacted away",
    RecreatedWithFewer = "topic made again with fewer records",
    RecreatedWithMore = "topic made again with more records",
    RecreatedWhileRead = "topic made again while it is read",
    PartitionAdded = "partition added",
    // The database.
    Deadlock = "deadlock",
    OwnDeadlock = "deadlock of their own",
    WaitedForLock = "waited for a lock",
    LockTimeout = "lock timeout",
    SlowStatement = "slow statement",
    ConnectionRefused = "connection refused",
    ConnectionCut = "connection cut",
    HalfOpen = "connection half-open",
    TooManyConnections = "too many connections",
    DiskFull = "disk full",
    PermissionRevoked = "permission revoked",
    TableChanged = "table changed",
    RecordRefused = "record refused by the database",
    RecordNotDecoded = "record not decoded",
    RecordSkipped = "record skipped",
    DatabaseCrashed = "database crashed",
    DatabaseRestored = "database restored",
    DatabaseRestoredAtRest = "database restored at rest",
    FailedOver = "database failed over",
    ReadOnly = "refused by a read-only server",
    CommitWithoutAnswer = "COMMIT without answer",
    CommitLostBefore = "lost COMMIT: had not taken effect",
    CommitLostAfter = "lost reply: had taken effect",
    CommitLostLater = "lost reply: takes effect later",
    // Processed events.
    KnownAlready = "event known and left out",
    WaitedForSameId = "waited for another transaction with the same event",
    RolledOver = "processed events rolled over",
    RollOverWaited = "roll-over waited for batches",
    RollOverHeldBack = "roll-over held back by what may be delivered again",
    TableEmptied = "table of expired events emptied",
    // Tombstones.
    WaitedForTable = "waited for the lock of a table with deletes",
    TombstoneLeft = "tombstones left",
    TombstoneFound = "tombstones found",
    TombstoneRemoved = "tombstones removed by newer writes",
    // What is combined.
    AllLayers = "checkpoint, ids of events and redis under one table",
    AllDeliveries = "all three deliveries in one pipeline",
    // Remembered events.
    RepeatLeft = "redis alone let an event take effect twice",
    RedisKnew = "redis: event known",
    RedisKnewCoordinate = "redis: event known by its coordinate",
    RedisSawRewind = "redis: saw that the database went back",
    RedisRaiseRefused = "redis: raise of another claim or generation refused",
    RedisAway = "redis: away",
    RedisSlow = "redis: slow",
    RedisAnswerLost = "redis: answer lost",
    RedisFull = "redis: no memory left",
    RedisFlushed = "redis: flushed",
    RedisFailedOver = "redis: failed over, and lost the end of its state",
    // What the engines made of it.
    Fenced = "engine: fenced",
    Rewound = "engine: rewound",
    UnknownOutcome = "engine: unknown outcome",
    LostRecords = "engine: records lost under at-most-once",
    HaltNoted = "engine: halt noted",
    HaltedRecreated = "engine: halted at a topic made again",
    HaltedGap = "engine: halted at a gap",
    HaltedBesideOthers = "halted partition beside others",
    EndedByPerson = "halt ended by a person",
    LeftHalted = "partition left halted",
}

/// The ways that a lane may go, and that the fixed seeds need not meet: its assignment would have to be repeated, or its session be over, within
/// the milliseconds in which it waits for what is in flight.
pub const RARE: &[(&str, &str)] = &[("halting", "replaced"), ("halting", "lost")];

/// What the fixed seeds need not meet either: a batch that deletes from a table with a version keeps all others away from it, and those that only
/// write take their rows in one order. Deadlocks come from the weather too.
pub const RARE_EVENTS: &[Event] = &[Event::OwnDeadlock];

/// Every way from one state of a lane to another. One that is not here is a violation.
pub const TRANSITIONS: &[(&str, &str)] = &[
    ("new", "asking"),
    ("asking", "claiming"),
    ("asking", "given back"),
    ("asking", "lost"),
    ("asking", "replaced"),
    ("claiming", "running"),
    ("claiming", "checking"),
    ("claiming", "halting"),
    ("claiming", "resting"),
    ("claiming", "given back"),
    ("claiming", "lost"),
    ("claiming", "replaced"),
    ("checking", "running"),
    ("checking", "halting"),
    ("checking", "resting"),
    ("checking", "given back"),
    ("checking", "lost"),
    ("checking", "replaced"),
    ("running", "asking"),
    ("running", "halting"),
    ("running", "resting"),
    ("running", "draining"),
    ("running", "lost"),
    ("running", "replaced"),
    ("halting", "asking"),
    ("halting", "halting"),
    ("halting", "resting"),
    ("halting", "draining"),
    ("halting", "lost"),
    ("halting", "replaced"),
    ("resting", "asking"),
    ("resting", "resting"),
    ("resting", "given back"),
    ("resting", "lost"),
    ("resting", "replaced"),
    ("draining", "given back"),
    ("draining", "lost"),
    ("draining", "replaced"),
];
