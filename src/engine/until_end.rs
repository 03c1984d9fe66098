//! Looking at the checkpoint rows now and then: for lanes that are idle, and for `--until-end`.

use std::time::Duration;

use oncesink_sinks::{
    checkpoint::{CheckpointRow, Refusal},
    fault::{Fault, reason},
    fence::{self, Standing},
    model::{NextOffset, Partition},
    planted,
};
use tokio::time::Instant;

use super::{
    halt::{Halt, Met},
    lane::State,
    run::{Done, Engine, Phase},
};

/// How often the rows are read while the end is awaited and nothing is left to do here.
const ASK_FOR_END_EVERY: Duration = Duration::from_millis(500);

pub(super) struct RowsRead {
    asked: Instant,
    rows: Result<Vec<CheckpointRow>, Fault>,
}

impl Engine {
    /// Reads the rows, without a lock, and describes the tables again. One question at a time.
    pub fn read_rows(&mut self, now: Instant) {
        let awaits_end = self.settings.until_end.is_some();
        if planted!(NoIdleCheck) {
            self.rows_due = now + self.settings.idle_check;
            return;
        }
        self.rows_due = now + if awaits_end { ASK_FOR_END_EVERY } else { self.settings.idle_check };
        if self.phase != Phase::Running || self.rows_asked.is_some() || (awaits_end && !(self.report.joined && self.is_at_end_here())) {
            return;
        }
        self.rows_asked = Some(now);
        let (checkpoint, pipeline, done) = (self.checkpoint.clone(), self.settings.pipeline.clone(), self.done.clone());
        self.spawn(async move {
            let rows = checkpoint.read(&pipeline).await;
            let _ = done.send(Done::Rows(RowsRead { asked: now, rows }));
        });
        if !awaits_end {
            self.describe_again();
        }
    }

    /// A table that has changed is noticed here, before a batch fails on it: a new column, say.
    fn describe_again(&self) {
        let (router, done, topics) = (self.router.clone(), self.done.clone(), self.topics.keys().cloned().collect::<Vec<_>>());
        // One after the other: a task a topic would be as many connections at once.
        self.spawn(async move {
            for topic in topics {
                // A failure here is no news: the next batch or claim meets it and says so.
                if let Ok(plan) = router.bind(&topic).await {
                    let _ = done.send(Done::Described { topic, plan });
                }
            }
        });
    }

    /// Takes over a plan whose tables differ; equal ones keep what their decoders have learned.
    pub fn described(&mut self, topic: std::sync::Arc<str>, plan: crate::route::TopicPlan) {
        let Some(known) = self.topics.get(&topic) else { return };
        let same = known.routes.len() == plan.routes.len() && known.routes.iter().zip(&plan.routes).all(|(known, new)| known.target == new.target);
        if !same && known.delivery == plan.delivery {
            tracing::info!(pipeline = %self.settings.pipeline, %topic, "a table has changed; its new columns are used from here on");
            self.topics.insert(topic, plan);
        }
    }

    pub fn rows_read(&mut self, read: RowsRead) {
        self.rows_asked = None;
        let idle: Vec<Partition> = self.lanes.iter().filter(|(_, lane)| lane.is_idle_since(read.asked)).map(|(partition, _)| partition.clone()).collect();
        let rows = match read.rows {
            Ok(rows) => rows,
            // The rows are gone together with their table: another database is in the place of this one.
            Err(fault) if fault.reason == reason::MISSING_BOOKKEEPING => {
                for partition in idle {
                    let Some(next) = self.lanes.get(&partition).map(|lane| lane.ledger.applied()) else { continue };
                    self.stop_at_write(&partition, Halt::fault(&fault, next, Met::AtClaim));
                }
                return;
            }
            // A server that cannot be asked tells nothing about the rows.
            Err(_) => return,
        };
        for partition in idle {
            self.compare(&partition, rows.iter().find(|row| row.partition == partition));
        }
        if let Some(ends) = &self.settings.until_end {
            let reached = |(partition, end): (&Partition, &NextOffset)| {
                let row = rows.iter().find(|row| row.partition == *partition);
                self.lanes.get(partition).is_some_and(|lane| lane.halted.is_some()) || row.is_some_and(|row| row.halt.is_some() || row.reached() >= *end)
            };
            if self.phase == Phase::Running && ends.iter().all(reached) {
                self.begin_shutdown();
            }
        }
    }

    /// An idle lane's row must be as this worker left it, or a restored database would go unnoticed until the next record.
    fn compare(&mut self, partition: &Partition, row: Option<&CheckpointRow>) {
        let Some(lane) = self.lanes.get(partition) else { return };
        match fence::still(lane.held(), lane.delivery, row) {
            Standing::Gone => self.refused(partition, &Refusal::CheckpointGone { held: lane.claim.epoch }),
            Standing::Taken => self.taken_away(partition),
            Standing::Rewound { row, expected } => self.rewound(partition, row, expected),
            // Somebody moved the checkpoint on purpose: followed.
            Standing::Contradicts { .. } => self.restart(partition, None),
            Standing::Mine | Standing::Applied => {
                if row.is_some_and(|row| row.halt.is_some()) && lane.halted.is_none() {
                    // A halt from before this process began, which nothing here meets any more.
                    self.note_halts(vec![(partition.clone(), Some(lane.held()), None)]);
                }
            }
        }
    }

    /// Nothing is left to do in this process: every lane is at its end, or halted.
    fn is_at_end_here(&self) -> bool {
        let Some(ends) = &self.settings.until_end else { return false };
        self.lanes.iter().all(|(partition, lane)| {
            lane.halted.is_some() || ends.get(partition).is_none_or(|end| matches!(lane.state(), State::Running) && lane.ledger.applied() >= *end)
        })
    }
}
