use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    mocking::MockCluster,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

/// A cluster for one test: the real one that `ONCESINK_TEST_KAFKA` names, else one inside this process.
pub(super) struct Cluster {
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
    pub brokers: String,
    pub name: String,
}

impl Cluster {
    pub(super) fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Names of their own, because a real cluster is shared by all tests and all runs.
        let name = format!("t{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        match Self::real() {
            Some(brokers) => Self { mock: None, brokers, name },
            None => {
                let mock = MockCluster::new(1).unwrap();
                Self { brokers: mock.bootstrap_servers(), mock: Some(mock), name }
            }
        }
    }

    /// A test that needs what only the mock can do.
    pub(super) fn around(mock: MockCluster<'static, DefaultProducerContext>, name: &str) -> Self {
        Self { brokers: mock.bootstrap_servers(), mock: Some(mock), name: name.to_owned() }
    }

    pub(super) fn mock(&self) -> &MockCluster<'static, DefaultProducerContext> {
        self.mock.as_ref().unwrap()
    }

    pub(super) fn real() -> Option<String> {
        std::env::var("ONCESINK_TEST_KAFKA").ok().filter(|brokers| !brokers.is_empty())
    }

    pub(super) fn create_topic(&self, topic: &str, partitions: i32) {
        match &self.mock {
            Some(mock) => mock.create_topic(topic, partitions, 1).unwrap(),
            None => {
                let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
                let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(admin.create_topics(&[new], &AdminOptions::new())).unwrap().remove(0).unwrap();
            }
        }
    }

    pub(super) fn producer(&self, settings: &[(&str, &str)]) -> ThreadedProducer<DefaultProducerContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("linger.ms", "20").set("message.max.bytes", "20000000").set("compression.type", "lz4");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create().unwrap()
    }

    /// Puts records `from..to` into each partition; the value tells partition and number.
    pub(super) fn produce(&self, topic: &str, partitions: i32, numbers: std::ops::Range<i64>) {
        let producer = self.producer(&[]);
        for partition in 0..partitions {
            for number in numbers.clone() {
                send(&producer, topic, partition, &format!("{partition}/{number}"));
            }
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }
}

pub(super) fn send(producer: &ThreadedProducer<DefaultProducerContext>, topic: &str, partition: i32, value: &str) {
    let mut record = BaseRecord::to(topic).partition(partition).key("k").payload(value);
    while let Err((error, again)) = producer.send(record) {
        assert!(error.to_string().contains("full"), "{error}");
        record = again;
        std::thread::sleep(Duration::from_millis(5));
    }
}
