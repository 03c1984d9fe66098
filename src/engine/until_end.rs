//! Looking at the checkpoint rows now and then: for lanes that are idle, and for `--until-end`.

use std::{collections::BTreeMap, time::Duration};

use oncesink_sinks::{
    checkpoint::{CheckpointRow, StoredHalt},
    fault::{Fault, reason},
    fence,
    model::{Claim, Delivery, NextOffset, Partition},
    outcome::Standing,
    planted,
    refusal::Refusal,
};
use tokio::time::Instant;

use super::{
    halt::{Halt, Met},
    lane::State,
    run::{Done, Engine, Phase},
};

/// How often the rows are read while the end is awaited and nothing is left to do here.
const ASK_FOR_END_EVERY: Duration = Duration::from_millis(500);

/// How long the note of a halt must stand unchanged to be believed, where another worker holds the partition.
const HALT_STANDS: Duration = Duration::from_secs(5);

/// A halt that is noted in a row.
pub(super) struct StandsElsewhere {
    claim: Claim,
    halt: StoredHalt,
    since: Instant,
}

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
                    self.stop_at_write(&partition, Halt::fault(&fault, next, Met::Claim));
                }
                return;
            }
            // A server that cannot be asked tells nothing about the rows.
            Err(_) => return,
        };
        for partition in idle {
            self.compare(&partition, rows.iter().find(|row| row.partition == partition));
        }
        if self.phase == Phase::Running && self.is_at_end(&rows) {
            self.begin_shutdown();
        }
    }

    /// Whether every partition is at its end, or halted, here or at another worker.
    fn is_at_end(&mut self, rows: &[CheckpointRow]) -> bool {
        let Some(ends) = &self.settings.until_end else { return false };
        let now = Instant::now();
        // The note of a halt outlives it until the next batch: at another worker it counts once nothing has happened for a while.
        let halts: BTreeMap<Partition, StandsElsewhere> = rows
            .iter()
            .filter_map(|row| {
                let halt = row.halt.as_ref()?;
                let known = self.halts_elsewhere.get(&row.partition).filter(|known| known.claim == row.claim && known.halt == *halt);
                let since = known.map_or(now, |known| known.since);
                Some((row.partition.clone(), StandsElsewhere { claim: row.claim, halt: halt.clone(), since }))
            })
            .collect();
        let is_reached = |(partition, end): (&Partition, &NextOffset)| match (self.lanes.get(partition), halts.get(partition)) {
            (Some(lane), _) if lane.stands_still() => true,
            // What it has lost is in no row.
            (Some(lane), _) if lane.delivery == Delivery::AtMostOnce => lane.is_running() && lane.ledger.applied() >= *end,
            (None, Some(halt)) if now.duration_since(halt.since) >= HALT_STANDS => true,
            _ => rows.iter().any(|row| row.partition == *partition && row.reached() >= *end),
        };
        let is_at_end = ends.iter().all(is_reached);
        self.halts_elsewhere = halts;
        is_at_end
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
            lane.stands_still() || ends.get(partition).is_none_or(|end| matches!(lane.state(), State::Running) && lane.ledger.applied() >= *end)
        })
    }
}
