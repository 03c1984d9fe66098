//! Planted bugs that need more coincidences than a few hundred seeds hold: shown by the one decision that they spoil.

use std::sync::Arc;

use oncesink_sinks::{
    checkpoint::CheckpointRow,
    fence::judge,
    generation::{Due, Generation, Generations},
    model::{Batch, BatchId, Claim, ClaimId, Content, Delivery, Epoch, NextOffset, Partition, RecordMark, Span},
    outcome::Standing,
    planted::{Bug, plant},
};

/// What each decides, as the right code has it.
const DECISIONS: [(Bug, fn() -> bool); 3] = [
    (Bug::ClaimIdNotCompared, a_claim_of_the_same_epoch_is_another),
    (Bug::ForgottenRowsReturn, forgotten_rows_stay_out),
    (Bug::ExpiresTooEarly, what_may_be_delivered_again_does_not_expire),
];

/// Whether `bug` is shown here and not by a seed.
pub fn is_ours(bug: Bug) -> bool {
    DECISIONS.iter().any(|(ours, _)| *ours == bug)
}

/// Whether the decision is right without the bug, and wrong with it.
pub fn catches(bug: Bug) -> bool {
    let Some((_, is_right)) = DECISIONS.iter().find(|(ours, _)| *ours == bug) else { return false };
    plant(None);
    let without = is_right();
    plant(Some(bug));
    let with = is_right();
    plant(None);
    without && !with
}

fn span() -> Span {
    let claim = Claim { epoch: Epoch(5), id: ClaimId(50) };
    Span { partition: Partition::new("x", 0), claim, from: NextOffset::ZERO, to: NextOffset::new(10), last: None }
}

/// The database was restored, another worker has claimed under the epoch that the zombie had before, and nothing is written yet.
fn a_claim_of_the_same_epoch_is_another() -> bool {
    let name: Arc<str> = Arc::from("x");
    let row = CheckpointRow {
        partition: Partition::new("x", 0),
        claim: Claim { epoch: Epoch(5), id: ClaimId(51) },
        next_offset: NextOffset::ZERO,
        durable: NextOffset::ZERO,
        delivery: Delivery::ExactlyOnce,
        cluster: name.clone(),
        group: name.clone(),
        owner: name,
        last: None,
        batch: BatchId(1),
        halt: None,
    };
    judge(&span(), BatchId(2), Delivery::ExactlyOnce, Some(&row)) == Standing::Taken
}

/// The partition was given up and came again while the batch was filled: its record was decoded twice.
fn forgotten_rows_stay_out() -> bool {
    let partition = Partition::new("x", 0);
    let mark = |partition| RecordMark { offset: 3, timestamp: 0, hash: 0, partition };
    let content = Content { partitions: vec![partition.clone(), partition], records: vec![mark(0), mark(1)], ..Content::default() };
    let batch = Batch { id: BatchId(1), pipeline: Arc::from("x"), delivery: Delivery::ExactlyOnce, spans: vec![span()], content: Arc::new(content) };
    batch.records().count() == 1
}

/// Ids are old enough, but the group has not committed what lies behind them: a worker that begins there would bring their records again.
fn what_may_be_delivered_again_does_not_expire() -> bool {
    let partition = "events:0".to_owned();
    let newest = Generation(7);
    let generations = Generations {
        newest,
        opened_at: 1_500,
        previous_opened_at: 1_000,
        emptied: newest.next(),
        now: 9_000,
        retention: 1_000,
        waits_for: Some(partition.clone()),
    };
    generations.due() == Due::Waits { partition }
}
