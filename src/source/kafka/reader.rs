//! The thread that owns the consumer. Nothing else touches it, and it never waits longer than a callback's budget.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        atomic::Ordering,
        mpsc::{Receiver, TryRecvError},
    },
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
    damage::{Damage, Meaning, meaning},
    intake::{GivenUp, Reading},
    look_up::{list_of, look_up},
    rebalance::{commit, reposition},
};
use crate::source::{Change, Commit, Input, Start};

/// How long a poll waits where nothing arrives: a command is taken this late at most.
const IDLE: Duration = Duration::from_millis(10);

/// Look-ups outside a rebalance: meanwhile nothing is polled.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(4);

/// Between two attempts to mend what the client has given up.
const MEND_INTERVAL: Duration = Duration::from_secs(1);

/// What the client says again and again is logged once in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum Command {
    Start(Vec<Start>),
    Commit(Vec<Commit>),
    LookUp(Vec<Partition>),
    Subscribe(Vec<String>),
    /// Unsubscribes and subscribes again, which has the group give out all partitions anew.
    Rejoin,
    Close,
}

pub(super) struct Reader {
    consumer: BaseConsumer<Context>,
    commands: Receiver<Command>,
    /// In their order, without the look-ups.
    waiting: VecDeque<Command>,
    /// What is to be looked up.
    asked: BTreeSet<Partition>,
    complained: Option<(Code, Instant)>,
    damage: Damage,
    mended: Option<Instant>,
    /// What is subscribed.
    topics: Vec<String>,
}

impl Reader {
    pub(super) fn new(consumer: BaseConsumer<Context>, commands: Receiver<Command>, topics: Vec<String>) -> Self {
        Self { consumer, commands, topics, waiting: VecDeque::new(), asked: BTreeSet::new(), complained: None, damage: Damage::default(), mended: None }
    }

    /// Runs until it is told to close, or nobody listens any more.
    pub(super) fn run(mut self) {
        self.subscribe(&self.topics);
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
                    self.commit_again();
                }
            }
        }
        self.close();
    }

    fn context(&self) -> &Context {
        self.consumer.context()
    }

    /// Runs what does not wait for Kafka, and one command that does: the group must be polled in between, and an end not queue behind them.
    fn take_commands(&mut self) -> bool {
        let goes_on = loop {
            match self.commands.try_recv() {
                // One look-up for all that were asked for: each may take seconds.
                Ok(Command::LookUp(partitions)) => self.asked.extend(partitions),
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => break false,
                Ok(command) => self.waiting.push_back(command),
                Err(TryRecvError::Empty) => break !self.context().outlet.is_deserted(),
            }
        };
        while let Some(command) = self.waiting.pop_front() {
            match command {
                Command::Commit(mut commits) => {
                    // A commit for a partition that is another's by now could set its offset back.
                    commits.retain(|commit| self.context().intake().readings.contains_key(&commit.partition));
                    commit(self.context(), &self.consumer, &commits);
                }
                Command::Start(starts) if goes_on => {
                    self.start(starts);
                    return true;
                }
                Command::Subscribe(topics) if goes_on => {
                    self.subscribe(&topics);
                    self.topics = topics;
                }
                Command::Rejoin if goes_on => {
                    // What is read here is taken away in order, as in any rebalance.
                    self.consumer.unsubscribe();
                    self.subscribe(&self.topics);
                }
                Command::Start(_) | Command::Subscribe(_) | Command::Rejoin | Command::LookUp(_) | Command::Close => {}
            }
        }
        if goes_on && !self.asked.is_empty() {
            let partitions: Vec<Partition> = std::mem::take(&mut self.asked).into_iter().collect();
            let (partitions, topics) = look_up(&self.consumer, &partitions, &self.context().start, self.look_up_limit());
            self.context().outlet.change(Change::LookedUp { partitions, topics });
        }
        goes_on
    }

    fn look_up_limit(&self) -> Duration {
        LOOK_UP_LIMIT.min(self.context().budget)
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
        reposition(self.context(), &self.consumer, &positions(&moving));
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
    fn mend_given_up(&mut self) {
        if self.mended.is_some_and(|at| at.elapsed() < MEND_INTERVAL) {
            return;
        }
        let given_up: Vec<Partition> = std::mem::take(&mut self.context().intake().given_up).into_iter().collect();
        if given_up.is_empty() {
            return;
        }
        let (found, _) = look_up(&self.consumer, &given_up, &self.context().start, self.look_up_limit());
        let GivenUp { again, outside } = self.context().intake().judge_given_up(found);
        if !outside.is_empty() {
            self.pause(&outside.iter().map(|(partition, ..)| partition.clone()).collect::<Vec<_>>());
            // Behind the records that were read before it: those are still applied.
            for (partition, sequence, ends) in outside {
                self.context().outlet.input(Input::OutOfRange { partition, sequence, ends });
            }
        }
        reposition(self.context(), &self.consumer, &again);
        self.mended = Some(Instant::now());
    }

    /// What has failed of partitions that are still ours, and still stand where they stood.
    fn commit_again(&self) {
        let failed = std::mem::take(&mut self.context().intake().failed_commits);
        commit(self.context(), &self.consumer, &failed);
    }

    fn hear(&mut self, error: &ClientError) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let reason = self.context().complaint.last_reason().unwrap_or_else(|| error.to_string());
        let meaning = if matches!(error, ClientError::MessageConsumptionFatal(_)) { Meaning::Fatal } else { meaning(code) };
        match meaning {
            Meaning::Harmless => {}
            Meaning::Unreachable => self.context().set_away(reason.clone()),
            Meaning::TopicForbidden => self.context().fail("topic-authorization", format!("{reason}; grant READ and DESCRIBE on the topics")),
            Meaning::GroupForbidden => {
                let group = &self.context().group;
                self.context().fail("group-authorization", format!("{reason}; grant READ on the group {group}"));
            }
            Meaning::Fatal => self.fail_fatally(reason.clone()),
            Meaning::Damaged => self.read_again(error),
        }
        if self.complained.is_none_or(|(last, at)| last != code || at.elapsed() >= COMPLAINT_INTERVAL) {
            self.complained = Some((code, Instant::now()));
            tracing::warn!(%error, reason, "the kafka client complains");
        }
    }

    fn fail_fatally(&self, reason: String) {
        let fatal = self.consumer.client().fatal_error();
        match (fatal, &self.context().instance) {
            (Some((Code::FencedInstanceId, _)), Some(instance)) => {
                let detail = format!(
                    "another process has joined the group with kafka.instance_id {instance}, and the broker has put this one out; \
                     nothing is lost: give each process an id of its own"
                );
                self.context().fail("instance-id-taken", detail);
            }
            (fatal, _) => self.context().fail("fatal-client-error", fatal.map_or(reason, |(_, text)| text)),
        }
    }

    /// Records may have been left out, of which partition is not said: all are read once more from where they are, so that nothing is
    /// taken that was fetched behind the damage.
    fn read_again(&mut self, error: &ClientError) {
        let mut intake = self.consumer.context().intake();
        let block = intake.flush();
        let active = intake.active();
        let is_worth_it = self.damage.again(&intake.suspects(), Instant::now());
        if !is_worth_it {
            intake.stand_still();
        }
        drop(intake);
        block.into_iter().for_each(|block| self.context().outlet.input(block));
        if is_worth_it {
            reposition(self.context(), &self.consumer, &active);
            return;
        }
        self.pause(&active.into_iter().map(|(partition, _)| partition).collect::<Vec<_>>());
        let suspects = self.damage.suspects();
        self.context().fail(
            "corrupt-log",
            format!(
                "{error}; the log cannot be read at one of {suspects}, and nothing behind it was taken; \
                 check the disks of the brokers and the network, then start again; to give the records up, move the checkpoints past them"
            ),
        );
    }

    /// Drops the consumer here, which runs the last revocation. The client can hang in it, so who waits for the channels to end has a limit.
    fn close(self) {
        let context = self.consumer.context().clone();
        let block = context.intake().flush();
        block.into_iter().for_each(|block| context.outlet.input(block));
        context.closing.store(true, Ordering::Relaxed);
        drop(self.consumer);
        context.outlet.close();
    }
}

fn positions(starts: &[Start]) -> Vec<(Partition, i64)> {
    starts.iter().filter_map(|start| Some((start.partition.clone(), start.from?.get()))).collect()
}
