//! docs/types.md read as tests, and records decoded end to end.

use std::{collections::BTreeSet, fmt::Write as _};

use jiff::{SignedDuration, Timestamp, civil, tz};
use oncesink_sinks::model::{Cell, Generated, Identifier, Kind, Operation, Partition, Table, TableColumn, TableName};
use proptest::prelude::*;

use super::*;
use crate::{
    route::{ExtraFields, Format, KeyFormat, MissingFields, TimestampUnit, Tombstone},
    source::{RecordsBuilder, Sequence},
};
use oncesink_sinks::model::{Target, WriteMode};

const DOCUMENT: &str = include_str!("../../docs/types.md");

/// The cells of the table under a heading, without its head.
fn documented(heading: &str) -> Vec<Vec<String>> {
    let section = DOCUMENT.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

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
        "time" => Kind::Time,
        "timestamp" => Kind::Timestamp,
        "timestamptz" => Kind::TimestampTz,
        "jsonb" => Kind::Json,
        "inet" | "integer[]" => Kind::Other,
        _ => {
            if let Some(labels) = inside("enum(") {
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
    }
}

fn target(columns: &[(&str, &str)], key: &[usize], write: WriteMode) -> Arc<Target> {
    let table =
        Table { name: TableName::parse("t"), columns: columns.iter().map(|(name, declared)| column(name, declared)).collect(), keys: vec![], warnings: vec![] };
    let positions = (0..columns.len()).collect();
    Arc::new(Target { route: Arc::from("t"), table: Arc::new(table), columns: positions, key: key.to_vec(), version: None, write })
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

/// What one JSON value becomes in one column, written as docs/types.md writes it.
fn becomes(column: &str, json: &str) -> String {
    let mut parts = column.split(", ");
    let declared = parts.next().unwrap();
    let mut options = options();
    for part in parts {
        match part.split_once(": ").unwrap() {
            ("timezone", zone) => options.rules.timezone = Some(Zone::parse(zone).unwrap()),
            ("timestamp_unit", "seconds") => options.rules.timestamp_unit = Some(TimestampUnit::Seconds),
            ("timestamp_unit", "milliseconds") => options.rules.timestamp_unit = Some(TimestampUnit::Milliseconds),
            ("timestamp_unit", "microseconds") => options.rules.timestamp_unit = Some(TimestampUnit::Microseconds),
            other => panic!("{other:?}"),
        }
    }
    let mut fixture = Fixture::new(&[("c", declared)], &[], vec![CellSource::Field], options);
    if let Err(rule) = fixture.value(&format!("{{\"c\":{json}}}")) {
        return format!("`{rule}`");
    }
    let instant = |microseconds: i64| Timestamp::from_microsecond(microseconds).unwrap();
    let text = match (kind(declared), fixture.last()[0]) {
        (_, Cell::Null) => return "NULL".to_owned(),
        (Kind::Date, Cell::Int(days)) => tz::Offset::UTC.to_datetime(instant(days * 86_400_000_000)).date().to_string(),
        (Kind::Time, Cell::Int(microseconds)) => (civil::Time::midnight() + SignedDuration::from_micros(microseconds)).to_string(),
        (Kind::Timestamp, Cell::Int(microseconds)) => tz::Offset::UTC.to_datetime(instant(microseconds)).to_string(),
        (Kind::TimestampTz, Cell::Int(microseconds)) => instant(microseconds).to_string(),
        (_, Cell::Int(value)) => value.to_string(),
        (_, Cell::Bool(value)) => value.to_string(),
        (_, Cell::Float(value)) => value.to_string(),
        (_, Cell::Text("")) => return "(empty)".to_owned(),
        (_, Cell::Text(text)) if text.len() > 100_000 => return format!("1 and {} zeros", text.len() - 1),
        (_, Cell::Text(text)) => text.replace('\n', "⏎"),
        (_, Cell::Bytes(bytes)) => bytes.iter().fold("\\x".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        }),
        (_, Cell::Uuid(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        (_, Cell::Absent) => panic!("absent"),
    };
    format!("`{text}`")
}

#[test]
fn every_example_of_the_page_is_true() {
    let examples = documented("Edges");
    assert!(examples.len() > 100);
    for example in examples {
        let [column, json, expected] = example.as_slice() else { panic!("{example:?}") };
        assert_eq!(becomes(column, json.trim_matches('`')), *expected, "{column} {json}");
    }
}

#[test]
fn the_table_of_the_page_is_closed() {
    let strings =
        ["x", "1", "1.5", "true", "AAAA", "550e8400-e29b-41d4-a716-446655440000", "2024-02-29", "13:07:59", "2024-02-29T13:07:59", "2024-02-29T13:07:59Z"];
    let strings: Vec<String> = strings.iter().map(|text| format!("\"{text}\"")).collect();
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let samples = [strings, owned(&["1", "-2.5", "1e3", "0"]), owned(&["true", "false"]), owned(&["{}", "{\"a\":1}"]), owned(&["[]", "[1]", "[\"x\"]"])];
    let rows = documented("What goes into");
    assert_eq!(rows.len(), 15);
    for row in rows {
        let declared = match row[0].as_str() {
            "bytea, blob" => "bytea",
            "numeric" => "numeric(20,4)",
            "smallint, integer, bigint" => "bigint",
            "real, double precision" => "double precision",
            "text, varchar, char" => "text",
            "json, jsonb" => "jsonb",
            "enum" => "enum(x,y)",
            "an array such as integer[]" => "integer[]",
            "any other (inet, interval, …)" => "inet",
            "timestamp" => "timestamp, timestamp_unit: seconds",
            "timestamptz" => "timestamptz, timestamp_unit: seconds",
            other => other,
        };
        for (cell, samples) in row[1..].iter().zip(&samples) {
            let results: Vec<String> = samples.iter().map(|json| becomes(declared, json)).collect();
            let refused = |result: &String| rule::ALL.contains(&result.trim_matches('`'));
            if cell == "`wrong-type`" {
                assert!(results.iter().all(|result| result == cell), "{declared}: {cell}: {results:?}");
            } else {
                assert!(!results.iter().all(refused), "{declared}: {cell}: {results:?}");
            }
        }
        assert_eq!(becomes(declared, "null"), "NULL");
    }
}

#[test]
fn the_rules_of_the_page_are_the_rules_of_the_code() {
    let documented: BTreeSet<String> = documented("Rules").into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(documented, rule::ALL.iter().map(|rule| (*rule).to_owned()).collect());
}

#[test]
fn fields_find_their_columns() {
    let mut orders = Fixture::upsert(&[("id", "bigint"), ("customer_id", "bigint"), ("note", "text")]);
    assert_eq!(orders.value(r#" {"id":1, "customerId":2, "other":{"a":[[]]}} "#), Ok(Decoded::Row));
    assert_eq!(orders.last(), [Cell::Int(1), Cell::Int(2), Cell::Absent]);
    assert_eq!(orders.value(r#"{"customerId":2,"customer_id":3,"id":1,"note":null}"#), Ok(Decoded::Row));
    assert_eq!(orders.last(), [Cell::Int(1), Cell::Int(3), Cell::Null], "the exact name counts");
    assert_eq!(orders.value(r#"{"id":1,"customer_id":3,"CustomerID":2}"#), Ok(Decoded::Row));
    assert_eq!(orders.value(r#"{"id":1,"customerId":3,"CustomerID":2}"#), Err(rule::DUPLICATE_FIELD));
    assert_eq!(orders.value(r#"{"id":1,"id":1}"#), Err(rule::DUPLICATE_FIELD));
    assert_eq!(orders.value(r#"{"id":1,"x":1,"x":2}"#), Ok(Decoded::Row), "an ignored field may repeat");
    assert_eq!(orders.value(r#"{"note":"x"}"#), Err(rule::KEY_ABSENT));
    assert_eq!(orders.value(r#"{"id":null}"#), Err(rule::NULL_KEY));
    assert_eq!(orders.rows.records, [7, 7, 7, 7]);
}

#[test]
fn what_is_not_a_json_object_is_named() {
    let mut orders = Fixture::upsert(&[("id", "bigint"), ("note", "text")]);
    for (value, expected) in [
        ("", rule::NOT_JSON),
        (" ", rule::NOT_JSON),
        ("{", rule::NOT_JSON),
        (r#"{"id":1}x"#, rule::NOT_JSON),
        (r#"{"id":1,}"#, rule::NOT_JSON),
        (r#"{"id":01}"#, rule::NOT_JSON),
        ("\u{feff}{}", rule::NOT_JSON),
        ("[1", rule::NOT_JSON),
        (r#"{"id":1,"x":NaN}"#, rule::NOT_JSON),
        ("null", rule::NOT_AN_OBJECT),
        ("[{}]", rule::NOT_AN_OBJECT),
        ("1e999999", rule::NOT_AN_OBJECT),
        ("\"{}\"", rule::NOT_AN_OBJECT),
        ("{}", rule::KEY_ABSENT),
    ] {
        assert_eq!(orders.value(value), Err(expected), "{value}");
    }
    assert_eq!(orders.decode(None, Some(b"{\"id\":1,\"x\":\"\xff\"}")).unwrap_err().rule, rule::NOT_UTF8);
    let bad = orders.decode(None, Some(br#"{"id":"secret"}"#)).unwrap_err();
    assert_eq!(bad.to_string(), "not-a-number in column id bigint: a string that is not a number as JSON writes them");
}

#[test]
fn depth_and_size_are_no_limit() {
    let mut orders = Fixture::upsert(&[("id", "bigint"), ("document", "jsonb")]);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(orders.value(&format!(r#"{{"id":1,"document":{deep},"ignored":{deep}}}"#)), Ok(Decoded::Row));
    assert_eq!(orders.last()[1], Cell::Text(&deep));
    let long = "x".repeat(10 << 20);
    assert_eq!(orders.value(&format!(r#"{{"id":1,"document":"{long}","ignored":"{long}"}}"#)), Ok(Decoded::Row));
    assert_eq!(orders.rows.columns[1].values.len(), 2);
}

#[test]
fn a_record_that_no_column_knows_halts_the_route_at_first() {
    let mut orders = Fixture::upsert(&[("id", "bigint"), ("note", "text")]);
    assert_eq!(orders.value(r#"{"id":1,"after":{"note":"x"}}"#), Err(rule::NO_COLUMN_MATCHES));
    assert_eq!(orders.value(r#"{"id":1}"#), Ok(Decoded::Row), "nothing in it lacks a column");
    assert_eq!(orders.value(r#"{"id":1,"note":"x"}"#), Ok(Decoded::Row));
    assert_eq!(orders.value(r#"{"id":1,"after":{"note":"x"}}"#), Ok(Decoded::Row), "later it is a record like others");
}

#[test]
fn extra_and_missing_fields_follow_the_route() {
    let columns = [("id", "bigint"), ("note", "text")];
    let strict = RowOptions { extra_fields: ExtraFields::BadRecord, missing_fields: MissingFields::Null, ..options() };
    let mut orders = Fixture::new(&columns, &[0], vec![CellSource::Field; 2], strict);
    assert_eq!(orders.value(r#"{"id":1,"note":"x","other":1}"#), Err(rule::EXTRA_FIELD));
    assert_eq!(orders.value(r#"{"id":1,"Note":"x","note":"y"}"#), Err(rule::EXTRA_FIELD));
    assert_eq!(orders.value(r#"{"id":1}"#), Ok(Decoded::Row));
    assert_eq!(orders.last(), [Cell::Int(1), Cell::Null]);
    let mut versioned = Target::clone(&target(&columns, &[0], WriteMode::Upsert));
    versioned.version = Some(1);
    let mut orders = Fixture::of(Arc::new(versioned), vec![CellSource::Field; 2], options());
    assert_eq!(orders.value(r#"{"id":1}"#), Ok(Decoded::Row));
    assert_eq!(orders.last(), [Cell::Int(1), Cell::Null], "a version is never absent");
}

#[test]
fn every_source_feeds_its_column() {
    let path = |path: &[&str]| path.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let columns = [
        ("total", "numeric"),
        ("currency", "text"),
        ("whole", "jsonb"),
        ("key_id", "bigint"),
        ("trace", "text"),
        ("topic", "text"),
        ("part", "integer"),
        ("kafka_offset", "numeric"),
        ("at", "timestamptz"),
        ("at_ms", "bigint"),
        ("region", "text"),
        ("missing", "text"),
        ("empty", "text"),
    ];
    let sources = vec![
        CellSource::Path(path(&["order", "sum", "total"])),
        CellSource::Path(path(&["order", "currency"])),
        CellSource::Whole,
        CellSource::Key(path(&["id"])),
        CellSource::Header("trace".to_owned()),
        CellSource::Topic,
        CellSource::Partition,
        CellSource::Offset,
        CellSource::Timestamp,
        CellSource::Timestamp,
        CellSource::Literal("eu1".to_owned()),
        CellSource::Header("missing".to_owned()),
        CellSource::Header("empty".to_owned()),
    ];
    let mut orders = Fixture::new(&columns, &[], sources, options());
    let value = r#"{"order":{"sum":{"total":1.50},"currency":"EUR"}}"#;
    assert_eq!(orders.decode(Some(br#"{"id":5}"#), Some(value.as_bytes())), Ok(Decoded::Row));
    let expected = [
        Cell::Text("1.5"),
        Cell::Text("EUR"),
        Cell::Text(value),
        Cell::Int(5),
        Cell::Text("t1"),
        Cell::Text("orders"),
        Cell::Int(3),
        Cell::Text("88211"),
        Cell::Int(1_709_212_079_250_000),
        Cell::Int(1_709_212_079_250),
        Cell::Text("eu1"),
        Cell::Absent,
        Cell::Null,
    ];
    assert_eq!(orders.last(), expected);
    assert_eq!(orders.decode(None, Some(br#"{"order":null}"#)), Ok(Decoded::Row));
    assert_eq!(orders.last()[..4], [Cell::Null, Cell::Null, Cell::Text(r#"{"order":null}"#), Cell::Absent]);
    assert_eq!(orders.decode(None, Some(br#"{"order":1}"#)).unwrap_err().rule, rule::NOT_AN_OBJECT);
    assert_eq!(orders.decode(None, Some(br#"{"order":{"currency":"a"},"order":{"currency":"b"}}"#)).unwrap_err().rule, rule::DUPLICATE_FIELD);
    assert_eq!(orders.decode(None, Some(br#"{"order":{"\ud83d":1}}"#)).unwrap_err().rule, rule::NOT_JSON);
    assert_eq!(orders.decode(Some(b"plain"), Some(b"{}")).unwrap_err().rule, rule::NOT_AN_OBJECT);
    let broken = Fixture::new(&[("h", "text")], &[], vec![CellSource::Header("broken".to_owned())], options()).decode(None, Some(b"{}"));
    assert_eq!(broken.unwrap_err().rule, rule::NOT_UTF8);
    let never =
        RowDecoder::new(Arc::from("orders"), target(&[("n", "bigint")], &[], WriteMode::Append), vec![CellSource::Literal("eu1".to_owned())], options());
    assert_eq!(never.unwrap_err().rule, rule::NOT_A_NUMBER);
}

#[test]
fn a_tombstone_deletes_the_row_of_its_key() {
    let mut orders = Fixture::upsert(&[("id", "bigint"), ("note", "text")]);
    for key in ["42", "\"42\"", r#"{"id":42}"#, r#"{"ID":42}"#, "42.0"] {
        assert_eq!(orders.tombstone(key), Ok(Decoded::Row), "{key}");
        assert_eq!(orders.last(), [Cell::Int(42), Cell::Absent]);
        assert_eq!(orders.rows.operations.last(), Some(&Operation::Delete));
    }
    assert_eq!(orders.tombstone("abc"), Err(rule::NOT_A_NUMBER));
    assert_eq!(orders.tombstone("null"), Err(rule::NULL_KEY));
    assert_eq!(orders.tombstone("[42]"), Err(rule::TOMBSTONE_WITHOUT_KEY));
    assert_eq!(orders.tombstone(r#"{"other":42}"#), Err(rule::TOMBSTONE_WITHOUT_KEY));
    assert_eq!(orders.tombstone(r#"{"id":1,"id":2}"#), Err(rule::DUPLICATE_FIELD));
    assert_eq!(orders.decode(None, None).unwrap_err().rule, rule::TOMBSTONE_WITHOUT_KEY);
    assert_eq!(orders.decode(Some(b"\xff"), None).unwrap_err().rule, rule::NOT_UTF8);

    let mut named = Fixture::upsert(&[("name", "text")]);
    for (key, text) in [("42", "42"), ("true", "true"), ("a b", "a b"), ("\"a b\"", "a b"), ("2024-01-01", "2024-01-01")] {
        assert_eq!(named.tombstone(key), Ok(Decoded::Row), "{key}");
        assert_eq!(named.last(), [Cell::Text(text)]);
    }
    let pair = [("a", "bigint"), ("b", "bigint")];
    let mut both = Fixture::new(&pair, &[0, 1], vec![CellSource::Field; 2], options());
    assert_eq!(both.tombstone(r#"{"b":2,"a":1}"#), Ok(Decoded::Row));
    assert_eq!(both.last(), [Cell::Int(1), Cell::Int(2)]);
    assert_eq!(both.tombstone("1"), Err(rule::TOMBSTONE_WITHOUT_KEY));
    let mut one = Fixture::new(&pair, &[0, 1], vec![CellSource::Partition, CellSource::Path(vec!["order".to_owned(), "no".to_owned()])], options());
    assert_eq!(one.tombstone("9"), Ok(Decoded::Row), "the other key column has its own source");
    assert_eq!(one.last(), [Cell::Int(3), Cell::Int(9)]);
    assert_eq!(one.tombstone(r#"{"no":9}"#), Ok(Decoded::Row));
}

#[test]
fn tombstones_follow_the_policy() {
    for (policy, write, expected) in [
        (Tombstone::Ignore, &[0][..], Ok(Decoded::Filtered)),
        (Tombstone::BadRecord, &[0], Err(rule::TOMBSTONE)),
        (Tombstone::Delete, &[], Err(rule::TOMBSTONE)),
        (Tombstone::Ignore, &[], Ok(Decoded::Filtered)),
    ] {
        let mut orders = Fixture::new(&[("id", "bigint")], write, vec![CellSource::Field], RowOptions { tombstone: policy, ..options() });
        assert_eq!(orders.tombstone("1"), expected);
        assert!(orders.rows.is_empty());
    }
}

#[test]
fn text_and_bytes_take_the_whole_value() {
    let columns = [("id", "bigint"), ("line", "text")];
    let sources = vec![CellSource::KeyByName, CellSource::Whole];
    let mut lines = Fixture::new(&columns, &[0], sources.clone(), RowOptions { format: Format::Text, ..options() });
    assert_eq!(lines.decode(Some(b"7"), Some("héllo".as_bytes())), Ok(Decoded::Row));
    assert_eq!(lines.last(), [Cell::Int(7), Cell::Text("héllo")]);
    assert_eq!(lines.decode(Some(b"7"), Some(b"\xff")).unwrap_err().rule, rule::NOT_UTF8);
    assert_eq!(lines.decode(Some(b"7"), Some(b"a\0")).unwrap_err().rule, rule::NUL_IN_TEXT);
    assert_eq!(lines.decode(None, Some(b"a")).unwrap_err().rule, rule::KEY_ABSENT);
    assert_eq!(lines.tombstone("8"), Ok(Decoded::Row));
    let columns = [("id", "bigint"), ("raw", "bytea")];
    let mut raw = Fixture::new(&columns, &[0], sources, RowOptions { format: Format::Bytes, ..options() });
    assert_eq!(raw.decode(Some(b"7"), Some(b"\xff\0")), Ok(Decoded::Row));
    assert_eq!(raw.last(), [Cell::Int(7), Cell::Bytes(b"\xff\0")]);
}

/// One column of every kind.
fn everything() -> Vec<(&'static str, &'static str)> {
    let declared = [
        "bigint",
        "boolean",
        "double precision",
        "numeric(12,2)",
        "NUMERIC (SQLite)",
        "varchar(3)",
        "bytea",
        "uuid",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "jsonb",
        "enum(x,y)",
        "inet",
        "integer[]",
    ];
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"].into_iter().zip(declared).collect()
}

proptest! {
    /// [`Fixture::decode`] asserts that a bad record leaves the rows as they were.
    #[test]
    fn arbitrary_bytes_never_panic(key in proptest::option::of(any::<Vec<u8>>()), value in proptest::option::of(any::<Vec<u8>>())) {
        let mut rows = Fixture::upsert(&everything());
        let _ = rows.decode(key.as_deref(), value.as_deref());
    }

    #[test]
    fn arbitrary_values_never_panic(fields in proptest::collection::vec(("[a-qA-Q_]{1,2}", "\"(\\PC|\\\\u[d0][8c0][0-9a-f]{2}){0,12}\"|-?[0-9.e+]{1,24}|true|null|[\\[\\]{}\",:0-9]{0,12}"), 0..8)) {
        let mut rows = Fixture::upsert(&everything());
        let _ = rows.value(r#"{"a":1,"b":true}"#);
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let value = format!("{{{}}}", fields.join(","));
        let decoded = rows.value(&value);
        if serde_json::from_str::<serde::de::IgnoredAny>(&value).is_err() {
            prop_assert!(matches!(decoded, Err(rule::NOT_JSON)), "{value}: {decoded:?}");
        }
    }

    #[test]
    fn every_string_arrives_as_it_was_sent(text: String) {
        let mut rows = Fixture::upsert(&[("id", "bigint"), ("t", "text"), ("j", "jsonb")]);
        let value = serde_json::json!({ "id": 1, "t": text, "j": [text] }).to_string();
        match rows.value(&value) {
            Ok(_) => {
                prop_assert_eq!(rows.last()[1], Cell::Text(&text));
                let Cell::Text(document) = rows.last()[2] else { panic!() };
                prop_assert_eq!(serde_json::from_str::<Vec<String>>(document).unwrap(), vec![text]);
            }
            Err(rule) => prop_assert!(rule == rule::NUL_IN_TEXT && text.contains('\0')),
        }
    }
}
