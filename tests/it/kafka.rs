//! Our own Kafka clients: a producer that knows whether all arrived, and a reader of what is committed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
    types::RDKafkaErrorCode,
};

use crate::wait::{seconds, wait_for};

/// A record as it stands in the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// A record to be sent.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
}

impl Outgoing {
    pub fn json(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }

    pub fn to(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

#[derive(Clone, Debug, Default)]
struct Deliveries {
    failed: Arc<AtomicU64>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result
            && error.rdkafka_error_code() != Some(RDKafkaErrorCode::PurgeQueue)
        {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub struct Producer {
    client: BaseProducer<Deliveries>,
    topic: String,
}

impl Producer {
    pub fn new(brokers: &str, topic: &str, settings: &[(&str, &str)]) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("message.max.bytes", "20000000").set("linger.ms", "5");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let client = config.create_with_context(Deliveries::default()).expect("a producer");
        Self { client, topic: topic.to_owned() }
    }

    pub fn transactional(brokers: &str, topic: &str) -> Self {
        let producer = Self::new(brokers, topic, &[("transactional.id", topic)]);
        producer.client.init_transactions(seconds(30)).expect("transactions");
        producer
    }

    pub fn send(&self, outgoing: &Outgoing) {
        loop {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
            record.partition = outgoing.partition;
            record.key = outgoing.key.as_deref();
            record.payload = outgoing.value.as_deref();
            if !outgoing.headers.is_empty() {
                record.headers = Some(
                    outgoing.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value.as_bytes()) })),
                );
            }
            match self.client.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.client.poll(Duration::from_millis(20));
                }
                Err((error, _)) => panic!("not sent: {error}"),
            }
        }
        self.client.poll(Duration::ZERO);
    }

    /// Returns once every record is acknowledged.
    pub fn flush(&self) {
        self.client.flush(seconds(60)).expect("the broker acknowledges");
        assert_eq!(self.client.context().failed.load(Ordering::Relaxed), 0, "records that the broker did not take");
    }

    pub fn begin(&self) {
        self.client.begin_transaction().expect("a transaction");
    }

    pub fn commit(&self) {
        self.client.commit_transaction(seconds(30)).expect("the transaction commits");
    }

    /// What was sent is flushed first, so that aborted records really lie in the log.
    pub fn abort(&self) {
        self.client.flush(seconds(60)).expect("the broker acknowledges");
        self.client.abort_transaction(seconds(30)).expect("the transaction aborts");
    }
}

/// Everything that a `read_committed` reader sees of a topic now, in (partition, offset) order.
pub fn read_committed(brokers: &str, topic: &str) -> Vec<Record> {
    let mut records = Vec::new();
    for_each_committed(brokers, topic, |record| records.push(record));
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// The same, one by one, for topics that would fill the memory. In order within a partition.
pub fn for_each_committed(brokers: &str, topic: &str, mut take: impl FnMut(Record)) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "outside-checker")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.message.max.bytes", "20000000")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), seconds(30)).expect("the topic's metadata");
    let partitions: Vec<i32> = metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).expect("an assignment");
    }
    consumer.assign(&assignment).expect("an assignment");
    let mut open = partitions.len();
    while open > 0 {
        match consumer.poll(seconds(30)).expect("the topic is readable") {
            Ok(message) => take(Record {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
            }),
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => panic!("the topic cannot be read: {error}"),
        }
    }
}

/// How far a group is behind the log, summed over the topic; `None` where it has committed nothing.
pub fn group_lag(brokers: &str, group: &str, topic: &str, partitions: i32) -> Option<i64> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().expect("a consumer");
    let mut wanted = TopicPartitionList::new();
    for partition in 0..partitions {
        wanted.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(wanted, seconds(30)).ok()?;
    let mut lag = 0;
    for element in committed.elements() {
        let (_, high) = consumer.fetch_watermarks(topic, element.partition(), seconds(30)).ok()?;
        match element.offset() {
            Offset::Offset(next) => lag += high - next,
            _ if high == 0 => {}
            _ => return None,
        }
    }
    Some(lag)
}

/// What a group has committed, by partition.
pub fn committed(brokers: &str, group: &str, topic: &str, partitions: i32) -> Vec<(i32, Option<i64>)> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().expect("a consumer");
    let mut wanted = TopicPartitionList::new();
    for partition in 0..partitions {
        wanted.add_partition(topic, partition);
    }
    // The first question for a coordinator makes the topic of the offsets, and nobody leads it at once.
    let committed = wait_for(seconds(60), "the coordinator answers", || consumer.committed_offsets(wanted.clone(), seconds(10)).ok());
    let offset = |offset| if let Offset::Offset(next) = offset { Some(next) } else { None };
    committed.elements().iter().map(|element| (element.partition(), offset(element.offset()))).collect()
}

/// Commits as an admin does: as no member of the group.
pub fn try_commit(brokers: &str, group: &str, topic: &str, partition: i32, next: i64) -> Result<(), KafkaError> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().expect("a consumer");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(next)).expect("an offset");
    consumer.commit(&offsets, CommitMode::Sync)
}

/// The oracle itself is judged.
mod tests {
    use crate::{kafka::Outgoing, servers::Server, topic::Topic};

    #[test]
    fn the_oracle_sees_each_committed_record_once() {
        let topic = Topic::create("oracle", 2);
        let producer = super::Producer::transactional(&topic.brokers, &topic.name);
        for (number, commits) in [(1, true), (2, false), (3, true), (4, false)] {
            producer.begin();
            for partition in 0..2 {
                producer.send(&Outgoing::json(number.to_string(), format!("{number}")).to(partition));
            }
            if commits { producer.commit() } else { producer.abort() }
        }
        let values: Vec<_> = topic.read().into_iter().map(|record| (record.partition, record.value.unwrap_or_default())).collect();
        assert_eq!(values, [(0, b"1".to_vec()), (0, b"3".to_vec()), (1, b"1".to_vec()), (1, b"3".to_vec())]);
        assert_eq!(topic.lag("nobody"), None, "a group that never committed has no lag");
    }

    #[test]
    fn a_broker_comes_back_with_its_records() {
        let mut server = Server::kafka();
        let topic = Topic::create_on(server.get("plaintext"), "comes_back", 1);
        topic.send(&[Outgoing::json("1", "{}")]);
        let before = topic.read();
        server.stop();
        server.start();
        assert_eq!(topic.read(), before);
    }
}
