//! Bugs that tests plant in the product's own code, to see them caught.
//!
//! [`planted!`](crate::planted) is `false` in every build but those with the feature `faults`; there a test chooses at run time.

/// A mistake that somebody could make in this code. Each is caught by a seed of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// Kafka's offset is committed when a batch is handed to its writer, not when it is durable.
    CommitBeforeWrite,
    /// The fence takes every row for ours.
    NoFence,
    /// The fence looks at the offset only.
    FenceWithoutEpoch,
    /// Compaction and statements forget the version.
    NoVersionGuard,
    /// A lost COMMIT reply is answered by sending the batch again without asking.
    BlindRetry,
    /// A span ends one record too late.
    OffByOne,
}

impl Bug {
    pub const ALL: [Self; 6] = [Self::CommitBeforeWrite, Self::NoFence, Self::FenceWithoutEpoch, Self::NoVersionGuard, Self::BlindRetry, Self::OffByOne];
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
