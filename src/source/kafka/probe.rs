//! Looks at a cluster without joining the group: for `plan`, and before a consumer is made. Every call blocks, within its limit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use oncesink_sinks::model::Partition;
use rdkafka::{
    ClientContext, Offset,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError as ClientError, RDKafkaErrorCode as Code},
    message::Message,
    metadata::Metadata,
};

use super::{
    KafkaConfig, KafkaError, StartPolicy,
    context::log,
    error::Complaint,
    headers, look_up, properties,
    topics::Topics,
    unread::{self, Assignments},
};
use crate::source::{Ends, Found, Records, RecordsBuilder, Sequence, TopicFound};

/// How many events are taken before and after a call.
const EVENTS: usize = 64;

/// A connection to the cluster of a pipeline.
pub struct Probe {
    consumer: BaseConsumer<ProbeContext>,
    topics: Topics,
    start: StartPolicy,
    brokers: String,
    group: String,
    cluster: Arc<str>,
}

/// Topics, and how many partitions each has.
pub type TopicSizes = BTreeMap<Arc<str>, usize>;

/// A process that reads in the group now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub client: String,
    pub host: String,
}

#[derive(Debug, Default)]
struct ProbeContext {
    complaint: Complaint,
}

impl ClientContext for ProbeContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The errors that matter become the error of a call.
        log(if matches!(level, RDKafkaLogLevel::Debug) { level } else { RDKafkaLogLevel::Debug }, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.complaint.note(&error, reason);
    }
}

impl ConsumerContext for ProbeContext {}

impl Probe {
    /// Connects, and learns the cluster's id.
    pub fn connect(config: &KafkaConfig, limit: Duration) -> Result<Self, KafkaError> {
        let context = ProbeContext::default();
        let consumer = BaseConsumer::from_config_and_context(&properties::probe(config), context).map_err(|error| KafkaError::from_creation(&error))?;
        let mut probe = Self {
            consumer,
            topics: Topics::new(&config.topics),
            start: config.start.clone(),
            brokers: config.brokers.clone(),
            group: config.group.clone(),
            cluster: Arc::from(""),
        };
        let deadline = Instant::now() + limit;
        // Any answer of a broker proves that it is reached; one of a few topics is the cheapest.
        let first = probe.topics.names().first().map(ToString::to_string);
        probe.metadata(first.as_deref(), limit)?;
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let cluster = probe.consumer.client().fetch_cluster_id(left);
        probe.cluster = cluster.map(Arc::from).ok_or(KafkaError::Request { what: "the cluster id", reason: "no answer in time".to_owned() })?;
        Ok(probe)
    }

    #[must_use]
    pub fn cluster(&self) -> Arc<str> {
        self.cluster.clone()
    }

    /// The topics that the routes match, with the number of their partitions. A topic that is written out and does not exist is an error.
    pub fn topics(&self, limit: Duration) -> Result<TopicSizes, KafkaError> {
        let (found, missing) = self.find_topics(limit)?;
        if missing.is_empty() { Ok(found) } else { Err(KafkaError::MissingTopic { topics: missing }) }
    }

    /// The topics that the routes match, and the names written out that do not exist.
    pub(super) fn find_topics(&self, limit: Duration) -> Result<(TopicSizes, Vec<String>), KafkaError> {
        let deadline = Instant::now() + limit;
        let mut found = TopicSizes::new();
        if self.topics.has_patterns() {
            self.add_topics(&mut found, &self.metadata(None, limit)?, |topic| self.topics.matches(topic))?;
        }
        let names = self.topics.names();
        for name in &names {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
            self.add_topics(&mut found, &self.metadata(Some(name), left)?, |topic| topic == *name)?;
        }
        let missing = names.iter().filter(|name| !found.contains_key(**name)).map(ToString::to_string).collect();
        Ok((found, missing))
    }

    fn add_topics(&self, found: &mut TopicSizes, metadata: &Metadata, wanted: impl Fn(&str) -> bool) -> Result<(), KafkaError> {
        for topic in metadata.topics().iter().filter(|topic| wanted(topic.name())) {
            match topic.error().map(Code::from) {
                None if topic.partitions().is_empty() => {}
                None => {
                    found.insert(Arc::from(topic.name()), topic.partitions().len());
                }
                Some(Code::TopicAuthorizationFailed) => {
                    return Err(KafkaError::Authorization { what: self.group.clone(), reason: format!("topic {} may not be described", topic.name()) });
                }
                // Being created or deleted: seen at the next look.
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// What the group has committed in these partitions, their ends, and where their topics start by `kafka.start`.
    #[must_use]
    pub fn look_up(&self, partitions: &[Partition], limit: Duration) -> (Vec<Found>, Vec<TopicFound>) {
        self.serve();
        look_up::look_up(&self.consumer, partitions, &self.start, limit)
    }

    /// Who reads in the group now; nobody where it is empty or was never used.
    pub fn members(&self, limit: Duration) -> Result<Vec<Member>, KafkaError> {
        self.serve();
        let groups = self.consumer.fetch_group_list(Some(&self.group), limit);
        let groups = groups.map_err(|error| KafkaError::Request { what: "the members of the group", reason: error.to_string() })?;
        let members = groups.groups().iter().filter(|group| group.name() == self.group).flat_map(|group| group.members());
        Ok(members.map(|member| Member { client: member.client_id().to_owned(), host: member.client_host().trim_start_matches('/').to_owned() }).collect())
    }

    /// Who reads what in the group; none while its partitions are being given out, or where a member does not say it in a known way.
    pub(super) fn assignments(&self, limit: Duration) -> Result<Option<Assignments>, KafkaError> {
        self.serve();
        let groups = self.consumer.fetch_group_list(Some(&self.group), limit);
        let groups = groups.map_err(|error| KafkaError::Request { what: "the members of the group", reason: error.to_string() })?;
        let Some(group) = groups.groups().iter().find(|group| group.name() == self.group && group.state() == "Stable") else { return Ok(None) };
        let mut assignments = Assignments::default();
        for member in group.members() {
            let Some(partitions) = unread::parse(member.assignment().unwrap_or_default()) else { return Ok(None) };
            assignments.members.insert(member.id().to_owned());
            assignments.partitions.extend(partitions);
        }
        Ok(Some(assignments))
    }

    /// The youngest record of a topic that a reader may see, or none. `partition` says where it lies.
    pub fn latest_record(&self, topic: &str, limit: Duration) -> Result<Option<Records>, KafkaError> {
        let deadline = Instant::now() + limit;
        let topic: Arc<str> = Arc::from(topic);
        let (ends, _) = look_up::topics_found(&self.consumer, &BTreeSet::from([topic]), &StartPolicy::Earliest, limit / 2);
        // Markers and aborted records lie between the visible ones, so a few are read from each end.
        let waiting: BTreeMap<Partition, Ends> = ends.into_iter().filter(|(_, ends)| ends.high > ends.low).collect();
        let from = |ends: &Ends| Offset::Offset(ends.low.get().max(ends.high.get() - 10));
        let unreadable = |error: ClientError| KafkaError::Request { what: "the latest record of a topic", reason: error.to_string() };
        self.consumer.assign(&look_up::list_of(waiting.iter().map(|(partition, ends)| (partition, from(ends))))).map_err(unreadable)?;
        let mut open: BTreeSet<i32> = waiting.keys().map(|partition| partition.index).collect();
        let mut latest: Option<(i64, RecordsBuilder)> = None;
        while !open.is_empty() && Instant::now() < deadline {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let timestamp = message.timestamp().to_millis().unwrap_or(-1);
                    if latest.as_ref().is_none_or(|(youngest, _)| timestamp >= *youngest) {
                        let mut builder = RecordsBuilder::new(Partition::new(message.topic(), message.partition()), Sequence::default());
                        let headers = message.headers().into_iter().flat_map(headers::of);
                        builder.push(message.offset(), timestamp, message.key(), message.payload(), headers);
                        latest = Some((timestamp, builder));
                    }
                }
                Some(Err(ClientError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(_)) | None => {}
            }
        }
        self.consumer.unassign().map_err(unreadable)?;
        Ok(latest.map(|(_, builder)| builder.finish()))
    }

    fn metadata(&self, topic: Option<&str>, limit: Duration) -> Result<Metadata, KafkaError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(100), Duration::from_secs(1));
            let error = match self.consumer.fetch_metadata(topic, left) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            // Why it failed is told by events only.
            self.serve();
            if Instant::now() >= deadline || self.consumer.context().complaint.is_authentication() {
                return Err(self.consumer.context().complaint.explain(&self.brokers, &error));
            }
        }
    }

    /// Takes the client's events, which else would gather.
    fn serve(&self) {
        // An empty answer says only that the event was none of ours.
        for _ in 0..EVENTS {
            let _ = self.consumer.poll(Duration::ZERO);
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("brokers", &self.brokers).field("cluster", &self.cluster).finish_non_exhaustive()
    }
}
