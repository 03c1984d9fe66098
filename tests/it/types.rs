//! Every coercion of docs/types.md that has an edge, through the whole path: what arrives, and what is refused by which rule.

use std::collections::BTreeMap;

use crate::{
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    topic::Topic,
    wait::{seconds, wait_until},
    worker::Worker,
};

/// What becomes of one value.
#[derive(Clone, Copy)]
enum Then<'a> {
    /// The column holds what the database prints like this.
    Holds(&'a str),
    /// The column holds NULL.
    Null,
    /// The record is refused by this rule.
    Breaks(&'a str),
}

use Then::{Breaks, Holds, Null};

/// A column, the JSON that the record carries for it, and what becomes of it.
type Case<'a> = (&'a str, &'a str, Then<'a>);

/// Sends one record a case (`{"id":n,"<column>":<json>}`), then `raw` records as they are, and compares table and counts.
fn check(kind: Kind, label: &str, columns: &str, cases: &[Case<'_>], raw: &[(Vec<u8>, Option<&str>)]) {
    let topic = Topic::create(label, 1);
    let database = Database::create(kind, label);
    database.execute(columns);
    let mut records: Vec<Outgoing> =
        cases.iter().enumerate().map(|(id, (column, json, _))| Outgoing::json(id.to_string(), format!(r#"{{"id":{id},"{column}":{json}}}"#))).collect();
    records.extend(raw.iter().map(|(value, _)| Outgoing::json("raw", value.clone())));
    topic.send(&records);

    let mut refused: BTreeMap<&str, f64> = BTreeMap::new();
    for rule in cases.iter().filter_map(|(_, _, then)| if let Breaks(rule) = then { Some(*rule) } else { None }).chain(raw.iter().filter_map(|(_, rule)| *rule))
    {
        *refused.entry(rule).or_default() += 1.0;
    }
    let good = f64::from(u32::try_from(records.len()).expect("a count")) - refused.values().sum::<f64>();

    let routes = format!("routes: [ {{ topic: {}, table: typed, on_bad_record: skip }} ]\n", topic.name);
    let mut worker = Worker::start(&PipelineFile::new(label, &topic, &database, &routes));
    let skipped = |worker: &Worker, labels: &[&str]| worker.metric("oncesink_records_total", &[&[r#"outcome="skipped""#], labels].concat()).unwrap_or(0.0);
    wait_until(seconds(90), "every record is applied or left out", || {
        worker.assert_runs();
        worker.applied() + skipped(&worker, &[]) >= f64::from(u32::try_from(records.len()).expect("a count"))
    });

    // One difference must not hide the others.
    let mut differences = Vec::new();
    for (id, (column, json, then)) in cases.iter().enumerate() {
        let rows = database.rows(&format!("SELECT {column} FROM typed WHERE id = {id}"));
        let there = rows.first().map(|row| row[0].as_deref());
        let right = match then {
            Holds(text) => there == Some(Some(text)),
            Null => there == Some(None),
            Breaks(_) => there.is_none(),
        };
        if !right {
            let wanted = match then {
                Holds(text) => format!("{text:?}"),
                Null => "NULL".to_owned(),
                Breaks(rule) => format!("no row, by {rule}"),
            };
            differences.push(format!("{column} = {json}: {there:?}, wanted {wanted}"));
        }
    }
    for (rule, count) in &refused {
        let counted = skipped(&worker, &[&format!("reason=\"{rule}\"")]);
        if (counted - count).abs() > f64::EPSILON {
            differences.push(format!("{counted} records broke {rule}, {count} should"));
        }
    }
    assert!(differences.is_empty(), "{}\n{}", differences.join("\n"), worker.log());
    assert!((worker.applied() - good).abs() < f64::EPSILON, "{} applied, {good} should be", worker.applied());
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
}

fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

/// Records that are wrong as a whole, or odd as a whole and right.
fn whole_records() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let large = format!(r#"{{"id":9000,"label":"{}"}}"#, "x".repeat(10 * 1024 * 1024));
    vec![
        (large.into_bytes(), None),
        (format!(r#"{{"id":9001,"label":"deep","unknown":{}}}"#, nested(200)).into_bytes(), None),
        (br#"{"id":9002,"label":"no such escape \x41"}"#.to_vec(), Some("not-json")),
        ([br#"{"id":9003,"label":""#.as_slice(), &[0xff, 0xfe], br#""}"#].concat(), Some("not-utf8")),
        (br#"{"id":9004,"label":"a","label":"b"}"#.to_vec(), Some("duplicate-field")),
        (br#"{"id":9005,"label":NaN}"#.to_vec(), Some("not-json")),
        (br#"{"id":9006,"label":"cut"#.to_vec(), Some("not-json")),
        (br#"{"id":9007} {"id":9008}"#.to_vec(), Some("not-json")),
        (b"[1]".to_vec(), Some("not-an-object")),
        (br#"{"id":null,"label":"x"}"#.to_vec(), Some("null-key")),
        (br#"{"label":"no id"}"#.to_vec(), Some("key-absent")),
    ]
}

const COMMON: &[Case<'static>] = &[
    ("big", "9223372036854775807", Holds("9223372036854775807")),
    ("big", "-9223372036854775808", Holds("-9223372036854775808")),
    ("big", "9223372036854775808", Breaks("out-of-range")),
    ("big", "9007199254740993", Holds("9007199254740993")),
    ("big", r#""42""#, Holds("42")),
    ("big", "1e3", Holds("1000")),
    ("big", "42.0", Holds("42")),
    ("big", "1.5", Breaks("not-exact")),
    ("big", r#"" 42""#, Breaks("not-a-number")),
    ("big", r#""NaN""#, Breaks("not-a-number")),
    ("big", "true", Breaks("wrong-type")),
    ("big", "{}", Breaks("wrong-type")),
    ("big", "null", Null),
    ("real8", "0.5", Holds("0.5")),
    ("real8", "1e309", Breaks("out-of-range")),
    ("real8", "9007199254740993", Breaks("not-exact")),
    ("label", r#""plain""#, Holds("plain")),
    ("label", r#""""#, Holds("")),
    ("label", r#""\u00e9 \ud83d\ude00 \\ \" \/""#, Holds("é 😀 \\ \" /")),
    ("label", r#""\u0000""#, Breaks("nul-in-text")),
    ("label", r#""\ud800""#, Breaks("invalid-escape")),
    ("label", "42", Breaks("wrong-type")),
    ("label", "true", Breaks("wrong-type")),
    ("label", "null", Null),
    ("exact", "12.5", Holds("12.5")),
    ("exact", "123456789012345678", Holds("123456789012345678")),
    ("exact", r#""x""#, Breaks("not-a-number")),
    ("raw", r#""not base64!""#, Breaks("not-base64")),
];

const FORTY_DIGITS: &str = "1234567890123456789012345678901234567890";
const FORTY_DIGITS_AND_FRACTION: &str = "1234567890123456789012345678901234567890.0123456789";

#[test]
fn types_on_postgres() {
    let deep = nested(200);
    let mut cases: Vec<Case<'_>> = COMMON.to_vec();
    cases.extend([
        ("small", "32767", Holds("32767")),
        ("small", "32768", Breaks("out-of-range")),
        ("exact", FORTY_DIGITS, Holds(FORTY_DIGITS)),
        ("exact", FORTY_DIGITS_AND_FRACTION, Holds(FORTY_DIGITS_AND_FRACTION)),
        ("exact", r#""0.1000000000000000055511151231257827""#, Holds("0.1000000000000000055511151231257827")),
        ("money", "9999999999.99", Holds("9999999999.99")),
        ("money", "10000000000", Breaks("out-of-range")),
        ("money", "1.005", Breaks("not-exact")),
        ("short", r#""12345""#, Holds("12345")),
        ("short", r#""123456""#, Breaks("too-long")),
        ("flag", "true", Holds("t")),
        ("flag", "1", Breaks("wrong-type")),
        ("flag", r#""true""#, Breaks("wrong-type")),
        ("uid", r#""A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11""#, Holds("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        ("uid", r#""a0eebc99""#, Breaks("not-a-uuid")),
        ("day", r#""2024-02-29""#, Holds("2024-02-29")),
        ("day", r#""29.02.2024""#, Breaks("not-a-date")),
        ("day", r#""2023-02-29""#, Breaks("out-of-range")),
        ("clock", r#""23:59:59.999999""#, Holds("23:59:59.999999")),
        ("clock", r#""noon""#, Breaks("not-a-time")),
        ("clock", r#""24:30:00""#, Breaks("out-of-range")),
        ("moment", r#""2024-05-01T12:00:00.123456+02:00""#, Holds("2024-05-01 10:00:00.123456+00")),
        ("moment", r#""2024-05-01T12:00:00Z""#, Holds("2024-05-01 12:00:00+00")),
        ("moment", r#""2024-05-01T12:00:00""#, Breaks("no-zone")),
        ("moment", "1714564800", Breaks("wrong-type")),
        ("moment", r#""yesterday""#, Breaks("not-a-timestamp")),
        ("doc", r#"{"a": [1, 2.50, null], "b": "\u00e9"}"#, Holds(r#"{"a": [1, 2.50, null], "b": "é"}"#)),
        ("doc", r#"{"a": "\u0000"}"#, Breaks("nul-in-text")),
        ("doc", r#"{"a": "\udc00"}"#, Breaks("invalid-escape")),
        ("doc", &deep, Holds(&deep)),
        ("raw", r#""AAH/""#, Holds(r"\x0001ff")),
        ("colour", r#""green""#, Holds("green")),
        ("colour", r#""blue""#, Breaks("not-a-label")),
        ("tags", r#"["a", "b,c", "d\"e", null]"#, Holds(r#"{a,"b,c","d\"e",NULL}"#)),
        ("address", r#""192.168.0.1""#, Holds("192.168.0.1")),
    ]);
    let columns = "CREATE TYPE colour AS ENUM ('red', 'green');
        CREATE TABLE typed (id bigint PRIMARY KEY, big bigint, small smallint, real8 double precision, exact numeric, money numeric(12,2), label text,
            short varchar(5), flag boolean, uid uuid, day date, clock time, moment timestamptz, doc jsonb, raw bytea, colour colour, tags text[], address inet)";
    check(Kind::Postgres, "types_postgres", columns, &cases, &whole_records());
}

#[test]
fn types_on_sqlite() {
    let mut cases: Vec<Case<'_>> = COMMON.to_vec();
    cases.extend([
        // NUMERIC cannot keep them; TEXT can, as a string.
        ("exact", FORTY_DIGITS, Breaks("not-exact")),
        ("exact", "0.1234567890123456", Breaks("not-exact")),
        ("exact", "123456789012.345", Holds("123456789012.345")),
        ("label", r#""1234567890123456789012345678901234567890""#, Holds(FORTY_DIGITS)),
    ]);
    let columns = "CREATE TABLE typed (id INTEGER PRIMARY KEY, big INTEGER, real8 REAL, exact NUMERIC, label TEXT, raw BLOB)";
    check(Kind::Sqlite, "types_sqlite", columns, &cases, &whole_records());
}

/// A decimal is printed with all the digits of its column, so its cases are their own.
fn types_on_mysql_or_mariadb(kind: Kind, label: &str) {
    // MariaDB reads 32 levels, and refuses more as its check does.
    let deep = nested(if kind == Kind::MariaDb { 30 } else { 50 });
    let mut cases: Vec<Case<'_>> = COMMON.iter().filter(|(column, ..)| *column != "exact").copied().collect();
    cases.extend([
        ("small", "32767", Holds("32767")),
        ("small", "32768", Breaks("out-of-range")),
        ("huge", "18446744073709551615", Holds("18446744073709551615")),
        ("huge", "1.5", Breaks("not-exact")),
        ("exact", FORTY_DIGITS_AND_FRACTION, Holds("1234567890123456789012345678901234567890.012345678900")),
        ("exact", r#""-0.1""#, Holds("-0.100000000000")),
        ("exact", r#""x""#, Breaks("not-a-number")),
        ("money", "9999999999.99", Holds("9999999999.99")),
        ("money", "10000000000", Breaks("out-of-range")),
        ("money", "1.005", Breaks("not-exact")),
        ("short", r#""äöü€😀""#, Holds("äöü€😀")),
        ("short", r#""123456""#, Breaks("too-long")),
        ("flag", "true", Holds("1")),
        ("flag", "1", Breaks("wrong-type")),
        ("day", r#""2024-02-29""#, Holds("2024-02-29")),
        ("day", r#""2023-02-29""#, Breaks("out-of-range")),
        ("clock", r#""23:59:59.999999""#, Holds("23:59:59.999")),
        ("clock", r#""noon""#, Breaks("not-a-time")),
        ("moment", r#""2024-05-01T12:00:00.123456+02:00""#, Holds("2024-05-01 10:00:00.123456")),
        ("moment", r#""2024-05-01T12:00:00""#, Breaks("no-zone")),
        ("local", r#""2024-05-01T12:00:00.9""#, Holds("2024-05-01 12:00:00")),
        ("local", r#""2024-05-01T12:00:00Z""#, Breaks("has-zone")),
        (
            "doc",
            r#"{"a": [1, 2.50, null], "b": "\u00e9"}"#,
            if kind == Kind::MySql { Holds(r#"{"a": [1, 2.5, null], "b": "é"}"#) } else { Holds(r#"{"a": [1, 2.50, null], "b": "\u00e9"}"#) },
        ),
        ("doc", &deep, Holds(&deep)),
        ("colour", r#""green""#, Holds("green")),
        ("colour", r#""Green""#, Breaks("not-a-label")),
    ]);
    let columns = "CREATE TABLE typed (id bigint PRIMARY KEY, big bigint, small smallint, huge bigint unsigned, real8 double, exact decimal(60,12),
        money decimal(12,2), label longtext, short varchar(5), flag boolean, day date, clock time(3), moment timestamp(6) NULL, local datetime, doc json,
        raw blob, colour enum('red', 'green'))";
    check(kind, label, columns, &cases, &whole_records());
}

#[test]
fn types_on_mysql() {
    types_on_mysql_or_mariadb(Kind::MySql, "types_mysql");
}

#[test]
fn types_on_mariadb() {
    types_on_mysql_or_mariadb(Kind::MariaDb, "types_mariadb");
}
