//! `redis:`: where events are remembered.

use std::time::Duration;

use oncesink_sinks::redis::{self, RedisOptions, RedisOptionsError, Servers};
use secrecy::SecretString;

use super::{document, validate::Judging, values, words::Eviction};

/// `None`: it is not written, or has its problem already.
pub(super) fn redis_part(document: Option<document::Redis>, pipeline: &str, judging: &mut Judging<'_>) -> Option<RedisOptions> {
    let document = document?;
    let ways = [document.url.is_some(), document.sentinels.is_some(), document.cluster.is_some()];
    if ways.iter().filter(|written| **written).count() > 1 {
        judging.find("redis", "`url`, `sentinels` and `cluster` each say where Redis is", "write one of them");
        return None;
    }
    if document.master.is_some() && document.sentinels.is_none() {
        judging.find("redis.master", "`master` is the name under which sentinels watch a primary", "write `sentinels` beside it, or leave it out");
    }
    let mut options = if let Some(sentinels) = document.sentinels {
        let Some(primary) = document.master else {
            judging.missing("redis", "master");
            return None;
        };
        RedisOptions::sentinel(sentinels.0, primary)
    } else if let Some(cluster) = document.cluster {
        RedisOptions::cluster(cluster.0)
    } else if let Some(url) = document.url {
        RedisOptions::single(url)
    } else {
        // What is wrong with one of the three has been said.
        if !["redis.url", "redis.sentinels", "redis.cluster"].iter().any(|path| judging.reading.accounted.iter().any(|said| said.starts_with(path))) {
            judging.missing("redis", "url");
        }
        return None;
    };
    if let Some(database) = document.database {
        match &mut options.servers {
            Servers::Sentinel { database: chosen, .. } => *chosen = i64::from(database),
            Servers::Single(_) => judging.find("redis.database", "the address names the database: redis://host:6379/1", "write it there"),
            Servers::Cluster(_) => judging.find("redis.database", "a Redis Cluster has database 0 only", "leave it out"),
        }
    }
    options.username = document.username;
    options.password = document.password.map(SecretString::from);
    options.ca = document.ca.map(Into::into);
    if let Some(prefix) = document.prefix {
        options.prefix = prefix;
    }
    if let Some(ttl) = document.ttl.as_deref().and_then(|ttl| values::duration(ttl).ok()) {
        options.ttl = ttl;
        if ttl < Duration::from_secs(1) {
            judging.find("redis.ttl", "an event that is not remembered stops no repeat", "longer than a record can take to come again, such as 8d");
            return None;
        }
    }
    options.allow_eviction = document.eviction == Some(Eviction::Allow);
    match redis::open(pipeline, &options) {
        // A file is looked at where it is used: that may be another machine.
        Ok(_) | Err(RedisOptionsError::Ca(_)) => Some(options),
        Err(error) => {
            judging.find(path(&error), error.to_string(), "");
            None
        }
    }
}

fn path(error: &RedisOptionsError) -> &'static str {
    match error {
        RedisOptionsError::Url(_)
        | RedisOptionsError::Insecure(_)
        | RedisOptionsError::NoServers(_)
        | RedisOptionsError::MixedTls(_)
        | RedisOptionsError::ClusterDatabase => "redis",
        RedisOptionsError::NoPrimary => "redis.master",
        RedisOptionsError::CaWithoutTls | RedisOptionsError::Ca(_) => "redis.ca",
        RedisOptionsError::Prefix => "redis.prefix",
        RedisOptionsError::Ttl => "redis.ttl",
    }
}
