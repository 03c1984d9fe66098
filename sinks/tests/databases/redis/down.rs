//! Servers that hang, end, and are followed by others.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use oncesink_sinks::{
    dedup::Dedup,
    fault::{Fault, FaultClass},
    redis::{self, RedisDedup, RedisOptions},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    server::{Kind, Server, size, until},
    shop::Lane,
};
use crate::on_each_redis;

on_each_redis!(a_server_hangs);

// Behind sentinels another one takes its place, which is a test of its own.
mod comes_back {
    use super::a_server_ends_and_comes_back;
    use crate::on_each_redis;

    on_each_redis!(@ single Single [a_server_ends_and_comes_back]);
    on_each_redis!(@ cluster Cluster [a_server_ends_and_comes_back]);
}

/// How much later than its limit an answer may come on a machine that is busy.
const MARGIN: Duration = Duration::from_secs(5);

fn is_retry(fault: &Fault) -> bool {
    fault.class == FaultClass::Retry
}

/// Works until it does; every fault on the way passes by itself.
async fn works_again(dedup: &RedisDedup, lane: &Lane) -> usize {
    until(Duration::from_secs(30), async || {
        let worked = lane.work(dedup).await;
        assert!(worked.as_ref().is_ok() || worked.as_ref().is_err_and(is_retry), "{worked:?}");
        worked
    })
    .await
}

/// A batch may take longer than a server may be silent: as long as answers come, it is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_line_is_no_silent_server() {
    let server = Server::start(Kind::Single, &[]);
    let address = server.get("url").rsplit('/').next().unwrap().to_owned();
    let slow = slow_line(address, 100_000).await;
    let options = RedisOptions { answer_limit: Duration::from_secs(3), ..RedisOptions::single(format!("redis://{slow}")) };
    let (dedup, lane) = (redis::open("shop", &options).unwrap(), Lane::new(0, 5000));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    let (_, generation) = lane.screen(&dedup).await.unwrap();
    let started = Instant::now();
    dedup.remember(&generation, &lane.end(), &lane.events()).await.unwrap();
    assert!(started.elapsed() > options.answer_limit, "it was not slow: {:?}", started.elapsed());
    assert_eq!(lane.known(&dedup).await, 5000);
}

/// The address of a line to a server that carries so many bytes a second towards it.
async fn slow_line(server: String, bytes_a_second: u32) -> SocketAddr {
    const CHUNK: usize = 8192;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let takes = Duration::from_secs(1) * u32::try_from(CHUNK).unwrap() / bytes_a_second;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                let mut chunk = [0; CHUNK];
                while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
                    to_server.write_all(&chunk[..length]).await.unwrap();
                    tokio::time::sleep(takes).await;
                }
            });
        }
    });
    address
}

async fn a_server_hangs(kind: Kind) {
    let server = Server::start(kind, &[]);
    let (dedup, lane) = (server.dedup(), Lane::new(0, 1000));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&dedup).await;
    server.signal("-STOP");
    // The first one by the connection that it has, the second one by one that is never made.
    for limit in [RedisOptions::ANSWER_LIMIT, RedisOptions::ANSWER_LIMIT + RedisOptions::CONNECT_LIMIT] {
        let started = Instant::now();
        match lane.work(&dedup).await {
            Err(fault) => assert!(is_retry(&fault), "{fault:?}"),
            // The sentinels have found another one meanwhile.
            Ok(_) => assert!(kind == Kind::Sentinel),
        }
        assert!(started.elapsed() < limit + MARGIN, "{:?}", started.elapsed());
    }
    server.signal("-CONT");
    works_again(&dedup, &lane).await;
    assert_eq!(lane.known(&dedup).await, 1000);
}

async fn a_server_ends_and_comes_back(kind: Kind) {
    let mut server = Server::start(kind, &["appendfsync always"]);
    let (dedup, lane) = (server.dedup(), Lane::new(0, 1000));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&dedup).await;
    let (_, generation) = lane.screen(&dedup).await.unwrap();
    let node = if kind == Kind::Cluster { "2" } else { "single" };
    server.kill(node);
    let fault = lane.work(&dedup).await.unwrap_err();
    assert!(is_retry(&fault), "{fault:?}");
    server.start_again(node);
    assert_eq!(works_again(&dedup, &lane).await, 1000, "what was acknowledged is on the disk");
    assert_eq!(lane.screen(&dedup).await.unwrap().1, generation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sentinels_name_another_primary() {
    let mut server = Server::start(Kind::Sentinel, &[]);
    let (dedup, lane) = (server.dedup(), Lane::new(0, 1000));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&dedup).await;
    let (_, generation) = lane.screen(&dedup).await.unwrap();
    until(Duration::from_secs(20), async || match size(server.get("replica")).await {
        Ok(1001) => Ok(()),
        size => Err(size),
    })
    .await;
    server.kill("primary");
    let fault = lane.work(&dedup).await.unwrap_err();
    assert!(is_retry(&fault), "{fault:?}");
    let started = Instant::now();
    assert_eq!(works_again(&dedup, &lane).await, 1000);
    println!("the new primary was found after {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(lane.screen(&dedup).await.unwrap().1, generation);

    // The old one comes back, and is told that it is a replica: nothing is written there.
    server.start_again("primary");
    let next = Lane::new(1, 500);
    dedup.claimed(&next.reached(0)).await.unwrap();
    next.remember(&dedup).await;
    until(Duration::from_secs(30), async || match size(server.get("primary")).await {
        Ok(1501) => Ok(()),
        size => Err(size),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_there() {
    let lane = Lane::new(0, 1);
    // Ports that nobody holds.
    for options in [
        RedisOptions::single("redis://127.0.0.1:1"),
        RedisOptions::sentinel(["redis://127.0.0.1:1", "redis://127.0.0.1:2"], "oncesink"),
        RedisOptions::cluster(["redis://127.0.0.1:1", "redis://127.0.0.1:2"]),
    ] {
        let dedup = redis::open("shop", &options).unwrap();
        let fault = dedup.claimed(&lane.reached(0)).await.unwrap_err();
        assert!(is_retry(&fault), "{fault:?}");
    }
}
