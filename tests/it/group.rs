//! The consumer group as the broker sees it: its members, and putting one of them out.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};

use crate::wait::seconds;

/// The member id of the member with this `client.id`.
pub fn member(brokers: &str, group: &str, client: &str) -> Option<String> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().expect("a client");
    let groups = consumer.fetch_group_list(Some(group), seconds(30)).ok()?;
    let members = groups.groups().iter().flat_map(|group| group.members());
    members.into_iter().find(|member| member.client_id() == client).map(|member| member.id().to_owned())
}

/// What an admin's tool does: a `LeaveGroup` (version 1) in the member's name. The member itself hears of it by its next heartbeat.
pub fn put_out(broker: &str, group: &str, member: &str) {
    let text = |text: &str| [i16::try_from(text.len()).expect("short").to_be_bytes().as_slice(), text.as_bytes()].concat();
    let (api, version, correlation) = (13_i16.to_be_bytes(), 1_i16.to_be_bytes(), 7_i32.to_be_bytes());
    let request = [&api[..], &version, &correlation, &text("admin"), &text(group), &text(member)].concat();
    let size = i32::try_from(request.len()).expect("short").to_be_bytes();
    let mut stream = TcpStream::connect(broker).expect("the broker listens");
    stream.set_read_timeout(Some(seconds(30))).expect("a time limit");
    stream.write_all(&[&size[..], &request].concat()).expect("the broker reads");
    // Size, correlation, throttling, error.
    let mut answer = [0; 14];
    stream.read_exact(&mut answer).expect("the broker answers");
    assert_eq!(answer[4..8], correlation);
    assert_eq!(answer[12..], [0, 0], "the error code of the answer");
}
