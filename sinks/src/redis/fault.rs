//! What the errors of Redis mean. No text of an error is repeated that could hold a key or a value.

use std::{error::Error, io, sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, ServerError};

use crate::fault::{Fault, FaultClass};

/// The reasons by which something is decided.
pub mod reason {
    /// The server forgets keys by itself when it is short of memory.
    pub const EVICTS: &str = "redis-evicts";
    pub const OUT_OF_MEMORY: &str = "redis-out-of-memory";
    pub const PASSWORD: &str = "redis-password";
    pub const PERMISSION: &str = "redis-permission";
    pub const UNREACHABLE: &str = "redis-unreachable";
}

/// Class and reason of an error that a server has sent, by its first word, and by its text where that says nothing.
fn classify(code: &str, text: &str) -> (FaultClass, &'static str) {
    use FaultClass::{Halt, Pause, Retry};
    match code {
        "LOADING" => (Retry, "redis-loading"),
        "BUSY" => (Retry, "redis-busy"),
        // A primary that has become a replica, or cannot be seen by one.
        "READONLY" | "MASTERDOWN" => (Retry, "redis-read-only"),
        "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" => (Retry, "redis-cluster"),
        // Forgotten between two commands.
        "NOSCRIPT" => (Retry, "redis-script"),
        // Fewer replicas take part than the server is told to write with.
        "NOREPLICAS" => (Retry, "redis-replicas"),
        "OOM" => (Pause, reason::OUT_OF_MEMORY),
        // It takes no writes, because it could not save to disk.
        "MISCONF" => (Pause, "redis-disk"),
        "NOAUTH" | "WRONGPASS" => (Halt, reason::PASSWORD),
        "NOPERM" => (Halt, reason::PERMISSION),
        "WRONGTYPE" => (Halt, "redis-foreign-key"),
        "ERR" if text.contains("max number of clients") => (Pause, "redis-connections"),
        "ERR" if text.contains("cluster support disabled") => (Halt, "redis-no-cluster"),
        "ERR" if text.contains("DB index") || text.contains("switch database") => (Halt, "redis-database"),
        // Redis 6 and older wrap what stopped a script.
        "ERR" if text.contains("-OOM ") => (Pause, reason::OUT_OF_MEMORY),
        "ERR" if text.contains("-READONLY ") => (Retry, "redis-read-only"),
        "ERR" if text.contains("can't access the user") || text.contains("-NOPERM ") => (Halt, reason::PERMISSION),
        _ => (Halt, "unknown"),
    }
}

/// An error that a server has sent as its answer.
pub(super) fn of_server(error: &ServerError) -> Fault {
    answered(error.code(), error.details().unwrap_or_default())
}

fn answered(code: &str, text: &str) -> Fault {
    let (class, reason) = classify(code, text);
    let mut detail = format!("Redis answered {}", if is_code(code) { code } else { "an error" });
    if let Some(command) = forbidden_command(text).filter(|_| reason == reason::PERMISSION) {
        detail.push_str(&format!(": the user may not run `{command}`"));
    }
    let fault = Fault::new(class, reason, detail);
    match mend(reason) {
        Some(mend) => fault.with_mend(mend),
        None => fault,
    }
}

/// An error of the driver, or of the connection.
pub(super) fn fault(error: &RedisError) -> Fault {
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => answered(error.code().unwrap_or("ERR"), error.detail().unwrap_or_default()),
        ErrorKind::AuthenticationFailed => answered("WRONGPASS", ""),
        ErrorKind::Io => match of_system(error) {
            Some(error) if error.kind() == io::ErrorKind::InvalidData => untrusted(&error.to_string()),
            Some(error) => unreachable(&format!("Redis cannot be reached: {error}")),
            None => unreachable("Redis cannot be reached"),
        },
        ErrorKind::Parse => unreachable("Redis' answer was not understood; the connection is closed"),
        ErrorKind::ClusterConnectionNotFound => unreachable("no node of the cluster can be reached"),
        ErrorKind::InvalidClientConfig => Fault::new(FaultClass::Halt, "settings", "the connection's settings are not accepted"),
        _ => unknown(),
    }
}

/// The driver hands out what holds the error, not the error itself.
fn of_system(error: &RedisError) -> Option<&io::Error> {
    let source = error.source()?;
    source.downcast_ref::<io::Error>().or_else(|| source.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref::<io::Error>())
}

pub(super) fn unreachable(detail: &str) -> Fault {
    Fault::new(FaultClass::Retry, reason::UNREACHABLE, detail)
}

pub(super) fn late(what: &str, limit: Duration) -> Fault {
    unreachable(&format!("Redis gave no {what} within {} ms", limit.as_millis()))
}

/// An answer of a kind that the command does not have: not Redis, or a newer one.
pub(super) fn unknown() -> Fault {
    Fault::new(FaultClass::Halt, "unknown", "an answer of Redis that oncesink does not know")
}

fn untrusted(problem: &str) -> Fault {
    Fault::new(FaultClass::Halt, "tls", format!("no trusted connection to Redis: {problem}")).with_mend("name the authority in redis.ca")
}

/// A word that is a code, not a part of something else.
fn is_code(word: &str) -> bool {
    !word.is_empty() && word.len() <= 20 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// The command that an ACL forbids. The text of a forbidden key may name the key.
fn forbidden_command(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("to run the '")?;
    let (command, _) = rest.split_once("' command")?;
    (command.len() <= 40 && command.bytes().all(|byte| byte.is_ascii_lowercase() || b"|-".contains(&byte))).then_some(command)
}

fn mend(reason: &str) -> Option<&'static str> {
    Some(match reason {
        reason::OUT_OF_MEMORY => "raise maxmemory, shorten redis.ttl, or give oncesink a Redis of its own",
        reason::PASSWORD => "correct redis.username and redis.password",
        reason::PERMISSION => "ACL SETUSER with ~PREFIX:* +get +mget +set +del +hget +hset +hmget +eval +evalsha +info, in a Cluster also +cluster|slots +ping",
        "redis-disk" => "free some space on Redis' disk",
        "redis-connections" => "raise maxclients, or run fewer workers",
        "redis-database" => "correct the number behind the address in redis.url",
        "redis-no-cluster" => "it is one server: name it in redis.url instead of redis.cluster",
        "redis-foreign-key" => "another program uses keys below redis.prefix; name another prefix",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_class_and_the_unknown_halt() {
        use FaultClass::{Halt, Pause, Retry};
        for (code, text, class, reason) in [
            ("LOADING", "Redis is loading the dataset in memory", Retry, "redis-loading"),
            ("READONLY", "You can't write against a read only replica.", Retry, "redis-read-only"),
            ("MASTERDOWN", "Link with MASTER is down", Retry, "redis-read-only"),
            ("CLUSTERDOWN", "The cluster is down", Retry, "redis-cluster"),
            ("TRYAGAIN", "Multiple keys request during rehashing of slot", Retry, "redis-cluster"),
            ("OOM", "command not allowed when used memory > 'maxmemory'.", Pause, "redis-out-of-memory"),
            ("ERR", "Error running script (call to f_1): @user_script:3: -OOM command not allowed", Pause, "redis-out-of-memory"),
            ("ERR", "max number of clients reached", Pause, "redis-connections"),
            ("MISCONF", "Redis is configured to save RDB snapshots", Pause, "redis-disk"),
            ("NOAUTH", "Authentication required.", Halt, "redis-password"),
            ("WRONGPASS", "invalid username-password pair or user is disabled.", Halt, "redis-password"),
            ("NOPERM", "this user has no permissions to run the 'set' command", Halt, "redis-permission"),
            ("ERR", "This instance has cluster support disabled", Halt, "redis-no-cluster"),
            ("ERR", "DB index is out of range", Halt, "redis-database"),
            ("ERR", "unknown command 'EVALSHA'", Halt, "unknown"),
            ("NEVERSEEN", "", Halt, "unknown"),
        ] {
            assert_eq!(classify(code, text), (class, reason), "{code} {text}");
        }
    }

    #[test]
    fn keys_and_values_are_never_repeated() {
        let fault = answered("NOPERM", "No permissions to access the 'oncesink:shop:1:orders:secret-id' key");
        assert!(!format!("{fault:?}").contains("secret-id"));
        let fault = answered("NOPERM", "User app has no permissions to run the 'script|load' command");
        assert!(fault.detail.contains("`script|load`"));
        let fault = answered("secret-id", "secret-id");
        assert!(!format!("{fault:?}").contains("secret-id"));
    }

    #[test]
    fn the_connection_is_tried_again_unless_nobody_can_be_trusted() {
        let of = |kind, text: &str| fault(&RedisError::from(io::Error::new(kind, text)));
        assert_eq!(of(io::ErrorKind::ConnectionRefused, "refused").class, FaultClass::Retry);
        assert!(of(io::ErrorKind::ConnectionRefused, "refused by it").detail.ends_with("refused by it"));
        assert_eq!(of(io::ErrorKind::InvalidData, "invalid peer certificate").class, FaultClass::Halt);
        assert_eq!(fault(&RedisError::from((ErrorKind::AuthenticationFailed, "x"))).reason, reason::PASSWORD);
    }
}
