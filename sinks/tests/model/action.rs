//! Everything that can happen. `w` is a worker, `p` a partition.

use crate::state::{PARTITIONS, WORKERS};

/// How much of a lane a batch takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Nothing,
    /// One offset.
    One,
    /// Everything up to the end of the log.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A dead worker starts; `switch`: with the other delivery in its file.
    Restart {
        w: usize,
        switch: bool,
    },
    Crash {
        w: usize,
    },
    Assign {
        w: usize,
        p: usize,
    },
    /// Given back when asked. What is in flight of it may still commit.
    Revoke {
        w: usize,
        p: usize,
    },
    /// Given to the other worker, and the one that has it does not hear of it.
    Steal {
        p: usize,
    },
    /// It does now.
    HearLost {
        w: usize,
        p: usize,
    },
    Produce {
        p: usize,
    },
    /// An offset is committed to Kafka.
    Commit {
        w: usize,
        p: usize,
    },
    DeleteOffset {
        p: usize,
    },
    ResetOffset {
        p: usize,
        to_end: bool,
    },
    /// The database is copied.
    Copy,
    /// It is as it was in the copy, or before everything.
    Restore {
        empty: bool,
    },
    /// Kafka is asked for the commit some time before the claim; otherwise a claim asks for it by itself.
    LookUp {
        w: usize,
        p: usize,
    },
    Claim {
        w: usize,
        p: usize,
    },
    /// By a worker that does not know that it has lost the partition.
    ClaimAsStranger {
        w: usize,
        p: usize,
    },
    /// A claim takes effect, and its reply is lost.
    ClaimUnseen {
        w: usize,
        p: usize,
    },
    /// An idle lane looks at its row.
    Check {
        w: usize,
        p: usize,
    },
    /// A batch is handed over: its fence is judged, its rows are locked and written.
    Send {
        w: usize,
        spans: [Taken; PARTITIONS],
    },
    /// Its COMMIT takes effect.
    Effect {
        w: usize,
    },
    /// The server rolls it back.
    Abort {
        w: usize,
    },
    OrphanEffect {
        w: usize,
    },
    OrphanAbort {
        w: usize,
    },
    Reply {
        w: usize,
    },
    LoseReply {
        w: usize,
    },
    /// The locking read that follows a lost reply, under the same claim.
    Ask {
        w: usize,
    },
    /// A planted mistake.
    SendAgain {
        w: usize,
    },
}

/// What counts against the number of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Crash,
    Switch,
    Revoke,
    Steal,
    StrangerClaims,
    ClaimUnseen,
    LostReply,
    StaleLookUp,
    OffsetDeleted,
    OffsetReset,
    Restore,
}

impl Action {
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::Restart { switch: true, .. } => Some(Fault::Switch),
            Self::Crash { .. } => Some(Fault::Crash),
            Self::Revoke { .. } => Some(Fault::Revoke),
            Self::Steal { .. } => Some(Fault::Steal),
            Self::DeleteOffset { .. } => Some(Fault::OffsetDeleted),
            Self::ResetOffset { .. } => Some(Fault::OffsetReset),
            Self::Restore { .. } => Some(Fault::Restore),
            Self::LookUp { .. } => Some(Fault::StaleLookUp),
            Self::ClaimAsStranger { .. } => Some(Fault::StrangerClaims),
            Self::ClaimUnseen { .. } => Some(Fault::ClaimUnseen),
            Self::LoseReply { .. } => Some(Fault::LostReply),
            _ => None,
        }
    }

    /// The quiet ones, in the order in which a quiet continuation takes the first that is possible; then all others.
    pub fn all(partitions: usize) -> (Vec<Self>, Vec<Self>) {
        let workers = || 0..WORKERS;
        let lanes = || workers().flat_map(move |w| (0..partitions).map(move |p| (w, p)));
        let parts = || 0..partitions;
        let of = |taken: Taken| std::array::from_fn(|p| if p < partitions { taken } else { Taken::Nothing });
        let mut quiet: Vec<Self> = workers().map(|w| Self::Restart { w, switch: false }).collect();
        quiet.extend(workers().map(|w| Self::OrphanEffect { w }));
        quiet.extend(workers().map(|w| Self::Effect { w }));
        quiet.extend(workers().map(|w| Self::Reply { w }));
        quiet.extend(workers().map(|w| Self::Ask { w }));
        quiet.extend(workers().map(|w| Self::SendAgain { w }));
        quiet.extend(lanes().map(|(w, p)| Self::HearLost { w, p }));
        quiet.extend(lanes().map(|(w, p)| Self::Assign { w, p }));
        quiet.extend(lanes().map(|(w, p)| Self::Claim { w, p }));
        quiet.extend(lanes().map(|(w, p)| Self::Check { w, p }));
        quiet.extend(workers().map(|w| Self::Send { w, spans: of(Taken::All) }));
        quiet.extend(lanes().map(|(w, p)| Self::Commit { w, p }));

        let mut others: Vec<Self> = workers().map(|w| Self::Restart { w, switch: true }).collect();
        let choices = [Taken::Nothing, Taken::One, Taken::All];
        for w in workers() {
            for first in choices {
                for second in if partitions > 1 { &choices[..] } else { &choices[..1] } {
                    let spans = [first, *second];
                    if spans != of(Taken::All) && spans != of(Taken::Nothing) {
                        others.push(Self::Send { w, spans });
                    }
                }
            }
            others.extend([Self::Abort { w }, Self::OrphanAbort { w }, Self::LoseReply { w }, Self::Crash { w }]);
        }
        for (w, p) in lanes() {
            others.extend([Self::LookUp { w, p }, Self::ClaimAsStranger { w, p }, Self::ClaimUnseen { w, p }, Self::Revoke { w, p }]);
        }
        for p in parts() {
            others.extend([Self::Steal { p }, Self::Produce { p }, Self::DeleteOffset { p }]);
            others.extend([false, true].map(|to_end| Self::ResetOffset { p, to_end }));
        }
        others.extend([Self::Copy, Self::Restore { empty: false }, Self::Restore { empty: true }]);
        (quiet, others)
    }
}
