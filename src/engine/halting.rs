//! From running to standing still and on again: the engine's side of a [`Halt`].

use oncesink_sinks::{
    checkpoint::{Held, StoredHalt},
    model::Partition,
    refusal::Refusal,
};

use super::{
    halt::{Halt, HaltLog, Met},
    lane::State,
    run::Engine,
};
use crate::{source::Start, telemetry::metrics};

impl Engine {
    /// What is buffered of the partition is given up, and it halts where it stands.
    pub fn stop_at_write(&mut self, partition: &Partition, halt: Halt) {
        self.forget_buffered(partition);
        self.halt(partition, halt);
    }

    /// Closes the intake of a partition; it halts once what is on its way is applied.
    pub fn halt(&mut self, partition: &Partition, halt: Halt) {
        let sequence = self.next_sequence();
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        lane.sequence = sequence;
        let still = vec![Start { partition: partition.clone(), sequence, from: None }];
        if matches!(lane.state(), State::Draining) {
            return;
        }
        lane.go(State::Halting { halt });
        self.source.start(still);
        self.finish_halts();
    }

    /// Lanes whose way is clear come to rest, and their reason is stored.
    pub fn finish_halts(&mut self) {
        let (pipeline, halt_retry) = (self.settings.pipeline.clone(), self.settings.halt_retry);
        let mut notes = Vec::new();
        for lane in self.lanes.values_mut() {
            let State::Halting { halt } = lane.state() else { continue };
            if !lane.ledger.is_settled() {
                continue;
            }
            let mut halt = halt.clone();
            match &lane.halted {
                Some(before) if before.is_same(&halt) => halt.since = before.since,
                before => {
                    if let Some(before) = before {
                        metrics::halted(&pipeline, &lane.partition, &before.reason, false);
                    }
                    lane.log = HaltLog::default();
                }
            }
            metrics::halted(&pipeline, &lane.partition, &halt.reason, true);
            lane.log.note(&self.settings, &lane.partition, &halt);
            // The row of another deployment is its own: a note there would make it look halted.
            if halt.reason != "another-deployment" {
                let held = (halt.met != Met::Claim).then(|| lane.held());
                notes.push((lane.partition.clone(), held, Some(halt.stored())));
            }
            lane.halted = Some(halt);
            lane.rest(halt_retry);
        }
        self.note_halts(notes);
    }

    /// A batch of the lane got through, or it runs again: the halt that was met there is over.
    pub fn clear_halt(&mut self, partition: &Partition, ended: impl Fn(&Halt) -> bool) -> bool {
        let Some(lane) = self.lanes.get_mut(partition) else { return false };
        if let Some(halt) = lane.halted.take_if(|halt| ended(halt)) {
            tracing::info!(pipeline = %self.settings.pipeline, %partition, reason = %halt.reason, "goes on again after {}s", halt.since.elapsed().as_secs());
            metrics::halted(&self.settings.pipeline, partition, &halt.reason, false);
            lane.log = HaltLog::default();
            true
        } else {
            false
        }
    }

    /// Best effort: the row's halt is for people. One task for all, so that many halts are not as many connections.
    pub fn note_halts(&self, notes: Vec<(Partition, Option<Held>, Option<StoredHalt>)>) {
        if notes.is_empty() {
            return;
        }
        let (checkpoint, pipeline) = (self.checkpoint.clone(), self.settings.pipeline.clone());
        self.spawn(async move {
            for (partition, held, halt) in notes {
                if let Err(fault) = checkpoint.note_halt(&pipeline, &partition, held, halt.as_ref()).await {
                    tracing::debug!(%pipeline, %partition, %fault, "the reason of a halt could not be stored");
                }
            }
        });
    }

    /// Neither claimed nor written any more, until a person has seen to it.
    pub fn refused(&mut self, partition: &Partition, refusal: &Refusal) {
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        // The server answers: what failed before in a row has passed.
        lane.backoff.succeed();
        let mut halt = Halt::refusal(refusal, lane.ledger.applied());
        if refusal.is_about_the_database() {
            halt.mend = Some(self.give_up_commits(partition));
        }
        self.stop_at_write(partition, halt);
    }

    /// What a person does who wants this database all the same.
    fn give_up_commits(&self, partition: &Partition) -> String {
        let (brokers, group, topic) = (&self.settings.brokers, self.source.identity().group, &partition.topic);
        format!(
            "put the right database back. Or, to fill this one from the topic again, with every worker stopped: \
             kafka-consumer-groups --bootstrap-server {brokers} --group {group} --topic {topic} --delete-offsets"
        )
    }
}
