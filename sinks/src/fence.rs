//! The compare-and-set that a zombie fails. Pure: the row is locked, and this says what it means.

use crate::{
    checkpoint::CheckpointRow,
    model::{BatchId, Delivery, NextOffset, Span},
    planted,
};

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

/// Judges the locked row of `span`'s partition. `None`: there is none.
///
/// | row against span | exactly-once | at-least-once |
/// | --- | --- | --- |
/// | higher epoch, or the same with another claim id | taken | taken |
/// | lower epoch | rewound | rewound |
/// | ours, next offset = from | mine | – |
/// | ours, next offset = to | applied | – |
/// | ours, next offset < from | rewound | – |
/// | ours, this batch's id | – | applied |
/// | ours, from ≤ max(floor, durable) | – | mine |
/// | ours, from above both | – | rewound |
/// | ours, anything else | contradicts | – |
#[must_use]
pub fn judge(span: &Span, batch: BatchId, delivery: Delivery, row: Option<&CheckpointRow>) -> Standing {
    let Some(row) = row else { return Standing::Gone };
    if planted!(NoFence) {
        return Standing::Mine;
    }
    if !planted!(FenceWithoutEpoch) {
        if row.claim.epoch > span.claim.epoch || (row.claim.epoch == span.claim.epoch && row.claim.id != span.claim.id) {
            return Standing::Taken;
        }
        if row.claim.epoch < span.claim.epoch {
            return Standing::Rewound { row: row.next_offset, expected: span.from };
        }
    }
    match delivery {
        Delivery::ExactlyOnce => {
            if row.next_offset == span.from {
                Standing::Mine
            } else if row.next_offset == span.to {
                if planted!(BlindRetry) { Standing::Mine } else { Standing::Applied }
            } else if row.next_offset < span.from {
                Standing::Rewound { row: row.next_offset, expected: span.from }
            } else {
                Standing::Contradicts { row: row.next_offset, expected: span.from }
            }
        }
        Delivery::AtLeastOnce => {
            let reached = row.next_offset.max(row.durable);
            if row.batch == batch && !planted!(BlindRetry) {
                Standing::Applied
            } else if span.from <= reached {
                Standing::Mine
            } else {
                Standing::Rewound { row: reached, expected: span.from }
            }
        }
    }
}

/// The row as the batch leaves it.
#[must_use]
pub fn moved(row: &CheckpointRow, span: &Span, batch: BatchId, delivery: Delivery) -> CheckpointRow {
    CheckpointRow {
        next_offset: match delivery {
            Delivery::ExactlyOnce => span.to,
            // Only exactly-once moves the floor: otherwise a weaker delivery would hide what a restored database lost.
            Delivery::AtLeastOnce => row.next_offset,
        },
        durable: row.durable.max(span.to),
        last: span.last.or(row.last),
        batch,
        halt: None,
        ..row.clone()
    }
}
