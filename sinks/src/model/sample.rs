//! A table and its target, for tests of what is made of them.

use std::sync::Arc;

use super::{Generated, Identifier, KeyEquality, Kind, Table, TableColumn, TableName, Target, UniqueKey, WriteMode};

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
        accumulate: Vec::new(),
    }
}
