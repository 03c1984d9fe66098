//! Where a claimed partition starts. Pure: the row is locked, and this decides.

use crate::{
    checkpoint::{CheckpointRow, ClaimRequest, Committed, NotClaimed, Refusal, StartReason, Wanted},
    model::{Delivery, Epoch, NextOffset},
};

/// A start, and what of it is known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub next: NextOffset,
    pub durable: NextOffset,
    pub because: StartReason,
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
    match row.filter(|row| row.claim.epoch > Epoch(0)) {
        // A row last under exactly-once asks no commit: that is how a restored database heals from the topic.
        Some(row) if row.delivery == Delivery::ExactlyOnce => Ok(Start { next: row.next_offset, durable: row.durable, because: StartReason::Checkpoint }),
        Some(row) => follow_commit(row, wanted, database),
        None => first_start(row, topic_has_rows, wanted, request, database),
    }
}

/// Claimed before, last under a weaker delivery: the higher of floor and commit, if the commit can be trusted.
fn follow_commit(row: &CheckpointRow, wanted: &Wanted, database: &str) -> Result<Start, NotClaimed> {
    let floor = Start { next: row.next_offset, durable: row.durable, because: StartReason::Checkpoint };
    match &wanted.committed {
        Committed::Unknown => Err(NotClaimed::NeedsCommitted),
        Committed::Nothing => Ok(floor),
        Committed::At { next, metadata } => {
            match Mark::read(metadata) {
                Some(mark) if mark.database != database => {
                    return refuse(Refusal::AnotherDatabase { committed: *next, theirs: mark.database.to_owned(), ours: database.to_owned() });
                }
                // Every delivery that this version knows commits after it is durable.
                Some(_) if *next > row.durable.max(row.next_offset) => {
                    return refuse(Refusal::CommittedAboveDurable { committed: *next, durable: row.durable });
                }
                // An admin's reset is followed, but never below the floor.
                Some(_) | None => {}
            }
            if *next > row.next_offset { Ok(Start { next: *next, durable: row.durable.max(*next), because: StartReason::CommittedOffset }) } else { Ok(floor) }
        }
    }
}

/// Never claimed: no row, or one of epoch 0 that another partition's first claim made.
fn first_start(row: Option<&CheckpointRow>, topic_has_rows: bool, wanted: &Wanted, request: &ClaimRequest, database: &str) -> Result<Start, NotClaimed> {
    match &wanted.committed {
        Committed::Unknown => return Err(NotClaimed::NeedsCommitted),
        Committed::Nothing => {}
        Committed::At { next, metadata } => {
            return match Mark::read(metadata) {
                Some(mark) if mark.database != database => {
                    refuse(Refusal::AnotherDatabase { committed: *next, theirs: mark.database.to_owned(), ours: database.to_owned() })
                }
                Some(_) => refuse(Refusal::CommittedButNeverClaimed { committed: *next }),
                None if request.adopts_commits => Ok(Start { next: *next, durable: *next, because: StartReason::CommittedOffset }),
                None => refuse(Refusal::ForeignCommit { committed: *next }),
            };
        }
    }
    let (next, because) = match row {
        Some(row) => (Some(row.next_offset), StartReason::Policy),
        None if topic_has_rows => (wanted.beginning, StartReason::NewPartition),
        None => (wanted.start, StartReason::Policy),
    };
    match next {
        Some(next) => Ok(Start { next, durable: row.map_or(NextOffset::ZERO, |row| row.durable), because }),
        None => refuse(Refusal::NoStart),
    }
}

fn refuse(refusal: Refusal) -> Result<Start, NotClaimed> {
    Err(NotClaimed::Refused(refusal))
}

/// Our own mark in a commit's metadata.
struct Mark<'a> {
    database: &'a str,
}

impl<'a> Mark<'a> {
    fn read(metadata: &'a str) -> Option<Self> {
        let (database, delivery) = metadata.split_once('/')?;
        (!database.is_empty() && ["at-most-once", "at-least-once", "exactly-once"].contains(&delivery)).then_some(Self { database })
    }
}
