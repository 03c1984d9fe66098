//! Three brokers, as a test sees them: who leads what, who is whose coordinator, and a wire to each that can be held.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    metadata::Metadata,
};

use crate::{
    proxy::Proxy,
    servers::{Server, kafka_tool, unique},
    topic::{Topic, block_on},
    wait::{seconds, wait_for, wait_until},
};

/// As the script says it to the brokers.
const OFFSETS_PARTITIONS: i32 = 6;

pub struct Cluster {
    server: Server,
    /// In front of each broker's listener `wire`, by the number of the broker less one.
    wires: [Proxy; 3],
    admin: AdminClient<DefaultClientContext>,
}

impl Cluster {
    pub fn start() -> Self {
        let wires = [(); 3].map(|()| Proxy::listen());
        let server = Server::kafka_cluster(&wires.each_ref().map(Proxy::address));
        for (wire, listener) in wires.iter().zip(server.get("wire").split(',')) {
            wire.lead_to(listener);
        }
        let admin = ClientConfig::new().set("bootstrap.servers", server.get("plaintext")).create().expect("an admin client");
        Self { server, wires, admin }
    }

    pub fn brokers(&self) -> &str {
        self.server.get("plaintext")
    }

    /// The same brokers, reached through the wires only.
    pub fn by_wire(&self) -> String {
        self.wires.each_ref().map(Proxy::address).join(",")
    }

    pub fn wire(&self, broker: i32) -> &Proxy {
        &self.wires[usize::try_from(broker - 1).expect("they count from one")]
    }

    pub fn kill(&mut self, broker: i32) {
        self.server.kill_node(broker);
    }

    pub fn restart(&mut self, broker: i32) {
        self.server.start_node(broker);
    }

    /// A topic with these replicas, the preferred leader of each partition first.
    pub fn topic(&self, label: &str, replicas: &[&[i32]]) -> Topic {
        let name = unique(label);
        let partitions = i32::try_from(replicas.len()).expect("a count");
        let new = NewTopic::new(&name, partitions, TopicReplication::Variable(replicas)).set("min.insync.replicas", "2");
        for result in block_on(self.admin.create_topics([&new], &AdminOptions::new())).expect("the controller answers") {
            result.expect("the topic is made");
        }
        let topic = Topic { brokers: self.brokers().to_owned(), name, partitions };
        wait_until(seconds(60), "every partition has a leader", || (0..partitions).all(|partition| self.leader(&topic.name, partition).is_some()));
        topic
    }

    /// Who leads a partition now.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let metadata = self.metadata(topic)?;
        let found = metadata.topics().first()?.partitions().iter().find(|found| found.id() == partition)?;
        (found.leader() > 0).then_some(found.leader())
    }

    /// The coordinator of a group is whoever leads its partition of the offsets.
    pub fn coordinator(&self, group: &str) -> i32 {
        let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        let partition = hash.checked_abs().unwrap_or(0) % OFFSETS_PARTITIONS;
        wait_for(seconds(60), "the group has a coordinator", || self.leader("__consumer_offsets", partition))
    }

    /// Every replica of the topic and of the groups' offsets has caught up.
    pub fn wait_for_replicas(&self, topic: &str) {
        for topic in [topic, "__consumer_offsets"] {
            wait_until(seconds(120), &format!("all replicas of {topic} have caught up"), || {
                self.metadata(topic).is_some_and(|metadata| {
                    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
                    let whole: Vec<bool> = partitions.map(|partition| partition.isr().len() == partition.replicas().len()).collect();
                    !whole.is_empty() && whole.into_iter().all(|whole| whole)
                })
            });
        }
    }

    /// Gives every partition back to its preferred leader.
    pub fn elect_preferred_leaders(&self) {
        kafka_tool("leader-election", self.brokers(), &["--election-type", "preferred", "--all-topic-partitions"]);
    }

    fn metadata(&self, topic: &str) -> Option<Metadata> {
        self.admin.inner().fetch_metadata(Some(topic), Duration::from_secs(5)).ok()
    }
}
