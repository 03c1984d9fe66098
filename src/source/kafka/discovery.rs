//! Looks at the cluster now and then, on a thread of its own and with the probe's connection: it takes time that the poll thread does not
//! have. For topics that an expression matches and that were created, or deleted, since; and for partitions that the group gives to nobody.

use std::{
    collections::BTreeSet,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use oncesink_sinks::model::Partition;

use super::{KafkaConfig, Probe, TopicSizes, properties, reader::Command, topics::Topics, unread::Unread};

/// How long one look may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How often the group is looked at.
const LOOK_AT_GROUP_EVERY: Duration = Duration::from_secs(5);

/// Partitions are nobody's for as long as a member finishes with them, which its callback's budget bounds, and a round takes.
const ROUND: Duration = Duration::from_secs(5);

/// Ends its thread when it is dropped.
pub(super) struct Discovery {
    _stop: Sender<()>,
}

pub(super) fn start(probe: Probe, config: &KafkaConfig, sizes: &TopicSizes, commands: Sender<Command>) -> Option<Discovery> {
    let mut looks = Looks {
        // Names are subscribed once, and their new partitions are seen by the client itself.
        topics_every: Topics::new(&config.topics).has_patterns().then(|| properties::refresh_interval(config)),
        topics_due: Instant::now(),
        known: sizes.keys().map(ToString::to_string).collect(),
        unread: Unread::new(partitions(sizes), config.callback_budget + ROUND),
        probe,
        commands,
    };
    looks.topics_due += looks.topics_every.unwrap_or_default();
    let (stop, stopped) = channel::<()>();
    let spawned = thread::Builder::new().name("kafka-discovery".to_owned()).spawn(move || {
        let mut goes_on = true;
        while goes_on && stopped.recv_timeout(looks.next()) == Err(RecvTimeoutError::Timeout) {
            goes_on = looks.look_for_topics() && looks.look_at_group();
        }
    });
    match spawned {
        Ok(_) => Some(Discovery { _stop: stop }),
        Err(error) => {
            tracing::error!(%error, "new topics are not looked for");
            None
        }
    }
}

struct Looks {
    probe: Probe,
    commands: Sender<Command>,
    topics_every: Option<Duration>,
    topics_due: Instant,
    known: Vec<String>,
    unread: Unread,
}

impl Looks {
    fn next(&self) -> Duration {
        let topics = self.topics_every.map(|_| self.topics_due.saturating_duration_since(Instant::now()));
        topics.unwrap_or(LOOK_AT_GROUP_EVERY).min(LOOK_AT_GROUP_EVERY)
    }

    /// False once nobody takes commands any more.
    fn look_for_topics(&mut self) -> bool {
        let Some(every) = self.topics_every.filter(|_| self.topics_due <= Instant::now()) else { return true };
        self.topics_due = Instant::now() + every;
        let mut topics: Vec<String> = match self.probe.find_topics(LIMIT) {
            // A topic that is written out stays subscribed: it may only be recreated.
            Ok((found, missing)) => found.into_keys().map(|topic| topic.to_string()).chain(missing).collect(),
            Err(error) => {
                tracing::warn!(%error, "cannot look for new topics");
                return true;
            }
        };
        topics.sort_unstable();
        if topics == self.known || topics.is_empty() {
            return true;
        }
        tracing::info!(?topics, "the topics of the pipeline have changed");
        self.known.clone_from(&topics);
        self.commands.send(Command::Subscribe(topics)).is_ok()
    }

    /// False once nobody takes commands any more.
    fn look_at_group(&mut self) -> bool {
        let unread = match self.probe.assignments(LIMIT) {
            Ok(assignments) => self.unread.hear(assignments, Instant::now()),
            Err(error) => {
                tracing::debug!(%error, "cannot look at the group");
                self.unread.hear(None, Instant::now())
            }
        };
        if unread.is_empty() {
            return true;
        }
        let Ok((sizes, _)) = self.probe.find_topics(LIMIT) else { return true };
        let there = partitions(&sizes);
        self.unread.forget(&unread.difference(&there).cloned().collect());
        let unread: Vec<String> = unread.intersection(&there).map(ToString::to_string).collect();
        if unread.is_empty() {
            return true;
        }
        tracing::warn!(partitions = unread.join(", "), "no member of the group reads these partitions; leaving and joining again, so that they are given out");
        self.commands.send(Command::Rejoin).is_ok()
    }
}

fn partitions(sizes: &TopicSizes) -> BTreeSet<Partition> {
    let of = |(topic, size): (&std::sync::Arc<str>, &usize)| {
        let topic = topic.clone();
        (0..i32::try_from(*size).unwrap_or(i32::MAX)).map(move |index| Partition { topic: topic.clone(), index })
    };
    sizes.iter().flat_map(of).collect()
}
