//! A table, its target and a batch, for tests of what is made of them.

use std::sync::Arc;

use super::{
    Batch, BatchId, Claim, Content, Delivery, EventIdKind, Generated, Identifier, KeyEquality, Kind, NextOffset, Partition, Span, Table, TableColumn,
    TableName, Target, UniqueKey, WriteMode,
};

pub(crate) fn column(name: &str, kind: Kind, declared: &str, nullable: bool) -> TableColumn {
    TableColumn { name: Identifier::new(name), kind, declared: declared.to_owned(), nullable, has_default: false, generated: Generated::No }
}

/// All columns are written, and the first is the primary key.
pub(crate) fn target(table: &str, columns: Vec<TableColumn>, write: WriteMode) -> Target {
    let positions = (0..columns.len()).collect();
    let table = Table {
        name: TableName::parse(table),
        columns,
        keys: vec![UniqueKey { name: "PRIMARY".to_owned(), primary: true, columns: vec![0], equality: KeyEquality::Bytes }],
        other_unique: Vec::new(),
        warnings: Vec::new(),
    };
    Target {
        route: "orders".into(),
        table: Arc::new(table),
        columns: positions,
        key: if write == WriteMode::Append { Vec::new() } else { vec![0] },
        key_equality: KeyEquality::Bytes,
        version: None,
        write,
        dedup: Vec::new(),
        event_id: EventIdKind::default(),
        accumulate: Vec::new(),
    }
}

/// Everything of the content's partitions below `to`.
pub(crate) fn batch(content: Content, to: i64) -> Batch {
    let span = |partition: &Partition| Span {
        partition: partition.clone(),
        claim: Claim::default(),
        from: NextOffset::ZERO,
        to: NextOffset::new(to),
        durable: NextOffset::ZERO,
        last: None,
    };
    Batch {
        id: BatchId(1),
        pipeline: Arc::from("p"),
        delivery: Delivery::ExactlyOnce,
        spans: content.partitions.iter().map(span).collect(),
        content: Arc::new(content),
        known: Vec::new(),
    }
}
