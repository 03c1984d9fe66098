//! How a batch stands to its checkpoint rows, before and after its COMMIT.

use crate::model::{NextOffset, Partition};

/// How a batch stands to the checkpoint row of one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Epoch, claim id and offset are what the batch expects: go on.
    Mine,
    /// An earlier attempt of this very batch took effect.
    Applied,
    /// Another worker has claimed the partition since.
    Taken,
    /// The row is older than what this worker has seen: the database was restored.
    Rewound { row: NextOffset, expected: NextOffset },
    /// There is no row any more.
    Gone,
    /// None of these: a halt that says both numbers.
    Contradicts { row: NextOffset, expected: NextOffset },
}

/// What became of a span whose reply was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanOutcome {
    pub partition: Partition,
    pub standing: Standing,
    /// The row's batch is this batch: it did take effect, whatever came later.
    pub same_batch: bool,
}

impl SpanOutcome {
    #[must_use]
    pub fn took_effect(&self) -> bool {
        self.same_batch || self.standing == Standing::Applied
    }

    /// The row is as the batch found it.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        !self.same_batch && self.standing == Standing::Mine
    }

    /// How the batch stands there, now that the outcome is known.
    #[must_use]
    pub fn settled(&self) -> Standing {
        if self.same_batch && self.standing == Standing::Mine { Standing::Applied } else { self.standing.clone() }
    }

    /// One transaction that took effect in one partition and not in another: no database does that.
    #[must_use]
    pub fn are_torn(outcomes: &[Self]) -> bool {
        outcomes.iter().any(Self::took_effect) && outcomes.iter().any(Self::is_untouched)
    }
}
