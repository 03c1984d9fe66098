use std::fmt;

/// The offset to read next: what Kafka commits and what the checkpoint stores. Exclusive, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextOffset(i64);

impl NextOffset {
    pub const ZERO: Self = Self(0);

    /// The next offset itself, as Kafka or the database gave it.
    #[must_use]
    pub const fn new(next: i64) -> Self {
        Self(next)
    }

    /// The next offset once the record at `offset` is done with.
    #[must_use]
    pub const fn after(offset: i64) -> Self {
        Self(offset.saturating_add(1))
    }

    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for NextOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
