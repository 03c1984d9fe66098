//! What `plan` prints of a route: each column of the table and where its value comes from, checked against a record.

use std::sync::Arc;

use oncesink_sinks::model::{Generated, KeyEquality, Kind, Rows, Rule, TableName, Target, WriteMode};

use super::{RouteConfig, bind::Bound, key::to_make_unique};
use crate::{
    decode::{Bad, CellSource, Decode, ExtraFields, FieldMatch, Format, MissingFields, Tombstone, field_names, fields_of, printable},
    source::RecordRef,
};

/// One route and one topic, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub route: Arc<str>,
    pub topic: Arc<str>,
    pub table: TableName,
    pub format: Format,
    pub write: WriteMode,
    /// The key's columns; empty under `append`.
    pub key: Vec<String>,
    /// Whether the key is the table's primary key.
    pub primary: bool,
    pub version: Option<String>,
    pub tombstone: Tombstone,
    /// All columns of the table, in its order.
    pub columns: Vec<MappedColumn>,
    /// Fields of the record that no column takes.
    pub fields_without_column: Vec<String>,
    /// What happens to a record with such fields.
    pub extra_fields: ExtraFields,
    /// Why the record that was looked at is bad here.
    pub bad: Option<Bad>,
    /// What the catalogue warns of, and what the route asks of the table that the table does not give.
    pub warnings: Vec<String>,
}

/// One line of the table that `plan` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedColumn {
    pub column: String,
    /// `numeric(12,2)`
    pub declared: String,
    /// `value.customerId`, `offset`, or `-` where nothing gives it a value.
    pub from: String,
    /// `key`, `matched ignoring case and _`, …; empty if there is nothing to say.
    pub note: String,
}

/// Describes a bound route. `record`: the latest of the topic, if it has one.
pub(super) fn mapping(config: &RouteConfig, topic: &str, bound: &Bound, record: Option<&RecordRef<'_>>) -> Mapping {
    let target = &bound.target;
    let table = &target.table;
    let finder = fields_of(target, bound.sources.iter());
    let names =
        record.and_then(|record| record.value).filter(|_| config.format == Format::Json).and_then(|value| field_names(std::str::from_utf8(value).ok()?).ok());
    let found: Vec<(&String, FieldMatch, bool)> = names.iter().flatten().map(|name| (name, finder.find(name).0, finder.find(name).1)).collect();
    let columns = table.columns.iter().enumerate().map(|(index, column)| {
        let position = target.columns.iter().position(|written| *written == index);
        let source = position.and_then(|position| bound.sources.get(position));
        let mut notes: Vec<String> = Vec::new();
        if position.is_some_and(|position| target.key.contains(&position)) {
            notes.push("key".to_owned());
        }
        if position.is_some() && position == target.version {
            notes.push("version".to_owned());
        }
        notes.extend(config.accumulate.get(column.name.as_str()).filter(|_| target.write == WriteMode::Accumulate).map(|rule| rule.as_str().to_owned()));
        let from = match source {
            None if column.generated == Generated::Always => {
                notes.push("made by the database".to_owned());
                "-".to_owned()
            }
            None => {
                notes.push("never written".to_owned());
                "-".to_owned()
            }
            Some(CellSource::Field) => {
                let exact = found.iter().find(|(_, found, _)| Some(*found) == position.map(FieldMatch::Exact));
                let loose = found.iter().find(|(_, found, _)| Some(*found) == position.map(FieldMatch::Loose));
                match (exact, loose, &names) {
                    (Some((name, ..)), _, _) => format!("value.{}", printable(name)),
                    (None, Some((name, ..)), _) => {
                        notes.push("matched ignoring case and _".to_owned());
                        format!("value.{}", printable(name))
                    }
                    (None, None, Some(_)) => {
                        let null = config.missing_fields == MissingFields::Null && column.nullable;
                        notes.push(format!("not in the latest record: {}", if null { "null" } else { "left as it is" }));
                        "-".to_owned()
                    }
                    (None, None, None) => "-".to_owned(),
                }
            }
            Some(source) => describe(source),
        };
        if matches!(column.kind, Kind::Decimal { exact: false, .. }) {
            notes.push("inexact: beyond 15 digits or 64 bits a record is bad; TEXT keeps every digit".to_owned());
        }
        MappedColumn { column: column.name.to_string(), declared: column.declared.clone(), from, note: notes.join(", ") }
    });
    let key_indexes: Vec<usize> = target.key.iter().filter_map(|position| target.columns.get(*position)).copied().collect();
    let name_of = |index: usize| table.columns.get(index).map(|column| column.name.to_string());
    Mapping {
        route: config.name.clone(),
        topic: Arc::from(topic),
        table: table.name.clone(),
        format: config.format,
        write: config.write,
        key: key_indexes.iter().filter_map(|index| name_of(*index)).collect(),
        primary: !key_indexes.is_empty() && table.keys.iter().any(|key| key.primary && key.columns == key_indexes),
        version: target.version.and_then(|position| target.columns.get(position)).and_then(|index| name_of(*index)),
        tombstone: config.tombstone.clone(),
        columns: columns.collect(),
        fields_without_column: found.iter().filter(|(_, found, path)| *found == FieldMatch::NoColumn && !path).map(|(name, ..)| printable(name)).collect(),
        extra_fields: config.extra_fields,
        bad: record.and_then(|record| bound.decoder(config).ok()?.decode(record, 0, &mut Rows::new(target.clone())).err()),
        warnings: table.warnings.iter().cloned().chain(warnings(target)).chain(several_spellings(config, target)).collect(),
    }
}

/// What the route asks of its table that the table does not give.
fn warnings(target: &Target) -> Vec<String> {
    let mut warnings = Vec::new();
    if target.write == WriteMode::InsertIfNew && !target.key_is_unique() {
        let columns: Vec<usize> = target.key.iter().filter_map(|position| target.columns.get(*position)).copied().collect();
        let names: Vec<&str> = target.key.iter().map(|position| target.column(*position).name.as_str()).collect();
        warnings.push(format!(
            "no unique key covers ({}): each record looks for its key by itself, and two workers that bring a new key at the same moment both insert it; {} stops that",
            names.join(", "),
            to_make_unique(&target.table, &columns).trim_end_matches(';')
        ));
    }
    let added = (0..target.columns.len()).filter(|position| target.rule(*position) == Rule::Add).map(|position| target.column(position));
    warnings.extend(added.filter(|column| matches!(column.kind, Kind::Decimal { exact: false, .. })).map(|column| {
        format!(
            "column {} ({}) adds up in binary floating point, so a sum of fractions is not exact; an INTEGER of the smallest unit is",
            column.name, column.declared
        )
    }));
    warnings
}

/// Tombstones know keys as texts.
fn several_spellings(config: &RouteConfig, target: &Target) -> Option<String> {
    (config.remembers_deletes() && target.key_equality == KeyEquality::Database).then(|| {
        let names: Vec<&str> = target.key.iter().map(|position| target.column(*position).name.as_str()).collect();
        format!(
            "only the database knows which values of ({}) are one key: a delete is remembered for the spelling that it came with, and a late write with another one brings the row back",
            names.join(", ")
        )
    })
}

fn describe(source: &CellSource) -> String {
    let below = |root: &str, path: &[String]| [&[root.to_owned()], path].concat().join(".");
    match source {
        CellSource::Field => "-".to_owned(),
        CellSource::Path(path) => below("value", path),
        CellSource::Whole => "value".to_owned(),
        CellSource::Key(path) => below("key", path),
        CellSource::KeyByName => "key".to_owned(),
        CellSource::Header(name) => format!("headers.{name}"),
        CellSource::Topic => "topic".to_owned(),
        CellSource::Partition => "partition".to_owned(),
        CellSource::Offset => "offset".to_owned(),
        CellSource::Timestamp => "timestamp".to_owned(),
        CellSource::Literal(text) => format!("'{text}'"),
        CellSource::Mark => "tombstone".to_owned(),
    }
}
