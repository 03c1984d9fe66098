//! A batch from its writer to settled: what its outcome means for its partitions.

use std::time::Duration;

use oncesink_sinks::{
    checkpoint::{Refusal, SpanOutcome},
    fault::{Fault, FaultClass, reason},
    fence::Standing,
    model::{Batch, Delivery, LeftOutBecause, NextOffset, Partition, Span},
    planted,
    sink::{Applied, ApplyError, Writer},
};
use tokio::time::Instant;

use super::{
    halt::{Halt, Met},
    run::{Done, Engine},
    writer::Pending,
};
use crate::telemetry::metrics::{self, BatchResult, Outcome};

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
        metrics::batch(&self.settings.pipeline, outcome, pending.batch.content.records.len(), took);
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
        self.report.failing = None;
        self.report.totals.batches += 1;
        self.count(batch, applied);
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
        self.clear_halt(&partition, |_| true);
        self.commit_soon();
    }

    /// Each record leaves the engine once, by route: applied, stale, filtered or skipped.
    fn count(&mut self, batch: &Batch, applied: &Applied) {
        for (position, rows) in batch.content.rows.iter().enumerate() {
            let selected = batch.selection(rows).len() as u64;
            let stale = applied.stale.get(position).copied().unwrap_or(0).min(selected);
            metrics::records(&self.settings.pipeline, &rows.target.route, Outcome::Applied, "", selected - stale);
            metrics::records(&self.settings.pipeline, &rows.target.route, Outcome::Stale, "", stale);
            let counts = self.route_counts(&rows.target.route);
            counts.applied += selected - stale;
            counts.stale += stale;
        }
        if !batch.content.left_out.is_empty() {
            let mut inside = vec![false; batch.content.records.len()];
            for (index, _) in batch.records() {
                inside[index] = true;
            }
            for left_out in batch.content.left_out.iter().filter(|left_out| inside.get(left_out.record as usize).copied().unwrap_or(false)) {
                let (pipeline, route) = (self.settings.pipeline.clone(), &left_out.route);
                let counts = self.route_counts(route);
                match &left_out.because {
                    LeftOutBecause::Filtered => {
                        counts.filtered += 1;
                        metrics::records(&pipeline, route, Outcome::Filtered, "", 1);
                    }
                    LeftOutBecause::Skipped(rule) => {
                        *counts.skipped.entry(rule.clone()).or_default() += 1;
                        metrics::records(&pipeline, route, Outcome::Skipped, rule, 1);
                    }
                }
            }
        }
    }

    /// Not every partition is ours as expected: nothing was written. What is still ours is tried again at once.
    fn fenced(&mut self, slot: usize, mut pending: Pending, standings: Vec<(Partition, Standing)>) {
        self.writers[slot].backoff.succeed();
        self.report.failing = None;
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

    fn count_fenced(&mut self, partition: &Partition) {
        self.report.totals.fenced += 1;
        metrics::fenced(&self.settings.pipeline);
        tracing::warn!(pipeline = %self.settings.pipeline, %partition, "fenced: another worker has claimed this partition");
    }

    /// The database was restored to an older state: the topic has what it lost.
    pub fn rewound(&mut self, partition: &Partition, row: NextOffset, expected: NextOffset) {
        let Some(lane) = self.lanes.get(partition) else { return };
        self.report.totals.rewinds += 1;
        metrics::rewound(&self.settings.pipeline, 1);
        match lane.delivery {
            Delivery::ExactlyOnce => {
                tracing::warn!(pipeline = %self.settings.pipeline, %partition, "the database went back from {expected} to {row}; reading again from there");
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
        let (checkpoint, done, batch) = (self.checkpoint.clone(), self.done.clone(), pending.batch.clone());
        self.writers[slot].asking = Some(pending);
        self.spawn(async move {
            if let Some(after) = after {
                tokio::time::sleep_until(after).await;
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
                let at = self.note_failure(slot, &fault);
                self.ask_outcome(slot, pending, Some(at));
                return;
            }
        };
        self.writers[slot].backoff.succeed();
        self.report.failing = None;
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
            // How many of its rows were stale went with the reply; they count as applied.
            self.count(&durable, &Applied::default());
            self.report.totals.batches += 1;
        }
        let standings = outcomes.iter().map(|outcome| (outcome.partition.clone(), outcome.settled())).collect();
        self.forget_given_away(&mut pending.batch);
        self.fenced(slot, pending, standings);
        self.finish_halts();
    }

    fn failed(&mut self, slot: usize, mut pending: Pending, fault: Fault) {
        self.forget_given_away(&mut pending.batch);
        if !matches!(fault.class, FaultClass::Retry | FaultClass::Pause) {
            // The server answers: what failed before in a row has passed.
            self.writers[slot].backoff.succeed();
            self.report.failing = None;
        }
        match fault.class {
            FaultClass::Retry | FaultClass::Pause => {
                self.note_failure(slot, &fault);
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
                    self.stop_at_write(&span.partition, Halt::fault(&fault, span.from, Met::AtWrite));
                }
            }
        }
    }

    /// A lane that was given away or claimed anew since is not to be judged by what an older claim met.
    fn forget_given_away(&self, batch: &mut Batch) {
        batch.retain(|span| self.lanes.get(&span.partition).is_some_and(|lane| lane.claim == span.claim));
    }

    fn note_failure(&mut self, slot: usize, fault: &Fault) -> Instant {
        let first = self.writers[slot].backoff.attempts() == 0;
        let at = self.writers[slot].backoff.fail(&self.settings.retry, fault.class == FaultClass::Pause, &mut self.random);
        let delay = at.saturating_duration_since(Instant::now());
        if self.writers[slot].has_given_up(&self.settings.retry) {
            self.give_up(fault);
        }
        if first {
            tracing::warn!(pipeline = %self.settings.pipeline, %fault, "a batch failed and is tried again until it succeeds");
        }
        self.report.failing = Some(fault.to_string());
        *self.report.totals.retries.entry(fault.class.as_str()).or_default() += 1;
        self.report.totals.retry_time += delay;
        metrics::retry(&self.settings.pipeline, fault.class.as_str(), delay);
        at
    }

    /// The table is not what its description says: described again and read again from the checkpoint, once; if it fails there again, halted.
    fn table_changed(&mut self, slot: usize, pending: Pending, fault: &Fault) {
        let again = pending.batch.spans.iter().any(|span| self.lanes.get(&span.partition).is_some_and(|lane| lane.described_again));
        if again && pending.batch.spans.len() > 1 {
            self.split(slot, pending, fault);
            return;
        }
        for span in &pending.batch.spans {
            self.outdated.insert(span.partition.topic.clone());
            if again {
                self.stop_at_write(&span.partition, Halt::fault(fault, span.from, Met::AtWrite));
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
