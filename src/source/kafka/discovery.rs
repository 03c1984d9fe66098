//! Looks for topics that an expression matches and that were created, or deleted, since. On a thread of its own, with the probe's
//! connection: listing all topics of a large cluster takes time that the poll thread does not have.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use super::{KafkaConfig, Probe, properties, reader::Command, topics::Topics};

/// How long one look may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Ends its thread when it is dropped.
pub(super) struct Discovery {
    _stop: Sender<()>,
}

/// None where no route has an expression: names are subscribed once, and their new partitions are seen by the client itself.
pub(super) fn start(probe: Probe, config: &KafkaConfig, mut known: Vec<String>, commands: Sender<Command>) -> Option<Discovery> {
    if !Topics::new(&config.topics).has_patterns() {
        return None;
    }
    let interval = properties::refresh_interval(config);
    let (stop, stopped) = channel::<()>();
    let spawned = thread::Builder::new().name("kafka-topics".to_owned()).spawn(move || {
        while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            let mut topics: Vec<String> = match probe.find_topics(LIMIT) {
                // A topic that is written out stays subscribed: it may only be recreated.
                Ok((found, missing)) => found.into_keys().map(|topic| topic.to_string()).chain(missing).collect(),
                Err(error) => {
                    tracing::warn!(%error, "cannot look for new topics");
                    continue;
                }
            };
            topics.sort_unstable();
            if topics != known && !topics.is_empty() {
                tracing::info!(?topics, "the topics of the pipeline have changed");
                known.clone_from(&topics);
                if commands.send(Command::Subscribe(topics)).is_err() {
                    return;
                }
            }
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
