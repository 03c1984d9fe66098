//! A route as the file says it, validated.

use std::{collections::BTreeMap, sync::Arc};

use oncesink_sinks::model::{DedupBackend, Delivery, Rule, WriteMode};

use super::OnBadRecord;
use crate::{
    decode::{EventIdSource, ExtraFields, Format, KeyFormat, MissingFields, TimestampUnit, Tombstone},
    source::TopicSelector,
};

/// One route of a pipeline.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// `route.name`, or its first topic.
    pub name: Arc<str>,
    pub topics: TopicSelector,
    /// As written: `ledger.{kind}`, with `{topic}` and the captures of the expression that matched.
    pub table: String,
    pub format: Format,
    pub key_format: KeyFormat,
    /// Column → where its value comes from; added to what matches by name.
    pub columns: BTreeMap<String, ColumnSource>,
    pub extra_fields: ExtraFields,
    pub missing_fields: MissingFields,
    /// None: the primary key, else the only unique key.
    pub key_columns: Option<Vec<String>>,
    pub write: WriteMode,
    /// Column → what becomes of its old value; empty but under `accumulate`. A column that is not named is replaced.
    pub accumulate: BTreeMap<String, Rule>,
    /// A column of the target: the newer value wins.
    pub version: Option<String>,
    pub delivery: Delivery,
    /// What stops a repeat, in order.
    pub dedup: Vec<DedupBackend>,
    /// What makes a record the same event as an earlier one; asked for only where events are kept.
    pub event_id: EventIdSource,
    pub tombstone: Tombstone,
    pub on_bad_record: OnBadRecord,
    /// The zone of timestamps that have none, for columns with a zone. None: such a value is a bad record.
    pub timezone: Option<String>,
    /// What a number in a timestamp column counts, since the Unix epoch. None: such a value is a bad record.
    pub timestamp_unit: Option<TimestampUnit>,
    /// Where the route stands, for messages: `orders.yaml:4:12  routes[0]`.
    pub place: String,
}

impl RouteConfig {
    /// The ids of its events are kept, so that a repeat is known.
    #[must_use]
    pub fn keeps_events(&self) -> bool {
        self.dedup.iter().any(|backend| backend.keeps_events())
    }

    /// In the database, in the transaction of the rows.
    #[must_use]
    pub fn marks_events(&self) -> bool {
        self.dedup.contains(&DedupBackend::ProcessedEvent)
    }

    /// In Redis, around the transaction.
    #[must_use]
    pub fn remembers_events(&self) -> bool {
        self.dedup.contains(&DedupBackend::Redis)
    }

    /// Its writes are compared with tombstones, those too that were left when its deletes still took effect.
    #[must_use]
    pub fn looks_at_tombstones(&self) -> bool {
        self.version.is_some() && matches!(self.write, WriteMode::Upsert | WriteMode::Update)
    }

    /// Its deletes leave tombstones.
    #[must_use]
    pub fn remembers_deletes(&self) -> bool {
        matches!(self.tombstone, Tombstone::Delete | Tombstone::Mark(_)) && self.looks_at_tombstones()
    }
}

/// Where the value of a column comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnSource {
    /// `value`, `value.order.total`: the path below the value; empty: the whole value.
    Value(Vec<String>),
    /// `key`, `key.id`.
    Key(Vec<String>),
    /// `headers.traceparent`
    Header(String),
    Topic,
    Partition,
    Offset,
    /// The record's timestamp.
    Timestamp,
    /// `'eu1'`: a text.
    Literal(String),
    /// `none`: the column is never written, even if a field matches.
    None,
}
