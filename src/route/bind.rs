//! One route and the table that the catalogue describes: which columns are written, from what, and by which key.

use std::{collections::BTreeSet, sync::Arc};

use oncesink_sinks::{
    fault::{Fault, FaultClass},
    model::{Generated, KeyEquality, Kind, Table, Target, WriteMode},
};

use super::{ColumnSource, RouteConfig, accumulate::rules, key, mark};
use crate::decode::{Bad, CellSource, Format, RowDecoder, RowOptions, Rules, Zone};

/// A route bound to its table for one topic.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) target: Arc<Target>,
    /// One for each column of the target.
    pub(super) sources: Vec<CellSource>,
    options: RowOptions,
    topic: Arc<str>,
}

impl Bound {
    pub(super) fn decoder(&self, config: &RouteConfig) -> Result<RowDecoder, Fault> {
        RowDecoder::new(self.topic.clone(), self.target.clone(), self.sources.clone(), self.options.clone()).map_err(|bad| never_fits(config, &bad))
    }
}

/// A fault that a person mends in the file or in the table.
pub(super) fn halt(config: &RouteConfig, reason: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Fault {
    let mend: String = mend.into();
    let place = if config.place.is_empty() { format!("route {}", config.name) } else { config.place.clone() };
    Fault::new(FaultClass::Halt, reason, detail).with_mend(if mend.is_empty() { format!("--> {place}") } else { format!("--> {place}\n{mend}") })
}

fn never_fits(config: &RouteConfig, bad: &Bad) -> Fault {
    let fault = halt(config, bad.rule, format!("what `columns` gives it never fits: {bad}"), "give the column another source, or another type");
    match &bad.column {
        Some(column) => fault.with_column(column.as_ref()),
        None => fault,
    }
}

/// Binds `config` to `table`.
pub(super) fn bind(config: &RouteConfig, topic: &str, table: Table) -> Result<Bound, Fault> {
    check_names(config, &table)?;
    let key = key::resolve(config, &table).map_err(|no_key| halt(config, no_key.reason, no_key.detail, no_key.mend))?;
    let key_equality = key_equality(&table, &key);
    let version = match &config.version {
        // Rows that are never compared need no version.
        Some(_) if config.write == WriteMode::Append => None,
        Some(name) => Some(version(config, &table, name)?),
        None => None,
    };
    let mark = mark::column(config, &table, &key, version)?;
    let sources = sources(config, &table, &key, mark)?;
    let columns: Vec<usize> = sources.iter().enumerate().filter_map(|(index, source)| source.is_some().then_some(index)).collect();
    let place_of = |index: usize, what: &str| {
        columns.iter().position(|column| *column == index).ok_or_else(|| {
            let name = table.columns.get(index).map_or("", |column| column.name.as_str());
            let detail = format!("{name} is {what} of {}, but the route never writes it", table.name);
            halt(config, "column-not-written", detail, "it is `none` in `columns`, made by the database, or has no source").with_column(name)
        })
    };
    let key = key.into_iter().map(|index| place_of(index, "in the key")).collect::<Result<Vec<_>, _>>()?;
    let version = version.map(|index| place_of(index, "the version")).transpose()?;
    let accumulate = rules(config, &table, &columns, &key)?;
    let timezone = config.timezone.as_deref().map(Zone::parse).transpose().map_err(|error| halt(config, "timezone", error, ""))?;
    let options = RowOptions {
        format: config.format,
        key_format: config.key_format,
        extra_fields: config.extra_fields,
        missing_fields: config.missing_fields,
        tombstone: config.tombstone.clone(),
        rules: Rules { timezone, timestamp_unit: config.timestamp_unit },
        event_id: config.event_id.clone(),
    };
    let target = Target {
        route: config.name.clone(),
        table: Arc::new(table),
        columns,
        key,
        key_equality,
        version,
        write: config.write,
        dedup: config.dedup.clone(),
        event_id: config.event_id.kind(),
        accumulate,
    };
    Ok(Bound { target: Arc::new(target), sources: sources.into_iter().flatten().collect(), options, topic: Arc::from(topic) })
}

/// The loosest equality of the keys over these columns: a row that exists is found by any of them. Where there is none, nobody has said which
/// values the database holds equal.
fn key_equality(table: &Table, key: &[usize]) -> KeyEquality {
    if key.is_empty() {
        return KeyEquality::default();
    }
    let wanted: BTreeSet<usize> = key.iter().copied().collect();
    let same = table.keys.iter().filter(|key| key.columns.iter().copied().collect::<BTreeSet<_>>() == wanted);
    same.map(|key| key.equality).max().unwrap_or(KeyEquality::Database)
}

/// The version column, if batches can order its values as the database does. Text is ordered by its bytes on both sides.
fn version(config: &RouteConfig, table: &Table, name: &str) -> Result<usize, Fault> {
    let index = index_of(table, name).ok_or_else(|| missing(config, table, "version", name))?;
    match table.columns.get(index) {
        Some(column) if matches!(column.kind, Kind::Decimal { .. } | Kind::Json | Kind::Enum { .. } | Kind::Array { .. } | Kind::Other) => {
            let detail = format!("{name} is {}, whose order is not known outside the database, so it cannot be the version", column.declared);
            Err(halt(config, "version-type", detail, "take an integer, a timestamp, a date, a text or a uuid").with_column(name))
        }
        _ => Ok(index),
    }
}

pub(super) fn index_of(table: &Table, name: &str) -> Option<usize> {
    table.columns.iter().position(|column| column.name.as_str() == name)
}

pub(super) fn missing(config: &RouteConfig, table: &Table, setting: &str, name: &str) -> Fault {
    halt(config, "missing-column", format!("`{setting}` names {name}, which {} has not", table.name), key::columns_of(table)).with_column(name)
}

fn check_names(config: &RouteConfig, table: &Table) -> Result<(), Fault> {
    for (name, source) in &config.columns {
        let Some(column) = index_of(table, name).and_then(|index| table.columns.get(index)) else { return Err(missing(config, table, "columns", name)) };
        if column.generated == Generated::Always && *source != ColumnSource::None {
            let detail = format!("`columns` gives {name} a source, but {} makes it itself", table.name);
            return Err(halt(config, "generated-column", detail, format!("take {name} out of `columns`")).with_column(name));
        }
        if config.format != Format::Json && matches!(source, ColumnSource::Value(path) if !path.is_empty()) {
            let detail = format!("`columns` gives {name} a path below the value, but the value of this format has no fields");
            return Err(halt(config, "no-fields", detail, "write `value`, or `format: json`").with_column(name));
        }
    }
    Ok(())
}

/// Where each column of the table gets its value; `None` where it is not written.
fn sources(config: &RouteConfig, table: &Table, key: &[usize], mark: Option<usize>) -> Result<Vec<Option<CellSource>>, Fault> {
    let source_of = |(index, column): (usize, &oncesink_sinks::model::TableColumn)| match config.columns.get(column.name.as_str()) {
        _ if mark == Some(index) => Some(CellSource::Mark),
        Some(source) => of_file(source),
        None if column.generated == Generated::Always => None,
        None if config.format == Format::Json => Some(CellSource::Field),
        None => key.contains(&index).then_some(CellSource::KeyByName),
    };
    let mut sources: Vec<Option<CellSource>> = table.columns.iter().enumerate().map(source_of).collect();
    if config.format == Format::Json || sources.contains(&Some(CellSource::Whole)) {
        return Ok(sources);
    }
    let keys: BTreeSet<usize> = table.keys.iter().filter(|key| key.primary).flat_map(|key| key.columns.iter().copied()).chain(key.iter().copied()).collect();
    let takes_text = |kind: &Kind| if config.format == Format::Bytes { matches!(kind, Kind::Bytes { .. } | Kind::Text { .. }) } else { true };
    let candidates: Vec<usize> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(index, column)| !keys.contains(index) && column.generated == Generated::No && takes_text(&column.kind))
        .filter(|(index, column)| !config.columns.contains_key(column.name.as_str()) && mark != Some(*index))
        .map(|(index, _)| index)
        .collect();
    match candidates.as_slice() {
        [only] => {
            if let Some(source) = sources.get_mut(*only) {
                *source = Some(CellSource::Whole);
            }
            Ok(sources)
        }
        _ => {
            let detail = format!("{} has not exactly one column outside its key that could take the whole value", table.name);
            Err(halt(config, "no-value-column", detail, "say which one:   columns: { <column>: value }"))
        }
    }
}

fn of_file(source: &ColumnSource) -> Option<CellSource> {
    Some(match source {
        ColumnSource::Value(path) if path.is_empty() => CellSource::Whole,
        ColumnSource::Value(path) => CellSource::Path(path.clone()),
        ColumnSource::Key(path) => CellSource::Key(path.clone()),
        ColumnSource::Header(name) => CellSource::Header(name.clone()),
        ColumnSource::Topic => CellSource::Topic,
        ColumnSource::Partition => CellSource::Partition,
        ColumnSource::Offset => CellSource::Offset,
        ColumnSource::Timestamp => CellSource::Timestamp,
        ColumnSource::Literal(text) => CellSource::Literal(text.clone()),
        ColumnSource::None => return None,
    })
}
