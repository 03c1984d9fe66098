//! A Kafka inside this process: librdkafka's mock cluster, reachable by other processes over loopback.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    bindings::{rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms},
    config::ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Message},
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};

use super::events::{Event, PARTITIONS, TOPIC};

/// What the cluster acknowledged of one event: where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Produced {
    pub partition: i32,
    pub offset: i64,
    pub event: Event,
}

/// The cluster lives as long as its producer.
pub struct Cluster {
    producer: ThreadedProducer<Deliveries>,
    deliveries: Deliveries,
    pub brokers: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("the mock cluster failed: {0}")]
    Kafka(#[from] KafkaError),
    #[error("librdkafka made no mock cluster")]
    Absent,
    #[error("{0} events were refused by the mock cluster")]
    Refused(usize),
    #[error("the mock cluster has dropped records: {TOPIC}:{partition} holds [{low}, {high}) of {produced}")]
    Dropped { partition: i32, low: i64, high: i64, produced: usize },
}

impl Cluster {
    pub fn start() -> Result<Self, ClusterError> {
        let deliveries = Deliveries::default();
        let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .set("enable.idempotence", "true")
            // Without compression a partition would exceed the 5 MiB that the mock keeps, and it drops the rest silently.
            .set("compression.type", "lz4")
            // The mock finds an offset by walking over its batches: few, large ones.
            .set("batch.num.messages", "2000")
            .set("linger.ms", "5")
            .set("queue.buffering.max.messages", "300000")
            .set("log_level", "3")
            .create_with_context(deliveries.clone())?;
        let brokers = {
            let mock = producer.client().mock_cluster().ok_or(ClusterError::Absent)?;
            mock.create_topic(TOPIC, PARTITIONS, 1)?;
            mock.bootstrap_servers()
        };
        shorten_first_rebalance(&producer);
        Ok(Self { producer, deliveries, brokers })
    }

    /// Produces events and waits until the cluster has acknowledged them.
    pub fn produce(&self, events: impl Iterator<Item = Event>) -> Result<(), ClusterError> {
        for event in events {
            let (key, value) = (event.key(), event.value());
            let mut record = BaseRecord::with_opaque_to(TOPIC, Box::new(event)).partition(event.partition()).key(&key).payload(&value);
            loop {
                match self.producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                        record = again;
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err((error, _)) => return Err(error.into()),
                }
            }
        }
        Ok(self.producer.flush(Duration::from_secs(20))?)
    }

    /// Everything that the cluster acknowledged; it must still hold it all.
    pub fn all_produced(&self) -> Result<Vec<Produced>, ClusterError> {
        let refused = *self.deliveries.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused > 0 {
            return Err(ClusterError::Refused(refused));
        }
        let produced = std::mem::take(&mut *self.deliveries.acknowledged());
        self.holds_all(&produced)?;
        Ok(produced)
    }

    fn holds_all(&self, produced: &[Produced]) -> Result<(), ClusterError> {
        let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
        for one in produced {
            *counts.entry(one.partition).or_default() += 1;
        }
        for (&partition, &count) in &counts {
            let (low, high) = self.producer.client().fetch_watermarks(TOPIC, partition, Duration::from_secs(5))?;
            if low != 0 || usize::try_from(high) != Ok(count) {
                return Err(ClusterError::Dropped { partition, low, high, produced: count });
            }
        }
        Ok(())
    }
}

/// By default the mock holds the first rebalance of a group back for 3 s, longer than the sessions of the demo: nobody would ever get a partition.
#[allow(unsafe_code, reason = "the client has no safe call for it")]
fn shorten_first_rebalance(producer: &ThreadedProducer<Deliveries>) {
    // SAFETY: the client is alive, so is the cluster that it owns, and the setter only stores a number under the cluster's own lock.
    unsafe {
        let cluster = rd_kafka_handle_mock_cluster(producer.client().native_ptr());
        if !cluster.is_null() {
            rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 100);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Deliveries {
    acknowledged: Arc<Mutex<Vec<Produced>>>,
    refused: Arc<Mutex<usize>>,
}

impl Deliveries {
    fn acknowledged(&self) -> std::sync::MutexGuard<'_, Vec<Produced>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Event>;

    fn delivery(&self, result: &DeliveryResult<'_>, event: Self::DeliveryOpaque) {
        match result {
            Ok(message) => self.acknowledged().push(Produced { partition: message.partition(), offset: message.offset(), event: *event }),
            Err(_) => *self.refused.lock().unwrap_or_else(PoisonError::into_inner) += 1,
        }
    }
}
