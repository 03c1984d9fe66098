//! Where a partition starts is decided once, by its checkpoint, and what contradicts that is refused.

use super::line;
use crate::{
    checkpoint::StoredHalt,
    claim::{ClaimRequest, Claimed, Committed, NotClaimed, StartReason, Wanted},
    model::{Delivery, Epoch, NextOffset, Partition},
    refusal::{Refusal, TOPIC_RECREATED},
    start::commit_metadata,
    testing::{
        Broken, Process,
        broken::{equal, holds},
        trial::Trial,
        worker::{PIPELINE, partition, request, wanted},
    },
};

/// The answer to a claim of one partition.
pub(super) async fn claim(process: &Process, request: &ClaimRequest) -> Result<Result<Claimed, NotClaimed>, Broken> {
    let mut answers = process.checkpoint.claim(request).await?;
    equal("one partition, one answer", answers.len(), 1)?;
    Ok(answers.remove(0).result)
}

async fn start(process: &Process, wanted: Wanted) -> Result<(i64, StartReason), Broken> {
    match claim(process, &ClaimRequest { wanted: vec![wanted], ..request(&[]) }).await? {
        Ok(claimed) => Ok((claimed.next.get(), claimed.because)),
        Err(refused) => Err(Broken::new(format_args!("a partition is not claimed: {refused:?}"))),
    }
}

fn starting_at(index: i32, start: i64, beginning: i64) -> Wanted {
    Wanted { start: Some(NextOffset::new(start)), beginning: Some(NextOffset::new(beginning)), ..wanted(index) }
}

pub(super) async fn the_first_claim_of_a_topic_makes_all_of_its_rows(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.worker_without_claim(trial.any_mode()).await?;
    worker.request.siblings = vec![(partition(1), NextOffset::new(7)), (Partition::new("payments", 0), NextOffset::new(9))];
    worker.claim().await?;
    let rows = worker.process.checkpoint.read(PIPELINE).await?;
    let mut rows: Vec<_> = rows.iter().map(|row| (row.partition.to_string(), row.claim.epoch.0, row.next_offset.get())).collect();
    rows.sort_unstable();
    equal("the first claim makes a row for each partition of its topic", rows, vec![("orders:0".to_owned(), 1, 0), ("orders:1".to_owned(), 0, 7)])?;
    equal("a start that was decided is kept", start(&worker.process, starting_at(1, 99, 50)).await?, (7, StartReason::Policy))?;
    equal(
        "a partition that the topic has got since starts at its beginning",
        start(&worker.process, starting_at(2, 99, 5)).await?,
        (5, StartReason::NewPartition),
    )
}

pub(super) async fn a_start_is_decided_once(trial: &Trial) -> Result<(), Broken> {
    let worker = trial.worker_without_claim(trial.any_mode()).await?;
    equal("without a checkpoint the policy says where", start(&worker.process, starting_at(0, 5, 2)).await?, (5, StartReason::Policy))?;
    let ours = commit_metadata(&worker.process.checkpoint.database_id(), Delivery::ExactlyOnce);
    for committed in [
        Committed::Unknown,
        Committed::Nothing,
        Committed::At { next: NextOffset::new(3), metadata: String::new() },
        Committed::At { next: NextOffset::new(900), metadata: ours },
        Committed::At { next: NextOffset::new(900), metadata: commit_metadata("elsewhere", Delivery::ExactlyOnce) },
    ] {
        let again = Wanted { committed, ..starting_at(0, 77, 66) };
        equal("with one it alone decides, whatever the group says", start(&worker.process, again).await?, (5, StartReason::Checkpoint))?;
    }
    Ok(())
}

pub(super) async fn what_contradicts_the_checkpoint_is_refused(trial: &Trial) -> Result<(), Broken> {
    let worker = trial.worker_without_claim(trial.any_mode()).await?;
    let id = worker.process.checkpoint.database_id();
    let nine = NextOffset::new(9);
    let at = |metadata: &str| Committed::At { next: nine, metadata: metadata.to_owned() };
    let elsewhere = Refusal::AnotherDatabase { committed: nine, theirs: "elsewhere".to_owned(), ours: id.to_string() };
    let cases = [
        (Wanted { committed: Committed::Unknown, ..wanted(0) }, NotClaimed::NeedsCommitted),
        (Wanted { start: None, ..wanted(0) }, NotClaimed::Refused(Refusal::NoStart)),
        (Wanted { held: Some(Epoch(4)), ..wanted(0) }, NotClaimed::Refused(Refusal::CheckpointGone { held: Epoch(4) })),
        (Wanted { committed: at(""), ..wanted(0) }, NotClaimed::Refused(Refusal::ForeignCommit { committed: nine })),
        (
            Wanted { committed: at(&commit_metadata(&id, Delivery::ExactlyOnce)), ..wanted(0) },
            NotClaimed::Refused(Refusal::CommittedButNeverClaimed { committed: nine }),
        ),
        (Wanted { committed: at(&commit_metadata("elsewhere", Delivery::ExactlyOnce)), ..wanted(0) }, NotClaimed::Refused(elsewhere)),
    ];
    for (wanted, refused) in cases {
        let what = format!("a first claim with {:?}, {:?}, {:?}", wanted.committed, wanted.held, wanted.start);
        equal(&what, claim(&worker.process, &ClaimRequest { wanted: vec![wanted], ..request(&[]) }).await?, Err(refused))?;
    }
    equal("who is refused changes nothing", worker.process.checkpoint.read(PIPELINE).await?.len(), 0)?;

    let held = trial.any_worker().await?;
    for (cluster, group) in [("another", "group"), ("cluster", "another")] {
        let request = ClaimRequest { cluster: cluster.into(), group: group.into(), ..request(&[0]) };
        let theirs = Refusal::AnotherDeployment { cluster: "cluster".into(), group: "group".into(), owner: "host/1".into() };
        equal("a checkpoint is of one cluster and group", claim(&worker.process, &request).await?, Err(NotClaimed::Refused(theirs)))?;
    }
    equal("and stays with who holds it", held.row(0).await?.claim, held.holding(0).claimed.claim)
}

pub(super) async fn a_commit_of_others_is_adopted_where_it_may_be(trial: &Trial) -> Result<(), Broken> {
    let worker = trial.worker_without_claim(trial.any_mode()).await?;
    let mut request = request(&[0]);
    request.adopts_commits = true;
    request.wanted[0].committed = Committed::At { next: NextOffset::new(9), metadata: String::new() };
    let claimed = claim(&worker.process, &request).await?;
    let adopted = claimed
        .as_ref()
        .is_ok_and(|claimed| (claimed.next, claimed.durable, claimed.because) == (NextOffset::new(9), NextOffset::new(9), StartReason::CommittedOffset));
    holds("a group that is named in the file goes on where it was", &claimed, adopted)
}

pub(super) async fn a_topic_that_was_made_again_stays_refused(trial: &Trial) -> Result<(), Broken> {
    let mut worker = trial.any_worker().await?;
    worker.write(&[line(1, "a"), line(2, "b")]).await?;
    let halt = StoredHalt { reason: TOPIC_RECREATED.to_owned(), detail: String::new(), offset: 2, at: 0 };
    worker.process.checkpoint.note_halt(PIPELINE, &partition(0), None, Some(&halt)).await?;
    let other = trial.worker_without_claim(trial.any_mode()).await?;
    let refused = NotClaimed::Refused(Refusal::TopicRecreated { next: NextOffset::new(2) });
    equal("what one worker has seen holds for all", claim(&other.process, &request(&[0])).await?, Err(refused))
}
