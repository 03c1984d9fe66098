//! Settings, servers and rights that a person must mend; memory that somebody must make.

use oncesink_sinks::{
    dedup::Dedup,
    fault::{Fault, FaultClass},
    redis::{self, RedisDedup, RedisOptions},
};

use super::{
    server::{Kind, Server, ask},
    shop::Lane,
};
use crate::on_each_redis;

on_each_redis!(memory_runs_out, a_server_that_evicts, a_wrong_password, the_least_rights);

fn named(fault: &Fault) -> (FaultClass, &str) {
    (fault.class, fault.reason.as_ref())
}

async fn memory_runs_out(kind: Kind) {
    let server = Server::start(kind, &["maxmemory 5mb", "maxmemory-policy noeviction", "repl-backlog-size 16kb"]);
    let dedup = server.dedup();
    let mut done: Vec<Lane> = Vec::new();
    let (refused, generation) = loop {
        let lane = Lane::new(i32::try_from(done.len()).unwrap(), 1000);
        assert!(done.len() < 400, "memory never runs out");
        if let Err(fault) = dedup.claimed(&lane.reached(0)).await {
            // It was already too much for the claim: nothing is screened, nothing is written.
            assert_eq!(named(&fault), (FaultClass::Pause, "redis-out-of-memory"));
            server.ask::<String>("CONFIG SET maxmemory 6mb").await;
            continue;
        }
        let (known, generation) = lane.screen(&dedup).await.unwrap();
        assert_eq!(known, 0);
        match dedup.remember(&generation, &lane.end(), &lane.events()).await {
            Ok(remembered) => {
                assert!(remembered.passed_over.is_empty());
                done.push(lane);
            }
            Err(fault) => {
                assert_eq!(named(&fault), (FaultClass::Pause, "redis-out-of-memory"), "{fault:?}");
                assert!(fault.mend.unwrap().contains("maxmemory"));
                break (lane, generation);
            }
        }
    };
    assert!(!done.is_empty());
    // What was said to be remembered is; of the others nothing was said. Reading goes on meanwhile.
    for lane in &done {
        assert_eq!(lane.known(&dedup).await, 1000);
    }
    server.ask::<String>("CONFIG SET maxmemory 0").await;
    dedup.remember(&generation, &refused.end(), &refused.events()).await.unwrap();
    assert_eq!(refused.known(&dedup).await, 1000);
}

async fn a_server_that_evicts(kind: Kind) {
    let server = Server::start(kind, &[]);
    let facts = server.dedup().verify().await.unwrap();
    assert!(facts.version.starts_with("Redis 7"), "{facts:?}");
    assert!(facts.warnings.iter().any(|warning| warning.contains("maxmemory is not set")), "{facts:?}");
    // One of several is enough.
    let mut last = server.primaries().await.pop().unwrap();
    ask::<String>(&mut last, "CONFIG SET maxmemory-policy volatile-lru").await;
    let fault = server.dedup().verify().await.unwrap_err();
    assert_eq!(named(&fault), (FaultClass::Halt, "redis-evicts"));
    assert!(fault.mend.unwrap().contains("redis.eviction: allow"));
    let mut options = server.options();
    options.allow_eviction = true;
    let facts = redis::open("shop", &options).unwrap().verify().await.unwrap();
    assert!(facts.warnings.iter().any(|warning| warning.contains("volatile-lru")), "{facts:?}");
}

fn as_user(server: &Server, name: &str, password: &str) -> RedisDedup {
    let mut options = server.options();
    options.username = Some(name.to_owned());
    options.password = Some(password.to_owned().into());
    redis::open("shop", &options).unwrap()
}

async fn a_wrong_password(kind: Kind) {
    let server = Server::start(kind, &[]);
    server.ask::<String>("ACL SETUSER app on >right ~* +@all").await;
    let dedup = as_user(&server, "app", "hunter2");
    let fault = dedup.verify().await.unwrap_err();
    assert_eq!(named(&fault), (FaultClass::Halt, "redis-password"), "{fault:?}");
    assert!(!format!("{fault:?} {fault} {dedup:?}").contains("hunter2"));
    as_user(&server, "app", "right").verify().await.unwrap();
    // The password is demanded of everybody, and we have none.
    server.ask::<String>("ACL SETUSER default resetpass >right").await;
    let fault = server.dedup().verify().await.unwrap_err();
    assert_eq!(named(&fault), (FaultClass::Halt, "redis-password"), "{fault:?}");
}

/// What the module's documentation names.
const LEAST: &str = "resetchannels ~oncesink:* -@all +get +mget +set +del +hget +hset +hmget +eval +evalsha +info";

async fn the_least_rights(kind: Kind) {
    let server = Server::start(kind, &[]);
    let cluster = if kind == Kind::Cluster { " +cluster|slots +ping" } else { "" };
    server.ask::<String>(&format!("ACL SETUSER app on >secret {LEAST}{cluster}")).await;
    let (dedup, lane) = (as_user(&server, "app", "secret"), Lane::new(0, 100));
    dedup.verify().await.unwrap();
    dedup.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&dedup).await;
    // A server that has forgotten the scripts.
    server.ask::<String>("SCRIPT FLUSH").await;
    assert_eq!(lane.known(&dedup).await, 100);
    lane.remember(&dedup).await;
    assert_eq!(dedup.claimed(&lane.again().reached(7)).await.unwrap().rewound.len(), 1);

    let reads = if kind == Kind::Cluster { "get" } else { "mget" };
    for right in ["set", "info", reads] {
        let user = format!("no_{right}");
        server.ask::<String>(&format!("ACL SETUSER {user} on >secret {LEAST}{cluster} -{right}")).await;
        let (dedup, lane) = (as_user(&server, &user, "secret"), Lane::new(2, 10));
        let fault = match dedup.claimed(&lane.reached(0)).await {
            // The sentinels' primary is asked for what it is.
            Err(fault) => fault,
            Ok(_) if right != "set" => dedup.verify().await.unwrap_err(),
            Ok(_) => lane.work(&dedup).await.unwrap_err(),
        };
        assert_eq!(named(&fault), (FaultClass::Halt, "redis-permission"), "{fault:?}");
        assert!(fault.detail.contains(right), "{fault:?}");
    }
    server.ask::<String>(&format!("ACL SETUSER elsewhere on >secret {LEAST}{cluster} resetkeys ~other:*")).await;
    let (dedup, lane) = (as_user(&server, "elsewhere", "secret"), Lane::new(0, 10));
    let fault = dedup.claimed(&lane.reached(0)).await.unwrap_err();
    assert_eq!(named(&fault), (FaultClass::Halt, "redis-permission"), "{fault:?}");
    assert!(!format!("{fault:?}").contains("shop"), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_server_that_proves_itself_is_trusted() {
    let server = Server::start(Kind::Single, &[]);
    let over_tls = |ca: Option<&str>| {
        let mut options = RedisOptions::single(server.get("tls"));
        options.ca = ca.map(|name| server.certificate(name));
        redis::open("shop", &options).unwrap()
    };
    let (dedup, lane) = (over_tls(Some("ca.pem")), Lane::new(0, 100));
    dedup.claimed(&lane.reached(0)).await.unwrap();
    lane.remember(&dedup).await;
    assert_eq!(lane.known(&dedup).await, 100);
    for ca in [None, Some("other-ca.pem")] {
        let fault = over_tls(ca).verify().await.unwrap_err();
        assert_eq!(named(&fault), (FaultClass::Halt, "tls"), "{fault:?}");
    }
}
