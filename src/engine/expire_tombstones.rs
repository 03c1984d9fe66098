//! Deletes are remembered for a while: now and then the database is asked to forget the oldest.

use oncesink_sinks::fault::Fault;
use tokio::time::Instant;

use super::{
    expire::LOOK_AGAIN,
    run::{Done, Engine},
};

impl Engine {
    /// One question at a time, in a task of its own.
    pub fn expire_tombstones(&mut self, now: Instant) {
        let phase = self.phase;
        let Some(retention) = self.expiring_tombstones.as_mut().and_then(|expiring| expiring.take_turn(now, phase)) else { return };
        let pipeline = self.settings.pipeline.clone();
        let (checkpoint, done) = (self.checkpoint.clone(), self.done.clone());
        self.spawn(async move {
            let _ = done.send(Done::TombstonesExpired(checkpoint.expire_tombstones(&pipeline, retention).await));
        });
    }

    pub fn tombstones_expired(&mut self, result: Result<bool, Fault>) {
        let pipeline = self.settings.pipeline.clone();
        let Some(expiring) = self.expiring_tombstones.as_mut() else { return };
        expiring.is_asked = false;
        match result {
            Ok(may_be_more) => {
                expiring.said = None;
                if may_be_more {
                    expiring.due = Instant::now() + LOOK_AGAIN;
                }
            }
            Err(fault) => {
                if let Some(text) = expiring.says(fault.to_string()) {
                    tracing::warn!(%pipeline, fault = %text, "deletes cannot be forgotten; tried again later, nothing is lost");
                }
            }
        }
    }
}
