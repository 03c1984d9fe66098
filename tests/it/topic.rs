//! A topic for one test: made under a name of its own, filled, and read back as the oracle.

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
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
}

impl Orders {
    pub const fn seeded(seed: u64, keys: u64) -> Self {
        Self { random: Random::seeded(seed), keys, sent: 0 }
    }

    pub fn next(&mut self) -> Outgoing {
        self.sent += 1;
        let id = self.random.below(self.keys);
        let late = self.random.below(10) == 0;
        let version = if late { self.sent / 2 } else { self.sent };
        Outgoing::json(id.to_string(), format!(r#"{{"id":{id},"version":{version},"note":"n{}"}}"#, self.random.next() % 1_000_000))
    }

    pub fn take(&mut self, count: usize) -> Vec<Outgoing> {
        (0..count).map(|_| self.next()).collect()
    }
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().expect("an admin client")
}

/// Futures of the admin client and of the databases, one at a time.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
