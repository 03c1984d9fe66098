//! The tables of a seed, and how records become their rows. Small and fast: decoding is proven elsewhere.

use std::{borrow::Cow, sync::Arc};

use async_trait::async_trait;
use oncesink::{
    decode::{Bad, Decode, Decoded},
    route::{OnBadRecord, RoutePlan, Router, TopicPlan},
    source::RecordRef,
};
use oncesink_sinks::{
    fault::{Fault, FaultClass},
    model::{
        Coordinate, DedupBackend, EventIdKind, Generated, Identifier, KeyEquality, Kind, Operation, Partition, Presence, Rows, Table, TableColumn, TableName,
        Target, UniqueKey, Values, WriteMode,
    },
    session::Step,
};

use super::{
    Shared,
    database::Row,
    events::Event,
    log::{Fact, FactKind, TopicKind},
    weather::Weather,
    worker::WorkerId,
};

/// Columns of a table without a key.
const APPENDED: [&str; 5] = ["partition", "log_offset", "id", "version", "payload"];
/// Columns of a table with a key.
const KEYED: [&str; 3] = ["id", "version", "payload"];

impl TopicKind {
    pub const fn append_table(self) -> Option<&'static str> {
        match self {
            Self::Orders => Some("orders_journal"),
            Self::Ledger => Some("ledger_journal"),
            Self::Events => Some("events_journal"),
            Self::Readings => Some("readings_journal"),
        }
    }

    pub const fn keyed_table(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Ledger => "balances",
            Self::Events => "latest",
            Self::Readings => "gauges",
        }
    }

    pub const fn has_version(self) -> bool {
        matches!(self, Self::Orders | Self::Events | Self::Readings)
    }

    const ALL: [Self; 4] = [Self::Orders, Self::Ledger, Self::Events, Self::Readings];
}

/// Where the record of a row of an append table stands in Kafka.
pub fn coordinate(table: &str, row: &Row) -> Option<Coordinate> {
    let kind = TopicKind::ALL.into_iter().find(|kind| kind.append_table() == Some(table))?;
    let index = i32::try_from((*row.first()?)?).ok()?;
    Some(Partition::new(kind.name(), index).at((*row.get(1)?)?))
}

/// The record's payload, which is the last column of every table.
pub fn payload(step: &Step<'_>, row: u32) -> Option<i64> {
    let column = step.rows.columns.last()?;
    match column.cell(row as usize) {
        oncesink_sinks::model::Cell::Int(payload) => Some(payload),
        _ => None,
    }
}

/// A table as the simulated catalogue describes it.
pub fn table(name: &str) -> Option<Table> {
    let kind = TopicKind::ALL.into_iter().find(|kind| kind.append_table() == Some(name) || kind.keyed_table() == name)?;
    let is_keyed = kind.keyed_table() == name;
    let names: &[&str] = if is_keyed { &KEYED } else { &APPENDED };
    let column = |name: &&str| TableColumn {
        name: Identifier::new(name),
        kind: Kind::Int { bits: 64 },
        declared: "bigint".to_owned(),
        nullable: true,
        has_default: false,
        generated: Generated::No,
    };
    let keys =
        if is_keyed { vec![UniqueKey { name: "primary".to_owned(), primary: true, columns: vec![0], equality: KeyEquality::Bytes }] } else { Vec::new() };
    Some(Table { name: TableName::parse(name), columns: names.iter().map(column).collect(), keys, other_unique: Vec::new(), warnings: Vec::new() })
}

fn target(name: &str, has_version: bool, events_kept_by: &[DedupBackend], event_id: EventIdKind) -> Option<Arc<Target>> {
    let table = Arc::new(table(name)?);
    let is_keyed = !table.keys.is_empty();
    Some(Arc::new(Target {
        route: Arc::from(name),
        columns: (0..table.columns.len()).collect(),
        key: if is_keyed { vec![0] } else { Vec::new() },
        key_equality: KeyEquality::Bytes,
        version: (is_keyed && has_version).then_some(1),
        write: if is_keyed { WriteMode::Upsert } else { WriteMode::Append },
        dedup: events_kept_by.to_vec(),
        event_id,
        accumulate: Vec::new(),
        table,
    }))
}

#[derive(Debug)]
pub struct SimulatedRouter {
    sim: Shared,
    worker: WorkerId,
}

impl SimulatedRouter {
    pub fn new(sim: Shared, worker: WorkerId) -> Self {
        Self { sim, worker }
    }
}

#[async_trait]
impl Router for SimulatedRouter {
    async fn bind(&self, topic: &str) -> Result<TopicPlan, Fault> {
        super::worker::gate(&self.sim, self.worker).await;
        self.sim.pause(self.worker, 0, 5).await;
        super::worker::gate(&self.sim, self.worker).await;
        {
            let mut world = self.sim.lock();
            if world.is(Weather::DatabaseDown) {
                return Err(Fault::new(FaultClass::Retry, "connection", "connection refused"));
            }
            if world.strikes(Weather::PermissionRevoked, 50).is_some() {
                return Err(Fault::new(FaultClass::Halt, "permission", "permission denied for the catalogue"));
            }
        }
        let kind = TopicKind::ALL.into_iter().find(|kind| kind.name() == topic);
        let missing = || Fault::new(FaultClass::Halt, "missing-table", "no table for this topic");
        let kind = kind.ok_or_else(missing)?;
        let mut routes = Vec::new();
        let (skips, events_kept_by, ids) = {
            let world = self.sim.lock();
            (world.plan.skips, world.plan.events_kept_by(kind), world.plan.ids)
        };
        let on_bad_record = if skips { OnBadRecord::Skip } else { OnBadRecord::Halt };
        for name in kind.append_table().into_iter().chain([kind.keyed_table()]) {
            let target = target(name, kind.has_version(), &events_kept_by, ids).ok_or_else(missing)?;
            let decoder = Box::new(Decoder { sim: self.sim.clone(), worker: self.worker, is_keyed: !target.key.is_empty() });
            routes.push(RoutePlan { target, on_bad_record, decoder });
        }
        Ok(TopicPlan { topic: Arc::from(topic), delivery: kind.delivery(), routes })
    }
}

#[derive(Debug)]
struct Decoder {
    sim: Shared,
    worker: WorkerId,
    is_keyed: bool,
}

impl Decode for Decoder {
    fn decode(&mut self, record: &RecordRef<'_>, number: u32, rows: &mut Rows) -> Result<Decoded, Bad> {
        let mut world = self.sim.lock();
        world.witness_decode(self.worker, record.partition());
        let Some(fact) = record.value.and_then(Fact::parse) else {
            return Err(Bad { rule: "not-a-record", column: None, detail: Cow::Borrowed("four fields") });
        };
        if world.server.undecodable.contains(&fact.payload) {
            world.story.count(Event::RecordNotDecoded);
            return Err(Bad { rule: "out-of-range", column: None, detail: Cow::Borrowed("a number of the column's range") });
        }
        drop(world);
        if fact.kind == FactKind::Filtered {
            return Ok(Decoded::Filtered);
        }
        if self.is_keyed && fact.kind == FactKind::Delete {
            push(rows, &[Some(fact.id), rows.target.version.map(|_| fact.version), None]);
            push_event(rows, record, &fact);
            rows.finish_row(number, Operation::Delete);
        } else if self.is_keyed {
            push(rows, &[Some(fact.id), Some(fact.version), Some(fact.payload)]);
            push_event(rows, record, &fact);
            rows.finish_row(number, Operation::Write);
        } else {
            let index = i64::from(record.partition().index);
            push(rows, &[Some(index), Some(record.offset), Some(fact.id), Some(fact.version), Some(fact.payload)]);
            push_event(rows, record, &fact);
            rows.finish_row(number, Operation::Write);
        }
        Ok(Decoded::Row)
    }
}

/// In a topic that was made again the same coordinate is another event: no two records have one payload.
fn push_event(rows: &mut Rows, record: &RecordRef<'_>, fact: &Fact) {
    if !rows.target.keeps_events() {
        return;
    }
    let id = match rows.target.event_id {
        EventIdKind::Coordinate => format!("{}@{}#{}", record.partition(), record.offset, fact.payload),
        EventIdKind::Producer => fact.payload.to_string(),
    };
    rows.event_ids.push(id.as_bytes());
}

fn push(rows: &mut Rows, cells: &[Option<i64>]) {
    for (column, cell) in rows.columns.iter_mut().zip(cells) {
        match (&mut column.values, cell) {
            (Values::Int(values), Some(value)) => {
                values.push(*value);
                column.presence.push(Presence::Value);
            }
            _ => column.push_nothing(Presence::Absent),
        }
    }
}
