//! Topic → table, columns, key: what `plan` shows and what the engine decodes with.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use oncesink_sinks::{
    fault::Fault,
    model::{Delivery, Target},
};

use crate::decode::Decode;

mod accumulate;
mod bind;
mod config;
mod key;
mod mapping;
mod mark;
mod mend;
mod routes;
#[cfg(test)]
mod tests;
mod topics;

pub use config::{ColumnSource, RouteConfig};
pub use mapping::{MappedColumn, Mapping};
pub use mend::widening;
pub use routes::Routes;

/// Everything that is done with the records of one topic.
#[derive(Debug)]
pub struct TopicPlan {
    pub topic: Arc<str>,
    pub delivery: Delivery,
    /// In the order of the file; a record goes to all of them in one transaction.
    pub routes: Vec<RoutePlan>,
}

/// One route, bound to its table.
#[derive(Debug)]
pub struct RoutePlan {
    pub target: Arc<Target>,
    pub on_bad_record: OnBadRecord,
    pub decoder: Box<dyn Decode>,
}

/// What is done with a record that is itself at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBadRecord {
    /// Its partition stands still before it. Nothing is lost.
    Halt,
    /// It is left out, counted and logged.
    Skip,
}

/// Binds topics to tables, by the file and the catalogue.
#[async_trait]
pub trait Router: fmt::Debug + Send + Sync {
    /// Looks at the catalogue as it is now. A fault of class `Halt` or `Changed` halts the topic's partitions until it is mended.
    async fn bind(&self, topic: &str) -> Result<TopicPlan, Fault>;
}
