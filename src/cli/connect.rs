//! What stands in the way of a pipeline, and who can mend it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use oncesink_sinks::{
    checkpoint::CheckpointRow,
    dedup::{Dedup, DedupFacts},
    fault::{Fault, FaultClass},
    model::Partition,
    redis::{self, RedisOptions},
    session::{Bookkeeping, Database},
    sink::Sink,
    transaction::Transactional,
};
use tokio::task::spawn_blocking;

use super::{exit::Exit, output};
use crate::{
    settings::Pipeline,
    source::kafka::{KafkaConfig, KafkaError, Probe},
};

/// How long Kafka may take to answer one look-up.
pub const KAFKA_LIMIT: Duration = Duration::from_secs(10);

/// Why something cannot go on now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub mended_by: MendedBy,
    pub what: String,
    /// What to do, as text or SQL.
    pub mend: Option<String>,
}

/// Who ends an obstacle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MendedBy {
    /// It is mended in the world: a topic, a table, a grant, a password.
    World,
    /// A server cannot be reached: time, or whoever runs it.
    Time,
    /// The file must be edited.
    File,
}

impl MendedBy {
    pub const fn exit(self) -> Exit {
        match self {
            Self::World => Exit::Failed,
            Self::Time => Exit::Unreachable,
            Self::File => Exit::Settings,
        }
    }
}

impl Obstacle {
    pub fn world(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { mended_by: MendedBy::World, what: what.into(), mend: Some(mend.into()) }
    }
}

impl From<&Fault> for Obstacle {
    fn from(fault: &Fault) -> Self {
        // A fault that points at a place in the file is mended there.
        let in_file = fault.mend.as_deref().is_some_and(|mend| mend.starts_with("--> "));
        let mended_by = match fault.class {
            _ if in_file => MendedBy::File,
            FaultClass::Retry | FaultClass::Pause => MendedBy::Time,
            FaultClass::Poison | FaultClass::Changed | FaultClass::Halt => MendedBy::World,
        };
        let what = if in_file { fault.detail.clone() } else { format!("database: {}: {}", fault.reason, fault.detail) };
        Self { mended_by, what, mend: fault.mend.clone() }
    }
}

impl From<Fault> for Obstacle {
    fn from(fault: Fault) -> Self {
        Self::from(&fault)
    }
}

impl From<KafkaError> for Obstacle {
    fn from(error: KafkaError) -> Self {
        let mended_by = match &error {
            KafkaError::Unreachable { .. } | KafkaError::Request { .. } => MendedBy::Time,
            KafkaError::MissingTopic { .. } | KafkaError::Authentication { .. } | KafkaError::Authorization { .. } => MendedBy::World,
            KafkaError::Property { .. } => MendedBy::File,
        };
        Self { mended_by, what: error.to_string(), mend: None }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for line in self.mend.iter().flat_map(|mend| mend.lines()) {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

/// A look at the cluster. rdkafka's calls block, so they have a thread of their own.
pub async fn probe(config: &KafkaConfig) -> Result<Arc<Probe>, Obstacle> {
    let config = config.clone();
    let probe = blocking(move || Probe::connect(&config, KAFKA_LIMIT)).await?;
    Ok(Arc::new(probe))
}

/// Runs a call that blocks; a panic in it counts as no answer.
pub async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, KafkaError> + Send + 'static) -> Result<T, KafkaError> {
    match spawn_blocking(call).await {
        Ok(answer) => answer,
        Err(error) => Err(KafkaError::Request { what: "an answer", reason: error.to_string() }),
    }
}

/// The tables of a database as routes ask for them, before any bookkeeping is there.
pub fn catalogue(database: &Arc<dyn Database>) -> Arc<dyn Sink> {
    Arc::new(Transactional::new(database.clone(), Arc::from(""), 0))
}

/// The store of remembered events, once it answers and may be used.
pub async fn remembered_events(pipeline: &str, options: &RedisOptions) -> Result<(Arc<dyn Dedup>, DedupFacts), Obstacle> {
    let store = redis::open(pipeline, options).map_err(|error| Obstacle { mended_by: MendedBy::File, what: error.to_string(), mend: None })?;
    let facts = store.verify().await.map_err(|fault| Obstacle { what: format!("redis: {}: {}", fault.reason, fault.detail), ..Obstacle::from(&fault) })?;
    Ok((Arc::new(store), facts))
}

/// All partitions of these topics.
pub fn partitions(topics: &BTreeMap<Arc<str>, usize>) -> Vec<Partition> {
    let of_topic = |(topic, count): (&Arc<str>, &usize)| {
        let topic = topic.clone();
        (0..i32::try_from(*count).unwrap_or(i32::MAX)).map(move |index| Partition { topic: topic.clone(), index })
    };
    topics.iter().flat_map(of_topic).collect()
}

/// Topics that this pipeline has never read, but another one has, into this database: was the pipeline renamed?
/// Not an error: two pipelines may well write one topic into two tables.
pub async fn read_by_others(database: &dyn Database, pipeline: &Pipeline, topics: &[Arc<str>], rows: &[CheckpointRow]) -> Result<Vec<String>, Fault> {
    let mut warnings = Vec::new();
    for topic in topics.iter().filter(|topic| !rows.iter().any(|row| row.partition.topic == **topic)) {
        for (other, passed) in database.others_of(&pipeline.name, topic).await? {
            warnings.push(format!(
                "pipeline '{}' has no checkpoint of {topic}, but '{other}' has read it into this database, {} offsets; if it is the same pipeline under \
                 another name, `append` writes those records again: keep the name",
                pipeline.name,
                output::count(passed.unsigned_abs())
            ));
        }
    }
    Ok(warnings)
}

/// The id of a database whose bookkeeping tables are there; they are made if they may be.
pub async fn database_id(database: &dyn Database, migrate: bool, file: &str) -> Result<Arc<str>, Obstacle> {
    match database.bookkeeping().await? {
        Bookkeeping::Current => {}
        Bookkeeping::Newer { found, known } => {
            let what = format!("the bookkeeping tables are of version {found}, made by a newer oncesink; this one knows version {known}");
            return Err(Obstacle::world(what, "start the newer oncesink"));
        }
        Bookkeeping::Needed { .. } if !migrate => {
            let what = "the bookkeeping tables are not there or not current, and database.migrate is never";
            return Err(Obstacle::world(what, format!("make them: oncesink migrate {file}")));
        }
        Bookkeeping::Needed { allowed: false, .. } => {
            let what = "the bookkeeping tables are not there or not current, and this role may not make them";
            return Err(Obstacle::world(
                what,
                format!("have them made by a role that may: oncesink migrate {file} --dry-run prints the SQL, --grants ROLE what ROLE then needs"),
            ));
        }
        Bookkeeping::Needed { .. } => {
            database.migrate().await?;
        }
    }
    Ok(database.database_id().await?)
}

/// Who this process is, for people who read a checkpoint row: host and process.
pub fn owner() -> String {
    format!("{}:{}", host(), std::process::id())
}

/// Who acts at the command line, for the audit row.
pub fn person() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned());
    format!("{user}@{}", host())
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
