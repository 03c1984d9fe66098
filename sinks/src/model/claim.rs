use std::{fmt, str::FromStr};

use super::{NextOffset, Partition};

/// A number the database hands out on each claim of a partition; a writer with an old one is a zombie. 0: never claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// A random number of one claim. Epochs come again in a restored database, claim ids do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub i64);

/// Who holds a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claim {
    pub epoch: Epoch,
    pub id: ClaimId,
}

/// What a crash can do to a record of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// Offsets are committed, and the commit acknowledged, before the write: a crash can lose the batch in flight, and never repeats it.
    AtMostOnce,
    /// Offsets are committed after the write: a crash can repeat the batch in flight.
    AtLeastOnce,
    /// Rows and checkpoint in one transaction, fenced: a crash can do nothing.
    ExactlyOnce,
}

impl Delivery {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at-most-once",
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no delivery that this version knows.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a delivery; at-most-once, at-least-once or exactly-once")]
pub struct ParseDeliveryError(String);

impl FromStr for Delivery {
    type Err = ParseDeliveryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "at-most-once" => Ok(Self::AtMostOnce),
            "at-least-once" => Ok(Self::AtLeastOnce),
            "exactly-once" => Ok(Self::ExactlyOnce),
            other => Err(ParseDeliveryError(other.to_owned())),
        }
    }
}

/// The last record below a checkpoint, whatever became of it: how a recreated topic is told from the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LastRecord {
    pub offset: i64,
    /// Milliseconds since the Unix epoch, as Kafka stores it.
    pub timestamp: i64,
    /// XXH3-64 of key and value.
    pub hash: i64,
}

/// A half-open run `[from, to)` of one partition under one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub partition: Partition,
    pub claim: Claim,
    pub from: NextOffset,
    pub to: NextOffset,
    /// Everything below is durable under this claim: `from`, but where at-most-once has lost what lies between.
    pub durable: NextOffset,
    /// The last record below `to` that was read; none if only control records lie in the span.
    pub last: Option<LastRecord>,
}
