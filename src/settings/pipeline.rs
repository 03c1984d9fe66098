//! The settings as everything else takes them: validated, with no option left to interpret.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use oncesink_sinks::redis::RedisOptions;
use secrecy::SecretString;

pub use super::{
    values::DatabaseKind,
    words::{LogFormat, LogLevel, Migrate, NamedStatements, Tls},
};
use crate::{route::RouteConfig, source::kafka::KafkaConfig};

/// One pipeline.
#[derive(Clone)]
pub struct Pipeline {
    pub file: PathBuf,
    pub name: Arc<str>,
    pub kafka: KafkaConfig,
    /// Whether `kafka.group` was written: only then are offsets that others committed taken over.
    pub group_written: bool,
    pub database: DatabaseSettings,
    /// Where events are remembered, if a route remembers any.
    pub redis: Option<RedisOptions>,
    pub batch: BatchLimits,
    pub retry: RetryPolicy,
    /// Records a second, of this process.
    pub rate_limit: Option<u32>,
    pub process: ProcessSettings,
    pub routes: Vec<RouteConfig>,
    /// How long the ids of processed events are kept at least.
    pub processed_event_retention: Duration,
    /// How long deletes are remembered.
    pub tombstone_retention: Duration,
    /// What `check` and `plan` say aloud; none of it stops a start.
    pub warnings: Vec<String>,
    /// The merged file with the origin of each value; see [`super::show`].
    pub(super) shown: String,
}

/// How the database is reached.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    pub kind: DatabaseKind,
    /// As written; it may hold a password.
    pub url: SecretString,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// 1 for SQLite.
    pub writers: usize,
    /// None: as the address says by `sslmode`, else by where the server is.
    pub tls: Option<Tls>,
    pub ca: Option<PathBuf>,
    pub statement_timeout: Duration,
    pub named_statements: NamedStatements,
    /// None: what is usual in the database.
    pub bookkeeping: Option<String>,
    pub migrate: Migrate,
}

/// What one transaction holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    pub rows: usize,
    pub bytes: usize,
    pub linger: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    pub initial_delay: Duration,
    pub max_delay: Duration,
    /// None: never.
    pub give_up_after: Option<Duration>,
}

/// What belongs to the process: equal in all its pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessSettings {
    pub max_buffer: usize,
    pub shutdown_timeout: Duration,
    pub observe: Observe,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observe {
    pub listen: SocketAddr,
    /// A taken port is an error if it was written, a warning if it is the default.
    pub written: bool,
}

impl fmt::Debug for Pipeline {
    // By hand, because librdkafka's properties may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("file", &self.file)
            .field("name", &self.name)
            .field("brokers", &self.kafka.brokers)
            .field("group", &self.kafka.group)
            .field("start", &self.kafka.start)
            .field("properties", &self.kafka.properties.keys().collect::<Vec<_>>())
            .field("database", &self.database)
            .field("redis", &self.redis)
            .field("batch", &self.batch)
            .field("retry", &self.retry)
            .field("rate_limit", &self.rate_limit)
            .field("process", &self.process)
            .field("routes", &self.routes)
            .field("processed_event_retention", &self.processed_event_retention)
            .field("tombstone_retention", &self.tombstone_retention)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}
