//! Where a claimed partition starts. Pure: the row is locked, and this decides.

use std::sync::Arc;

use crate::{
    checkpoint::CheckpointRow,
    claim::{ClaimRequest, Claimed, Committed, NotClaimed, StartReason, Wanted},
    model::{Claim, ClaimId, Delivery, Epoch, NextOffset},
    planted,
    refusal::{Refusal, TOPIC_RECREATED},
};

/// A start, and what of it is known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub next: NextOffset,
    pub durable: NextOffset,
    pub because: StartReason,
    /// Offsets below `next` that at-most-once has committed, and nobody has written.
    pub lost: i64,
}

impl Start {
    #[must_use]
    pub const fn of(claimed: &Claimed) -> Self {
        Self { next: claimed.next, durable: claimed.durable, because: claimed.because, lost: claimed.lost }
    }
}

/// The row as a claim leaves it: no claim before it may write any more.
#[must_use]
pub fn claimed(row: &CheckpointRow, start: &Start, id: ClaimId, delivery: Delivery, owner: &Arc<str>) -> CheckpointRow {
    let epoch = if planted!(ClaimKeepsEpoch) { row.claim.epoch.0.max(1) } else { row.claim.epoch.0 + 1 };
    CheckpointRow {
        claim: Claim { epoch: Epoch(epoch), id },
        next_offset: left_by_claim(row, delivery, start.next),
        durable: start.durable,
        delivery,
        owner: owner.clone(),
        ..row.clone()
    }
}

/// What Kafka commits carry: which database they stand beside, and under which delivery they were made.
#[must_use]
pub fn commit_metadata(database: &str, delivery: Delivery) -> String {
    format!("{database}/{delivery}")
}

/// Decides the start of one partition from its row, the group's commit and the policy.
///
/// `topic_has_rows`: other partitions of the topic have rows, so one without is new and starts at its beginning.
pub fn decide(row: Option<&CheckpointRow>, topic_has_rows: bool, wanted: &Wanted, request: &ClaimRequest, database: &str) -> Result<Start, NotClaimed> {
    if let Some(row) = row
        && (row.cluster != request.cluster || row.group != request.group)
    {
        return refuse(Refusal::AnotherDeployment { cluster: row.cluster.clone(), group: row.group.clone(), owner: row.owner.clone() });
    }
    if let Some(row) = row
        && row.delivery == Delivery::ExactlyOnce
        && row.halt.as_ref().is_some_and(|halt| halt.reason == TOPIC_RECREATED && halt.offset == row.next_offset.get())
    {
        return refuse(Refusal::TopicRecreated { next: row.next_offset });
    }
    match row.filter(|row| row.claim.epoch > Epoch(0)) {
        // A row last under exactly-once asks no commit: that is how a restored database heals from the topic.
        Some(row) if row.delivery == Delivery::ExactlyOnce && !planted!(StartsAtCommitted) => {
            Ok(Start { next: row.next_offset, durable: row.durable, because: StartReason::Checkpoint, lost: 0 })
        }
        Some(row) => follow_commit(row, wanted, database),
        None => first_start(row, topic_has_rows, wanted, request, database),
    }
}

/// Claimed before, last under a weaker delivery: the higher of floor and commit, if the commit can be trusted.
fn follow_commit(row: &CheckpointRow, wanted: &Wanted, database: &str) -> Result<Start, NotClaimed> {
    let reached = row.durable.max(row.next_offset);
    // What at-most-once has written is not read again, whatever became of the group's offsets: an old commit may arrive late, and somebody may delete
    // them. Only who sets them on purpose has it read again.
    let floor = if row.delivery == Delivery::AtMostOnce && !planted!(WrittenIsReadAgain) { reached } else { row.next_offset };
    let from = |next: NextOffset, lost: i64| {
        let because = if next > row.next_offset { StartReason::CommittedOffset } else { StartReason::Checkpoint };
        // What is lost stays above `durable` until a batch goes over it: the answer to this claim may be lost, and the next one counts anew.
        let stays = because != StartReason::CommittedOffset || (lost > 0 && wanted.delivery == Delivery::AtMostOnce);
        let durable = if stays { row.durable } else { row.durable.max(next) };
        Start { next, durable, because, lost }
    };
    match &wanted.committed {
        Committed::Unknown => Err(NotClaimed::NeedsCommitted),
        Committed::Nothing => Ok(from(floor, 0)),
        Committed::At { next, metadata } => match Mark::read(metadata) {
            Some(mark) if mark.database != database => {
                refuse(Refusal::AnotherDatabase { committed: *next, theirs: mark.database.to_owned(), ours: database.to_owned() })
            }
            // It commits before it writes: what was never written is lost, by a crash or with a database that was restored.
            Some(mark) if mark.delivery == Delivery::AtMostOnce => Ok(from(floor.max(*next), (next.get() - reached.get()).max(0))),
            // The others commit after it is durable.
            Some(_) if *next > reached => refuse(Refusal::CommittedAboveDurable { committed: *next, durable: row.durable }),
            Some(_) => Ok(from(floor.max(*next), 0)),
            // An admin's reset is followed, but never below the row's own floor.
            None => Ok(from(row.next_offset.max(*next), 0)),
        },
    }
}

/// Never claimed: no row, or one of epoch 0 that another partition's first claim made.
fn first_start(row: Option<&CheckpointRow>, topic_has_rows: bool, wanted: &Wanted, request: &ClaimRequest, database: &str) -> Result<Start, NotClaimed> {
    match (&wanted.committed, wanted.held) {
        (Committed::Unknown, _) => return Err(NotClaimed::NeedsCommitted),
        // Never a first start: `kafka.start` would pass over records, or write them again.
        (Committed::Nothing, Some(held)) => return refuse(Refusal::CheckpointGone { held }),
        (Committed::Nothing, None) => {}
        (Committed::At { next, metadata }, held) => {
            return match (Mark::read(metadata), held) {
                (Some(mark), _) if mark.database != database => {
                    refuse(Refusal::AnotherDatabase { committed: *next, theirs: mark.database.to_owned(), ours: database.to_owned() })
                }
                (Some(_), _) => refuse(Refusal::CommittedButNeverClaimed { committed: *next }),
                (None, Some(held)) => refuse(Refusal::CheckpointGone { held }),
                (None, None) if request.adopts_commits => Ok(Start { next: *next, durable: *next, because: StartReason::CommittedOffset, lost: 0 }),
                (None, None) => refuse(Refusal::ForeignCommit { committed: *next }),
            };
        }
    }
    let (next, because) = match row {
        Some(row) => (Some(row.next_offset), StartReason::Policy),
        None if topic_has_rows => (wanted.beginning, StartReason::NewPartition),
        None => (wanted.start, StartReason::Policy),
    };
    match next {
        Some(next) => Ok(Start { next, durable: row.map_or(NextOffset::ZERO, |row| row.durable), because, lost: 0 }),
        None => refuse(Refusal::NoStart),
    }
}

/// The next offset that a claim leaves in the row: under a weaker delivery the floor stays where the first claim set it, or an admin's
/// reset could go back no further than to the last claim.
#[must_use]
pub fn left_by_claim(row: &CheckpointRow, delivery: Delivery, start: NextOffset) -> NextOffset {
    match delivery {
        Delivery::AtMostOnce | Delivery::AtLeastOnce if row.claim.epoch > Epoch(0) => row.next_offset,
        Delivery::AtMostOnce | Delivery::AtLeastOnce | Delivery::ExactlyOnce => start,
    }
}

fn refuse(refusal: Refusal) -> Result<Start, NotClaimed> {
    Err(NotClaimed::Refused(refusal))
}

/// Whether oncesink made this commit, beside whatever database.
#[must_use]
pub fn is_ours(metadata: &str) -> bool {
    Mark::read(metadata).is_some()
}

/// Our own mark in a commit's metadata.
struct Mark<'a> {
    database: &'a str,
    delivery: Delivery,
}

impl<'a> Mark<'a> {
    fn read(metadata: &'a str) -> Option<Self> {
        let (database, delivery) = metadata.split_once('/')?;
        let delivery = delivery.parse().ok()?;
        (!database.is_empty()).then_some(Self { database, delivery })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::StoredHalt,
        model::{BatchId, Partition},
    };

    fn request(adopts_commits: bool) -> ClaimRequest {
        ClaimRequest {
            pipeline: Arc::from("p"),
            cluster: Arc::from("c"),
            group: Arc::from("g"),
            owner: Arc::from("o"),
            adopts_commits,
            wanted: Vec::new(),
            siblings: Vec::new(),
        }
    }

    fn row(epoch: i64, delivery: Delivery, next: i64, durable: i64) -> CheckpointRow {
        CheckpointRow {
            partition: Partition::new("orders", 3),
            claim: Claim { epoch: Epoch(epoch), id: ClaimId(1) },
            next_offset: NextOffset::new(next),
            durable: NextOffset::new(durable),
            delivery,
            cluster: Arc::from("c"),
            group: Arc::from("g"),
            owner: Arc::from("o"),
            last: None,
            batch: BatchId(0),
            halt: None,
        }
    }

    fn wanted(committed: Committed) -> Wanted {
        Wanted {
            partition: Partition::new("orders", 3),
            delivery: Delivery::ExactlyOnce,
            held: None,
            committed,
            start: Some(NextOffset::new(500)),
            beginning: Some(NextOffset::new(100)),
        }
    }

    fn at(next: i64, metadata: &str) -> Committed {
        Committed::At { next: NextOffset::new(next), metadata: metadata.to_owned() }
    }

    fn start(next: i64, durable: i64, because: StartReason) -> Result<Start, NotClaimed> {
        Ok(Start { next: NextOffset::new(next), durable: NextOffset::new(durable), because, lost: 0 })
    }

    #[test]
    fn the_rules_of_the_start_hold() {
        use Delivery::{AtLeastOnce, ExactlyOnce};
        let refused = |refusal| Err(NotClaimed::Refused(refusal));
        let decide =
            |row: Option<CheckpointRow>, topic_has_rows, committed, adopts| decide(row.as_ref(), topic_has_rows, &wanted(committed), &request(adopts), "db");
        let number = NextOffset::new;

        // Never claimed.
        assert_eq!(decide(None, false, Committed::Nothing, false), start(500, 0, StartReason::Policy));
        assert_eq!(decide(None, true, Committed::Nothing, false), start(100, 0, StartReason::NewPartition), "a new partition of a known topic");
        assert_eq!(decide(Some(row(0, ExactlyOnce, 250, 0)), true, Committed::Nothing, false), start(250, 0, StartReason::Policy), "never resolved twice");
        assert_eq!(decide(None, false, Committed::Unknown, false), Err(NotClaimed::NeedsCommitted), "a failed look-up is not nothing");
        assert_eq!(decide(None, false, at(77, ""), false), refused(Refusal::ForeignCommit { committed: number(77) }));
        assert_eq!(decide(None, false, at(77, ""), true), start(77, 77, StartReason::CommittedOffset));
        for never in [None, Some(row(0, ExactlyOnce, 250, 0))] {
            assert_eq!(decide(never, true, at(77, "db/exactly-once"), true), refused(Refusal::CommittedButNeverClaimed { committed: number(77) }));
        }
        assert!(matches!(decide(None, false, at(77, "other/exactly-once"), true), Err(NotClaimed::Refused(Refusal::AnotherDatabase { .. }))));

        // Held by this worker since it was assigned, and without a row: whatever Kafka says, nobody starts there anew.
        for committed in [Committed::Nothing, at(77, "")] {
            let held = Wanted { held: Some(Epoch(3)), ..wanted(committed) };
            for never in [None, Some(row(0, ExactlyOnce, 250, 0))] {
                let decided = super::decide(never.as_ref(), true, &held, &request(true), "db");
                assert_eq!(decided, refused(Refusal::CheckpointGone { held: Epoch(3) }));
            }
            let again = super::decide(Some(&row(3, ExactlyOnce, 300, 300)), true, &held, &request(true), "db");
            assert_eq!(again, start(300, 300, StartReason::Checkpoint), "once it is put back, it goes on");
        }

        // Last under exactly-once: the row decides, whatever the group says.
        for committed in [Committed::Unknown, Committed::Nothing, at(5, ""), at(9_999, "db/exactly-once")] {
            assert_eq!(decide(Some(row(3, ExactlyOnce, 300, 300)), true, committed, false), start(300, 300, StartReason::Checkpoint));
        }

        // A topic that was seen to be another one stays so, also to a worker that did not see it.
        let mut made_again = row(3, ExactlyOnce, 300, 300);
        made_again.halt = Some(StoredHalt { reason: TOPIC_RECREATED.to_owned(), detail: String::new(), offset: 300, at: 0 });
        assert_eq!(decide(Some(made_again.clone()), true, Committed::Nothing, false), refused(Refusal::TopicRecreated { next: number(300) }));
        made_again.next_offset = number(0);
        assert_eq!(decide(Some(made_again), true, Committed::Nothing, false), start(0, 300, StartReason::Checkpoint), "somebody has moved it");

        // Last under at-least-once: the higher of floor and commit.
        let weaker = || Some(row(3, AtLeastOnce, 300, 400));
        assert_eq!(decide(weaker(), true, Committed::Unknown, false), Err(NotClaimed::NeedsCommitted));
        assert_eq!(decide(weaker(), true, Committed::Nothing, false), start(300, 400, StartReason::Checkpoint));
        assert_eq!(decide(weaker(), true, at(400, "db/at-least-once"), false), start(400, 400, StartReason::CommittedOffset));
        assert_eq!(decide(weaker(), true, at(10, ""), false), start(300, 400, StartReason::Checkpoint), "never below the floor");
        assert_eq!(decide(weaker(), true, at(900, ""), false), start(900, 900, StartReason::CommittedOffset), "an admin's reset is followed");
        assert_eq!(
            decide(weaker(), true, at(401, "db/at-least-once"), false),
            refused(Refusal::CommittedAboveDurable { committed: number(401), durable: number(400) }),
            "a restored database is noticed"
        );

        // Last under at-most-once: what it committed was written or is lost.
        let most = |next| Ok(Start { next: number(next), durable: number(next), because: StartReason::CommittedOffset, lost: next - 400 });
        assert_eq!(decide(Some(row(3, Delivery::AtMostOnce, 300, 400)), true, at(450, "db/at-most-once"), false), most(450));
        assert_eq!(decide(weaker(), true, at(450, "db/at-most-once"), false), most(450), "the commit says who made it");
        let again = Wanted { delivery: Delivery::AtMostOnce, ..wanted(at(450, "db/at-most-once")) };
        let counted_anew = super::decide(weaker().as_ref(), true, &again, &request(false), "db");
        assert_eq!(counted_anew, Ok(Start { durable: number(400), ..most(450).unwrap() }), "until a batch goes over it");
        let most_once = || Some(row(3, Delivery::AtMostOnce, 300, 400));
        for late in [Committed::Nothing, at(350, "db/at-most-once"), at(350, "db/at-least-once")] {
            assert_eq!(decide(most_once(), true, late, false), start(400, 400, StartReason::CommittedOffset), "what is written is not read again");
        }
        assert_eq!(decide(most_once(), true, at(310, ""), false), start(310, 400, StartReason::CommittedOffset), "unless somebody wants it so");

        // The floor is where the first claim set it.
        assert_eq!(left_by_claim(&row(0, AtLeastOnce, 250, 0), AtLeastOnce, number(77)), number(77), "the first claim");
        assert_eq!(left_by_claim(&row(3, AtLeastOnce, 300, 400), AtLeastOnce, number(400)), number(300));
        assert_eq!(left_by_claim(&row(3, AtLeastOnce, 300, 400), ExactlyOnce, number(400)), number(400), "from here on it is a checkpoint");

        // Another deployment with the same name.
        let mut theirs = row(3, ExactlyOnce, 300, 300);
        theirs.group = Arc::from("other");
        assert!(matches!(decide(Some(theirs), true, Committed::Nothing, true), Err(NotClaimed::Refused(Refusal::AnotherDeployment { .. }))));
    }
}
