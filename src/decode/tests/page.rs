//! docs/types.md, read as tests: the page and the code cannot drift apart.

use std::{collections::BTreeSet, fmt::Write as _};

use jiff::{SignedDuration, Timestamp, civil, tz};

use super::*;

const DOCUMENT: &str = include_str!("../../../docs/types.md");

/// The cells of the table under a heading, without its head.
fn documented(heading: &str) -> Vec<Vec<String>> {
    let section = DOCUMENT.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
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
        (Kind::Time { .. }, Cell::Int(microseconds)) => (civil::Time::midnight() + SignedDuration::from_micros(microseconds)).to_string(),
        (Kind::Timestamp { .. }, Cell::Int(microseconds)) => tz::Offset::UTC.to_datetime(instant(microseconds)).to_string(),
        (Kind::TimestampTz { .. }, Cell::Int(microseconds)) => instant(microseconds).to_string(),
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
