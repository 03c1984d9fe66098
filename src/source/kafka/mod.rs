//! The real source: one OS thread owns the consumer.
//!
//! [`connect`] looks at the cluster first, so that what cannot work is said as a typed error, then starts the thread. It polls all the
//! time; the client calls it back in a poll, for rebalances and statistics. Commands reach it over a channel.
//!
//! | part | does |
//! | --- | --- |
//! | `reader` | the loop, its commands, the pause where there is no room, closing |
//! | `rebalance` | assign, revoke, repositioning, commit |
//! | `intake` | what is assigned and the block of records that is gathered |
//! | `recreated` | noticing that a topic was deleted and made again |
//! | `damage` | what an error of the client means for the records behind it |
//! | `statistics`, `unconfirmed` | how far was read where no record was visible; which partitions the client gave up; which commits failed |
//! | `look_up`, `probe`, `kept` | committed offsets, ends of logs, topics, and how long they keep records |
//! | `topics`, `discovery` | names and expressions, expanded by us |
//! | `unread` | partitions that the group gives to nobody |

use std::{
    fmt,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use oncesink_sinks::model::Partition;
use rdkafka::{config::FromClientConfigAndContext, consumer::BaseConsumer};
use tokio::sync::mpsc::unbounded_channel;

mod answer;
mod config;
mod context;
mod damage;
mod discovery;
mod error;
mod headers;
mod intake;
mod kept;
mod look_up;
mod outlet;
mod probe;
mod properties;
mod reader;
mod rebalance;
mod recreated;
mod statistics;
#[cfg(test)]
mod tests;
mod topics;
mod unconfirmed;
mod unread;

pub use config::{KafkaConfig, StartPolicy};
pub use error::KafkaError;
pub use kept::{Kept, kept};
pub use probe::{Member, Probe, TopicSizes};

use self::{
    context::Context,
    outlet::Outlet,
    reader::{Command, Reader},
};
use super::{Buffer, Channels, Commit, Identity, Source, Start};

/// Connects to Kafka and joins the group. Blocks for about `limit` at most; call it where blocking is allowed.
/// Where the error [is retryable](KafkaError::is_retryable), say it, wait, and call again.
pub fn connect(config: KafkaConfig, buffer: Arc<Buffer>, limit: Duration) -> Result<(KafkaSource, Channels), KafkaError> {
    let probe = Probe::connect(&config, limit)?;
    let sizes = probe.topics(limit)?;
    let topics: Vec<String> = sizes.keys().map(ToString::to_string).collect();
    let identity = Identity { cluster: probe.cluster(), group: Arc::from(config.group.as_str()) };
    let (changes_in, changes) = unbounded_channel();
    let (inputs_in, inputs) = unbounded_channel();
    let outlet = Arc::new(Outlet::new(changes_in, inputs_in, buffer.clone()));
    let (client, protocol) = properties::consumer(&config);
    let context = Context::new(&config, protocol, outlet);
    let consumer = BaseConsumer::from_config_and_context(&client, context).map_err(|error| KafkaError::from_creation(&error))?;
    let (commands, received) = channel();
    let discovery = discovery::start(probe, &config, &sizes, commands.clone());
    let reader = Reader::new(consumer, received, topics);
    let started = thread::Builder::new().name(format!("kafka {}", config.group)).spawn(move || {
        reader.run();
        drop(discovery);
    });
    started.map_err(|error| KafkaError::Request { what: "a thread to read in", reason: error.to_string() })?;
    Ok((KafkaSource { commands, buffer, identity }, Channels { changes, inputs }))
}

/// The engine's handle of the poll thread.
pub struct KafkaSource {
    commands: Sender<Command>,
    buffer: Arc<Buffer>,
    identity: Identity,
}

impl KafkaSource {
    fn send(&self, command: Command) {
        // A thread that has ended has ended its channels too; there the engine sees it.
        let _ = self.commands.send(command);
    }
}

impl Source for KafkaSource {
    fn start(&mut self, starts: Vec<Start>) {
        self.send(Command::Start(starts));
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        self.send(Command::Commit(commits));
    }

    fn look_up(&mut self, partitions: Vec<Partition>) {
        self.send(Command::LookUp(partitions));
    }

    fn close(&mut self) {
        self.send(Command::Close);
    }

    fn buffer(&self) -> &Arc<Buffer> {
        &self.buffer
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.send(Command::Close);
    }
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("identity", &self.identity).finish_non_exhaustive()
    }
}
