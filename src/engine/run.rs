//! The loop, and what the engine holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use oncesink_sinks::{
    checkpoint::{Checkpoint, Held, StoredHalt},
    fault::Fault,
    model::{BatchId, Delivery, NextOffset, Partition},
    planted,
    start::commit_metadata,
};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use tokio::{
    select,
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    Ended, EngineSettings, Parts,
    claim::ClaimDone,
    drain::Drain,
    halt::{Halt, Met},
    lane::{Lane, State},
    report::{Report, RouteCounts},
    settle::{BatchDone, OutcomeDone},
    until_end::RowsRead,
    writer::Slot,
};
use crate::{
    route::{Router, TopicPlan},
    source::{Buffer, Change, Channels, Commit, Reply, Sequence, Source, Start},
    telemetry::metrics,
};

/// How long the source has to leave the group, when everything else is done. It is a courtesy: the checkpoint is the truth, and a client
/// that cannot reach its broker may take for ever. With the default `shutdown_timeout` the end still comes within Kubernetes' 30 s.
const CLOSE_LIMIT: Duration = Duration::from_secs(4);
/// How often offsets are committed to Kafka, and snapshots published.
const COMMIT_EVERY: Duration = Duration::from_millis(250);
const REPORT_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Engine {
    pub settings: EngineSettings,
    pub source: Box<dyn Source>,
    pub buffer: Arc<Buffer>,
    pub checkpoint: Arc<dyn Checkpoint>,
    pub router: Arc<dyn Router>,
    pub random: SmallRng,
    pub lanes: BTreeMap<Partition, Lane>,
    pub topics: BTreeMap<Arc<str>, TopicPlan>,
    /// Topics whose tables must be described again before the next record of them is decoded.
    pub outdated: BTreeSet<Arc<str>>,
    pub writers: Vec<Slot>,
    pub drains: Vec<Drain>,
    /// The group's callbacks that wait for a claim, by the first number that the claim gave.
    pub assigning: BTreeMap<Sequence, Reply<Vec<Start>>>,
    pub phase: Phase,
    pub report: Report,
    pub rate: Option<Instant>,
    pub rows_asked: Option<Instant>,
    pub rows_due: Instant,
    pub done: mpsc::UnboundedSender<Done>,
    outcomes: Option<mpsc::UnboundedReceiver<Done>>,
    channels: Option<Channels>,
    publish: watch::Sender<Report>,
    publish_at: Instant,
    commit_due: Option<Instant>,
    sequence: u64,
    pub ended: Ended,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Intake is closed; what is in flight has until then.
    Stopping {
        until: Instant,
    },
    /// The source is leaving the group. It is waited for until then.
    Closing {
        until: Instant,
    },
}

/// What tasks come back with.
pub(super) enum Done {
    Claim(ClaimDone),
    Batch(BatchDone),
    Outcome(OutcomeDone),
    Rows(RowsRead),
    Described { topic: Arc<str>, plan: TopicPlan },
    Panicked,
}

impl Engine {
    pub fn new(parts: Parts) -> Self {
        let Parts { settings, source, channels, sink, checkpoint, router, seed, report } = parts;
        let (done, outcomes) = mpsc::unbounded_channel();
        let now = Instant::now();
        Self {
            buffer: source.buffer().clone(),
            writers: (0..settings.writers.max(1)).map(|_| Slot::new(sink.writer())).collect(),
            rows_due: if settings.until_end.is_some() { now } else { now + settings.idle_check },
            settings,
            source,
            checkpoint,
            router,
            random: SmallRng::seed_from_u64(seed),
            lanes: BTreeMap::new(),
            topics: BTreeMap::new(),
            outdated: BTreeSet::new(),
            drains: Vec::new(),
            assigning: BTreeMap::new(),
            phase: Phase::Running,
            report: Report::default(),
            rate: None,
            rows_asked: None,
            done,
            outcomes: Some(outcomes),
            channels: Some(channels),
            publish: report,
            publish_at: now,
            commit_due: None,
            sequence: 0,
            ended: Ended { report: Report::default(), drain_cut: false, gave_up: None, failed: None },
        }
    }

    /// Control comes before outcomes, outcomes before input: or a busy topic would starve a rebalance.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Ended {
        let (Some(mut channels), Some(mut outcomes)) = (self.channels.take(), self.outcomes.take()) else { return self.ended };
        let mut shutdown = pin!(shutdown);
        loop {
            select! {
                biased;
                () = &mut shutdown, if self.phase == Phase::Running => self.begin_shutdown(),
                change = channels.changes.recv() => match change {
                    Some(change) => self.change(change),
                    None => {
                        if !matches!(self.phase, Phase::Closing { .. }) {
                            self.fail("the thread that reads Kafka has ended by itself: this is a bug in oncesink; nothing is lost, start it again");
                        }
                        break;
                    }
                },
                Some(done) = outcomes.recv() => self.settle(done),
                () = sleep_until(self.next_due()) => self.do_what_is_due(),
                Some(input) = channels.inputs.recv(), if self.has_room() => self.take(input),
            }
            self.close_due_batches();
            self.hand_over();
            self.finish_drains();
            if matches!(self.phase, Phase::Closing { until } if until <= Instant::now()) {
                tracing::warn!(pipeline = %self.settings.pipeline, "the kafka client does not leave the group, it is left behind");
                break;
            }
        }
        self.publish();
        self.ended.report = self.report;
        self.ended
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Assigned { partitions, topics, reply } => self.assigned(partitions, topics, reply),
            Change::Revoked { partitions, reply } => self.revoked(partitions, reply),
            Change::Lost { partitions } => self.lost(&partitions),
            Change::LookedUp { partitions, topics } => self.looked_up(partitions, topics),
            Change::OutOfRange { partitions } => self.out_of_range(partitions),
            Change::Ends { partitions } => {
                for (partition, ends) in partitions {
                    if let Some(lane) = self.lanes.get_mut(&partition) {
                        lane.ends = Some(ends);
                    }
                }
                return;
            }
            Change::Reachable(reachable) => self.report.unreachable = reachable.err(),
            Change::Failed { reason, detail } => {
                tracing::error!(pipeline = %self.settings.pipeline, reason, "{detail}");
                self.ended.failed = Some(format!("{reason}: {detail}"));
                self.begin_shutdown();
            }
        }
        self.publish();
    }

    fn settle(&mut self, done: Done) {
        match done {
            Done::Claim(done) => self.claim_done(done),
            Done::Batch(done) => self.batch_done(done),
            Done::Outcome(done) => self.outcome_done(done),
            Done::Rows(rows) => self.rows_read(rows),
            Done::Described { topic, plan } => self.described(topic, plan),
            Done::Panicked => self.fail("a task of the engine panicked: this is a bug in oncesink; nothing is lost, start it again"),
        }
    }

    /// The next moment at which something is to be done without an event.
    fn next_due(&self) -> Instant {
        let stopping = match self.phase {
            Phase::Stopping { until } | Phase::Closing { until } => Some(until),
            Phase::Running => None,
        };
        let resting = self.lanes.values().filter_map(|lane| match lane.state() {
            State::Resting { until } => Some(*until),
            _ => None,
        });
        let writers = self.writers.iter().filter_map(|slot| slot.due(&self.settings));
        let drains = self.drains.iter().map(|drain| drain.deadline);
        let others = [Some(self.publish_at), self.commit_due, self.rate, stopping, Some(self.rows_due)];
        others.into_iter().flatten().chain(resting).chain(writers).chain(drains).min().unwrap_or(self.publish_at)
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if self.commit_due.is_some_and(|at| at <= now) {
            self.commit_due = None;
            self.commit();
        }
        if self.publish_at <= now {
            self.publish();
        }
        if self.rate.is_some_and(|at| at <= now) {
            self.rate = None;
        }
        if self.rows_due <= now {
            self.read_rows(now);
        }
        self.wake_resting(now);
        if matches!(self.phase, Phase::Stopping { until } if until <= now) {
            self.cut_drain();
        }
    }

    /// Says that a lane has something new for Kafka.
    pub fn commit_soon(&mut self) {
        self.commit_due.get_or_insert_with(|| Instant::now() + COMMIT_EVERY);
    }

    pub fn commit(&mut self) {
        let partitions: Vec<Partition> = self.lanes.iter().filter(|(_, lane)| lane.may_commit()).map(|(partition, _)| partition.clone()).collect();
        let commits: Vec<Commit> = partitions.iter().filter_map(|partition| self.commit_of(partition)).collect();
        if !commits.is_empty() {
            self.source.commit(commits);
        }
    }

    /// What is durable and Kafka does not know yet. The commit is advisory: if it fails, the checkpoint still decides.
    fn commit_of(&mut self, partition: &Partition) -> Option<Commit> {
        let lane = self.lanes.get_mut(partition)?;
        let next = lane.ledger.committable()?;
        lane.ledger.mark_committed(next);
        Some(self.commit_at(partition, next))
    }

    /// What is durable when a partition is given back, also where Kafka was told before: a commit in the middle of a rebalance may
    /// have been refused, and there is no later one.
    pub fn last_commit_of(&self, partition: &Partition) -> Option<Commit> {
        let lane = self.lanes.get(partition).filter(|lane| lane.may_commit())?;
        let next = if planted!(DrainCommitsWhatWasTaken) { lane.ledger.taken() } else { lane.ledger.applied() };
        Some(self.commit_at(partition, next))
    }

    fn commit_at(&self, partition: &Partition, next: NextOffset) -> Commit {
        let delivery = self.lanes.get(partition).map_or(Delivery::ExactlyOnce, |lane| lane.delivery);
        Commit { partition: partition.clone(), next, metadata: commit_metadata(&self.checkpoint.database_id(), delivery) }
    }

    pub fn close_source(&mut self) {
        self.phase = Phase::Closing { until: Instant::now() + CLOSE_LIMIT };
        self.source.close();
    }

    pub fn next_sequence(&mut self) -> Sequence {
        self.sequence += 1;
        Sequence(self.sequence)
    }

    pub fn new_batch_id(&mut self) -> BatchId {
        BatchId(self.random.next_u64().cast_signed())
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
                    lane.log = super::halt::HaltLog::default();
                }
            }
            metrics::halted(&pipeline, &lane.partition, &halt.reason, true);
            lane.log.note(&self.settings, &lane.partition, &halt);
            // The row of another deployment is its own: a note there would make it look halted.
            if halt.reason != "another-deployment" {
                let held = (halt.met != Met::AtClaim).then(|| lane.held());
                notes.push((lane.partition.clone(), held, Some(halt.stored())));
            }
            lane.halted = Some(halt);
            lane.rest(halt_retry);
        }
        self.note_halts(notes);
    }

    /// A batch of the lane got through, or it runs again: the halt that was met there is over.
    pub fn clear_halt(&mut self, partition: &Partition, ended: impl Fn(&Halt) -> bool) {
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        if let Some(halt) = lane.halted.take_if(|halt| ended(halt)) {
            tracing::info!(pipeline = %self.settings.pipeline, %partition, reason = %halt.reason, "goes on again after {}s", halt.since.elapsed().as_secs());
            metrics::halted(&self.settings.pipeline, partition, &halt.reason, false);
            lane.log = super::halt::HaltLog::default();
            if halt.met == Met::AtClaim {
                let held = lane.held();
                self.note_halts(vec![(partition.clone(), Some(held), None)]);
            }
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

    /// Runs a task that is never cancelled. One that panics would leave its batch or claim unanswered for ever, so it ends the run.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let done = self.done.clone();
        let task = tokio::spawn(task);
        tokio::spawn(async move {
            if task.await.is_err_and(|error| error.is_panic()) {
                let _ = done.send(Done::Panicked);
            }
        });
    }

    /// `retry.give_up_after` has passed.
    pub fn give_up(&mut self, fault: &Fault) {
        self.ended.gave_up = Some(fault.to_string());
        self.begin_shutdown();
    }

    fn fail(&mut self, what: &str) {
        tracing::error!(pipeline = %self.settings.pipeline, "{what}");
        self.ended.failed = Some(what.to_owned());
        self.begin_shutdown();
    }

    pub fn route_counts(&mut self, route: &Arc<str>) -> &mut RouteCounts {
        self.report.routes.entry(route.clone()).or_default()
    }

    pub fn publish(&mut self) {
        self.publish_at = Instant::now() + REPORT_EVERY;
        // Everything is given back at the end; where each partition stood then is what people ask for.
        if self.phase == Phase::Running {
            self.report.partitions.clear();
        }
        self.report.partitions.extend(self.lanes.iter().map(|(partition, lane)| (partition.clone(), lane.report())));
        self.report.buffer_bytes = self.buffer.bytes();
        self.report.stopping = self.phase != Phase::Running;
        self.gauge();
        self.publish.send_replace(self.report.clone());
    }

    /// What this process says of a partition must not outlive its lane: another process tells from here on.
    pub fn reset_gauges(&self, lane: &Lane) {
        let pipeline = &self.settings.pipeline;
        if let Some(halt) = &lane.halted {
            metrics::halted(pipeline, &lane.partition, &halt.reason, false);
        }
        metrics::lag(pipeline, &lane.partition, 0, 0.0);
    }

    fn gauge(&self) {
        let pipeline = &self.settings.pipeline;
        metrics::buffer(pipeline, self.report.buffer_bytes);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        for (partition, lane) in &self.lanes {
            let records = lane.ends.map_or(0, |ends| u64::try_from(ends.high.get() - lane.ledger.applied().get()).unwrap_or(0));
            let behind = lane
                .newest
                .filter(|_| records > 0)
                .map_or(0.0, |newest| (now - Duration::from_millis(u64::try_from(newest).unwrap_or(0)).as_secs_f64()).max(0.0));
            metrics::lag(pipeline, partition, records, behind);
        }
    }
}
