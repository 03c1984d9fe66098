//! The compare-and-set that a zombie fails. Pure: the row is locked, and this says what it means.

use std::cmp::Ordering;

use crate::{
    checkpoint::{CheckpointRow, Held},
    model::{BatchId, Claim, Delivery, Span},
    outcome::Standing,
    planted,
};

/// Judges the locked row of `span`'s partition. `None`: there is none.
///
/// | row against span | exactly-once | at-least-once | at-most-once |
/// | --- | --- | --- | --- |
/// | higher epoch, or the same with another claim id | taken | taken | taken |
/// | lower epoch | rewound | rewound | rewound |
/// | ours, next offset = from | mine | – | – |
/// | ours, next offset = to | applied | – | – |
/// | ours, next offset < from | rewound | – | – |
/// | ours, this batch's id | – | applied | applied |
/// | ours, from ≤ max(floor, durable) | – | mine | – |
/// | ours, from above both | – | rewound | – |
/// | ours, what the span knows to be durable ≤ max(floor, durable) | – | – | mine |
/// | ours, that above both | – | – | rewound |
/// | ours, anything else | contradicts | – | – |
#[must_use]
pub fn judge(span: &Span, batch: BatchId, delivery: Delivery, row: Option<&CheckpointRow>) -> Standing {
    let Some(row) = row else { return Standing::Gone };
    if planted!(NoFence) {
        return Standing::Mine;
    }
    match against(row.claim, span.claim) {
        _ if planted!(FenceWithoutEpoch) => {}
        Ordering::Greater => return Standing::Taken,
        Ordering::Less => return Standing::Rewound { row: row.next_offset, expected: span.from },
        Ordering::Equal => {}
    }
    match delivery {
        Delivery::ExactlyOnce => {
            if row.next_offset == span.from {
                Standing::Mine
            } else if row.next_offset == span.to {
                if planted!(BlindRetry) { Standing::Mine } else { Standing::Applied }
            } else if row.next_offset < span.from && planted!(RewoundIsMine) {
                Standing::Mine
            } else if row.next_offset < span.from {
                Standing::Rewound { row: row.next_offset, expected: span.from }
            } else {
                Standing::Contradicts { row: row.next_offset, expected: span.from }
            }
        }
        Delivery::AtMostOnce | Delivery::AtLeastOnce => {
            let reached = row.next_offset.max(row.durable);
            let expected = if delivery == Delivery::AtMostOnce { span.durable } else { span.from };
            if row.batch == batch && !planted!(BlindRetry) {
                Standing::Applied
            } else if expected <= reached {
                Standing::Mine
            } else {
                Standing::Rewound { row: reached, expected }
            }
        }
    }
}

/// Judges the row of a partition of which nothing is on its way; read without a lock. [`Standing::Mine`]: it is as its holder left it.
#[must_use]
pub fn still(held: Held, delivery: Delivery, row: Option<&CheckpointRow>) -> Standing {
    let Some(row) = row else { return Standing::Gone };
    let reached = row.reached();
    match against(row.claim, held.claim) {
        Ordering::Greater => Standing::Taken,
        Ordering::Less => Standing::Rewound { row: reached, expected: held.next },
        Ordering::Equal if reached < held.next => Standing::Rewound { row: reached, expected: held.next },
        Ordering::Equal if delivery == Delivery::ExactlyOnce && row.next_offset != held.next => {
            Standing::Contradicts { row: row.next_offset, expected: held.next }
        }
        Ordering::Equal => Standing::Mine,
    }
}

/// The row's claim against one's own. Of two claims with one epoch the other came later: it was made on a database that had gone back.
fn against(row: Claim, own: Claim) -> Ordering {
    match row.epoch.cmp(&own.epoch) {
        Ordering::Equal if row.id != own.id && !planted!(ClaimIdNotCompared) => Ordering::Greater,
        ordering => ordering,
    }
}

/// The row as the batch leaves it.
#[must_use]
pub fn moved(row: &CheckpointRow, span: &Span, batch: BatchId, delivery: Delivery) -> CheckpointRow {
    CheckpointRow {
        next_offset: match delivery {
            // Only exactly-once moves the floor: otherwise a weaker delivery would hide what a restored database lost.
            Delivery::AtMostOnce | Delivery::AtLeastOnce if !planted!(FloorMoves) => row.next_offset,
            Delivery::AtMostOnce | Delivery::AtLeastOnce | Delivery::ExactlyOnce => span.to,
        },
        durable: if planted!(DurableNotRaised) { row.durable } else { row.durable.max(span.to) },
        last: span.last.or(row.last),
        batch,
        halt: None,
        ..row.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{ClaimId, Epoch, LastRecord, NextOffset, Partition};

    fn row(epoch: i64, id: i64, next: i64, durable: i64) -> CheckpointRow {
        CheckpointRow {
            partition: Partition::new("orders", 3),
            claim: Claim { epoch: Epoch(epoch), id: ClaimId(id) },
            next_offset: NextOffset::new(next),
            durable: NextOffset::new(durable),
            delivery: Delivery::ExactlyOnce,
            cluster: Arc::from("c"),
            group: Arc::from("g"),
            owner: Arc::from("o"),
            last: None,
            batch: BatchId(7),
            halt: None,
        }
    }

    fn span(from: i64, to: i64) -> Span {
        Span {
            partition: Partition::new("orders", 3),
            claim: Claim { epoch: Epoch(5), id: ClaimId(50) },
            from: NextOffset::new(from),
            to: NextOffset::new(to),
            durable: NextOffset::new(from),
            last: Some(LastRecord { offset: to - 1, timestamp: 1, hash: 2 }),
        }
    }

    #[test]
    fn the_table_of_standings_holds() {
        use Delivery::{AtLeastOnce, AtMostOnce, ExactlyOnce};
        let number = NextOffset::new;
        let table = [
            (ExactlyOnce, Some(row(6, 60, 10, 10)), 1, Standing::Taken),
            (ExactlyOnce, Some(row(5, 51, 10, 10)), 1, Standing::Taken),
            (ExactlyOnce, Some(row(4, 40, 10, 10)), 1, Standing::Rewound { row: number(10), expected: number(10) }),
            (ExactlyOnce, Some(row(5, 50, 10, 10)), 1, Standing::Mine),
            (ExactlyOnce, Some(row(5, 50, 20, 20)), 1, Standing::Applied),
            (ExactlyOnce, Some(row(5, 50, 9, 20)), 1, Standing::Rewound { row: number(9), expected: number(10) }),
            (ExactlyOnce, Some(row(5, 50, 15, 20)), 1, Standing::Contradicts { row: number(15), expected: number(10) }),
            (ExactlyOnce, None, 1, Standing::Gone),
            (AtLeastOnce, Some(row(6, 60, 0, 10)), 1, Standing::Taken),
            (AtLeastOnce, Some(row(5, 50, 0, 10)), 1, Standing::Mine),
            (AtLeastOnce, Some(row(5, 50, 10, 0)), 1, Standing::Mine),
            (AtLeastOnce, Some(row(5, 50, 0, 9)), 1, Standing::Rewound { row: number(9), expected: number(10) }),
            (AtLeastOnce, Some(row(5, 50, 0, 20)), 7, Standing::Applied),
            (AtMostOnce, Some(row(6, 60, 0, 10)), 1, Standing::Taken),
            (AtMostOnce, Some(row(5, 50, 0, 10)), 1, Standing::Mine),
            (AtMostOnce, Some(row(5, 50, 0, 9)), 1, Standing::Rewound { row: number(9), expected: number(10) }),
            (AtMostOnce, Some(row(5, 50, 0, 20)), 7, Standing::Applied),
        ];
        for (delivery, row, batch, standing) in table {
            assert_eq!(judge(&span(10, 20), BatchId(batch), delivery, row.as_ref()), standing, "{delivery} {row:?}");
        }
    }

    #[test]
    fn an_idle_row_is_as_it_was_left() {
        use Delivery::{AtLeastOnce, ExactlyOnce};
        let held = Held { claim: Claim { epoch: Epoch(5), id: ClaimId(50) }, next: NextOffset::new(10) };
        let number = NextOffset::new;
        let weak = |row: CheckpointRow| CheckpointRow { delivery: AtLeastOnce, ..row };
        let table = [
            (ExactlyOnce, None, Standing::Gone),
            (ExactlyOnce, Some(row(5, 50, 10, 10)), Standing::Mine),
            (ExactlyOnce, Some(row(6, 60, 10, 10)), Standing::Taken),
            (ExactlyOnce, Some(row(5, 51, 10, 10)), Standing::Taken),
            (ExactlyOnce, Some(row(4, 40, 10, 10)), Standing::Rewound { row: number(10), expected: number(10) }),
            (ExactlyOnce, Some(row(5, 50, 9, 10)), Standing::Rewound { row: number(9), expected: number(10) }),
            (ExactlyOnce, Some(row(5, 50, 11, 11)), Standing::Contradicts { row: number(11), expected: number(10) }),
            (AtLeastOnce, Some(weak(row(5, 50, 0, 10))), Standing::Mine),
            (AtLeastOnce, Some(weak(row(5, 50, 10, 0))), Standing::Mine),
            (AtLeastOnce, Some(weak(row(5, 50, 0, 9))), Standing::Rewound { row: number(9), expected: number(10) }),
        ];
        for (delivery, row, standing) in table {
            assert_eq!(still(held, delivery, row.as_ref()), standing, "{delivery} {row:?}");
        }
    }

    #[test]
    fn only_exactly_once_moves_the_floor() {
        let before = row(5, 50, 10, 10);
        let exactly = moved(&before, &span(10, 20), BatchId(1), Delivery::ExactlyOnce);
        assert_eq!((exactly.next_offset, exactly.durable, exactly.batch), (NextOffset::new(20), NextOffset::new(20), BatchId(1)));
        let at_least = moved(&before, &span(10, 20), BatchId(1), Delivery::AtLeastOnce);
        assert_eq!((at_least.next_offset, at_least.durable), (NextOffset::new(10), NextOffset::new(20)));
        let passed = moved(&exactly, &Span { last: None, ..span(20, 21) }, BatchId(2), Delivery::ExactlyOnce);
        assert_eq!(passed.last, exactly.last, "a span of control records keeps the last record");
    }
}
