//! Balances: what is added up counts each event once, however often it is sent and delivered.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    main_job::kill_until_committed,
    random::Random,
    topic::Topic,
    wait::seconds,
};

const EVENTS: usize = 20_000;
const SENT: usize = 3;
const ACCOUNTS: u64 = 500;

/// Each event three times, each time anywhere in the topic: two workers hold the same one at the same time.
fn transfers() -> Vec<Outgoing> {
    let mut random = Random::seeded(11);
    let mut transfers = Vec::new();
    for number in 0..EVENTS {
        let (account, amount) = (random.below(ACCOUNTS), i64::try_from(random.below(200_001)).expect("small") - 100_000);
        let value = format!(r#"{{"event":"t-{number}","id":{account},"balance":{amount},"events":1,"highest":{amount},"lowest":{amount}}}"#);
        for _ in 0..SENT {
            transfers.push(Outgoing::json(random.next().to_string(), value.clone()));
        }
    }
    for last in (1..transfers.len()).rev() {
        transfers.swap(last, usize::try_from(random.below(last as u64 + 1)).expect("small"));
    }
    transfers
}

/// Sum, count, highest and lowest of each account, from what the topic has of each event.
fn expected(topic: &Topic) -> Vec<[i64; 5]> {
    let mut events: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let records = topic.read();
    assert_eq!(records.len(), EVENTS * SENT);
    for record in records {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("events are JSON");
        let number = |name: &str| value[name].as_i64().expect("a number");
        events.insert(value["event"].as_str().expect("an id").to_owned(), (number("id"), number("balance")));
    }
    let mut accounts: BTreeMap<i64, [i64; 5]> = BTreeMap::new();
    for (account, amount) in events.into_values() {
        let [_, sum, count, highest, lowest] = accounts.entry(account).or_insert([account, 0, 0, i64::MIN, i64::MAX]);
        (*sum, *count, *highest, *lowest) = (*sum + amount, *count + 1, amount.max(*highest), amount.min(*lowest));
    }
    accounts.into_values().collect()
}

fn sums(kind: Kind, label: &str) {
    let topic = Topic::create(label, 6);
    let database = Database::create(kind, label);
    let integer = if kind == Kind::Sqlite { "INTEGER" } else { "bigint" };
    let columns = ["balance", "events", "highest", "lowest"].map(|name| format!("{name} {integer} NOT NULL")).join(", ");
    database.execute(&format!("CREATE TABLE accounts (id {integer} PRIMARY KEY, {columns})"));
    let rules = "{ balance: add, events: add, highest: max, lowest: min }";
    let keys = "delivery: at-least-once\n    dedup: [processed-event]\n    event_id: value.event";
    let routes = format!("routes:\n  - topic: {}\n    table: accounts\n    accumulate: {rules}\n    {keys}\n", topic.name);
    // Slow enough that there is something to do at each kill.
    let file = PipelineFile::new(label, &topic, &database, &routes).also("rate_limit: { records_per_second: 4000 }");
    topic.send(&transfers());
    kill_until_committed(seconds(180), &[&topic], &file, 12);
    let rows = database.rows("SELECT id, balance, events, highest, lowest FROM accounts ORDER BY id");
    let number = |value: &Option<String>| value.as_deref().unwrap_or_default().parse::<i64>().expect("a number");
    let rows: Vec<[i64; 5]> = rows.iter().map(|row| std::array::from_fn(|column| number(&row[column]))).collect();
    assert_eq!(rows, expected(&topic), "id, sum, count, highest, lowest");
}

#[test]
fn every_event_is_in_the_sum_once_on_postgres() {
    sums(Kind::Postgres, "sums_postgres");
}

#[test]
fn every_event_is_in_the_sum_once_on_mysql() {
    sums(Kind::MySql, "sums_mysql");
}

#[test]
fn every_event_is_in_the_sum_once_on_mariadb() {
    sums(Kind::MariaDb, "sums_mariadb");
}

#[test]
fn every_event_is_in_the_sum_once_on_sqlite() {
    sums(Kind::Sqlite, "sums_sqlite");
}
