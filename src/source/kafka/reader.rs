//! The thread that owns the consumer. Nothing else touches it, and it never waits longer than a callback's budget.

use std::{
    sync::{
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use oncesink_sinks::model::Partition;
use rdkafka::{
    Offset,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError as ClientError, RDKafkaErrorCode as Code},
};

use super::{
    context::Context,
    intake::Reading,
    look_up::{list_of, look_up},
    rebalance::{commit, reposition},
};
use crate::source::{Change, Commit, Start};

/// How long a poll waits where nothing arrives: a command is taken this late at most.
const IDLE: Duration = Duration::from_millis(10);

/// Look-ups outside a rebalance: meanwhile nothing is polled.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(4);

/// What the client says again and again is logged once in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum Command {
    Start(Vec<Start>),
    Commit(Vec<Commit>),
    LookUp(Vec<Partition>),
    Subscribe(Vec<String>),
    Close,
}

pub(super) struct Reader {
    consumer: BaseConsumer<Context>,
    commands: Receiver<Command>,
    complained: Option<(Code, Instant)>,
    has_failed: bool,
}

impl Reader {
    pub(super) fn new(consumer: BaseConsumer<Context>, commands: Receiver<Command>) -> Self {
        Self { consumer, commands, complained: None, has_failed: false }
    }

    /// Runs until it is told to close, or nobody listens any more.
    pub(super) fn run(mut self, topics: &[String]) {
        self.subscribe(topics);
        let mut idle = false;
        while self.take_commands() {
            match self.consumer.poll(if idle { IDLE } else { Duration::ZERO }) {
                Some(Ok(message)) => {
                    idle = false;
                    let block = self.context().intake().push(&message);
                    if let Some(block) = block {
                        self.context().set_back();
                        self.context().outlet.input(block);
                        self.keep_within_buffer();
                    }
                }
                Some(Err(error)) => self.hear(&error),
                // Also after an event that was no record, so it only ends the block.
                None => {
                    idle = true;
                    let block = self.context().intake().flush();
                    if let Some(block) = block {
                        self.context().set_back();
                        self.context().outlet.input(block);
                    }
                    self.keep_within_buffer();
                    self.mend_given_up();
                }
            }
        }
        self.close();
    }

    fn context(&self) -> &Context {
        self.consumer.context()
    }

    fn take_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Start(starts)) => self.start(starts),
                Ok(Command::Commit(mut commits)) => {
                    // A commit for a partition that is another's by now could set its offset back.
                    commits.retain(|commit| self.context().intake().readings.contains_key(&commit.partition));
                    commit(self.context(), &self.consumer, &commits);
                }
                Ok(Command::LookUp(partitions)) => {
                    let (partitions, topics) = look_up(&self.consumer, &partitions, &self.context().start, LOOK_UP_LIMIT);
                    self.context().outlet.change(Change::LookedUp { partitions, topics });
                }
                Ok(Command::Subscribe(topics)) => self.subscribe(&topics),
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return !self.context().outlet.is_deserted(),
            }
        }
    }

    fn subscribe(&self, topics: &[String]) {
        if topics.is_empty() {
            tracing::info!("no topic matches yet");
            return;
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&names) {
            tracing::error!(%error, "cannot subscribe");
        }
    }

    fn start(&self, starts: Vec<Start>) {
        let mut intake = self.context().intake();
        let starts: Vec<Start> = starts
            .into_iter()
            // Given away meanwhile, or given away and come back: then a later start is in force already.
            .filter(|start| intake.readings.get(&start.partition).is_some_and(|reading| reading.sequence < Some(start.sequence)))
            .collect();
        for start in &starts {
            intake.set(start.partition.clone(), Reading::started(start.sequence, start.from));
        }
        let is_full = intake.is_full;
        drop(intake);
        if starts.is_empty() {
            return;
        }
        let (moving, standing): (Vec<Start>, Vec<Start>) = starts.into_iter().partition(|start| start.from.is_some());
        let partitions = |starts: &[Start]| starts.iter().map(|start| start.partition.clone()).collect::<Vec<_>>();
        self.pause(&partitions(&standing));
        // Before the seek: only that wakes the client's fetching thread, which else sleeps on for up to a second. What it may fetch in
        // between is under an old version and never delivered. Where there is no room all partitions stay paused.
        if !is_full {
            self.resume(&partitions(&moving));
        }
        reposition(self.context(), &self.consumer, &moving);
    }

    /// Stops fetching where there is no room, and goes on where there is room again.
    fn keep_within_buffer(&self) {
        let buffer = self.context().outlet.buffer();
        let mut intake = self.context().intake();
        let change = if intake.is_full { buffer.has_room_again() } else { buffer.is_full() };
        if !change {
            return;
        }
        intake.is_full = !intake.is_full;
        let block = intake.flush();
        intake.disturb_all();
        let (is_full, active) = (intake.is_full, intake.active());
        drop(intake);
        block.into_iter().for_each(|block| self.context().outlet.input(block));
        let partitions: Vec<Partition> = active.iter().map(|(partition, _)| partition.clone()).collect();
        if is_full {
            self.pause(&partitions);
        } else if !partitions.is_empty() {
            self.resume(&partitions);
            // To where they are: it only wakes the fetching thread, as in a start. If it fails they are read from there all the same.
            let here = list_of(active.iter().map(|(partition, next)| (partition, Offset::Offset(*next))));
            if let Err(error) = self.consumer.seek_partitions(here, self.context().budget / 2) {
                tracing::debug!(%error, "partitions are resumed without haste");
            }
        }
    }

    fn pause(&self, partitions: &[Partition]) {
        if !partitions.is_empty()
            && let Err(error) = self.consumer.pause(&list_of(partitions.iter().map(|partition| (partition, Offset::Invalid))))
        {
            tracing::warn!(%error, "cannot pause partitions");
        }
    }

    fn resume(&self, partitions: &[Partition]) {
        if !partitions.is_empty()
            && let Err(error) = self.consumer.resume(&list_of(partitions.iter().map(|partition| (partition, Offset::Invalid))))
        {
            tracing::warn!(%error, "cannot resume partitions");
        }
    }

    /// An out-of-range answer names no partition here, but the client stops fetching it, and its statistics say so.
    fn mend_given_up(&self) {
        let given_up = std::mem::take(&mut self.context().intake().given_up);
        if given_up.is_empty() {
            return;
        }
        let (found, _) = look_up(&self.consumer, &given_up, &self.context().start, LOOK_UP_LIMIT);
        let mut intake = self.context().intake();
        let (mut outside, mut again) = (Vec::new(), Vec::new());
        for found in found {
            let Some(reading) = intake.readings.get_mut(&found.partition).filter(|reading| reading.is_active()) else { continue };
            // Where its ends are not known the statistics will name it again.
            let Some(ends) = found.ends else { continue };
            if (ends.low.get()..=ends.high.get()).contains(&reading.next) {
                again.push(Start {
                    partition: found.partition,
                    sequence: reading.sequence.unwrap_or_default(),
                    from: Some(oncesink_sinks::model::NextOffset::new(reading.next)),
                });
            } else {
                reading.stands = true;
                outside.push(found);
            }
        }
        let is_full = intake.is_full;
        drop(intake);
        if !outside.is_empty() {
            self.pause(&outside.iter().map(|found| found.partition.clone()).collect::<Vec<_>>());
            self.context().outlet.change(Change::OutOfRange { partitions: outside });
        }
        reposition(self.context(), &self.consumer, &again);
        if is_full {
            self.pause(&again.into_iter().map(|start| start.partition).collect::<Vec<_>>());
        }
    }

    fn hear(&mut self, error: &ClientError) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let reason = self.context().complaint.last_reason().unwrap_or_else(|| error.to_string());
        match code {
            Code::AllBrokersDown | Code::Authentication | Code::SaslAuthenticationFailed => self.context().set_away(reason.clone()),
            Code::TopicAuthorizationFailed => self.fail("topic-authorization", format!("{reason}; grant READ and DESCRIBE on the topics")),
            Code::GroupAuthorizationFailed => self.fail("group-authorization", format!("{reason}; grant READ on the group {}", self.context().group)),
            Code::Fatal | Code::FencedInstanceId => self.fail_fatally(reason.clone()),
            _ if matches!(error, ClientError::MessageConsumptionFatal(_)) => self.fail_fatally(reason.clone()),
            // Its partition is found by the statistics.
            Code::AutoOffsetReset => {}
            _ => {}
        }
        if self.complained.is_none_or(|(last, at)| last != code || at.elapsed() >= COMPLAINT_INTERVAL) {
            self.complained = Some((code, Instant::now()));
            tracing::warn!(%error, reason, "the kafka client complains");
        }
    }

    fn fail_fatally(&mut self, reason: String) {
        let fatal = self.consumer.client().fatal_error();
        let detail = fatal.map_or(reason, |(_, text)| text);
        self.fail("fatal-client-error", format!("{detail}; if kafka.instance_id is set, another process uses the same one"));
    }

    fn fail(&mut self, reason: &'static str, detail: String) {
        if !std::mem::replace(&mut self.has_failed, true) {
            self.context().outlet.change(Change::Failed { reason, detail });
        }
    }

    /// Drops the consumer here, which runs the last revocation. The client can hang in it; then the channels end without it, and what is
    /// lost is only a commit to Kafka, which is not the truth.
    fn close(self) {
        let context = self.consumer.context().clone();
        let block = context.intake().flush();
        block.into_iter().for_each(|block| context.outlet.input(block));
        context.closing.store(true, Ordering::Relaxed);
        let (closed, still_open) = channel::<()>();
        let (outlet, limit) = (context.outlet.clone(), context.budget + Duration::from_secs(3));
        let watchdog = thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
            if still_open.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!("the kafka client does not close, it is left behind");
            }
            outlet.close();
        });
        if let Err(error) = watchdog {
            tracing::warn!(%error, "closing the kafka client is not watched");
        }
        drop(self.consumer);
        context.outlet.close();
        drop(closed);
    }
}
