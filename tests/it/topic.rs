//! A topic for one test: made under a name of its own, filled, and read back as the oracle.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
};

use crate::{
    kafka::{self, Outgoing, Producer, Record},
    random::Random,
    servers::{shared_kafka, unique},
    wait::{seconds, wait_until},
};

#[derive(Clone, Debug)]
pub struct Topic {
    pub brokers: String,
    pub name: String,
    pub partitions: i32,
}

impl Topic {
    pub fn create(label: &str, partitions: i32) -> Self {
        Self::create_named(shared_kafka(), &unique(label), partitions)
    }

    pub fn create_on(brokers: &str, label: &str, partitions: i32) -> Self {
        Self::create_named(brokers, &unique(label), partitions)
    }

    pub fn create_named(brokers: &str, name: &str, partitions: i32) -> Self {
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1)).set("max.message.bytes", "20000000");
        let results = block_on(admin(brokers).create_topics([&new], &AdminOptions::new())).expect("the broker answers");
        for result in results {
            result.expect("the topic is made");
        }
        let topic = Self { brokers: brokers.to_owned(), name: name.to_owned(), partitions };
        topic.wait_for_leaders();
        topic
    }

    /// How long it keeps its records: the tests' broker keeps them for good.
    pub fn keep_for(&self, time: Duration) {
        let milliseconds = time.as_millis().to_string();
        let config = AlterConfig::new(ResourceSpecifier::Topic(&self.name)).set("retention.ms", &milliseconds);
        let results = block_on(admin(&self.brokers).alter_configs([&config], &AdminOptions::new())).expect("the broker answers");
        for result in results {
            result.expect("the setting is changed");
        }
    }

    /// Deletes the topic and makes it again, empty, under the same name.
    pub fn recreate(&mut self) {
        let admin = admin(&self.brokers);
        let results = block_on(admin.delete_topics(&[&self.name], &AdminOptions::new())).expect("the broker answers");
        for result in results {
            result.expect("the topic is deleted");
        }
        wait_until(seconds(30), "the topic is gone", || {
            admin.inner().fetch_metadata(None, seconds(10)).is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.name() != self.name))
        });
        *self = Self::create_named(&self.brokers, &self.name, self.partitions);
    }

    /// What retention does: everything below these offsets is deleted.
    pub fn delete_before(&self, next: &[(i32, i64)]) {
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in next {
            offsets.add_partition_offset(&self.name, *partition, Offset::Offset(*next)).expect("an offset");
        }
        let deleted = block_on(admin(&self.brokers).delete_records(&offsets, &AdminOptions::new())).expect("the broker answers");
        let low: Vec<(i32, Offset)> = deleted.elements().iter().map(|element| (element.partition(), element.offset())).collect();
        let wanted: Vec<(i32, Offset)> = next.iter().map(|(partition, next)| (*partition, Offset::Offset(*next))).collect();
        assert_eq!(low, wanted, "the log begins there now");
    }

    /// More partitions for the same topic.
    pub fn grow(&mut self, partitions: i32) {
        let new = NewPartitions::new(&self.name, usize::try_from(partitions).expect("positive"));
        let results = block_on(admin(&self.brokers).create_partitions([&new], &AdminOptions::new())).expect("the broker answers");
        for result in results {
            result.expect("the partitions are added");
        }
        self.partitions = partitions;
        self.wait_for_leaders();
    }

    /// The broker answers before every partition has its leader.
    fn wait_for_leaders(&self) {
        let admin = admin(&self.brokers);
        let wanted = usize::try_from(self.partitions).expect("positive");
        wait_until(seconds(30), "every partition has a leader", || {
            admin.inner().fetch_metadata(Some(&self.name), seconds(10)).is_ok_and(|metadata| {
                metadata.topics().iter().any(|topic| topic.partitions().len() == wanted && topic.partitions().iter().all(|partition| partition.leader() >= 0))
            })
        });
    }

    pub fn producer(&self) -> Producer {
        Producer::new(&self.brokers, &self.name, &[])
    }

    pub fn send(&self, records: &[Outgoing]) {
        let producer = self.producer();
        for record in records {
            producer.send(record);
        }
        producer.flush();
    }

    pub fn read(&self) -> Vec<Record> {
        kafka::read_committed(&self.brokers, &self.name)
    }

    /// A group without members is forgotten, with what it has committed.
    pub fn delete_group(&self, group: &str) {
        let results = block_on(admin(&self.brokers).delete_groups(&[group], &AdminOptions::new())).expect("the broker answers");
        for result in results {
            result.expect("the group is deleted");
        }
    }

    /// Everything that can be read of it, one by one.
    pub fn for_each(&self, take: impl FnMut(Record)) {
        kafka::for_each_committed(&self.brokers, &self.name, take);
    }

    pub fn lag(&self, group: &str) -> Option<i64> {
        kafka::group_lag(&self.brokers, group, &self.name, self.partitions)
    }
}

/// Orders: keys come again, versions come out of order, and an old version may follow a newer one.
#[derive(Clone, Debug)]
pub struct Orders {
    random: Random,
    keys: u64,
    sent: u64,
    /// Versions are multiples of a thousand and this, where no version may come twice.
    distinct: Option<u64>,
}

impl Orders {
    pub const fn seeded(seed: u64, keys: u64) -> Self {
        Self { random: Random::seeded(seed), keys, sent: 0, distinct: None }
    }

    /// No version comes twice, neither here nor in other orders with another number below a thousand.
    pub const fn with_distinct_versions(self, number: u64) -> Self {
        Self { distinct: Some(number), ..self }
    }

    pub fn next(&mut self) -> Outgoing {
        self.sent += 1;
        let id = self.random.below(self.keys);
        let late = self.random.below(10) == 0;
        let version = match (late, self.distinct) {
            (false, None) => self.sent,
            (true, None) => self.sent / 2,
            (false, Some(number)) => 4_000 * self.sent + number,
            // Halfway back, between two that were given out.
            (true, Some(number)) => 1_000 * (2 * self.sent + 1) + number,
        };
        Outgoing::json(id.to_string(), format!(r#"{{"id":{id},"version":{version},"note":"n{}"}}"#, self.random.next() % 1_000_000))
    }

    pub fn take(&mut self, count: usize) -> Vec<Outgoing> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Orders whose note begins with a name, by which they are known in the table.
    pub fn take_noted(&mut self, count: usize, name: &str) -> Vec<Outgoing> {
        let noted = |order: Outgoing| {
            let value = String::from_utf8(order.value.unwrap_or_default()).expect("text");
            Outgoing { value: Some(value.replacen(r#""note":""#, &format!(r#""note":"{name} "#), 1).into_bytes()), ..order }
        };
        self.take(count).into_iter().map(noted).collect()
    }
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().expect("an admin client")
}

/// Futures of the admin client and of the databases, one at a time.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
