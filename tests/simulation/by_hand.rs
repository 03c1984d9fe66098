//! Planted bugs that need more coincidences than a few hundred seeds hold: shown by the one decision that they spoil.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use oncesink_sinks::{
    checkpoint::CheckpointRow,
    dedup::{self, Dedup, DedupFacts, Event, Found, Reached},
    fault::Fault,
    fence::judge,
    generation::{Due, Generation, Generations},
    model::{Batch, BatchId, Claim, ClaimId, Content, Coordinate, Delivery, Epoch, EventIdKind, NextOffset, Partition, RecordMark, Span},
    outcome::Standing,
    planted::{Bug, plant},
    screening::{Screening, Seen, Store},
};

use crate::world::redis::RedisState;

/// What each decides, as the right code has it.
const DECISIONS: [(Bug, fn() -> bool); 4] = [
    (Bug::ClaimIdNotCompared, a_claim_of_the_same_epoch_is_another),
    (Bug::ForgottenRowsReturn, forgotten_rows_stay_out),
    (Bug::ExpiresTooEarly, what_may_be_delivered_again_does_not_expire),
    (Bug::ScreensByOldGeneration, a_generation_that_ended_meanwhile_is_not_believed),
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
    Span { partition: Partition::new("x", 0), claim, from: NextOffset::ZERO, to: NextOffset::new(10), durable: NextOffset::ZERO, last: None }
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
    let batch =
        Batch { id: BatchId(1), pipeline: Arc::from("x"), delivery: Delivery::ExactlyOnce, spans: vec![span()], content: Arc::new(content), known: Vec::new() };
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

/// A store in which another worker finds the database gone back while the first marks are read.
#[derive(Debug, Default)]
struct Interrupted {
    state: Mutex<RedisState>,
    others_claim: Mutex<Vec<Reached>>,
}

#[async_trait]
impl Store for Interrupted {
    async fn verify(&self) -> Result<DedupFacts, Fault> {
        Ok(DedupFacts { address: String::new(), version: String::new(), warnings: Vec::new() })
    }

    async fn claim(&self, held: &[Reached]) -> Result<(dedup::Generation, Found), Fault> {
        Ok(self.state.lock().unwrap().claim(held))
    }

    async fn register(&self, held: &[Reached]) -> Result<dedup::Generation, Fault> {
        Ok(self.state.lock().unwrap().register(held))
    }

    async fn state(&self, held: &[Reached]) -> Result<Seen, Fault> {
        Ok(self.state.lock().unwrap().seen(held))
    }

    async fn raise(&self, generation: &dedup::Generation, reached: &[Reached]) -> Result<HashMap<Partition, bool>, Fault> {
        Ok(self.state.lock().unwrap().raise(generation, reached))
    }

    async fn marks(&self, generation: &dedup::Generation, events: &[Event<'_>]) -> Result<Vec<Option<Coordinate>>, Fault> {
        let mut state = self.state.lock().unwrap();
        let marks = state.marks(generation, events);
        let (lower, same): (Vec<Reached>, Vec<Reached>) = self.others_claim.lock().unwrap().drain(..).partition(|reached| reached.partition.index == 0);
        if !lower.is_empty() {
            state.claim(&lower);
            state.register(&same);
        }
        Ok(marks)
    }

    async fn mark(&self, generation: &dedup::Generation, events: &[Event<'_>]) -> Result<(), Fault> {
        self.state.lock().unwrap().mark(generation, events);
        Ok(())
    }
}

/// An event was written in one partition, and the database has lost it since; it comes again in another one, which is being screened when that is found
/// out: another writer of the same worker has just made that partition known again.
fn a_generation_that_ended_meanwhile_is_not_believed() -> bool {
    let reached =
        |index: i32, claim: i64, durable: i64| Reached { partition: Partition::new("x", index), claim: ClaimId(claim), durable: NextOffset::new(durable) };
    let (first, second) = (reached(0, 1, 0), reached(1, 1, 0));
    let screening = Screening::new(Interrupted::default());
    let written = [Event { partition: &first.partition, offset: 5, route: "r", id: "e", id_kind: EventIdKind::Producer }];
    let again = [Event { partition: &second.partition, offset: 7, route: "r", id: "e", id_kind: EventIdKind::Producer }];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        screening.claimed(&[first.clone(), second.clone()]).await.unwrap();
        let generation = screening.screen(&written).await.unwrap().generation;
        screening.remember(&generation, &[reached(0, 1, 6)], &written).await.unwrap();
        assert_eq!(screening.screen(&again).await.unwrap().known, [true]);
        *screening.store().others_claim.lock().unwrap() = vec![reached(0, 2, 0), second.clone()];
        screening.screen(&again).await.unwrap().known == [false]
    })
}
