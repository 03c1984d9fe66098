//! Processed events expire: now and then the database is asked to see to it.

use std::time::Duration;

use oncesink_sinks::{
    checkpoint::{Expired, Expiry},
    fault::Fault,
    generation::look_every,
    model::{Delivery, NextOffset, Partition},
};
use tokio::time::Instant;

use super::run::{Done, Engine, Phase};

/// After something was done there may be more to do.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// When the database is asked next, and what it said last.
#[derive(Debug)]
pub(super) struct Expiring {
    retention: Duration,
    pub(super) due: Instant,
    pub(super) is_asked: bool,
    /// Said once, not at each look.
    pub(super) said: Option<String>,
}

impl Expiring {
    pub fn new(retention: Duration, now: Instant) -> Self {
        // At once: until the database knows how long ids are to be kept here, others may let them expire.
        Self { retention, due: now, is_asked: false, said: None }
    }

    pub fn due(&self) -> Option<Instant> {
        (!self.is_asked).then_some(self.due)
    }

    /// Whether the database is to be asked now, and for what retention. While the engine ends, it is not.
    pub(super) fn take_turn(&mut self, now: Instant, phase: Phase) -> Option<Duration> {
        if self.due()? > now {
            return None;
        }
        self.due = now + look_every(self.retention);
        self.is_asked = phase == Phase::Running;
        self.is_asked.then_some(self.retention)
    }

    pub(super) fn says(&mut self, text: String) -> Option<&str> {
        if self.said.as_ref() == Some(&text) {
            return None;
        }
        Some(self.said.insert(text))
    }
}

impl Engine {
    /// One question at a time, in a task of its own: a roll-over may have to wait for batches.
    pub fn expire(&mut self, now: Instant) {
        let phase = self.phase;
        let Some(retention) = self.expiring.as_mut().and_then(|expiring| expiring.take_turn(now, phase)) else { return };
        let expiry = Expiry { pipeline: self.settings.pipeline.clone(), retention, committed: self.acknowledged() };
        let (checkpoint, done) = (self.checkpoint.clone(), self.done.clone());
        self.spawn(async move {
            let _ = done.send(Done::Expired(checkpoint.expire(&expiry).await));
        });
    }

    /// What Kafka will not deliver again, where that is not for the checkpoint to say.
    fn acknowledged(&self) -> Vec<(Partition, NextOffset)> {
        self.lanes
            .iter()
            .filter(|(_, lane)| lane.delivery != Delivery::ExactlyOnce && lane.may_commit())
            .filter_map(|(partition, lane)| Some((partition.clone(), lane.acknowledged?)))
            .collect()
    }

    pub fn expired(&mut self, result: Result<Expired, Fault>) {
        let pipeline = self.settings.pipeline.clone();
        let Some(expiring) = self.expiring.as_mut() else { return };
        expiring.is_asked = false;
        match result {
            Ok(Expired::Nothing | Expired::SomebodyElseLooks) => expiring.said = None,
            Ok(done @ (Expired::Emptied | Expired::RolledOver)) => {
                expiring.said = None;
                expiring.due = Instant::now() + LOOK_AGAIN;
                if done == Expired::RolledOver {
                    tracing::info!(%pipeline, "processed events: new ids go to the next table, the oldest ids have expired");
                }
            }
            Ok(Expired::Waits { partition }) => {
                if let Some(text) = expiring.says(format!(
                    "processed events do not expire yet: the group has not committed what was applied of {partition}, so it may be delivered again. \
                     It goes on when a worker of that pipeline runs and reads it; a pipeline that keeps no events any more: delete its row from \
                     oncesink_processed_event_retention"
                )) {
                    tracing::warn!(%pipeline, "{text}");
                }
            }
            Err(fault) => {
                if let Some(text) = expiring.says(fault.to_string()) {
                    tracing::warn!(%pipeline, fault = %text, "processed events cannot expire; tried again later, nothing is lost");
                }
            }
        }
    }
}
