//! What the client calls back: rebalances, statistics, errors, its log. All of it runs on the poll thread, inside `poll`.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::KafkaError as ClientError,
    types::RDKafkaRespErr,
};

use super::{KafkaConfig, StartPolicy, error::Complaint, intake::Intake, outlet::Outlet, properties::Protocol, recreated::recreated, statistics::Statistics};
use crate::{source::Change, telemetry::metrics};

#[derive(Debug)]
pub(super) struct Context {
    pub group: Arc<str>,
    /// `kafka.instance_id`
    pub instance: Option<String>,
    pub protocol: Protocol,
    pub start: StartPolicy,
    /// How long a callback may take.
    pub budget: Duration,
    pub outlet: Arc<Outlet>,
    pub complaint: Complaint,
    /// The consumer is being dropped: nothing is assigned any more.
    pub closing: AtomicBool,
    /// Kafka was said to be out of reach.
    pub is_away: AtomicBool,
    has_failed: AtomicBool,
    intake: Mutex<Intake>,
}

impl Context {
    pub(super) fn new(config: &KafkaConfig, protocol: Protocol, outlet: Arc<Outlet>) -> Self {
        Self {
            group: Arc::from(config.group.as_str()),
            instance: config.instance_id.clone(),
            protocol,
            start: config.start.clone(),
            budget: config.callback_budget,
            outlet,
            complaint: Complaint::default(),
            closing: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            intake: Mutex::default(),
        }
    }

    /// Never held across a call of the client that polls: the callbacks take it too.
    pub(super) fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// The client cannot go on. Said once: the engine then ends.
    pub(super) fn fail(&self, reason: &'static str, detail: String) {
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            self.outlet.change(Change::Failed { reason, detail });
        }
    }

    /// What the client fetches of this topic from now on means something else.
    fn hear_of_recreation(&self, topic: &str) {
        let mut intake = self.intake();
        let block = intake.flush();
        let recreated = intake.recreated(topic);
        drop(intake);
        block.into_iter().chain(recreated).for_each(|input| self.outlet.input(input));
    }

    pub(super) fn set_away(&self, reason: String) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            self.outlet.change(Change::Reachable(Err(reason)));
        }
    }

    pub(super) fn set_back(&self) {
        if self.is_away.load(Ordering::Relaxed) && self.is_away.swap(false, Ordering::Relaxed) {
            self.outlet.change(Change::Reachable(Ok(())));
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
        if let Some(topic) = recreated(level, message) {
            self.hear_of_recreation(topic);
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        if self.is_closing() {
            return;
        }
        let statistics = match Statistics::parse(json) {
            Ok(statistics) => statistics,
            Err(error) => {
                tracing::warn!(%error, "cannot read the statistics of the kafka client");
                return;
            }
        };
        if statistics.any_broker_is_up() {
            self.set_back();
        }
        let mut intake = self.intake();
        // What was passed comes after the records before it.
        let block = intake.flush();
        let observed = intake.observe(&statistics);
        drop(intake);
        if !observed.ends.is_empty() {
            self.outlet.change(Change::Ends { partitions: observed.ends });
        }
        if !observed.committed.is_empty() {
            self.outlet.change(Change::Committed { partitions: observed.committed });
        }
        for input in block.into_iter().chain(observed.passed) {
            self.outlet.input(input);
        }
        metrics::offset_commit_failed(&self.group, observed.failed_commits);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.complaint.note(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, partitions);
        } else {
            self.revoke(consumer, partitions);
        }
    }
}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}
