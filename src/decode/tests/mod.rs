//! A decoder and rows to try records on.

use oncesink_sinks::model::{Cell, EventIdKind, Generated, Identifier, KeyEquality, Kind, Partition, Table, TableName, Target, WriteMode};

use super::*;
use crate::source::{RecordsBuilder, Sequence};

mod page;
mod records;

fn kind(declared: &str) -> Kind {
    let inside = |name: &str| declared.strip_prefix(name).and_then(|rest| rest.strip_suffix(')'));
    match declared {
        "boolean" => Kind::Bool,
        "smallint" => Kind::Int { bits: 16 },
        "integer" => Kind::Int { bits: 32 },
        "bigint" => Kind::Int { bits: 64 },
        "real" => Kind::Float { bits: 32 },
        "double precision" => Kind::Float { bits: 64 },
        "numeric" => Kind::Decimal { precision: None, scale: None, exact: true },
        "NUMERIC (SQLite)" => Kind::Decimal { precision: None, scale: None, exact: false },
        "text" => Kind::Text { max_chars: None },
        "bytea" => Kind::Bytes { max_bytes: None },
        "uuid" => Kind::Uuid,
        "date" => Kind::Date,
        "time" => Kind::Time { digits: 6 },
        "time(0)" => Kind::Time { digits: 0 },
        "timestamp" => Kind::Timestamp { digits: 6 },
        "timestamptz" => Kind::TimestampTz { digits: 6 },
        "timestamptz(0)" => Kind::TimestampTz { digits: 0 },
        "jsonb" => Kind::Json,
        "inet" => Kind::Other,
        _ => {
            if let Some(element) = declared.strip_suffix("[]") {
                Kind::Array { element: Box::new(kind(element)) }
            } else if let Some(labels) = inside("enum(") {
                Kind::Enum { labels: labels.split(',').map(str::to_owned).collect() }
            } else if let Some(chars) = inside("varchar(") {
                Kind::Text { max_chars: Some(chars.parse().unwrap()) }
            } else {
                let (precision, scale) = inside("numeric(").unwrap_or_else(|| panic!("{declared}")).split_once(',').unwrap();
                Kind::Decimal { precision: Some(precision.parse().unwrap()), scale: Some(scale.parse().unwrap()), exact: true }
            }
        }
    }
}

fn column(name: &str, declared: &str) -> TableColumn {
    TableColumn {
        name: Identifier::new(name),
        kind: kind(declared),
        declared: declared.to_owned(),
        nullable: true,
        has_default: false,
        generated: Generated::No,
    }
}

fn options() -> RowOptions {
    RowOptions {
        format: Format::Json,
        key_format: KeyFormat::Auto,
        extra_fields: ExtraFields::Ignore,
        missing_fields: MissingFields::Keep,
        tombstone: Tombstone::Delete,
        rules: Rules::default(),
        event_id: EventIdSource::Coordinate,
    }
}

fn target(columns: &[(&str, &str)], key: &[usize], write: WriteMode) -> Arc<Target> {
    let table = Table {
        name: TableName::parse("t"),
        columns: columns.iter().map(|(name, declared)| column(name, declared)).collect(),
        keys: vec![],
        other_unique: vec![],
        warnings: vec![],
    };
    let positions = (0..columns.len()).collect();
    Arc::new(Target {
        route: Arc::from("t"),
        table: Arc::new(table),
        columns: positions,
        key: key.to_vec(),
        key_equality: KeyEquality::Bytes,
        version: None,
        write,
        dedup: Vec::new(),
        event_id: EventIdKind::default(),
        accumulate: Vec::new(),
    })
}

/// A decoder and the rows that it fills.
struct Fixture {
    decoder: RowDecoder,
    rows: Rows,
    offset: i64,
}

impl Fixture {
    fn new(columns: &[(&str, &str)], key: &[usize], sources: Vec<CellSource>, options: RowOptions) -> Self {
        Self::of(target(columns, key, if key.is_empty() { WriteMode::Append } else { WriteMode::Upsert }), sources, options)
    }

    fn of(target: Arc<Target>, sources: Vec<CellSource>, options: RowOptions) -> Self {
        Self { decoder: RowDecoder::new(Arc::from("orders"), target.clone(), sources, options).unwrap(), rows: Rows::new(target), offset: 0 }
    }

    /// By name, keyed by the first column.
    fn upsert(columns: &[(&str, &str)]) -> Self {
        Self::new(columns, &[0], vec![CellSource::Field; columns.len()], options())
    }

    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded, Bad> {
        self.decode_with(key, value, &[("trace", Some(b"t1")), ("empty", None), ("broken", Some(b"\xff"))])
    }

    fn decode_with(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> Result<Decoded, Bad> {
        let mut builder = RecordsBuilder::new(Partition::new("orders", 3), Sequence(1));
        builder.push(88_211, 1_709_212_079_250, key, value, headers.iter().copied());
        let records = builder.finish();
        self.offset += 1;
        let before = (self.rows.len(), format!("{:?}", self.rows));
        let decoded = self.decoder.decode(&records.iter().next().unwrap(), 7, &mut self.rows);
        assert!(self.rows.columns.iter().all(|column| column.presence.len() == self.rows.len() && column.values.len() == self.rows.len()));
        if decoded.is_err() {
            assert_eq!(before, (self.rows.len(), format!("{:?}", self.rows)));
        }
        decoded
    }

    fn value(&mut self, value: &str) -> Result<Decoded, &'static str> {
        self.decode(None, Some(value.as_bytes())).map_err(|bad| bad.rule)
    }

    fn tombstone(&mut self, key: &str) -> Result<Decoded, &'static str> {
        self.decode(Some(key.as_bytes()), None).map_err(|bad| bad.rule)
    }

    fn last(&self) -> Vec<Cell<'_>> {
        self.rows.columns.iter().map(|column| column.cell(self.rows.len() - 1)).collect()
    }
}
