//! From a record to one row: where each column's value comes from, and what a missing one means.

use std::{io::Write as _, sync::Arc};

use oncesink_sinks::model::{Kind, Operation, Presence, Rows, TableColumn, Target, WriteMode};

use super::{
    Bad, Broken, CellType, Decode, Decoded, EventIdSource, ExtraFields, Fields, Format, KeyFormat, MissingFields, Rules, Tombstone,
    coerce::{Coerced, coerce},
    event_id,
    input::Input,
    json::{self, Slot},
    key::RecordKey,
    rule,
};
use crate::source::RecordRef;

/// Where the value of one column of the target comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CellSource {
    /// The field of its name.
    Field,
    /// A path below the value; not empty.
    Path(Vec<String>),
    Whole,
    /// Empty: the whole key.
    Key(Vec<String>),
    /// The key as a tombstone gives it: by the column's name, or the whole.
    KeyByName,
    Header(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Literal(String),
    /// Set by a tombstone, and cleared by every record with a value.
    Mark,
}

/// What a route says of all its columns together.
#[derive(Clone, Debug)]
pub(crate) struct RowOptions {
    pub(crate) format: Format,
    pub(crate) key_format: KeyFormat,
    pub(crate) extra_fields: ExtraFields,
    pub(crate) missing_fields: MissingFields,
    pub(crate) tombstone: Tombstone,
    pub(crate) rules: Rules,
    /// Asked for only where the target keeps events.
    pub(crate) event_id: EventIdSource,
}

/// Decodes for one target.
#[derive(Debug)]
pub(crate) struct RowDecoder {
    target: Arc<Target>,
    cells: Vec<Cell>,
    fields: Fields,
    options: RowOptions,
    topic: Arc<str>,
    /// No record has found a column outside the key yet.
    unmatched: bool,
}

#[derive(Debug)]
struct Cell {
    cell_type: CellType,
    source: CellSource,
    /// The value, where it is the same for every record.
    constant: Option<Coerced<'static>>,
    key: bool,
}

impl RowDecoder {
    /// `sources`: one for each column of the target. A source that can never fit its column is refused here.
    pub(crate) fn new(topic: Arc<str>, target: Arc<Target>, sources: Vec<CellSource>, options: RowOptions) -> Result<Self, Bad> {
        let mut cells = Vec::with_capacity(sources.len());
        for (position, source) in sources.into_iter().enumerate() {
            let cell_type = CellType::of(target.column(position));
            let trial = match &source {
                CellSource::Literal(text) => Some(Input::Text(text.as_str().into())),
                CellSource::Topic => Some(Input::Text(topic.as_ref().into())),
                CellSource::Partition | CellSource::Offset => Some(Input::Number("0".into())),
                CellSource::Timestamp => Some(Input::Milliseconds(0)),
                _ => None,
            };
            let tried = trial.map(|input| coerce(input, &cell_type, &options.rules).map(Coerced::into_owned)).transpose();
            let tried = tried.map_err(|broken| broken.in_column(target.column(position)))?;
            let constant = match source {
                CellSource::Mark => Some(cleared(target.column(position))),
                CellSource::Literal(_) | CellSource::Topic => tried,
                _ => None,
            };
            cells.push(Cell { cell_type, source, constant, key: target.key.contains(&position) });
        }
        let mut fields = fields_of(&target, cells.iter().map(|cell| &cell.source));
        if let EventIdSource::Value(path) = &options.event_id
            && target.keeps_events()
        {
            // One slot more than there are columns.
            fields.add_path(path, cells.len());
        }
        let unmatched = cells.iter().any(|cell| !cell.key && matches!(cell.source, CellSource::Field | CellSource::Path(_)))
            && cells.iter().all(|cell| cell.source != CellSource::Whole);
        Ok(Self { target, cells, fields, options, topic, unmatched })
    }

    fn bad(&self, broken: Broken, position: usize) -> Bad {
        broken.in_column(self.target.column(position))
    }

    /// The row of a value; gives the event id that the value holds, if that is where it comes from.
    fn write<'a>(&mut self, value: &'a [u8], record: &RecordRef<'a>, rows: &mut Rows) -> Result<Option<Input<'a>>, Bad> {
        let (slots, whole) = match self.options.format {
            Format::Json => {
                let text = std::str::from_utf8(value).map_err(|_| Broken::new(rule::NOT_UTF8, "the value is not UTF-8"))?;
                (self.walk(text)?, Input::Object(text.trim_ascii()))
            }
            Format::Text => (Vec::new(), Input::Text(std::str::from_utf8(value).map_err(|_| Broken::new(rule::NOT_UTF8, "the value is not UTF-8"))?.into())),
            Format::Bytes => (Vec::new(), Input::Bytes(value)),
        };
        let mut key = None;
        for (position, cell) in self.cells.iter().enumerate() {
            let column = rows.columns.get_mut(position).ok_or_else(foreign_rows)?;
            let coerced = match &cell.source {
                CellSource::Field | CellSource::Path(_) => match slots.get(position) {
                    Some(Slot::Found(raw) | Slot::Near(raw)) => Input::from_json(raw).and_then(|input| self.coerce(cell, input)).map(Some),
                    _ => Ok(None),
                },
                CellSource::Whole => self.coerce(cell, whole.clone()).map(Some),
                _ => self.beside(cell, position, record, &mut key),
            };
            let coerced = coerced.map_err(|broken| self.bad(broken, position))?;
            match coerced {
                Some(Coerced::Null) if cell.key => return Err(self.bad(Broken::new(rule::NULL_KEY, "null in a key column"), position)),
                Some(value) => value.push(column).map_err(|broken| self.bad(broken, position))?,
                None if cell.key => return Err(self.bad(Broken::new(rule::KEY_ABSENT, "the record has no value for this key column"), position)),
                None => column.push_nothing(self.missing(position)),
            }
        }
        match slots.get(self.cells.len()) {
            Some(Slot::Found(raw) | Slot::Near(raw)) => Ok(Some(Input::from_json(raw)?)),
            _ => Ok(None),
        }
    }

    /// Adds the id of the record's event to the rows, where its target keeps events. A record without a value has no field to take it from:
    /// its event is its coordinate.
    fn identify(&self, record: &RecordRef<'_>, in_value: Option<Input<'_>>, rows: &mut Rows) -> Result<(), Bad> {
        if !self.target.keeps_events() {
            return Ok(());
        }
        let mut key = None;
        let input = match &self.options.event_id {
            EventIdSource::Value(_) if record.value.is_some() => in_value,
            EventIdSource::Coordinate | EventIdSource::Value(_) => {
                rows.event_ids.push_with(|bytes| write_coordinate(bytes, record));
                return Ok(());
            }
            EventIdSource::Header(name) => match record.header(name) {
                Some(Some(bytes)) => {
                    let text = std::str::from_utf8(bytes).map_err(|_| Broken::new(rule::NOT_UTF8, "the header of the event id is not UTF-8"))?;
                    Some(Input::Text(text.into()))
                }
                Some(None) | None => None,
            },
            EventIdSource::Key(path) => match self.key(record, &mut key)? {
                Some(key) if path.is_empty() => Some(key.whole(&Kind::Text { max_chars: None })),
                Some(key) => key.at(path)?,
                None => None,
            },
        };
        rows.event_ids.push(event_id::text(input)?.as_bytes());
        Ok(())
    }

    fn coerce<'a>(&self, cell: &Cell, input: Input<'a>) -> Result<Coerced<'a>, Broken> {
        coerce(input, &cell.cell_type, &self.options.rules)
    }

    /// What a column is that the record says nothing of.
    fn missing(&self, position: usize) -> Presence {
        // A column that refuses NULL keeps its default: `null` is meant for what can be null.
        let null = self.options.missing_fields == MissingFields::Null && self.target.column(position).nullable;
        if null || self.target.version == Some(position) { Presence::Null } else { Presence::Absent }
    }

    /// A value from beside the record's value.
    fn beside<'a>(&self, cell: &Cell, position: usize, record: &RecordRef<'a>, key: &mut Option<Option<RecordKey<'a>>>) -> Result<Option<Coerced<'a>>, Broken> {
        if let Some(constant) = &cell.constant {
            return Ok(Some(constant.clone()));
        }
        let number = |value: i64| self.coerce(cell, Input::Number(value.to_string().into())).map(Coerced::into_owned).map(Some);
        match &cell.source {
            CellSource::Partition => number(i64::from(record.partition().index)),
            CellSource::Offset => number(record.offset),
            CellSource::Timestamp if record.timestamp < 0 => Ok(None),
            CellSource::Timestamp => self.coerce(cell, Input::Milliseconds(record.timestamp)).map(Some),
            CellSource::Header(name) => match record.header(name) {
                None => Ok(None),
                Some(None) => Ok(Some(Coerced::Null)),
                Some(Some(bytes)) => {
                    let text = std::str::from_utf8(bytes).map_err(|_| Broken::new(rule::NOT_UTF8, "the header is not UTF-8"))?;
                    self.coerce(cell, Input::Text(text.into())).map(Some)
                }
            },
            CellSource::Key(path) => {
                let Some(key) = self.key(record, key)? else { return Ok(None) };
                let input = if path.is_empty() { Some(key.whole(&self.target.column(position).kind)) } else { key.at(path)? };
                input.map(|input| self.coerce(cell, input)).transpose()
            }
            _ => {
                let Some(key) = self.key(record, key)? else { return Ok(None) };
                let by_key = |cell: &&Cell| cell.key && cell.source == CellSource::KeyByName;
                self.keyed(key, cell, position, self.cells.iter().filter(by_key).count() == 1).map(Some)
            }
        }
    }

    /// Reads the record's key once.
    fn key<'k, 'a>(&self, record: &RecordRef<'a>, key: &'k mut Option<Option<RecordKey<'a>>>) -> Result<Option<&'k RecordKey<'a>>, Broken> {
        if key.is_none() {
            *key = Some(RecordKey::read(record, self.options.key_format)?);
        }
        Ok(key.as_ref().and_then(Option::as_ref))
    }

    fn keyed<'a>(&self, key: &RecordKey<'a>, cell: &Cell, position: usize, alone: bool) -> Result<Coerced<'a>, Broken> {
        let column = self.target.column(position);
        let mut names = vec![column.name.as_str()];
        if let CellSource::Path(path) = &cell.source {
            names.extend(path.last().map(String::as_str));
        }
        self.coerce(cell, key.for_column(&names, &column.kind, alone)?)
    }

    fn walk<'a>(&mut self, text: &'a str) -> Result<Vec<Slot<'a>>, Bad> {
        let target = &self.target;
        let columns = self.cells.len();
        let name = |broken: Broken, position: usize| if position < columns { broken.in_column(target.column(position)) } else { broken.into() };
        // One more for the event id.
        let walked = json::walk(text, columns + 1, &mut self.fields, self.unmatched, name)?;
        if walked.extra && self.options.extra_fields == ExtraFields::BadRecord {
            return Err(Broken::new(rule::EXTRA_FIELD, "the record has a field without a column, and the route says `extra_fields: bad-record`").into());
        }
        if self.unmatched {
            let found = self.cells.iter().zip(&walked.slots).any(|(cell, slot)| !cell.key && *slot != Slot::Missing);
            if found {
                self.unmatched = false;
                if !walked.extra_names.is_empty() {
                    let names = walked.extra_names.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", ");
                    tracing::info!(route = %self.target.route, topic = %self.topic, fields = %names, "fields without a column are ignored");
                }
            } else if walked.extra {
                let detail = format!("no field but the key finds a column in {}; see `columns` of the route", self.target.table.name);
                return Err(Broken::new(rule::NO_COLUMN_MATCHES, detail).into());
            }
        }
        Ok(walked.slots)
    }

    /// The row that a tombstone means, with the tombstone's own version if it has one.
    fn delete(&self, record: &RecordRef<'_>, rows: &mut Rows) -> Result<(), Bad> {
        let mut key = None;
        let from_value = |cell: &&Cell| cell.key && by_tombstone(&cell.source);
        let alone = self.cells.iter().filter(from_value).count() == 1;
        for &position in &self.target.key {
            let (Some(cell), Some(column)) = (self.cells.get(position), rows.columns.get_mut(position)) else { return Err(foreign_rows().into()) };
            let coerced = if by_tombstone(&cell.source) {
                let read = self.key(record, &mut key).map_err(Bad::from)?;
                let read = read.ok_or_else(|| Broken::new(rule::TOMBSTONE_WITHOUT_KEY, "the record has neither value nor key"))?;
                self.keyed(read, cell, position, alone).map(Some)
            } else {
                self.beside(cell, position, record, &mut key)
            };
            match coerced.map_err(|broken| self.bad(broken, position))? {
                Some(Coerced::Null) => return Err(self.bad(Broken::new(rule::NULL_KEY, "null in a key column"), position)),
                Some(value) => value.push(column).map_err(|broken| self.bad(broken, position))?,
                None => return Err(self.bad(Broken::new(rule::TOMBSTONE_WITHOUT_KEY, "the record has no value for this key column"), position)),
            }
        }
        let version = self.target.version.filter(|position| !self.target.key.contains(position));
        if let Some(position) = version
            && let (Some(cell), Some(column)) = (self.cells.get(position), rows.columns.get_mut(position))
            && is_beside_the_value(&cell.source)
        {
            match self.beside(cell, position, record, &mut key).map_err(|broken| self.bad(broken, position))? {
                // NULL is no version: the delete takes that of what it deletes.
                Some(Coerced::Null) | None => {}
                Some(version) => version.push(column).map_err(|broken| self.bad(broken, position))?,
            }
        }
        Ok(())
    }

    /// The column that says of a row that stays that it was deleted.
    fn mark(&self, record: &RecordRef<'_>, rows: &mut Rows) -> Result<(), Bad> {
        let Some(position) = self.cells.iter().position(|cell| cell.source == CellSource::Mark) else { return Err(foreign_rows().into()) };
        let (Some(cell), Some(column)) = (self.cells.get(position), rows.columns.get_mut(position)) else { return Err(foreign_rows().into()) };
        let mark = match self.target.column(position).kind {
            Kind::Bool => Ok(Coerced::Bool(true)),
            _ if record.timestamp < 0 => Err(Broken::new(rule::TOMBSTONE, "the record has no time that the row could be marked with")),
            _ => self.coerce(cell, Input::Milliseconds(record.timestamp)),
        };
        mark.and_then(|mark| mark.push(column)).map_err(|broken| self.bad(broken, position))
    }

    fn add(&mut self, record: &RecordRef<'_>, rows: &mut Rows) -> Result<Option<Operation>, Bad> {
        if let Some(value) = record.value {
            let in_value = self.write(value, record, rows)?;
            return self.identify(record, in_value, rows).map(|()| Some(Operation::Write));
        }
        match self.options.tombstone {
            Tombstone::Ignore => Ok(None),
            Tombstone::Delete if self.target.write != WriteMode::Append => {
                self.delete(record, rows)?;
                self.identify(record, None, rows).map(|()| Some(Operation::Delete))
            }
            Tombstone::Mark(_) if self.target.write != WriteMode::Append => {
                self.delete(record, rows)?;
                self.mark(record, rows)?;
                self.identify(record, None, rows).map(|()| Some(Operation::Mark))
            }
            Tombstone::Delete | Tombstone::Mark(_) | Tombstone::BadRecord => {
                Err(Broken::new(rule::TOMBSTONE, "the record has no value; `tombstone` of the route says what that means").into())
            }
        }
    }
}

impl Decode for RowDecoder {
    fn decode(&mut self, record: &RecordRef<'_>, number: u32, rows: &mut Rows) -> Result<Decoded, Bad> {
        match self.add(record, rows) {
            Ok(Some(operation)) => {
                rows.finish_row(number, operation);
                Ok(Decoded::Row)
            }
            Ok(None) => Ok(Decoded::Filtered),
            Err(bad) => {
                rows.abandon_row();
                Err(bad)
            }
        }
    }
}

/// What fields of a JSON value feed.
pub(crate) fn fields_of<'a>(target: &Target, sources: impl Iterator<Item = &'a CellSource>) -> Fields {
    let sources: Vec<&CellSource> = sources.collect();
    let position_of = |index: usize| target.columns.iter().position(|column| *column == index);
    let by_name = |position: &usize| sources.get(*position).is_some_and(|source| **source == CellSource::Field);
    let columns = target.table.columns.iter().enumerate().map(|(index, column)| (column.name.as_str(), position_of(index).filter(by_name)));
    let mut fields = Fields::new(columns);
    for (position, source) in sources.iter().enumerate() {
        if let CellSource::Path(path) = source {
            fields.add_path(path, position);
        }
    }
    fields
}

/// A field name for people: producers choose it, so it may hold anything.
pub(crate) fn printable(name: &str) -> String {
    const MOST_CHARACTERS: usize = 80;
    let mut printable: String = name.chars().take(MOST_CHARACTERS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MOST_CHARACTERS).is_some() {
        printable.push('…');
    }
    printable
}

/// Whether a tombstone gives this key column by the record's key.
const fn by_tombstone(source: &CellSource) -> bool {
    matches!(source, CellSource::Field | CellSource::Path(_) | CellSource::Whole | CellSource::KeyByName)
}

/// Whether a tombstone has this source of a version, too.
const fn is_beside_the_value(source: &CellSource) -> bool {
    matches!(source, CellSource::Key(_) | CellSource::Header(_) | CellSource::Timestamp | CellSource::Offset)
}

/// The mark of a row that is not deleted.
fn cleared(column: &TableColumn) -> Coerced<'static> {
    if column.kind == Kind::Bool && !column.nullable { Coerced::Bool(false) } else { Coerced::Null }
}

fn foreign_rows() -> Broken {
    Broken::new(rule::WRONG_TYPE, "the rows were made for another table")
}

/// Where a record stands, and what it says: in a topic that was made again the same place is another event.
fn write_coordinate(bytes: &mut Vec<u8>, record: &RecordRef<'_>) {
    let identity = record.identity();
    // One number for both: an id is kept as often as there are events. The hash is as good as random, and so is its sum with any time.
    let says = identity.hash.wrapping_add(identity.timestamp);
    // Writing to memory cannot fail.
    let _ = write!(bytes, "{}@{}#{says:016x}", record.partition(), record.offset);
}

#[cfg(test)]
mod coordinate_tests {
    use std::collections::BTreeSet;

    use oncesink_sinks::model::Partition;

    use super::write_coordinate;
    use crate::source::{RecordsBuilder, Sequence};

    fn coordinate(timestamp: i64, value: &str) -> String {
        let mut builder = RecordsBuilder::new(Partition::new("orders", 3), Sequence(1));
        builder.push(88_211, timestamp, Some(b"7"), Some(value.as_bytes()), std::iter::empty());
        let records = builder.finish();
        let mut bytes = Vec::new();
        write_coordinate(&mut bytes, &records.iter().next().unwrap());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_same_place_is_another_event_where_it_says_something_else_or_at_another_time() {
        assert_eq!(coordinate(1_709_212_079_250, "1"), coordinate(1_709_212_079_250, "1"));
        // Half of them with a sum below zero.
        let mut ids = BTreeSet::new();
        for timestamp in [-1, 0, 1_709_212_079_250, 1_709_212_079_251] {
            for value in 0..50 {
                let id = coordinate(timestamp, &value.to_string());
                assert_eq!(id.split_once('#').map(|(place, says)| (place, says.len())), Some(("orders:3@88211", 16)), "{id}");
                assert!(ids.insert(id), "two events share an id");
            }
        }
    }
}
