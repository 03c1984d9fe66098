//! `accumulate`, the same on every database: a row that is there takes each record into account.

use std::{collections::BTreeMap, fmt::Write as _};

use oncesink_sinks::{
    fault::FaultClass,
    model::{Operation, Rule, WriteMode},
};

use crate::{
    on_each,
    world::{self, Kind, V, World, t},
};

on_each!(
    each_column_follows_its_rule,
    a_key_that_comes_many_times_in_one_batch,
    a_new_row_needs_its_required_columns,
    a_check_is_asked_of_the_sum,
    a_sum_that_does_not_fit_is_refused,
    every_kind_follows_its_rule,
    sums_are_exact,
);

const RULES: [(&str, Rule); 5] = [("balance", Rule::Add), ("peak", Rule::Max), ("low", Rule::Min), ("note", Rule::Coalesce), ("first_seen", Rule::First)];

const COLUMNS: [&str; 7] = ["id", "balance", "peak", "low", "note", "first_seen", "status"];

/// A row of its numbers and texts.
fn row(id: i64, numbers: [V; 3], texts: [V; 3]) -> Vec<V> {
    [vec![V::I(id)], numbers.to_vec(), texts.to_vec()].concat()
}

async fn each_column_follows_its_rule(world: World) {
    let columns = "balance BIGINT, peak BIGINT, low BIGINT, note VARCHAR(20), first_seen VARCHAR(20), status VARCHAR(20)";
    // With a second unique key MySQL and MariaDB write another way.
    for (table, other) in [("accounts", ""), ("users", " UNIQUE")] {
        world.run(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, {columns}, email VARCHAR(9){other})")).await;
        let mut worker = world.worker_of(world::accumulate(&world, table, &RULES).await).await;
        let rows = async || world.rows(&COLUMNS, &format!("FROM {table} ORDER BY id")).await;
        let with_email = |rows: Vec<Vec<V>>| rows.into_iter().map(|row| [row, vec![V::A]].concat()).collect::<Vec<_>>();
        let first = vec![row(1, [V::I(10), V::I(10), V::I(10)], [t("a"), t("a"), t("a")]), row(2, [V::N, V::N, V::N], [V::N, V::N, V::N])];
        worker.write(with_email(first)).await;
        assert_eq!(rows().await, ["1|10|10|10|a|a|a", "2|-|-|-|-|-|-"]);
        let again = vec![row(1, [V::I(-3), V::I(7), V::I(7)], [t("b"), t("b"), t("b")]), row(2, [V::I(5), V::I(5), V::I(5)], [t("b"), t("b"), t("b")])];
        worker.write(with_email(again)).await;
        assert_eq!(rows().await, ["1|7|10|7|b|a|b", "2|5|5|5|b|b|b"], "NULL counts as nothing, and never wins");
        let nulls = vec![row(1, [V::N, V::N, V::N], [V::N, V::N, V::N]), row(2, [V::I(1), V::I(9), V::I(9)], [t("c"), t("c"), t("c")])];
        worker.write(with_email(nulls)).await;
        assert_eq!(rows().await, ["1|7|10|7|b|a|-", "2|6|9|5|c|b|c"], "only `replace` takes a NULL");
        let absent = vec![row(1, [V::I(1), V::A, V::A], [V::A, V::A, V::A]), row(2, [V::A, V::I(1), V::I(1)], [V::A, t("d"), t("d")])];
        worker.write(with_email(absent)).await;
        assert_eq!(rows().await, ["1|8|10|7|b|a|-", "2|6|9|1|c|b|d"], "what a record lacks is left alone");
        worker.write(vec![[row(1, [V::A, V::A, V::A], [V::A, V::A, V::A]), vec![V::A]].concat()]).await;
        assert_eq!(rows().await, ["1|8|10|7|b|a|-", "2|6|9|1|c|b|d"]);
    }
}

async fn a_key_that_comes_many_times_in_one_batch(world: World) {
    world.run("CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT, peak BIGINT, low BIGINT, note VARCHAR(20), first_seen VARCHAR(20), status VARCHAR(20))").await;
    let mut worker = world.worker_of(world::accumulate(&world, "accounts", &RULES).await).await;
    let written = |id: i64, number: i64| {
        // Every third record has another shape.
        let status = if number % 3 == 0 { V::A } else { t(&number.to_string()) };
        (Operation::Write, row(id, [V::I(number), V::I(number), V::I(number)], [t(&number.to_string()), t(&number.to_string()), status]))
    };
    let mut rows: Vec<(Operation, Vec<V>)> = (1..=100).flat_map(|number| [written(1, number), written(2, -number)]).collect();
    worker.apply(&rows).await.unwrap();
    let all = || world.rows(&COLUMNS, "FROM accounts ORDER BY id");
    assert_eq!(all().await, ["1|5050|100|1|100|1|100", "2|-5050|-1|-100|-100|-1|-100"]);
    let mut deleted = vec![V::A; 7];
    deleted[0] = V::I(1);
    rows.insert(100, (Operation::Delete, deleted));
    worker.apply(&rows).await.unwrap();
    assert_eq!(all().await, ["1|3775|100|51|100|51|100", "2|-10100|-1|-100|-100|-1|-100"], "what came before a delete is gone");
}

async fn a_new_row_needs_its_required_columns(world: World) {
    world.run("CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT, owner VARCHAR(20) NOT NULL)").await;
    let mut worker = world.worker_of(world::accumulate(&world, "accounts", &[("balance", Rule::Add)]).await).await;
    worker.write(vec![vec![V::I(1), V::I(10), t("a")]]).await;
    worker.write(vec![vec![V::I(1), V::I(5), V::A], vec![V::I(1), V::I(6), V::A], vec![V::I(1), V::I(7), t("b")]]).await;
    assert_eq!(world.rows(&["id", "balance", "owner"], "FROM accounts").await, ["1|28|b"]);
    let fault = worker.fails(vec![vec![V::I(1), V::I(1), V::A], vec![V::I(2), V::I(1), V::A]]).await;
    assert_eq!((fault.class, &*fault.reason, fault.column.as_deref()), (FaultClass::Poison, "required-column-absent", Some("owner")), "{fault}");
    let fault = worker.fails(vec![vec![V::I(3), V::A, V::A]]).await;
    assert_eq!(&*fault.reason, "required-column-absent", "{fault}");
    worker.write(vec![vec![V::I(1), V::A, V::A]]).await;
    assert_eq!(world.rows(&["id", "balance", "owner"], "FROM accounts").await, ["1|28|b"]);
}

/// A server asks its CHECKs of a row before it knows that the row is there.
async fn a_check_is_asked_of_the_sum(world: World) {
    world.run("CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT, CHECK (balance >= 0))").await;
    let mut worker = world.worker_of(world::accumulate(&world, "accounts", &[("balance", Rule::Add)]).await).await;
    worker.write(vec![vec![V::I(1), V::I(100)], vec![V::I(1), V::I(-30)]]).await;
    worker.write(vec![vec![V::I(1), V::I(-70)], vec![V::I(2), V::I(5)]]).await;
    assert_eq!(world.rows(&["id", "balance"], "FROM accounts ORDER BY id").await, ["1|0", "2|5"]);
    for id in [1, 3] {
        let fault = worker.fails(vec![vec![V::I(id), V::I(-1)]]).await;
        assert_eq!((fault.class, &*fault.reason), (FaultClass::Poison, "check"), "{fault:?}");
    }
    assert_eq!(world.rows(&["id", "balance"], "FROM accounts ORDER BY id").await, ["1|0", "2|5"]);
}

async fn a_sum_that_does_not_fit_is_refused(world: World) {
    for (table, other) in [("accounts", ""), ("users", " UNIQUE")] {
        world.run(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, balance BIGINT, other BIGINT{other})")).await;
        let mut worker = world.worker_of(world::accumulate(&world, table, &[("balance", Rule::Add)]).await).await;
        worker.write(vec![vec![V::I(1), V::I(i64::MAX - 1), V::A], vec![V::I(1), V::I(1), V::A]]).await;
        let fault = worker.fails(vec![vec![V::I(1), V::I(1), V::A]]).await;
        assert_eq!((fault.class, &*fault.reason), (FaultClass::Poison, "out-of-range"), "{fault:?}");
        worker.write(vec![vec![V::I(1), V::I(-1), V::A]]).await;
        assert_eq!(world.rows(&["balance"], &format!("FROM {table}")).await, [(i64::MAX - 1).to_string()]);
    }
}

/// A column of every kind: its name, its type, a lesser value and a greater one, and whether it has an order.
fn kinds(kind: Kind) -> Vec<(&'static str, &'static str, V, V, bool)> {
    let (bytes, json, time, timestamp) = match kind {
        Kind::Postgres => ("bytea", "jsonb", "time", "timestamp"),
        Kind::MySql | Kind::MariaDb => ("BLOB", "JSON", "TIME(6)", "DATETIME(6)"),
        Kind::Sqlite => ("BLOB", "JSON", "TIME", "TIMESTAMP WITHOUT TIME ZONE"),
    };
    let mut kinds = vec![
        ("i", "INTEGER", V::I(-5), V::I(40), true),
        ("m", "DECIMAL(20,4)", t("9.25"), t("10.5"), true),
        ("f", "DOUBLE PRECISION", V::F(9.5), V::F(10.25), true),
        // The other way round under a collation that folds case.
        ("s", "VARCHAR(9)", t("B"), t("a"), true),
        ("d", "DATE", V::I(9_999), V::I(10_000), true),
        ("e", time, V::I(1_000_000), V::I(1_000_001), true),
        ("g", timestamp, V::I(-1), V::I(1_795_222_923_000_004), true),
        ("b", "BOOLEAN", V::B(false), V::B(true), true),
        ("j", json, t("{\"a\": 1}"), t("{\"a\": 2}"), false),
        ("y", bytes, V::Y(vec![1, 255]), V::Y(vec![2, 0]), false),
    ];
    if kind != Kind::MySql {
        let uuid = |first: u8, middle: u8| V::U([first, 0, 0, 0, 0, 0, middle, 0, 0x80, 0, 0, 0, 0, 0, 0, 1]);
        // MariaDB orders them by their middle.
        kinds.push(("u", "UUID", uuid(1, 0x1f), uuid(2, 0x10), true));
    }
    kinds
}

async fn every_kind_follows_its_rule(world: World) {
    for (rule, other) in [Rule::Max, Rule::Min, Rule::Coalesce, Rule::First].into_iter().flat_map(|rule| [(rule, ""), (rule, " UNIQUE")]) {
        let kinds: Vec<_> = kinds(world.kind()).into_iter().filter(|(.., ordered)| *ordered || matches!(rule, Rule::Coalesce | Rule::First)).collect();
        let table = format!("things_{rule}_{}", other.len());
        let columns = kinds.iter().fold(String::new(), |mut columns, (name, declared, ..)| {
            let _ = write!(columns, ", {name} {declared}");
            columns
        });
        world.run(&format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, other BIGINT{other}{columns})")).await;
        let rules: Vec<(&str, Rule)> = kinds.iter().map(|(name, ..)| (*name, rule)).collect();
        let mut worker = world.worker_of(world::accumulate(&world, &table, &rules).await).await;
        let row = |id: i64, values: Vec<V>| [vec![V::I(id), V::N], values].concat();
        let less = || kinds.iter().map(|(_, _, less, ..)| less.clone()).collect::<Vec<_>>();
        let more = || kinds.iter().map(|(_, _, _, more, _)| more.clone()).collect::<Vec<_>>();
        let null = || vec![V::N; kinds.len()];
        worker.write(vec![row(1, less()), row(2, more()), row(3, null()), row(10, less()), row(11, more())]).await;
        worker.write(vec![row(1, more()), row(2, less()), row(3, less()), row(3, more())]).await;
        worker.write(vec![row(1, null()), row(2, null()), row(3, null())]).await;
        let expected = match rule {
            Rule::Max => [11, 11, 11],
            Rule::Min => [10, 10, 10],
            Rule::Coalesce => [11, 10, 11],
            _ => [10, 11, 10],
        };
        for (id, like) in (1..=3).zip(expected) {
            for (name, ..) in &kinds {
                let same = format!("FROM {table} AS l JOIN {table} AS r ON l.{name} = r.{name} WHERE l.id = {id} AND r.id = {like}");
                assert_eq!(world.rows(&["count(*)"], &same).await, ["1"], "{rule} of {name} in row {id}{other}");
            }
        }
    }
}

/// Every record is in the sum of its key once, whatever batch it came in: by plain SQL, against a table that holds each record as its own row.
async fn sums_are_exact(world: World) {
    let decimal = if world.kind() == Kind::Sqlite { "BIGINT" } else { "DECIMAL(20,4)" };
    world
        .run(&format!(
            "CREATE TABLE journal (id BIGINT, amount {decimal}, count BIGINT); CREATE TABLE accounts (id BIGINT PRIMARY KEY, amount {decimal}, count BIGINT)"
        ))
        .await;
    let mut sums: BTreeMap<i64, i64> = BTreeMap::new();
    let records: Vec<Vec<V>> = (0..6000_i64)
        .map(|number| {
            let (id, amount) = (number * 7919 % 200, number * 104_729 % 20_001 - 10_000);
            *sums.entry(id).or_default() += amount;
            let text = format!("{}{}.{:04}", if amount < 0 { "-" } else { "" }, amount.abs() / 10_000, amount.abs() % 10_000);
            vec![V::I(id), if world.kind() == Kind::Sqlite { V::I(amount) } else { t(&text) }, V::I(1)]
        })
        .collect();
    let mut journal = world.worker("journal", WriteMode::Append, None).await;
    journal.write(records.clone()).await;
    let mut worker = world.worker_of(world::accumulate(&world, "accounts", &[("amount", Rule::Add), ("count", Rule::Add)]).await).await;
    for batch in records.chunks(1_100) {
        worker.write(batch.to_vec()).await;
    }
    let of_all = world.rows(&["count(*)", "sum(count)"], "FROM accounts").await;
    assert_eq!(of_all, ["200|6000"]);
    let differing = "FROM accounts AS a JOIN (SELECT id, sum(amount) AS amount, count(*) AS count FROM journal GROUP BY id) AS j ON a.id = j.id \
                     WHERE a.amount <> j.amount OR a.count <> j.count";
    assert_eq!(world.rows(&["count(*)"], differing).await, ["0"]);
    let scale = if world.kind() == Kind::Sqlite { 1 } else { 10_000 };
    for (id, sum) in sums.iter().take(5) {
        let same = format!("FROM accounts WHERE id = {id} AND amount * {scale} = {sum}");
        assert_eq!(world.rows(&["count(*)"], &same).await, ["1"], "the sum of {id} is {sum}");
    }
}
