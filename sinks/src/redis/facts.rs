//! What the servers say of themselves, by `INFO` alone: `CONFIG` is often forbidden.

use std::collections::BTreeMap;

use super::{
    connection::Link,
    fault::{reason, unknown},
};
use crate::{
    dedup::DedupFacts,
    fault::{Fault, FaultClass},
};

/// Asks every primary.
pub(super) async fn read(link: &Link, allow_eviction: bool) -> Result<DedupFacts, Fault> {
    let answers: Vec<String> = link.every_primary(redis::cmd("INFO")).await?;
    let primaries: Vec<Info> = answers.iter().map(|answer| Info::parse(answer)).collect();
    let mut facts = judge(&primaries, allow_eviction)?;
    facts.address = link.target().address();
    if link.target().is_unprotected() {
        facts.warnings.push("the connection to Redis is not encrypted (rediss://)".to_owned());
    }
    Ok(facts)
}

#[derive(Debug)]
struct Info<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    fn parse(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    fn get(&self, field: &str) -> Option<&'a str> {
        self.0.get(field).copied()
    }
}

fn judge(primaries: &[Info<'_>], allow_eviction: bool) -> Result<DedupFacts, Fault> {
    let first = primaries.first().ok_or_else(unknown)?;
    let mut warnings = Vec::new();
    let mut warn = |warning: String| {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    };
    for primary in primaries {
        match primary.get("maxmemory_policy") {
            Some("noeviction") => {}
            Some(policy) if allow_eviction => warn(format!("maxmemory-policy {policy}: events are forgotten when memory is short, and may repeat")),
            policy => return Err(evicts(policy)),
        }
        if primary.get("maxmemory") == Some("0") {
            warn("maxmemory is not set: Redis grows until the machine has no memory left".to_owned());
        }
        if primary.get("aof_enabled") == Some("0") {
            warn(if primary.get("rdb_last_save_time").is_some() && primary.get("rdb_saves") != Some("0") {
                "the append-only file is off: what was remembered since the last snapshot is forgotten at a restart, and may repeat".to_owned()
            } else {
                "nothing shows that Redis writes to disk: all is forgotten at a restart, and may repeat".to_owned()
            });
        }
    }
    let version = match (first.get("valkey_version"), first.get("redis_version")) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, version) => format!("Redis {}", version.unwrap_or("of an unknown version")),
    };
    Ok(DedupFacts { address: String::new(), version, warnings })
}

fn evicts(policy: Option<&str>) -> Fault {
    let detail = match policy {
        Some(policy) => format!("maxmemory-policy is {policy}: Redis forgets events by itself, and they would repeat without a word"),
        None => "Redis does not tell its maxmemory-policy".to_owned(),
    };
    Fault::new(FaultClass::Halt, reason::EVICTS, detail).with_mend("set maxmemory-policy to noeviction, or write redis.eviction: allow")
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:5242880\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:1\r\n";

    #[test]
    fn a_server_that_forgets_by_itself_is_refused_unless_it_is_allowed() {
        let evicting = INFO.replace("noeviction", "allkeys-lru");
        let of = |text: &[&str], allow| judge(&text.iter().map(|text| Info::parse(text)).collect::<Vec<_>>(), allow);
        let facts = of(&[INFO, INFO], false).unwrap();
        assert_eq!((facts.version.as_str(), facts.warnings.len()), ("Redis 7.0.15", 0));
        let fault = of(&[INFO, &evicting], false).unwrap_err();
        assert_eq!((fault.class, fault.reason.as_ref()), (FaultClass::Halt, "redis-evicts"), "one of several primaries is enough");
        assert_eq!(of(&[INFO, &evicting], true).unwrap().warnings.len(), 1);
        assert!(of(&[&INFO.replace("maxmemory_policy", "x")], false).is_err(), "a server that does not say is not trusted");
    }

    #[test]
    fn what_forgets_at_a_restart_is_told() {
        let warnings = |text: &str| judge(&[Info::parse(text)], false).unwrap().warnings;
        assert!(warnings(&INFO.replace("aof_enabled:1", "aof_enabled:0"))[0].contains("nothing shows"));
        assert!(warnings(&INFO.replace("aof_enabled:1", "aof_enabled:0\r\nrdb_last_save_time:1\r\nrdb_saves:3"))[0].contains("last snapshot"));
        assert!(warnings(&INFO.replace("5242880", "0"))[0].contains("maxmemory is not set"));
    }
}
