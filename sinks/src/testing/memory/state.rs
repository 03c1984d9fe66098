//! What the place holds.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Mistake;
use crate::{
    checkpoint::{CheckpointRow, Expired, Expiry},
    model::{BatchId, Coordinate, Delivery, Generated, Identifier, KeyEquality, Kind, NextOffset, Partition, Span, Table, TableColumn, TableName, UniqueKey},
    testing::{ColumnType, TableLayout, Value},
};

/// A batch that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    pub pipeline: Arc<str>,
    pub batch: BatchId,
    pub spans: Vec<Span>,
}

/// The key columns of a row.
pub(super) type Key = Vec<Value>;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub id: Arc<str>,
    pub layout: TableLayout,
    pub rows: Vec<Vec<Value>>,
    pub checkpoints: BTreeMap<(Arc<str>, Partition), CheckpointRow>,
    /// By pipeline and key.
    pub tombstones: BTreeMap<(Arc<str>, Key), Tombstone>,
    /// By pipeline, route and id.
    pub events: BTreeMap<(Arc<str>, Arc<str>, String), Event>,
    pub retentions: BTreeMap<Arc<str>, Duration>,
    pub committed: BTreeMap<(Arc<str>, Partition), NextOffset>,
    pub journal: Vec<JournalEntry>,
}

/// A delete that is remembered.
#[derive(Clone, Debug)]
pub(super) struct Tombstone {
    /// NULL: neither the delete nor what it deleted had one.
    pub version: Value,
    pub deleted_by: Coordinate,
    pub at: Instant,
}

/// An event that took effect.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub at: Instant,
    pub partition: Partition,
    /// Kafka may deliver it again until it has committed this.
    pub ends: NextOffset,
    pub delivery: Delivery,
}

impl State {
    pub fn of(layout: TableLayout) -> Self {
        Self {
            id: format!("{:032x}", rand::random::<u128>()).into(),
            layout,
            rows: Vec::new(),
            checkpoints: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            events: BTreeMap::new(),
            retentions: BTreeMap::new(),
            committed: BTreeMap::new(),
            journal: Vec::new(),
        }
    }

    pub fn describe(&self) -> Table {
        let described = |(position, column): (usize, &crate::testing::ColumnLayout)| {
            let (kind, declared) = match column.column_type {
                ColumnType::Bool => (Kind::Bool, "boolean"),
                ColumnType::Int => (Kind::Int { bits: 64 }, "bigint"),
                ColumnType::Text => (Kind::Text { max_chars: None }, "text"),
            };
            TableColumn {
                name: Identifier::new(column.name),
                kind,
                declared: declared.to_owned(),
                nullable: !column.required && position >= self.layout.key,
                has_default: false,
                generated: Generated::No,
            }
        };
        let primary = UniqueKey { name: "primary".to_owned(), primary: true, columns: (0..self.layout.key).collect(), equality: KeyEquality::Bytes };
        Table {
            name: TableName::parse(self.layout.name),
            columns: self.layout.columns.iter().enumerate().map(described).collect(),
            keys: if self.layout.key > 0 { vec![primary] } else { Vec::new() },
            other_unique: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Lets events expire that are older than the longest retention, unless Kafka may deliver one of them again.
    pub fn expire(&mut self, expiry: &Expiry, mistake: Option<Mistake>) -> Expired {
        self.retentions.insert(expiry.pipeline.clone(), expiry.retention);
        for (partition, next) in &expiry.committed {
            let known = self.committed.entry((expiry.pipeline.clone(), partition.clone())).or_default();
            *known = (*known).max(*next);
        }
        let longest = self.retentions.values().max().copied().unwrap_or_default();
        let retention = if mistake == Some(Mistake::TheLastRetentionCounts) { expiry.retention } else { longest };
        let now = Instant::now();
        let is_old = |event: &Event| now.duration_since(event.at) >= retention && mistake != Some(Mistake::EventsStayForEver);
        let waits = self.events.iter().find(|((pipeline, ..), event)| {
            let committed = self.committed.get(&(pipeline.clone(), event.partition.clone())).copied().unwrap_or_default();
            is_old(event) && event.delivery != Delivery::ExactlyOnce && committed < event.ends
        });
        if let Some(((pipeline, ..), event)) = waits.filter(|_| mistake != Some(Mistake::EventsExpireUncommitted)) {
            return Expired::Waits { partition: format!("pipeline {pipeline}, {}", event.partition) };
        }
        let before = self.events.len();
        self.events.retain(|_, event| !is_old(event));
        if self.events.len() < before { Expired::Emptied } else { Expired::Nothing }
    }
}
