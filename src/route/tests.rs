//! Routes bound to tables of a catalogue that is only described.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use oncesink_sinks::{
    fault::{Fault, FaultClass},
    model::{
        Cell, DedupBackend, Delivery, Generated, Identifier, KeyEquality, Kind, Partition, Rows, Rule, Table, TableColumn, TableName, UniqueKey, WriteMode,
    },
    sink::{Sink, Writer},
};
use regex::Regex;

use super::*;
use crate::{
    decode::{Decoded, EventIdSource, ExtraFields, Format, KeyFormat, MissingFields, Tombstone},
    source::{Records, RecordsBuilder, Sequence, TopicSelector},
};

/// A catalogue that knows some tables.
#[derive(Debug)]
struct Catalogue(Vec<Table>);

#[async_trait]
impl Sink for Catalogue {
    async fn describe(&self, table: &TableName) -> Result<Table, Fault> {
        let found = self.0.iter().find(|known| known.name == *table).cloned();
        found.ok_or_else(|| Fault::new(FaultClass::Halt, "missing-table", table.to_string()))
    }

    fn writer(&self) -> Box<dyn Writer> {
        unreachable!("binding writes nothing")
    }
}

fn column(name: &str, kind: Kind, declared: &str) -> TableColumn {
    TableColumn { name: Identifier::new(name), kind, declared: declared.to_owned(), nullable: true, has_default: false, generated: Generated::No }
}

fn orders() -> Table {
    let mut table = Table {
        name: TableName::parse("public.orders"),
        columns: vec![
            column("id", Kind::Int { bits: 64 }, "bigint"),
            column("customer_id", Kind::Int { bits: 64 }, "bigint"),
            column("total", Kind::Decimal { precision: Some(12), scale: Some(2), exact: true }, "numeric(12,2)"),
            column("note", Kind::Text { max_chars: None }, "text"),
            column("doubled", Kind::Decimal { precision: None, scale: None, exact: true }, "numeric"),
        ],
        keys: vec![UniqueKey { name: "orders_pkey".to_owned(), primary: true, columns: vec![0], equality: KeyEquality::Bytes }],
        other_unique: vec![],
        warnings: vec![],
    };
    table.columns[0].nullable = false;
    table.columns[4].generated = Generated::Always;
    table
}

fn config() -> RouteConfig {
    RouteConfig {
        name: Arc::from("orders"),
        topics: TopicSelector { names: vec!["orders".to_owned()], ..TopicSelector::default() },
        table: "public.orders".to_owned(),
        format: Format::Json,
        key_format: KeyFormat::Auto,
        columns: BTreeMap::new(),
        extra_fields: ExtraFields::Ignore,
        missing_fields: MissingFields::Keep,
        key_columns: None,
        write: WriteMode::Upsert,
        accumulate: BTreeMap::new(),
        version: None,
        delivery: Delivery::ExactlyOnce,
        dedup: vec![DedupBackend::Checkpoint],
        event_id: EventIdSource::Coordinate,
        tombstone: Tombstone::Delete,
        on_bad_record: OnBadRecord::Halt,
        timezone: None,
        timestamp_unit: None,
        place: "orders.yaml:4:12  routes[0]".to_owned(),
    }
}

fn routes(config: RouteConfig, table: Table) -> Routes {
    Routes::new(vec![config], Arc::new(Catalogue(vec![table])))
}

async fn bound(config: RouteConfig, table: Table) -> Result<TopicPlan, Fault> {
    routes(config, table).bind("orders").await
}

async fn fault(config: RouteConfig, table: Table) -> Fault {
    let fault = bound(config, table).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Halt);
    assert!(fault.mend.as_deref().unwrap_or_default().starts_with("--> orders.yaml:4:12  routes[0]"), "{fault:?}");
    fault
}

fn record(key: Option<&str>, value: &str) -> Records {
    let mut builder = RecordsBuilder::new(Partition::new("orders", 3), Sequence(1));
    builder.push(88_211, 0, key.map(str::as_bytes), Some(value.as_bytes()), std::iter::empty());
    builder.finish()
}

fn columns(entries: &[(&str, ColumnSource)]) -> BTreeMap<String, ColumnSource> {
    entries.iter().map(|(name, source)| ((*name).to_owned(), source.clone())).collect()
}

#[tokio::test]
async fn a_short_route_writes_by_the_primary_key() {
    let mut plan = bound(config(), orders()).await.unwrap();
    let route = &mut plan.routes[0];
    assert_eq!((plan.delivery, route.target.key.as_slice(), route.target.columns.as_slice()), (Delivery::ExactlyOnce, &[0][..], &[0, 1, 2, 3][..]));
    let records = record(None, r#"{"id":1,"customerId":2,"total":1.50,"doubled":3}"#);
    let mut rows = Rows::new(route.target.clone());
    assert_eq!(route.decoder.decode(&records.iter().next().unwrap(), 0, &mut rows), Ok(Decoded::Row));
    let cells: Vec<Cell<'_>> = rows.columns.iter().map(|column| column.cell(0)).collect();
    assert_eq!(cells, [Cell::Int(1), Cell::Int(2), Cell::Text("1.5"), Cell::Absent]);
}

#[tokio::test]
async fn columns_that_are_mapped_to_none_are_not_written() {
    let mapped = RouteConfig { columns: columns(&[("note", ColumnSource::None), ("total", ColumnSource::Offset)]), ..config() };
    let plan = bound(mapped, orders()).await.unwrap();
    assert_eq!(plan.routes[0].target.columns, [0, 1, 2]);
    let versioned = RouteConfig { version: Some("note".to_owned()), columns: columns(&[("customer_id", ColumnSource::None)]), ..config() };
    assert_eq!(bound(versioned.clone(), orders()).await.unwrap().routes[0].target.version, Some(2));
    let appended = RouteConfig { write: WriteMode::Append, ..versioned };
    let target = bound(appended, orders()).await.unwrap().routes[0].target.clone();
    assert_eq!((target.key.len(), target.version), (0, None), "append looks at neither key nor version");
}

#[tokio::test]
async fn a_table_without_a_key_says_how_to_get_one() {
    let keyless = Table { keys: vec![], ..orders() };
    let fault = fault(config(), keyless.clone()).await;
    assert_eq!(fault.reason, "no-key");
    assert_eq!(fault.detail, "public.orders has no primary key or unique constraint, so an upsert can't tell which row a record means");
    let mend = fault.mend.unwrap();
    assert!(mend.contains("SELECT id, count(*) FROM public.orders GROUP BY id HAVING count(*) > 1 LIMIT 10;"), "{mend}");
    assert!(mend.contains("ALTER TABLE public.orders ADD PRIMARY KEY (id);") && mend.contains("write: append"), "{mend}");
    assert!(bound(RouteConfig { write: WriteMode::Append, ..config() }, keyless.clone()).await.is_ok());

    let why = "primary key is left out: its column id is compared by NOCASE".to_owned();
    let folded = super::tests::fault(config(), Table { warnings: vec![why.clone()], ..keyless.clone() }).await;
    assert!(folded.detail.contains("constraint that can be used") && folded.mend.unwrap().contains(&why));

    let mut in_main = Table { name: TableName::parse("Orders"), ..keyless };
    in_main.columns.remove(0);
    in_main.columns[0].nullable = false;
    let mend = super::tests::fault(RouteConfig { table: "Orders".to_owned(), ..config() }, in_main).await.mend.unwrap();
    assert!(mend.contains(r#"CREATE UNIQUE INDEX "Orders_customer_id_key" ON "Orders" (customer_id);"#), "{mend}");
}

#[tokio::test]
async fn a_key_is_exactly_a_unique_key() {
    let unique = |name: &str, columns: &[usize]| UniqueKey { name: name.to_owned(), primary: false, columns: columns.to_vec(), equality: KeyEquality::Bytes };
    let table = Table { keys: vec![unique("a", &[1, 0]), unique("b", &[2])], ..orders() };
    let by = |names: &[&str]| RouteConfig { key_columns: Some(names.iter().map(|name| (*name).to_owned()).collect()), ..config() };
    assert_eq!(bound(by(&["id", "customer_id"]), table.clone()).await.unwrap().routes[0].target.key, [1, 0]);
    assert_eq!(fault(by(&["id"]), table.clone()).await.reason, "no-key");
    assert_eq!(fault(by(&["nothing"]), table.clone()).await.reason, "missing-column");
    let several = fault(config(), table.clone()).await;
    assert!(several.reason == "no-key" && several.mend.unwrap().contains("key_columns: [customer_id, id]   # a"));
    let only = Table { keys: vec![unique("b", &[2])], ..orders() };
    assert_eq!(bound(config(), only).await.unwrap().routes[0].target.key, [2]);
}

#[tokio::test]
async fn what_the_file_says_must_be_in_the_table() {
    let version = RouteConfig { version: Some("updated_at".to_owned()), ..config() };
    let fault_of = fault(version, orders()).await;
    assert_eq!((fault_of.reason.as_ref(), fault_of.column.as_deref()), ("missing-column", Some("updated_at")));
    assert_eq!(fault(RouteConfig { version: Some("total".to_owned()), ..config() }, orders()).await.reason, "version-type");
    let mapped = |entries: &[(&str, ColumnSource)]| RouteConfig { columns: columns(entries), ..config() };
    assert_eq!(fault(mapped(&[("nothing", ColumnSource::Topic)]), orders()).await.reason, "missing-column");
    assert_eq!(fault(mapped(&[("doubled", ColumnSource::Offset)]), orders()).await.reason, "generated-column");
    assert_eq!(fault(mapped(&[("id", ColumnSource::None)]), orders()).await.reason, "column-not-written");
    assert_eq!(fault(mapped(&[("note", ColumnSource::Offset)]), orders()).await.reason, "wrong-type");
    assert_eq!(fault(mapped(&[("id", ColumnSource::Literal("x".to_owned()))]), orders()).await.reason, "not-a-number");
    assert_eq!(fault(RouteConfig { timezone: Some("Mars".to_owned()), ..config() }, orders()).await.reason, "timezone");
    assert_eq!(fault(RouteConfig { table: "{kind}".to_owned(), ..config() }, orders()).await.reason, "table-name");
}

#[tokio::test]
async fn text_goes_to_the_only_column_outside_the_key() {
    let text = RouteConfig { format: Format::Text, ..config() };
    assert_eq!(fault(text.clone(), orders()).await.reason, "no-value-column");
    let mut table = orders();
    table.columns = vec![table.columns[0].clone(), table.columns[3].clone()];
    assert_eq!(bound(text.clone(), table.clone()).await.unwrap().routes[0].target.columns, [0, 1]);
    let appended = RouteConfig { write: WriteMode::Append, ..text.clone() };
    assert_eq!(bound(appended, table).await.unwrap().routes[0].target.columns, [1]);
    let pathed = RouteConfig { columns: columns(&[("note", ColumnSource::Value(vec!["a".to_owned()]))]), ..text };
    assert_eq!(fault(pathed, orders()).await.reason, "no-fields");
}

#[tokio::test]
async fn a_topic_goes_to_all_its_routes_in_the_order_of_the_file() {
    let second = RouteConfig {
        name: Arc::from("log"),
        topics: TopicSelector { patterns: vec![Regex::new("^ord(?<rest>ers)$").unwrap()], ..TopicSelector::default() },
        table: "log.{rest}".to_owned(),
        ..config()
    };
    let log = Table { name: TableName::parse("log.ers"), ..orders() };
    let catalogue = Arc::new(Catalogue(vec![log, orders()]));
    let both = Routes::new(vec![second.clone(), config()], catalogue.clone());
    let names: Vec<String> = both.bind("orders").await.unwrap().routes.iter().map(|route| route.target.table.name.to_string()).collect();
    assert_eq!(names, ["log.ers", "public.orders"]);
    assert_eq!(both.tables_of("orders").unwrap().len(), 2);
    assert_eq!(both.bind("payments").await.unwrap_err().reason, "no-route");
    let differing = Routes::new(vec![RouteConfig { delivery: Delivery::AtLeastOnce, ..second }, config()], catalogue);
    assert_eq!(differing.bind("orders").await.unwrap_err().reason, "deliveries-differ");
}

#[tokio::test]
async fn two_routes_of_a_topic_into_one_table_only_append() {
    // The second one finds the same table by another name: the catalogue's name decides.
    let second = |write| RouteConfig { name: Arc::from("again"), table: "orders".to_owned(), write, ..config() };
    let first = |write| RouteConfig { write, ..config() };
    let catalogue = Arc::new(SearchPath);
    let with = |one: WriteMode, other: WriteMode| Routes::new(vec![first(one), second(other)], catalogue.clone());
    for (one, other) in [(WriteMode::Upsert, WriteMode::Upsert), (WriteMode::Append, WriteMode::Update), (WriteMode::Upsert, WriteMode::Append)] {
        let fault = with(one, other).bind("orders").await.unwrap_err();
        assert_eq!((fault.class, fault.reason.as_ref()), (FaultClass::Halt, "same-table-twice"));
        assert!(fault.detail.contains("orders and again both write orders to public.orders"), "{}", fault.detail);
        assert_eq!(with(one, other).describe_mapping("orders", None).await.unwrap_err().reason, "same-table-twice");
    }
    assert_eq!(with(WriteMode::Append, WriteMode::Append).bind("orders").await.unwrap().routes.len(), 2);
}

#[tokio::test]
async fn insert_if_new_needs_no_unique_key() {
    let keyless = Table { keys: vec![], ..orders() };
    let by = |write, names: Option<&[&str]>| RouteConfig {
        write,
        key_columns: names.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        ..config()
    };
    let plan = bound(by(WriteMode::InsertIfNew, Some(&["note", "id"])), keyless.clone()).await.unwrap();
    let target = &plan.routes[0].target;
    assert_eq!((target.key.as_slice(), target.key_is_unique()), (&[0, 3][..], false));
    assert_eq!(target.key_equality, KeyEquality::Database, "nobody has said which keys are the same");
    assert_eq!(fault(by(WriteMode::Upsert, Some(&["note", "id"])), keyless.clone()).await.reason, "no-key");
    let unsaid = fault(by(WriteMode::InsertIfNew, None), keyless.clone()).await;
    assert!(unsaid.reason == "no-key" && unsaid.mend.as_deref().unwrap().contains("key_columns: [id]"), "{unsaid:?}");
    let warnings = |config, table| async move { routes(config, table).describe_mapping("orders", None).await.unwrap().remove(0).warnings };
    let raced = warnings(by(WriteMode::InsertIfNew, Some(&["id", "note"])), keyless).await;
    assert_eq!(
        raced,
        ["no unique key covers (id, note): each record looks for its key by itself, and two workers that bring a new key at the same moment both insert it; \
          ALTER TABLE public.orders ADD UNIQUE (id, note) stops that"]
    );
    assert!(warnings(by(WriteMode::InsertIfNew, None), orders()).await.is_empty());
}

#[tokio::test]
async fn each_column_has_its_rule() {
    let accumulating = |entries: &[(&str, Rule)]| RouteConfig {
        write: WriteMode::Accumulate,
        accumulate: entries.iter().map(|(name, rule)| ((*name).to_owned(), *rule)).collect(),
        ..config()
    };
    let plan = bound(accumulating(&[("total", Rule::Add), ("note", Rule::Max)]), orders()).await.unwrap();
    assert_eq!(plan.routes[0].target.accumulate, [Rule::Replace, Rule::Replace, Rule::Add, Rule::Max]);
    assert!(bound(config(), orders()).await.unwrap().routes[0].target.accumulate.is_empty());

    let mut table = orders();
    table.columns.push(column("tags", Kind::Json, "jsonb"));
    for (name, rule, reason) in [
        ("nothing", Rule::Add, "missing-column"),
        ("id", Rule::Max, "accumulate-key"),
        ("note", Rule::Add, "accumulate-type"),
        ("tags", Rule::Min, "accumulate-type"),
        ("doubled", Rule::First, "generated-column"),
    ] {
        let fault = fault(accumulating(&[(name, rule)]), table.clone()).await;
        assert_eq!((fault.reason.as_ref(), fault.column.as_deref()), (reason, Some(name)), "{fault:?}");
    }
    assert!(bound(accumulating(&[("tags", Rule::Coalesce)]), table.clone()).await.is_ok());
    let unwritten = RouteConfig { columns: columns(&[("note", ColumnSource::None)]), ..accumulating(&[("note", Rule::First)]) };
    assert_eq!(fault(unwritten, table).await.reason, "column-not-written");

    let mut inexact = orders();
    inexact.columns[2].kind = Kind::Decimal { precision: Some(12), scale: Some(2), exact: false };
    let mapping = routes(accumulating(&[("total", Rule::Add)]), inexact).describe_mapping("orders", None).await.unwrap().remove(0);
    assert!(mapping.columns[2].note.starts_with("add, inexact"), "{}", mapping.columns[2].note);
    assert!(mapping.warnings[0].starts_with("column total (numeric(12,2)) adds up in binary floating point"), "{:?}", mapping.warnings);
}

#[tokio::test]
async fn the_loosest_key_over_the_same_columns_says_who_compares() {
    let key = |name: &str, columns: &[usize], equality| UniqueKey { name: name.to_owned(), primary: name == "p", columns: columns.to_vec(), equality };
    let with = |keys: &[UniqueKey]| bound(config(), Table { keys: keys.to_vec(), ..orders() });
    let exact = key("p", &[0, 1], KeyEquality::Bytes);
    let elsewhere = key("a", &[3], KeyEquality::Database);
    let plan = with(&[exact.clone(), elsewhere.clone()]).await.unwrap();
    assert_eq!(plan.routes[0].target.key_equality, KeyEquality::Bytes);
    let plan = with(&[exact, elsewhere, key("b", &[1, 0], KeyEquality::Database)]).await.unwrap();
    assert_eq!(plan.routes[0].target.key_equality, KeyEquality::Database);
}

#[tokio::test]
async fn a_mark_has_a_column_of_its_own() {
    let marked = |name: &str| RouteConfig { tombstone: Tombstone::Mark(name.into()), ..config() };
    let with = |kind: Kind, declared: &str, nullable: bool| {
        let mut table = orders();
        table.columns.push(TableColumn { nullable, ..column("deleted_at", kind, declared) });
        table
    };
    let timestamp = || with(Kind::TimestampTz { digits: 6 }, "timestamp with time zone", true);
    let mut plan = bound(marked("deleted_at"), timestamp()).await.unwrap();
    let route = &mut plan.routes[0];
    let records = record(None, r#"{"id":1,"deleted_at":"never looked at"}"#);
    let mut rows = Rows::new(route.target.clone());
    assert_eq!(route.decoder.decode(&records.iter().next().unwrap(), 0, &mut rows), Ok(Decoded::Row));
    assert_eq!(rows.columns.last().unwrap().cell(0), Cell::Null);
    assert!(bound(marked("deleted_at"), with(Kind::Bool, "boolean", false)).await.is_ok());
    for (config, table, reason, mend) in [
        (marked("gone"), timestamp(), "missing-column", "deleted_at"),
        (marked("id"), timestamp(), "mark-key", "deleted_at"),
        (RouteConfig { version: Some("deleted_at".to_owned()), ..marked("deleted_at") }, timestamp(), "mark-version", "deleted_at"),
        (marked("doubled"), timestamp(), "generated-column", "deleted_at"),
        (marked("note"), timestamp(), "mark-type", "one of these types"),
        (marked("deleted_at"), with(Kind::Timestamp { digits: 6 }, "timestamp without time zone", false), "mark-type", "boolean"),
    ] {
        let fault = fault(config, table).await;
        assert_eq!(&*fault.reason, reason, "{fault:?}");
        assert!(fault.mend.as_deref().unwrap_or_default().contains(mend), "{fault:?}");
    }
    // A text in a table whose only other column is the mark has one place to go.
    let text = RouteConfig { format: Format::Text, columns: columns(&[("id", ColumnSource::Key(Vec::new()))]), ..marked("deleted_at") };
    let mut table = timestamp();
    table.columns.drain(1..3);
    table.columns.remove(2);
    assert!(bound(text, table).await.is_ok());
}

/// Finds `orders` whatever its schema is said to be.
#[derive(Debug)]
struct SearchPath;

#[async_trait]
impl Sink for SearchPath {
    async fn describe(&self, _: &TableName) -> Result<Table, Fault> {
        Ok(orders())
    }

    fn writer(&self) -> Box<dyn Writer> {
        unreachable!("binding writes nothing")
    }
}

#[tokio::test]
async fn plan_shows_where_each_column_comes_from() {
    let records = record(Some("1"), r#"{"id":1,"customerId":2,"total":1.555,"trace\u001b_id":"t"}"#);
    let latest = records.iter().next().unwrap();
    let mapped = RouteConfig { columns: columns(&[("note", ColumnSource::Header("traceparent".to_owned()))]), ..config() };
    let routes = routes(mapped, orders());
    let mapping = routes.describe_mapping("orders", Some(&latest)).await.unwrap().remove(0);
    let lines: Vec<[&str; 4]> = mapping.columns.iter().map(|line| [line.column.as_str(), &line.declared, &line.from, &line.note]).collect();
    let expected = [
        ["id", "bigint", "value.id", "key"],
        ["customer_id", "bigint", "value.customerId", "matched ignoring case and _"],
        ["total", "numeric(12,2)", "value.total", ""],
        ["note", "text", "headers.traceparent", ""],
        ["doubled", "numeric", "-", "made by the database"],
    ];
    assert_eq!(lines, expected);
    assert_eq!(mapping.fields_without_column, ["trace\\u{1b}_id"]);
    assert_eq!((mapping.key.as_slice(), mapping.primary), (&["id".to_owned()][..], true));
    assert_eq!(mapping.bad.unwrap().to_string(), "not-exact in column total numeric(12,2): more than 2 digits after the point");
    let nothing = routes.describe_mapping("orders", None).await.unwrap().remove(0);
    assert_eq!((nothing.columns[0].from.as_str(), nothing.bad), ("-", None));
    let partial = record(None, r#"{"id":1}"#);
    let mapping = routes.describe_mapping("orders", partial.iter().next().as_ref()).await.unwrap().remove(0);
    assert_eq!(mapping.columns[1].note, "not in the latest record: left as it is");
}
