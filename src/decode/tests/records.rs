//! Records decoded end to end.

use oncesink_sinks::model::Operation;
use proptest::prelude::*;

use super::*;

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

/// What a tombstone has too may be its version.
#[test]
fn a_tombstone_may_have_a_version_of_its_own() {
    let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let columns = [("id", "bigint"), ("v", "bigint"), ("note", "text")];
    let with = |source: CellSource| {
        let target = Target { version: Some(1), ..Target::clone(&target(&columns, &[0], WriteMode::Upsert)) };
        let options = RowOptions { key_format: KeyFormat::Json, ..options() };
        Fixture::of(Arc::new(target), vec![CellSource::Field, source, CellSource::Field], options)
    };
    let mut by_key = with(CellSource::Key(path(&["v"])));
    assert_eq!(by_key.tombstone(r#"{"id":1,"v":7}"#), Ok(Decoded::Row));
    assert_eq!(by_key.last(), [Cell::Int(1), Cell::Int(7), Cell::Absent]);
    assert_eq!(by_key.rows.operations, [Operation::Delete]);
    for key in [r#"{"id":1}"#, r#"{"id":1,"v":null}"#] {
        assert_eq!(by_key.tombstone(key), Ok(Decoded::Row));
        assert_eq!(by_key.last(), [Cell::Int(1), Cell::Absent, Cell::Absent], "NULL is no version");
    }
    assert_eq!(by_key.tombstone(r#"{"id":1,"v":"x"}"#), Err(rule::NOT_A_NUMBER));
    for (source, version) in [
        (CellSource::Offset, Cell::Int(88_211)),
        (CellSource::Timestamp, Cell::Int(1_709_212_079_250)),
        (CellSource::Header("missing".to_owned()), Cell::Absent),
        (CellSource::Header("empty".to_owned()), Cell::Absent),
        (CellSource::Field, Cell::Absent),
        (CellSource::Path(path(&["order", "v"])), Cell::Absent),
    ] {
        let mut rows = with(source.clone());
        assert_eq!(rows.tombstone("1"), Ok(Decoded::Row));
        assert_eq!(rows.last(), [Cell::Int(1), version, Cell::Absent], "{source:?}");
    }
}

#[test]
fn a_mark_is_set_by_tombstones_and_cleared_by_all_else() {
    for (declared, nullable, set, clear) in [
        ("timestamptz", true, Cell::Int(1_709_212_079_250_000), Cell::Null),
        ("timestamp", true, Cell::Int(1_709_212_079_250_000), Cell::Null),
        ("boolean", true, Cell::Bool(true), Cell::Null),
        ("boolean", false, Cell::Bool(true), Cell::Bool(false)),
    ] {
        let mut target = Target::clone(&target(&[("id", "bigint"), ("note", "text"), ("gone", declared)], &[0], WriteMode::Upsert));
        let mut table = Table::clone(&target.table);
        table.columns[2].nullable = nullable;
        target.table = Arc::new(table);
        let options = RowOptions { tombstone: Tombstone::Mark("gone".into()), ..options() };
        let mut orders = Fixture::of(Arc::new(target), vec![CellSource::Field, CellSource::Field, CellSource::Mark], options);
        assert_eq!(orders.value(r#"{"id":1,"note":"a","gone":"whatever"}"#), Ok(Decoded::Row));
        assert_eq!(orders.last(), [Cell::Int(1), Cell::Text("a"), clear], "{declared}");
        assert_eq!(orders.tombstone("1"), Ok(Decoded::Row));
        assert_eq!(orders.last(), [Cell::Int(1), Cell::Absent, set], "{declared}");
        assert_eq!(orders.rows.operations, [Operation::Write, Operation::Mark]);
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
