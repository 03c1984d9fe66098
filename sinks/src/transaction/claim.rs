//! The transaction of a claim.

use std::{collections::BTreeSet, sync::Arc};

use super::Transactional;
use crate::{
    checkpoint::CheckpointRow,
    claim::{ClaimAnswer, ClaimRequest, Claimed, Wanted},
    fault::Fault,
    model::{BatchId, Claim, Delivery, Epoch, NextOffset, Partition},
    session::{LockWait, Session, finish},
    start,
};

impl Transactional {
    /// Claims these partitions in one transaction; those whose row somebody holds are left to the second value.
    pub(super) async fn claim_together(&self, request: &ClaimRequest, wanted: &[&Wanted], wait: LockWait) -> Result<(Vec<ClaimAnswer>, Vec<Partition>), Fault> {
        let mut session = self.database.connect().await?;
        session.begin().await?;
        let claimed = self.claim_in(session.as_mut(), request, wanted, wait).await;
        match claimed {
            // A claim that took effect unseen costs an epoch and nothing else: the next one has a higher.
            Ok(claimed) => finish(session.as_mut()).await.map(|()| claimed),
            Err(fault) => {
                // The session is dropped after this either way; a rollback only frees its locks sooner.
                let _ = session.rollback().await;
                Err(fault)
            }
        }
    }

    async fn claim_in(
        &self,
        session: &mut dyn Session,
        request: &ClaimRequest,
        wanted: &[&Wanted],
        wait: LockWait,
    ) -> Result<(Vec<ClaimAnswer>, Vec<Partition>), Fault> {
        let mut partitions: Vec<Partition> = wanted.iter().map(|wanted| wanted.partition.clone()).collect();
        partitions.sort_unstable();
        let mut rows = session.lock(&request.pipeline, &partitions, wait).await?;
        // After the locks: what is not among them and has a row is held by somebody, and what has none is nobody's.
        let topics: Vec<Arc<str>> = wanted.iter().map(|wanted| wanted.partition.topic.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let with_rows: BTreeSet<Partition> = session.with_rows(&request.pipeline, &topics).await?.into_iter().collect();
        let topic_has_rows = |topic: &Arc<str>| with_rows.iter().any(|partition| partition.topic == *topic);

        let decided: Vec<_> = wanted
            .iter()
            .map(|wanted| {
                let row = rows.iter().find(|row| row.partition == wanted.partition);
                (*wanted, start::decide(row, topic_has_rows(&wanted.partition.topic), wanted, request, &self.id))
            })
            .collect();

        // Rows that are missing: those of a topic that nobody ever claimed, all at once, and those of new partitions.
        let mut absent = Vec::new();
        for (wanted, decision) in &decided {
            if let Ok(start) = decision
                && !with_rows.contains(&wanted.partition)
            {
                absent.push(never_claimed(request, &wanted.partition, wanted.delivery, start.next));
                let first_of_topic = !topic_has_rows(&wanted.partition.topic);
                let siblings = request.siblings.iter().filter(|(sibling, _)| first_of_topic && sibling.topic == wanted.partition.topic);
                for (sibling, next) in siblings {
                    if !partitions.contains(sibling) && !absent.iter().any(|row: &CheckpointRow| row.partition == *sibling) {
                        absent.push(never_claimed(request, sibling, wanted.delivery, *next));
                    }
                }
            }
        }
        if !absent.is_empty() {
            absent.sort_by(|left, right| left.partition.cmp(&right.partition));
            session.insert_absent(&request.pipeline, &absent).await?;
            let missing: Vec<Partition> = partitions.iter().filter(|partition| !rows.iter().any(|row| row.partition == **partition)).cloned().collect();
            rows.extend(session.lock(&request.pipeline, &missing, wait).await?);
        }

        let mut answers = Vec::new();
        let mut held = Vec::new();
        let mut taken = Vec::new();
        for (wanted, decision) in decided {
            let row = rows.iter().find(|row| row.partition == wanted.partition);
            match (row, decision) {
                // Decided without its row, which somebody holds or has just made: decided again once it is locked.
                (None, Ok(_)) => held.push(wanted.partition.clone()),
                (None, Err(_)) if with_rows.contains(&wanted.partition) => held.push(wanted.partition.clone()),
                (Some(row), Ok(_)) => {
                    // The row that is locked now decides: between the first look and the insert another worker may have claimed it.
                    let decides = Some(row).filter(|row| row.claim.epoch > Epoch(0) || !absent.contains(row));
                    let start = start::decide(decides, topic_has_rows(&wanted.partition.topic), wanted, request, &self.id);
                    match start {
                        Ok(start) => {
                            let claimed = start::claimed(row, &start, self.new_claim_id(), wanted.delivery, &request.owner);
                            let result = Ok(Claimed {
                                claim: claimed.claim,
                                next: start.next,
                                durable: start.durable,
                                last: row.last.filter(|last| last.offset < start.next.get()),
                                because: start.because,
                                lost: start.lost,
                                batch: row.batch,
                            });
                            taken.push(claimed);
                            answers.push(ClaimAnswer { partition: wanted.partition.clone(), result });
                        }
                        Err(refused) => answers.push(ClaimAnswer { partition: wanted.partition.clone(), result: Err(refused) }),
                    }
                }
                (_, Err(refused)) => answers.push(ClaimAnswer { partition: wanted.partition.clone(), result: Err(refused) }),
            }
        }
        if !taken.is_empty() {
            taken.sort_by(|left, right| left.partition.cmp(&right.partition));
            session.save(&request.pipeline, &taken).await?;
        }
        Ok((answers, held))
    }
}

/// The row of a partition that nobody has claimed yet.
fn never_claimed(request: &ClaimRequest, partition: &Partition, delivery: Delivery, next: NextOffset) -> CheckpointRow {
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
