//! Claims, one partition after the other.

use super::{Mistake, state::State};
use crate::{
    checkpoint::CheckpointRow,
    claim::{ClaimAnswer, ClaimRequest, Claimed, Committed, NotClaimed, StartReason, Wanted},
    model::{BatchId, Claim, ClaimId, Delivery, Epoch, NextOffset, Partition},
    refusal::Refusal,
};

/// Where a partition starts.
struct Start {
    next: NextOffset,
    durable: NextOffset,
    because: StartReason,
    lost: i64,
}

pub(super) fn claim(state: &mut State, request: &ClaimRequest, mistake: Option<Mistake>) -> Vec<ClaimAnswer> {
    let known: Vec<Partition> =
        state.checkpoints.keys().filter(|(pipeline, _)| *pipeline == request.pipeline).map(|(_, partition)| partition.clone()).collect();
    let mut answers: Vec<ClaimAnswer> = Vec::new();
    for wanted in &request.wanted {
        let topic_is_known = known.iter().any(|partition| partition.topic == wanted.partition.topic);
        let result = start(state, request, wanted, topic_is_known, mistake).map(|start| take(state, request, wanted, topic_is_known, &start, mistake));
        answers.push(ClaimAnswer { partition: wanted.partition.clone(), result });
    }
    if mistake == Some(Mistake::OneRefusalRefusesAll)
        && let Some(refusal) = answers.iter().find_map(|answer| answer.result.clone().err())
    {
        for answer in &mut answers {
            answer.result = Err(refusal.clone());
        }
    }
    answers
}

fn start(state: &State, request: &ClaimRequest, wanted: &Wanted, topic_is_known: bool, mistake: Option<Mistake>) -> Result<Start, NotClaimed> {
    let policy = |next, because| Start { next, durable: NextOffset::ZERO, because, lost: 0 };
    if mistake == Some(Mistake::NothingIsRefused)
        && !matches!(wanted.committed, Committed::At { .. })
        && !state.checkpoints.keys().any(|(_, partition)| *partition == wanted.partition)
    {
        return Ok(policy(wanted.start.unwrap_or_default(), StartReason::Policy));
    }
    let row = state.checkpoints.get(&(request.pipeline.clone(), wanted.partition.clone()));
    if let Some(row) = row {
        if row.cluster != request.cluster || row.group != request.group {
            let refusal = Refusal::AnotherDeployment { cluster: row.cluster.clone(), group: row.group.clone(), owner: row.owner.clone() };
            return Err(NotClaimed::Refused(refusal));
        }
        let is_made_again = row.halt.as_ref().is_some_and(|halt| halt.reason == "topic-recreated" && halt.offset == row.next_offset.get());
        if row.delivery == Delivery::ExactlyOnce && is_made_again && mistake != Some(Mistake::TopicsMadeAgainAreRead) {
            return Err(NotClaimed::Refused(Refusal::TopicRecreated { next: row.next_offset }));
        }
    }
    match row.filter(|row| row.claim.epoch > Epoch(0)) {
        Some(_) if mistake == Some(Mistake::StartsAreDecidedAnew) && wanted.committed == Committed::Nothing && wanted.delivery == Delivery::ExactlyOnce => {
            Ok(policy(wanted.start.unwrap_or_default(), StartReason::Policy))
        }
        Some(row) if row.delivery == Delivery::ExactlyOnce => {
            Ok(Start { next: row.next_offset, durable: row.durable, because: StartReason::Checkpoint, lost: 0 })
        }
        Some(row) => after_a_weaker_delivery(&state.id, row, wanted, mistake),
        None => {
            if let Some(next) = adopted(&state.id, request, wanted, mistake)? {
                return Ok(Start { next, durable: next, because: StartReason::CommittedOffset, lost: 0 });
            }
            match (row, topic_is_known) {
                (Some(row), _) => Some(Start { durable: row.durable, ..policy(row.next_offset, StartReason::Policy) }),
                (None, true) => wanted.beginning.map(|beginning| policy(beginning, StartReason::NewPartition)),
                (None, false) => wanted.start.map(|start| policy(start, StartReason::Policy)),
            }
            .ok_or(NotClaimed::Refused(Refusal::NoStart))
        }
    }
}

/// A commit where nobody ever claimed: ours is of another database or time, another's is taken over only where the file names the group.
fn adopted(id: &str, request: &ClaimRequest, wanted: &Wanted, mistake: Option<Mistake>) -> Result<Option<NextOffset>, NotClaimed> {
    let refuse = |refusal| Err(NotClaimed::Refused(refusal));
    match (&wanted.committed, wanted.held) {
        (Committed::Unknown, _) => Err(NotClaimed::NeedsCommitted),
        (Committed::At { next, metadata }, held) => match (marked(metadata), held) {
            (Some((theirs, _)), _) if theirs != id => refuse(Refusal::AnotherDatabase { committed: *next, theirs: theirs.to_owned(), ours: id.to_owned() }),
            (Some(_), _) => refuse(Refusal::CommittedButNeverClaimed { committed: *next }),
            (None, Some(held)) => refuse(Refusal::CheckpointGone { held }),
            (None, None) if request.adopts_commits && mistake != Some(Mistake::CommitsOfOthersAreRefused) => Ok(Some(*next)),
            (None, None) => refuse(Refusal::ForeignCommit { committed: *next }),
        },
        (Committed::Nothing, Some(held)) => refuse(Refusal::CheckpointGone { held }),
        (Committed::Nothing, None) => Ok(None),
    }
}

/// The last holder committed to Kafka what decides the start.
fn after_a_weaker_delivery(id: &str, row: &CheckpointRow, wanted: &Wanted, mistake: Option<Mistake>) -> Result<Start, NotClaimed> {
    let reached = row.next_offset.max(row.durable);
    let floor = if row.delivery == Delivery::AtMostOnce { reached } else { row.next_offset };
    let (next, lost) = match &wanted.committed {
        _ if mistake == Some(Mistake::CommitsAreNotAsked) => (floor, 0),
        Committed::Unknown => return Err(NotClaimed::NeedsCommitted),
        Committed::Nothing => (floor, 0),
        Committed::At { next, metadata } => match marked(metadata) {
            // Somebody has set it on purpose.
            None => (row.next_offset.max(*next), 0),
            Some((theirs, _)) if theirs != id => {
                let refusal = Refusal::AnotherDatabase { committed: *next, theirs: theirs.to_owned(), ours: id.to_owned() };
                return Err(NotClaimed::Refused(refusal));
            }
            Some((_, Delivery::AtMostOnce)) if mistake == Some(Mistake::LostIsNotCounted) => (floor.max(*next), 0),
            Some((_, Delivery::AtMostOnce)) => (floor.max(*next), (next.get() - reached.get()).max(0)),
            Some(_) if *next > reached => {
                return Err(NotClaimed::Refused(Refusal::CommittedAboveDurable { committed: *next, durable: row.durable }));
            }
            Some(_) => (floor.max(*next), 0),
        },
    };
    let because = if next > row.next_offset { StartReason::CommittedOffset } else { StartReason::Checkpoint };
    let is_lost_still = lost > 0 && wanted.delivery == Delivery::AtMostOnce;
    let durable = if because == StartReason::Checkpoint || is_lost_still { row.durable } else { row.durable.max(next) };
    Ok(Start { next, durable, because, lost })
}

/// The database and the delivery of one of our own commits: `<database>/<delivery>`.
fn marked(metadata: &str) -> Option<(&str, Delivery)> {
    let (database, delivery) = metadata.split_once('/')?;
    Some((database, delivery.parse().ok()?)).filter(|(database, _)| !database.is_empty())
}

/// Makes the rows that are missing, and gives this one to who asks.
fn take(state: &mut State, request: &ClaimRequest, wanted: &Wanted, topic_is_known: bool, start: &Start, mistake: Option<Mistake>) -> Claimed {
    let siblings = request.siblings.iter().filter(|(sibling, _)| !topic_is_known && sibling.topic == wanted.partition.topic);
    for (sibling, next) in siblings.filter(|_| mistake != Some(Mistake::SiblingsHaveNoRow)) {
        if !request.wanted.iter().any(|wanted| wanted.partition == *sibling) {
            state.checkpoints.entry((request.pipeline.clone(), sibling.clone())).or_insert_with(|| unclaimed(request, sibling, wanted.delivery, *next));
        }
    }
    let place = (request.pipeline.clone(), wanted.partition.clone());
    let row = state.checkpoints.entry(place).or_insert_with(|| unclaimed(request, &wanted.partition, wanted.delivery, start.next));
    let batch = row.batch;
    let last = row.last.filter(|last| last.offset < start.next.get());
    // A weaker delivery leaves the floor where the first claim has set it.
    if wanted.delivery == Delivery::ExactlyOnce || row.claim.epoch == Epoch(0) {
        row.next_offset = start.next;
    }
    if mistake != Some(Mistake::ClaimsKeepTheEpoch) || row.claim.epoch == Epoch(0) {
        row.claim.epoch.0 += 1;
    }
    row.claim.id = if mistake == Some(Mistake::ClaimsKeepTheId) { ClaimId(1) } else { ClaimId(rand::random()) };
    row.durable = start.durable;
    row.delivery = wanted.delivery;
    row.owner = request.owner.clone();
    if mistake == Some(Mistake::ClaimsForgetTheBatch) {
        row.batch = BatchId::default();
    }
    Claimed { claim: row.claim, next: start.next, durable: start.durable, last, because: start.because, lost: start.lost, batch }
}

fn unclaimed(request: &ClaimRequest, partition: &Partition, delivery: Delivery, next: NextOffset) -> CheckpointRow {
    CheckpointRow {
        partition: partition.clone(),
        claim: Claim::default(),
        next_offset: next,
        durable: NextOffset::ZERO,
        delivery,
        cluster: request.cluster.clone(),
        group: request.group.clone(),
        owner: request.owner.clone(),
        last: None,
        batch: BatchId::default(),
        halt: None,
    }
}
