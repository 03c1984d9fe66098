//! What is remembered, for how long, and by whom it is seen.

use std::time::{Duration, Instant};

use oncesink_sinks::{
    dedup::{Dedup, Event, ScreenError},
    redis,
};

use super::{
    server::{Kind, Server, until},
    shop::Lane,
};
use crate::on_each_redis;

on_each_redis!(
    five_thousand_events,
    each_event_has_its_own_answer,
    an_id_by_coordinate_is_asked_for_where_it_is_read_again,
    marks_end,
    a_flush_forgets_and_breaks_nothing,
    only_what_is_durable_is_marked
);

async fn five_thousand_events(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (dedup, lane) = (server.dedup(), Lane::new(0, 5000));
    assert_eq!(dedup.screen(&lane.events()).await, Err(ScreenError::NotHeld(vec![lane.partition.clone()])), "nothing is claimed yet");
    assert!(dedup.claimed(&lane.reached(0)).await.unwrap().rewound.is_empty());
    assert_eq!(lane.known(&dedup).await, 0);
    let started = Instant::now();
    lane.remember(&dedup).await;
    println!("{kind:?}: screen and remember {:.0} events a second", 5000.0 / started.elapsed().as_secs_f64());
    assert_eq!(lane.known(&dedup).await, 5000);

    // Another worker takes over where the first one ended.
    let (next, other) = (server.dedup(), lane.again());
    assert!(next.claimed(&other.end()).await.unwrap().rewound.is_empty());
    assert_eq!(other.known(&next).await, 5000);
    assert_eq!(lane.screen(&dedup).await, Err(ScreenError::NotHeld(vec![lane.partition.clone()])), "the first one is told");

    // Another route, and another pipeline.
    let elsewhere = next.screen(&other.events_of("refunds")).await.unwrap();
    assert!(!elsewhere.known.contains(&true));
    let warehouse = redis::open("warehouse", &server.options()).unwrap();
    warehouse.claimed(&other.end()).await.unwrap();
    assert_eq!(other.known(&warehouse).await, 0);

    // The state and the marks, over all primaries.
    let sizes = server.ask::<usize>("DBSIZE").await;
    assert_eq!(sizes.iter().sum::<usize>(), 5002);
    assert!(sizes.iter().all(|size| *size > 5000 / 4 / sizes.len()), "{sizes:?}");
}

/// Over more commands than one, and more of them than are under way at once.
async fn each_event_has_its_own_answer(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (dedup, lane) = (server.dedup(), Lane::new(0, 7500));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    let (_, generation) = lane.screen(&dedup).await.unwrap();
    let is_third = |offset: usize| offset.is_multiple_of(3);
    let thirds: Vec<_> = lane.events().into_iter().enumerate().filter(|(offset, _)| is_third(*offset)).map(|(_, event)| event).collect();
    dedup.remember(&generation, &lane.end(), &thirds).await.unwrap();
    let known = dedup.screen(&lane.events()).await.unwrap().known;
    assert!(known.iter().copied().eq((0..7500).map(is_third)), "an answer was taken for another event's");
}

/// Only then can its mark count.
async fn an_id_by_coordinate_is_asked_for_where_it_is_read_again(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (dedup, lane) = (server.dedup(), Lane::new(0, 100).by_coordinate());
    dedup.claimed(&lane.reached(0)).await.unwrap();
    let before = not_found(&server).await;
    lane.remember(&dedup).await;
    assert_eq!(not_found(&server).await, before, "it was asked for what could not count");
    assert_eq!(lane.known(&dedup).await, 100, "read again");

    // Another partition, of which the database holds more than was remembered: it is asked for that much.
    let other = Lane::new(1, 100).by_coordinate();
    dedup.claimed(&other.reached(60)).await.unwrap();
    let before = not_found(&server).await;
    assert_eq!(other.known(&dedup).await, 0);
    assert_eq!(not_found(&server).await - before, 60);
    // Of these, some are marked.
    let (_, generation) = other.screen(&dedup).await.unwrap();
    let every = |step: usize| other.events().into_iter().step_by(step).collect::<Vec<_>>();
    dedup.remember(&generation, &other.reached(60), &every(3)).await.unwrap();
    let known = async |events: &[Event<'_>]| dedup.screen(events).await.unwrap().known;
    assert!(known(&other.events()).await.into_iter().eq((0..100).map(|offset| offset < 60 && offset % 3 == 0)));
    // Among ids of producers, which are all asked for: each has the answer of its own.
    let third = Lane::new(2, 100);
    dedup.claimed(&third.reached(100)).await.unwrap();
    dedup.remember(&generation, &third.end(), &third.events().into_iter().step_by(7).collect::<Vec<_>>()).await.unwrap();
    let (of_other, of_third) = (other.events(), third.events());
    let mixed = of_other.iter().zip(&of_third).flat_map(|(other, third)| [*other, *third]).collect::<Vec<_>>();
    let expected = (0..100).flat_map(|offset| [offset < 60 && offset % 3 == 0, offset % 7 == 0]);
    assert!(known(&mixed).await.into_iter().eq(expected), "an answer was taken for another event's");
}

/// How many keys were asked for that are not there.
async fn not_found(server: &Server) -> u64 {
    let of_one = |info: &String| info.lines().find_map(|line| line.strip_prefix("keyspace_misses:")).map(|misses| misses.trim().parse::<u64>().unwrap());
    server.ask::<String>("INFO").await.iter().map(|info| of_one(info).expect("keyspace_misses")).sum()
}

async fn marks_end(kind: Kind) {
    let server = Server::start(kind, &[]);
    let mut options = server.options();
    options.ttl = Duration::from_millis(1500);
    let (dedup, lane) = (redis::open("shop", &options).unwrap(), Lane::new(0, 20));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&dedup).await;
    until(Duration::from_secs(20), async || match lane.known(&dedup).await {
        0 => Ok(()),
        known => Err(known),
    })
    .await;
    lane.remember(&dedup).await;
}

async fn a_flush_forgets_and_breaks_nothing(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (dedup, lane) = (server.dedup(), Lane::new(0, 50));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&dedup).await;
    let (_, before) = lane.screen(&dedup).await.unwrap();
    server.ask::<String>("FLUSHALL").await;
    // What was under way is passed over: another generation is in force.
    let remembered = dedup.remember(&before, &lane.end(), &lane.events()).await.unwrap();
    assert_eq!(remembered.passed_over, std::slice::from_ref(&lane.partition));
    let (known, after) = lane.screen(&dedup).await.unwrap();
    assert_eq!(known, 0);
    assert_ne!(before, after);
    lane.remember(&dedup).await;
    assert_eq!(lane.known(&dedup).await, 50);
}

async fn only_what_is_durable_is_marked(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (dedup, lane, stranger) = (server.dedup(), Lane::new(0, 10), Lane::new(1, 10));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    let (_, generation) = lane.screen(&dedup).await.unwrap();
    let events = [lane.events(), stranger.events()].concat();
    dedup.remember(&generation, &lane.reached(4), &events).await.unwrap();
    let known = dedup.screen(&lane.events()).await.unwrap().known;
    assert_eq!(known, [true, true, true, true, false, false, false, false, false, false]);
    dedup.claimed(&stranger.end()).await.unwrap();
    assert_eq!(stranger.known(&dedup).await, 0);
    // An event that comes twice, by way of another partition.
    let twice: Vec<_> = lane.events().into_iter().map(|event| Event { partition: &stranger.partition, ..event }).collect();
    assert_eq!(dedup.screen(&twice).await.unwrap().known.iter().filter(|known| **known).count(), 4);
}
