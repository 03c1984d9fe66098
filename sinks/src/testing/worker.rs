//! A worker as checks need it: it claims partitions and makes batches of records.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Broken, ColumnType, Process, TableLayout, Value,
    broken::{equal, holds},
};
use crate::{
    checkpoint::CheckpointRow,
    claim::{ClaimAnswer, ClaimRequest, Claimed, Committed, NotClaimed, StartReason, Wanted},
    fault::{Fault, FaultClass},
    model::{
        Batch, BatchId, Claim, ClaimId, Column, Content, DedupBackend, Delivery, Epoch, EventIdKind, LastRecord, NextOffset, Operation, Partition, Presence,
        RecordMark, Rows, Rule, Span, TableName, Target, Values, WriteMode,
    },
    sink::{Applied, ApplyError, Writer},
};

pub(super) const PIPELINE: &str = "shop";

/// How long a claim is tried again while others are at it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cells of a record in the order of the table's columns. `None`: the record lacks the column.
pub(super) type Cells = Vec<Option<Value>>;

pub(super) const ABSENT: Option<Value> = None;
pub(super) const NULL: Option<Value> = Some(Value::Null);

#[expect(clippy::unnecessary_wraps, reason = "a cell, of which some are absent")]
pub(super) fn int(value: i64) -> Option<Value> {
    Some(Value::Int(value))
}

pub(super) fn text(value: &str) -> Option<Value> {
    Some(Value::Text(value.to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "a cell, of which some are absent")]
pub(super) fn bool(value: bool) -> Option<Value> {
    Some(Value::Bool(value))
}

/// A record and what it does.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Of `orders`.
    pub partition: i32,
    pub operation: Operation,
    pub cells: Cells,
    pub event: Option<&'static str>,
}

impl Record {
    pub fn write(cells: Cells) -> Self {
        Self { partition: 0, operation: Operation::Write, cells, event: None }
    }

    pub fn delete(cells: Cells) -> Self {
        Self { operation: Operation::Delete, ..Self::write(cells) }
    }

    pub fn mark(cells: Cells) -> Self {
        Self { operation: Operation::Mark, ..Self::write(cells) }
    }

    pub fn of(self, partition: i32) -> Self {
        Self { partition, ..self }
    }

    pub fn with_event(self, event: &'static str) -> Self {
        Self { event: Some(event), ..self }
    }
}

pub(super) fn partition(index: i32) -> Partition {
    Partition::new("orders", index)
}

/// Partitions of `orders` that nobody has claimed, and of which Kafka knows no commit.
pub(super) fn request(partitions: &[i32]) -> ClaimRequest {
    ClaimRequest {
        pipeline: PIPELINE.into(),
        cluster: "cluster".into(),
        group: "group".into(),
        owner: "host/1".into(),
        adopts_commits: false,
        wanted: partitions.iter().map(|index| wanted(*index)).collect(),
        siblings: Vec::new(),
    }
}

pub(super) fn wanted(index: i32) -> Wanted {
    Wanted {
        partition: partition(index),
        delivery: Delivery::ExactlyOnce,
        held: None,
        committed: Committed::Nothing,
        start: Some(NextOffset::ZERO),
        beginning: Some(NextOffset::ZERO),
    }
}

/// A partition that this worker holds, and where it stands there.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub partition: Partition,
    pub claimed: Claimed,
    pub next: NextOffset,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub process: Process,
    pub writer: Box<dyn Writer>,
    pub target: Arc<Target>,
    pub holdings: Vec<Holding>,
    pub request: ClaimRequest,
    layout: TableLayout,
}

impl Worker {
    pub async fn new(process: Process, layout: &TableLayout, write: WriteMode) -> Result<Self, Broken> {
        let table = process.sink.describe(&TableName::parse(layout.name)).await?;
        let mut columns = Vec::new();
        for column in &layout.columns {
            match table.columns.iter().position(|described| described.name.as_str() == column.name) {
                Some(position) => columns.push(position),
                None => return Err(Broken::new(format_args!("`describe` does not tell of column {}: {table:?}", column.name))),
            }
        }
        let mut key: Vec<usize> = Vec::new();
        let mut key_equality = table.keys.first().map(|key| key.equality).unwrap_or_default();
        if write != WriteMode::Append {
            let of_layout: Vec<usize> = columns[..layout.key].to_vec();
            let Some(found) = table.keys.iter().find(|key| key.columns == of_layout) else {
                return Err(Broken::new(format_args!("`describe` does not tell of the primary key: {table:?}")));
            };
            key_equality = found.equality;
            key = (0..layout.key).collect();
        }
        let target = Target {
            route: "route".into(),
            table: Arc::new(table),
            columns,
            key,
            key_equality,
            version: None,
            write,
            dedup: Vec::new(),
            event_id: EventIdKind::default(),
            accumulate: if write == WriteMode::Accumulate { vec![Rule::Replace; layout.columns.len()] } else { Vec::new() },
        };
        let writer = process.sink.writer();
        Ok(Self { process, writer, target: Arc::new(target), holdings: Vec::new(), request: request(&[0]), layout: layout.clone() })
    }

    /// Of rows with one key the one with the higher value in this column wins.
    pub fn with_version(mut self, column: &str) -> Self {
        let version = self.layout.columns.iter().position(|described| described.name == column);
        self.target = Arc::new(Target { version, ..Target::clone(&self.target) });
        self
    }

    /// The ids of events are kept.
    pub fn with_events(mut self, route: &str) -> Self {
        self.target = Arc::new(Target { route: route.into(), dedup: vec![DedupBackend::ProcessedEvent], ..Target::clone(&self.target) });
        self
    }

    pub fn with_rules(mut self, rules: &[(&str, Rule)]) -> Self {
        let rule = |column: &str| rules.iter().find(|(name, _)| *name == column).map_or(Rule::Replace, |(_, rule)| *rule);
        let accumulate = self.layout.columns.iter().map(|column| rule(column.name)).collect();
        self.target = Arc::new(Target { accumulate, ..Target::clone(&self.target) });
        self
    }

    /// Claims what its request wants; all must be given, as soon as nobody else is at it.
    pub async fn claim(&mut self) -> Result<(), Broken> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.claim_once().await? {
                None => return Ok(()),
                Some(fault) => holds("a claim gets through", fault, Instant::now() < deadline)?,
            }
            tokio::task::yield_now().await;
        }
    }

    /// What passes by itself, and is to be waited for.
    async fn claim_once(&mut self) -> Result<Option<Fault>, Broken> {
        let answers = match self.process.checkpoint.claim(&self.request).await {
            Ok(answers) => answers,
            Err(fault) if fault.class == FaultClass::Retry => return Ok(Some(fault)),
            Err(fault) => return Err(fault.into()),
        };
        equal("every partition that is wanted is answered", answers.len(), self.request.wanted.len())?;
        self.holdings.clear();
        for ClaimAnswer { partition, result } in answers {
            match result {
                Ok(claimed) => self.holdings.push(Holding { partition, next: claimed.next, claimed }),
                Err(NotClaimed::Failed(fault)) if fault.class == FaultClass::Retry => return Ok(Some(fault)),
                Err(refused) => return Err(Broken::new(format_args!("{partition} is not claimed: {refused:?}"))),
            }
        }
        Ok(None)
    }

    /// What it holds of this partition. A partition that it does not hold is one with a claim that nobody ever made.
    pub fn holding(&self, index: i32) -> Holding {
        let found = self.holdings.iter().find(|holding| holding.partition.index == index);
        found.cloned().unwrap_or_else(|| Holding {
            partition: partition(index),
            claimed: Claimed {
                claim: Claim { epoch: Epoch(1), id: ClaimId(1) },
                next: NextOffset::ZERO,
                durable: NextOffset::ZERO,
                last: None,
                because: StartReason::Policy,
                lost: 0,
                batch: BatchId::default(),
            },
            next: NextOffset::ZERO,
        })
    }

    /// One record after the other, each at the next offset of its partition.
    pub fn batch(&self, records: &[Record]) -> Batch {
        let mut indexes: Vec<i32> = records.iter().map(|record| record.partition).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mut spans: Vec<Span> = indexes.iter().map(|index| self.span(*index)).collect();
        let mut rows = Rows::new(self.target.clone());
        let mut marks = Vec::new();
        for record in records {
            let Some(position) = indexes.iter().position(|index| *index == record.partition) else { continue };
            let span = &mut spans[position];
            let mark = RecordMark { offset: span.to.get(), timestamp: 5, hash: 6, partition: u16::try_from(position).unwrap_or(u16::MAX) };
            span.to = NextOffset::after(mark.offset);
            span.last = Some(LastRecord { offset: mark.offset, timestamp: mark.timestamp, hash: mark.hash });
            for ((column, cell), described) in rows.columns.iter_mut().zip(&record.cells).zip(&self.layout.columns) {
                push(column, cell.as_ref(), described.column_type);
            }
            if let Some(event) = record.event {
                rows.event_ids.push(event.as_bytes());
            }
            rows.finish_row(u32::try_from(marks.len()).unwrap_or(u32::MAX), record.operation);
            marks.push(mark);
        }
        let partitions = spans.iter().map(|span| span.partition.clone()).collect();
        let delivery = self.request.wanted.first().map_or(Delivery::ExactlyOnce, |wanted| wanted.delivery);
        let content = Content { partitions, records: marks, rows: vec![rows], left_out: Vec::new() };
        Batch { id: BatchId(rand::random()), pipeline: self.request.pipeline.clone(), delivery, spans, content: Arc::new(content), known: Vec::new() }
    }

    /// From where it stands, and as yet without a record.
    fn span(&self, index: i32) -> Span {
        let Holding { partition, claimed, next } = self.holding(index);
        Span { partition, claim: claimed.claim, from: next, to: next, durable: next, last: None }
    }

    pub async fn apply(&mut self, batch: &Batch) -> Result<Applied, ApplyError> {
        let applied = self.writer.apply(batch).await?;
        for holding in &mut self.holdings {
            if let Some(span) = batch.spans.iter().find(|span| span.partition == holding.partition) {
                holding.next = span.to;
            }
        }
        Ok(applied)
    }

    /// Applies a batch of these records, which must take effect, as soon as nobody else is in its way.
    pub async fn write(&mut self, records: &[Record]) -> Result<Applied, Broken> {
        let batch = self.batch(records);
        let deadline = Instant::now() + PATIENCE;
        let applied = loop {
            match self.apply(&batch).await {
                Err(ApplyError::Failed(fault)) if fault.class == FaultClass::Retry && Instant::now() < deadline => tokio::task::yield_now().await,
                other => break other?,
            }
        };
        let counts = (applied.stale.len(), applied.deduplicated.len());
        holds("what was left out is told for each entry of the batch's rows", counts, counts == (1, 1))?;
        Ok(applied)
    }

    /// Applies each record in a batch of its own; how many were stale.
    pub async fn stale_of(&mut self, records: &[Record]) -> Result<u64, Broken> {
        let mut stale = 0;
        for record in records {
            stale += self.write(std::slice::from_ref(record)).await?.stale[0];
        }
        Ok(stale)
    }

    /// The checkpoint row of one partition, as everybody sees it.
    pub fn row(&self, index: i32) -> impl Future<Output = Result<CheckpointRow, Broken>> + Send + use<> {
        // Not borrowed: a writer is no thing to be shared.
        let (checkpoint, pipeline) = (self.process.checkpoint.clone(), self.request.pipeline.clone());
        async move {
            let rows = checkpoint.read(&pipeline).await?;
            let found = rows.iter().find(|row| row.partition == partition(index));
            found.cloned().ok_or_else(|| Broken::new(format_args!("{} has no checkpoint: {rows:?}", partition(index))))
        }
    }
}

fn push(column: &mut Column, cell: Option<&Value>, declared: ColumnType) {
    let presence = match (cell, &mut column.values) {
        (None, values) => {
            values.push_nothing();
            Presence::Absent
        }
        (Some(Value::Bool(value)), Values::Bool(values)) => {
            values.push(*value);
            Presence::Value
        }
        // As the sink describes the column: a database without booleans keeps numbers.
        (Some(Value::Bool(value)), Values::Int(values)) if declared == ColumnType::Bool => {
            values.push(i64::from(*value));
            Presence::Value
        }
        (Some(Value::Int(value)), Values::Int(values)) => {
            values.push(*value);
            Presence::Value
        }
        (Some(Value::Text(value)), Values::Text(values)) => {
            values.push(value.as_bytes());
            Presence::Value
        }
        // NULL, and what the sink describes as another type: then the check finds no value where it has written one.
        (Some(_), values) => {
            values.push_nothing();
            Presence::Null
        }
    };
    column.presence.push(presence);
}
