//! The product's own decisions, asked about rows of the model.

use std::sync::Arc;

use oncesink_sinks::{
    checkpoint::{CheckpointRow, Held},
    claim::{ClaimRequest, Committed as Found, NotClaimed, Wanted},
    fence,
    model::{BatchId, Claim as ProductClaim, ClaimId, Delivery, Epoch, NextOffset, Partition, Span as ProductSpan},
    outcome::SpanOutcome,
    outcome::Standing,
    start::{self, Start},
};

use crate::state::{Claim, Commit, Committed, Lane, PARTITIONS, Row, Span, Worker};

const DATABASE: &str = "db";

/// Names that every question repeats.
#[derive(Debug)]
pub struct Product {
    partitions: Vec<Partition>,
    name: Arc<str>,
    request: ClaimRequest,
}

pub fn delivery(exactly_once: bool) -> Delivery {
    if exactly_once { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce }
}

fn offset(next: u8) -> NextOffset {
    NextOffset::new(i64::from(next))
}

fn claim(claim: Claim) -> ProductClaim {
    ProductClaim { epoch: Epoch(i64::from(claim.epoch)), id: ClaimId(i64::from(claim.id)) }
}

fn small(number: i64) -> u8 {
    u8::try_from(number).expect("a small number")
}

impl Product {
    pub fn new() -> Self {
        let name: Arc<str> = Arc::from("x");
        let request = ClaimRequest {
            pipeline: name.clone(),
            cluster: name.clone(),
            group: name.clone(),
            owner: name.clone(),
            adopts_commits: false,
            wanted: Vec::new(),
            siblings: Vec::new(),
        };
        Self { partitions: (0..PARTITIONS).map(|index| Partition::new("x", index as i32)).collect(), name, request }
    }

    fn row(&self, partition: usize, row: &Row) -> Option<CheckpointRow> {
        row.exists.then(|| CheckpointRow {
            partition: self.partitions[partition].clone(),
            claim: claim(row.claim),
            next_offset: offset(row.next),
            durable: offset(row.durable),
            delivery: delivery(row.exactly_once),
            cluster: self.name.clone(),
            group: self.name.clone(),
            owner: self.name.clone(),
            last: None,
            batch: BatchId(i64::from(row.batch)),
            halt: None,
        })
    }

    fn back(row: &CheckpointRow) -> Row {
        Row {
            exists: true,
            claim: Claim { epoch: small(row.claim.epoch.0), id: small(row.claim.id.0) },
            next: small(row.next_offset.get()),
            durable: small(row.durable.get()),
            exactly_once: row.delivery == Delivery::ExactlyOnce,
            batch: small(row.batch.0),
        }
    }

    fn span(&self, partition: usize, span: &Span) -> ProductSpan {
        ProductSpan {
            partition: self.partitions[partition].clone(),
            claim: claim(span.claim),
            from: offset(span.from),
            to: offset(span.to),
            durable: offset(span.from),
            last: None,
        }
    }

    /// The fence of a batch of `worker`.
    pub fn judge(&self, partition: usize, worker: usize, exactly_once: bool, span: &Span, row: &Row) -> Standing {
        fence::judge(&self.span(partition, span), BatchId(worker as i64 + 1), delivery(exactly_once), self.row(partition, row).as_ref())
    }

    /// What the row says of a batch of `worker` whose reply was lost.
    pub fn outcome(&self, partition: usize, worker: usize, standing: Standing, row: &Row) -> SpanOutcome {
        SpanOutcome { partition: self.partitions[partition].clone(), standing, same_batch: row.exists && usize::from(row.batch) == worker + 1 }
    }

    /// The row as the batch leaves it.
    pub fn moved(&self, partition: usize, batch: u8, span: &Span, row: &Row) -> Row {
        let before = self.row(partition, row).expect("a batch that passed the fence has a row");
        Self::back(&fence::moved(&before, &self.span(partition, span), BatchId(i64::from(batch)), before.delivery))
    }

    /// The idle check.
    pub fn still(&self, partition: usize, exactly_once: bool, lane: &Lane, row: &Row) -> Standing {
        let held = Held { claim: claim(lane.claim), next: offset(lane.applied) };
        fence::still(held, delivery(exactly_once), self.row(partition, row).as_ref())
    }

    /// Where a claim starts, by what Kafka said and `policy`.
    pub fn decide(&self, partition: usize, worker: &Worker, row: &Row, topic_has_rows: bool, found: Committed, policy: u8) -> Result<Start, NotClaimed> {
        let committed = match found.kind {
            Commit::Nothing => Found::Nothing,
            Commit::Ours => Found::At { next: offset(found.next), metadata: start::commit_metadata(DATABASE, Delivery::ExactlyOnce) },
            Commit::Foreign => Found::At { next: offset(found.next), metadata: String::new() },
        };
        let wanted = Wanted {
            partition: self.partitions[partition].clone(),
            delivery: delivery(worker.exactly_once),
            held: worker.lanes[partition].has_held.then_some(Epoch(1)),
            committed,
            start: Some(offset(policy)),
            beginning: Some(offset(0)),
        };
        start::decide(self.row(partition, row).as_ref(), topic_has_rows, &wanted, &self.request, DATABASE)
    }

    /// The row as a claim leaves it.
    pub fn claimed(&self, partition: usize, exactly_once: bool, row: &Row, start: &Start, id: u8) -> Row {
        let before = self.row(partition, row).expect("a claimed row exists");
        Self::back(&start::claimed(&before, start, ClaimId(i64::from(id)), delivery(exactly_once), &self.name))
    }
}
