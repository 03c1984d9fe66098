//! The loop, and what the engine holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use oncesink_sinks::{
    checkpoint::{Checkpoint, Expired},
    fault::Fault,
    model::{BatchId, Partition},
};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use tokio::{
    select,
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    Ended, EngineSettings, Parts,
    claim::ClaimDone,
    drain::Drain,
    expire::Expiring,
    lane::{Lane, State},
    report::{Report, RouteCounts},
    settle::{BatchDone, OutcomeDone},
    until_end::{RowsRead, StandsElsewhere},
    writer::Slot,
};
use crate::{
    route::{Router, TopicPlan},
    source::{Buffer, Change, Channels, Reply, Sequence, Source, Start},
};

/// How long the source has to leave the group, when everything else is done. It is a courtesy: the checkpoint is the truth, and a client
/// that cannot reach its broker may take for ever. With the default `shutdown_timeout` the end still comes within Kubernetes' 30 s.
const CLOSE_LIMIT: Duration = Duration::from_secs(4);

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
    pub expiring: Option<Expiring>,
    pub expiring_tombstones: Option<Expiring>,
    pub halts_elsewhere: BTreeMap<Partition, StandsElsewhere>,
    /// Told when there is no time to lose any more.
    pub hurry: Arc<Notify>,
    pub done: mpsc::UnboundedSender<Done>,
    outcomes: Option<mpsc::UnboundedReceiver<Done>>,
    channels: Option<Channels>,
    pub publish: watch::Sender<Report>,
    pub publish_at: Instant,
    pub commit_due: Option<Instant>,
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
    Expired(Result<Expired, Fault>),
    TombstonesExpired(Result<bool, Fault>),
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
            expiring: settings.processed_event_retention.map(|retention| Expiring::new(retention, now)),
            expiring_tombstones: settings.tombstone_retention.map(|retention| Expiring::new(retention, now)),
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
            halts_elsewhere: BTreeMap::new(),
            hurry: Arc::default(),
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
            Change::Ends { partitions } => {
                for (partition, ends) in partitions {
                    if let Some(lane) = self.lanes.get_mut(&partition) {
                        lane.ends = Some(ends);
                    }
                }
                return;
            }
            Change::Committed { partitions } => {
                for (partition, next) in partitions {
                    if let Some(lane) = self.lanes.get_mut(&partition) {
                        lane.acknowledged = Some(next);
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
            Done::Expired(result) => self.expired(result),
            Done::TombstonesExpired(result) => self.tombstones_expired(result),
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
        let expiring = [&self.expiring, &self.expiring_tombstones].into_iter().map(|expiring| expiring.as_ref().and_then(Expiring::due));
        let others = [Some(self.publish_at), self.commit_due, self.rate, stopping, Some(self.rows_due)];
        others.into_iter().chain(expiring).flatten().chain(resting).chain(writers).chain(drains).min().unwrap_or(self.publish_at)
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if self.commit_due.is_some_and(|at| at <= now) {
            self.commit_due = None;
            self.commit();
        }
        if self.publish_at <= now {
            self.publish();
            self.commit_ahead_again();
        }
        if self.rate.is_some_and(|at| at <= now) {
            self.rate = None;
        }
        if self.rows_due <= now {
            self.read_rows(now);
        }
        self.expire(now);
        self.expire_tombstones(now);
        self.wake_resting(now);
        if matches!(self.phase, Phase::Stopping { until } if until <= now) {
            self.cut_drain();
        }
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
}
