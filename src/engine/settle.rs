//! A batch from its writer to settled: what its outcome means for its partitions.

use std::time::Duration;

use oncesink_sinks::{
    fault::{Fault, FaultClass, reason},
    model::{Batch, Delivery, NextOffset, Partition, Span},
    outcome::{SpanOutcome, Standing},
    planted,
    refusal::Refusal,
    sink::{Applied, ApplyError, Writer},
};
use tokio::time::Instant;

use super::{
    halt::{Halt, Met},
    run::{Done, Engine},
    writer::Pending,
};
use crate::telemetry::metrics::{self, BatchResult};

/// What becomes of a batch that failed by nothing in it.
const AGAIN: &str = "is tried again until it succeeds";

pub(super) struct BatchDone {
    pub slot: usize,
    pub writer: Box<dyn Writer>,
    pub pending: Pending,
    pub result: Result<Applied, ApplyError>,
    pub took: Duration,
}

pub(super) struct OutcomeDone {
    slot: usize,
    result: Result<Vec<SpanOutcome>, Fault>,
}

impl Engine {
    pub fn batch_done(&mut self, done: BatchDone) {
        let BatchDone { slot, writer, pending, result, took } = done;
        self.writers[slot].writer = Some(writer);
        let outcome = match &result {
            Ok(_) => BatchResult::Committed,
            Err(ApplyError::Unknown(_)) => BatchResult::Unknown,
            Err(ApplyError::Failed(fault)) if fault.reason == reason::STATEMENT_TIMEOUT => BatchResult::Timeout,
            Err(ApplyError::Fenced(_) | ApplyError::Failed(_)) => BatchResult::Aborted,
        };
        metrics::batch(&self.settings.pipeline, outcome, took);
        match result {
            Ok(applied) => self.applied(slot, &pending.batch, &applied),
            Err(ApplyError::Fenced(standings)) => self.fenced(slot, pending, standings),
            Err(ApplyError::Unknown(fault)) => self.reply_lost(slot, pending, &fault),
            Err(ApplyError::Failed(fault)) => self.failed(slot, pending, fault),
        }
        self.finish_halts();
    }

    fn applied(&mut self, slot: usize, batch: &Batch, applied: &Applied) {
        self.writers[slot].backoff.succeed();
        self.count_batch(batch, applied);
        for span in &batch.spans {
            self.advance(span);
        }
    }

    /// The span is durable. A lane that was given away or claimed anew since has its own start already.
    fn advance(&mut self, span: &Span) {
        let Some(lane) = self.lanes.get_mut(&span.partition) else { return };
        if lane.claim != span.claim {
            return;
        }
        if let Err(gap) = lane.ledger.apply(span.from, span.to) {
            let halt = Halt::new("gap-in-ledger", gap.to_string(), lane.ledger.applied().get());
            self.forget_buffered(&span.partition);
            self.halt(&span.partition, halt);
            return;
        }
        lane.touch();
        lane.newest = span.last.map(|last| last.timestamp).or(lane.newest);
        lane.described_again = false;
        let partition = span.partition.clone();
        // The batch has taken the note away with it.
        let _ = self.clear_halt(&partition, |_| true);
        self.commit_soon();
    }

    /// Not every partition is ours as expected: nothing was written. What is still ours is tried again at once.
    fn fenced(&mut self, slot: usize, mut pending: Pending, standings: Vec<(Partition, Standing)>) {
        self.writers[slot].backoff.succeed();
        for (partition, standing) in standings {
            let Some(span) = pending.batch.spans.iter().find(|span| span.partition == partition).cloned() else { continue };
            // A lane that was claimed anew while the batch was in flight is not concerned.
            let is_ours = self.lanes.get(&partition).is_some_and(|lane| lane.claim == span.claim);
            match standing {
                Standing::Mine => continue,
                Standing::Applied if is_ours => self.advance(&span),
                Standing::Taken if is_ours && planted!(FencedIsApplied) => self.advance(&span),
                Standing::Taken if is_ours => self.taken_away(&partition),
                // Lost while the batch was in flight: nothing is left to restart, but a zombie's attempt must be seen.
                Standing::Taken if !self.lanes.contains_key(&partition) => self.count_fenced(&partition),
                Standing::Rewound { row, expected } if is_ours => self.rewound(&partition, row, expected),
                Standing::Gone if is_ours => {
                    self.refused(&partition, &Refusal::CheckpointGone { held: span.claim.epoch });
                }
                Standing::Contradicts { row, expected } if is_ours => {
                    let detail = format!("the checkpoint says {row} where this worker expects {expected}");
                    self.stop_at_write(&partition, Halt::new("checkpoint-moved", detail, row.get()));
                }
                Standing::Applied | Standing::Taken | Standing::Rewound { .. } | Standing::Gone | Standing::Contradicts { .. } => {}
            }
            pending.batch.retain(|span| span.partition != partition);
        }
        self.put_back(slot, pending);
    }

    /// Another worker claimed the partition. If it is still ours by the group, it is claimed again, but not at once: two that both
    /// think so would take it from each other for ever.
    pub fn taken_away(&mut self, partition: &Partition) {
        self.count_fenced(partition);
        let jitter = Duration::from_millis(1000 + rand::Rng::random_range(&mut self.random, 0..4000));
        self.restart(partition, Some(jitter));
    }

    /// The database was restored to an older state: the topic has what it lost.
    pub fn rewound(&mut self, partition: &Partition, row: NextOffset, expected: NextOffset) {
        let Some(delivery) = self.lanes.get(partition).map(|lane| lane.delivery) else { return };
        self.count_rewind();
        match delivery {
            Delivery::ExactlyOnce => {
                tracing::warn!(pipeline = %self.settings.pipeline, %partition, "the database went back from {expected} to {row}; reading again from there");
                self.restart(partition, None);
            }
            Delivery::AtMostOnce => {
                tracing::warn!(pipeline = %self.settings.pipeline, %partition, "the database went back; reading on from what was committed");
                self.restart(partition, None);
            }
            // The rows between are lost to a delivery that commits to Kafka only: a person decides.
            Delivery::AtLeastOnce => {
                let detail = format!("the database went back from {expected} to {row}; at-least-once cannot heal that by itself");
                self.stop_at_write(partition, Halt::new("rewound", detail, row.get()));
            }
        }
    }

    /// COMMIT was sent and nothing came back. Never a blind retry: the database is asked, and the question waits for the transaction to end.
    fn reply_lost(&mut self, slot: usize, pending: Pending, fault: &Fault) {
        self.report.totals.unknown_commits += 1;
        tracing::warn!(pipeline = %self.settings.pipeline, %fault, "the reply to COMMIT is lost; asking the database what became of it");
        if planted!(BlindRetry) {
            self.put_back(slot, pending);
            return;
        }
        if planted!(UnknownIsApplied) {
            self.applied(slot, &pending.batch, &Applied::default());
            return;
        }
        self.ask_outcome(slot, pending, None);
    }

    fn ask_outcome(&mut self, slot: usize, pending: Pending, after: Option<Instant>) {
        let (checkpoint, done, batch, hurry) = (self.checkpoint.clone(), self.done.clone(), pending.batch.clone(), self.hurry.clone());
        self.writers[slot].asking = Some(pending);
        self.spawn(async move {
            if let Some(after) = after {
                let _ = tokio::time::timeout_at(after, hurry.notified()).await;
            }
            let result = checkpoint.outcome(&batch).await;
            let _ = done.send(Done::Outcome(OutcomeDone { slot, result }));
        });
    }

    pub fn outcome_done(&mut self, done: OutcomeDone) {
        let OutcomeDone { slot, result } = done;
        let Some(mut pending) = self.writers[slot].asking.take() else { return };
        let outcomes = match result {
            Ok(outcomes) => outcomes,
            Err(fault) => {
                let at = self.note_failure(slot, &fault, AGAIN);
                self.ask_outcome(slot, pending, Some(at));
                return;
            }
        };
        self.writers[slot].backoff.succeed();
        if SpanOutcome::are_torn(&outcomes) {
            for outcome in &outcomes {
                let detail = "one transaction took effect in one partition and not in another";
                let next = pending.batch.spans.iter().find(|span| span.partition == outcome.partition).map_or(0, |span| span.from.get());
                self.stop_at_write(&outcome.partition, Halt::new("torn-batch", detail, next));
            }
            return;
        }
        if outcomes.iter().any(SpanOutcome::took_effect) {
            let mut durable = pending.batch.clone();
            durable.retain(|span| outcomes.iter().any(|outcome| outcome.partition == span.partition && outcome.took_effect()));
            // How many of its rows were stale, or found their key taken, went with the reply; they count as applied.
            self.count_batch(&durable, &Applied::default());
        }
        let standings = outcomes.iter().map(|outcome| (outcome.partition.clone(), outcome.settled())).collect();
        self.forget_given_away(&mut pending.batch);
        self.fenced(slot, pending, standings);
        self.finish_halts();
    }

    fn failed(&mut self, slot: usize, mut pending: Pending, fault: Fault) {
        self.forget_given_away(&mut pending.batch);
        if pending.batch.delivery == Delivery::AtMostOnce {
            self.failed_at_most_once(slot, pending, &fault);
            return;
        }
        if !matches!(fault.class, FaultClass::Retry | FaultClass::Pause) {
            // The server answers: what failed before in a row has passed.
            self.writers[slot].backoff.succeed();
        }
        match fault.class {
            FaultClass::Retry | FaultClass::Pause => {
                self.note_failure(slot, &fault, AGAIN);
                // A batch that never fits into the server's time would hold up everything behind it: smaller ones may fit.
                let too_large = fault.reason == reason::STATEMENT_TIMEOUT && self.writers[slot].backoff.attempts() >= 2;
                let whole = if too_large { self.halve(slot, pending) } else { Some(pending) };
                if let Some(whole) = whole {
                    self.put_back(slot, whole);
                }
            }
            FaultClass::Changed => self.table_changed(slot, pending, &fault),
            FaultClass::Poison if planted!(PoisonHaltsWholeBatch) => {
                for span in &pending.batch.spans {
                    self.stop_at_write(&span.partition, Halt::refused_record(&fault, span.from.get()));
                }
            }
            FaultClass::Poison if planted!(PoisonSkipsWholeBatch) => self.poison(slot, pending, &fault),
            FaultClass::Poison => self.split(slot, pending, &fault),
            FaultClass::Halt if pending.batch.spans.len() > 1 || planted!(WorldsFaultIsSkipped) => self.split(slot, pending, &fault),
            FaultClass::Halt => {
                for span in &pending.batch.spans {
                    self.stop_at_write(&span.partition, Halt::fault(&fault, span.from, Met::Write));
                }
            }
        }
    }

    /// A lane that was given away or claimed anew since is not to be judged by what an older claim met.
    fn forget_given_away(&self, batch: &mut Batch) {
        batch.retain(|span| self.lanes.get(&span.partition).is_some_and(|lane| lane.claim == span.claim));
    }

    /// `then`: what becomes of the batch, for people.
    pub fn note_failure(&mut self, slot: usize, fault: &Fault, then: &str) -> Instant {
        let first = self.writers[slot].backoff.attempts() == 0;
        let at = self.writers[slot].backoff.fail(&self.settings.retry, fault, &mut self.random);
        if self.writers[slot].has_given_up(&self.settings.retry) {
            self.give_up(fault);
        }
        if first {
            tracing::warn!(pipeline = %self.settings.pipeline, %fault, "a batch failed and {then}");
        }
        self.count_retry(fault, at);
        at
    }

    /// The table is not what its description says: described again and read again from the checkpoint, once; if it fails there again, halted.
    pub fn table_changed(&mut self, slot: usize, pending: Pending, fault: &Fault) {
        let again = pending.batch.spans.iter().any(|span| self.lanes.get(&span.partition).is_some_and(|lane| lane.described_again));
        if again && pending.batch.spans.len() > 1 {
            self.split(slot, pending, fault);
            return;
        }
        for span in &pending.batch.spans {
            self.outdated.insert(span.partition.topic.clone());
            if again {
                self.stop_at_write(&span.partition, Halt::fault(fault, span.from, Met::Write));
            } else {
                tracing::warn!(pipeline = %self.settings.pipeline, partition = %span.partition, %fault, "the table has changed; describing it again");
                self.restart(&span.partition, None);
                if let Some(lane) = self.lanes.get_mut(&span.partition) {
                    lane.described_again = true;
                }
            }
        }
    }
}
