//! For how long topics keep their records: what is remembered of them should outlive that.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use rdkafka::{
    ClientContext,
    admin::{AdminClient, AdminOptions, ConfigResource, ConfigResourceResult, OwnedResourceSpecifier, ResourceSpecifier},
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
};
use tokio::runtime::Handle;

use super::{KafkaConfig, KafkaError, context::log, properties};

/// How long a topic keeps a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    For(Duration),
    /// Without a limit, or, where it is compacted, the latest record of each key.
    ForEver,
}

/// `keeps its records for 7days`.
impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(time) => write!(f, "keeps its records for {}", humantime::format_duration(*time)),
            Self::ForEver => f.write_str("keeps its records without a limit"),
        }
    }
}

struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        log(RDKafkaLogLevel::Debug, facility, message);
    }
}

/// Asks the cluster: what it tells, and why it does not tell of the others. Blocks for about `limit` at most, on a thread of the runtime where
/// blocking is allowed. It takes the right to describe the topics' settings, which many users lack.
pub fn kept(config: &KafkaConfig, topics: &[Arc<str>], limit: Duration) -> (BTreeMap<Arc<str>, Kept>, Option<KafkaError>) {
    let mut kept = BTreeMap::new();
    let mut untold = None;
    match ask(config, topics, limit) {
        Ok(answers) => {
            for answer in answers {
                match answer {
                    Ok(resource) => {
                        if let OwnedResourceSpecifier::Topic(topic) = &resource.specifier {
                            kept.insert(Arc::from(topic.as_str()), judge(&resource));
                        }
                    }
                    // It does not say of which.
                    Err(code) => untold = Some(refused(code.to_string())),
                }
            }
        }
        Err(error) => untold = Some(error),
    }
    (kept, untold)
}

fn refused(reason: String) -> KafkaError {
    KafkaError::Request { what: "how long topics keep their records", reason }
}

fn ask(config: &KafkaConfig, topics: &[Arc<str>], limit: Duration) -> Result<Vec<ConfigResourceResult>, KafkaError> {
    let client = AdminClient::from_config_and_context(&properties::probe(config), Quiet).map_err(|error| KafkaError::from_creation(&error))?;
    let asked: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit));
    Handle::current().block_on(client.describe_configs(&asked, &options)).map_err(|error| refused(error.to_string()))
}

fn judge(resource: &ConfigResource) -> Kept {
    let value = |name: &str| resource.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or_default();
    if !value("cleanup.policy").contains("delete") {
        return Kept::ForEver;
    }
    match value("retention.ms").parse::<i64>().map(u64::try_from) {
        Ok(Ok(milliseconds)) => Kept::For(Duration::from_millis(milliseconds)),
        Ok(Err(_)) | Err(_) => Kept::ForEver,
    }
}
