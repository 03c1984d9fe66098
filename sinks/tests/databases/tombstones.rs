//! Deletes of tables with a version are remembered: what is older than them does not bring a row back, whatever order it comes in.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use oncesink_sinks::{
    checkpoint::Checkpoint,
    claim::{Claimed, Wanted},
    fault::FaultClass,
    model::{Batch, NextOffset, Operation, Partition, Span, WriteMode},
    session::{Session, Step},
    sink::{Applied, ApplyError, Sink, Writer},
    tombstone_table::{LockMode, StoredTombstone, TableLock, TombstonesOf},
    tombstones::lock_number,
};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};
use tokio::time::timeout;

use crate::{
    on_each,
    world::{Kind, PIPELINE, V, Worker, World, request, t, target},
};

on_each!(
    a_write_that_is_older_than_a_delete_is_stale,
    null_never_wins_over_a_value,
    within_a_batch_records_take_effect_one_by_one,
    every_type_of_version_is_remembered,
    a_version_in_the_key_is_its_own,
    long_keys_and_keys_of_several_columns_are_told_apart,
    thousands_of_deletes_are_remembered,
    rows_of_one_table_know_of_each_other,
    an_update_makes_no_row_and_forgets_no_delete,
    a_mark_keeps_the_row,
    a_route_without_a_version_asks_nothing,
    a_version_that_cannot_be_compared_halts,
    a_write_that_comes_again_does_not_undo_a_delete_from_elsewhere,
    a_row_of_another_writer_is_not_deleted_by_what_is_older,
    tombstones_expire,
    any_order_ends_in_the_highest_version,
);

/// A file has one transaction at a time.
mod on_servers {
    use super::{a_delete_and_a_write_of_one_key_wait_for_each_other, what_a_batch_holds_is_not_waited_for, writers_and_deleters_meet};
    crate::on_each!(on_postgres, on_mysql, on_mariadb: [a_delete_and_a_write_of_one_key_wait_for_each_other, writers_and_deleters_meet, what_a_batch_holds_is_not_waited_for]);
}

/// A worker that upserts into `orders`, whose newer `v` wins.
async fn worker(world: &World) -> Worker {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, v BIGINT, note VARCHAR(20))").await;
    world.worker("orders", WriteMode::Upsert, Some("v")).await
}

fn write(id: i64, version: V, note: &str) -> (Operation, Vec<V>) {
    (Operation::Write, vec![V::I(id), version, t(note)])
}

fn delete(id: i64, version: V) -> (Operation, Vec<V>) {
    (Operation::Delete, vec![V::I(id), version, V::A])
}

/// Applies one record after the other, each in a batch of its own; gives how many were stale.
async fn apply(worker: &mut Worker, records: &[(Operation, Vec<V>)]) -> u64 {
    let mut stale = 0;
    for record in records {
        stale += worker.apply(std::slice::from_ref(record)).await.unwrap().stale[0];
    }
    stale
}

async fn orders(world: &World) -> Vec<String> {
    world.rows(&["id", "v", "note"], "FROM orders ORDER BY id").await
}

async fn tombstones(world: &World) -> Vec<String> {
    world.rows(&["table_name", "row_key", "version"], &format!("FROM {} ORDER BY row_key", world.bookkeeping("oncesink_tombstone"))).await
}

/// As the catalogue names it.
fn table(world: &World, name: &str) -> String {
    if world.is_postgres() { format!("public.{name}") } else { name.to_owned() }
}

async fn a_write_that_is_older_than_a_delete_is_stale(world: World) {
    let mut worker = worker(&world).await;
    let orders_table = table(&world, "orders");
    assert_eq!(apply(&mut worker, &[write(1, V::I(5), "five"), delete(1, V::I(7)), write(1, V::I(6), "six")]).await, 1);
    assert_eq!((orders(&world).await, tombstones(&world).await), (vec![], vec![format!("{orders_table}|{{\"id\":\"1\"}}|7")]));
    assert_eq!(apply(&mut worker, &[write(1, V::I(7), "seven")]).await, 0, "of equal versions the later record wins");
    assert_eq!((orders(&world).await, tombstones(&world).await), (vec!["1|7|seven".to_owned()], vec![]), "a newer write takes the tombstone away");
    // A delete that comes before everything it deletes.
    assert_eq!(apply(&mut worker, &[delete(2, V::I(9)), write(2, V::I(8), "late"), write(3, V::I(1), "other")]).await, 1);
    assert_eq!(orders(&world).await, ["1|7|seven", "3|1|other"]);
    assert_eq!(apply(&mut worker, &[delete(2, V::I(9)), write(2, V::I(10), "ten")]).await, 0);
    assert_eq!(orders(&world).await, ["1|7|seven", "2|10|ten", "3|1|other"]);
}

async fn null_never_wins_over_a_value(world: World) {
    let mut worker = worker(&world).await;
    assert_eq!(apply(&mut worker, &[delete(1, V::I(1)), write(1, V::N, "null")]).await, 1);
    assert_eq!(apply(&mut worker, &[write(2, V::N, "null"), delete(2, V::N), write(2, V::N, "again")]).await, 0, "NULL against NULL: the later record");
    assert_eq!(apply(&mut worker, &[write(3, V::N, "null"), delete(3, V::I(1)), write(3, V::N, "late")]).await, 1);
    assert_eq!(orders(&world).await, ["2|-|again"]);
}

async fn within_a_batch_records_take_effect_one_by_one(world: World) {
    let mut worker = worker(&world).await;
    let batch = [
        write(1, V::I(5), "five"),
        delete(1, V::A),
        write(1, V::I(4), "late"),
        write(2, V::I(1), "one"),
        delete(2, V::I(3)),
        write(2, V::I(3), "three"),
        delete(3, V::I(2)),
        delete(4, V::I(2)),
        write(4, V::I(9), "nine"),
        delete(4, V::I(8)),
    ];
    assert_eq!(worker.apply(&batch).await.unwrap().stale, [2]);
    assert_eq!(orders(&world).await, ["2|3|three", "4|9|nine"]);
    let orders_table = table(&world, "orders");
    assert_eq!(tombstones(&world).await, [format!("{orders_table}|{{\"id\":\"1\"}}|5"), format!("{orders_table}|{{\"id\":\"3\"}}|2")]);
    // What is there decides as well.
    assert_eq!(worker.apply(&[delete(4, V::A), write(4, V::I(8), "eight"), write(1, V::I(5), "back"), delete(3, V::I(1))]).await.unwrap().stale, [2]);
    assert_eq!(orders(&world).await, ["1|5|back", "2|3|three"]);
}

/// Read from the row that is deleted, kept as text, and compared with what comes late.
async fn every_type_of_version_is_remembered(world: World) {
    let uuid = |last: u8| V::U([0x67, 0xe5, 0x50, 0x44, 0x10, 0xb1, 0x42, 0x6f, 0x92, 0x47, 0xbb, 0x68, 0x0e, 0x5f, 0xe0, last]);
    let bytes = |last: u8| V::Y(vec![0, 255, last]);
    let noon = 1_795_222_923_000_004;
    let mut types = vec![
        ("BIGINT", V::I(-5), V::I(i64::MAX)),
        ("DATE", V::I(-719_162), V::I(20_000)),
        ("BOOLEAN", V::B(false), V::B(true)),
        ("DOUBLE PRECISION", V::F(0.1), V::F(0.100_000_000_000_000_02)),
    ];
    types.extend(match world.kind() {
        Kind::Postgres => vec![
            ("text", t("Z"), t("a")),
            ("timestamp", V::I(-62_135_596_800_000_000), V::I(noon)),
            ("timestamptz", V::I(noon), V::I(noon + 1)),
            ("time", V::I(1), V::I(86_399_999_999)),
            ("bytea", bytes(1), bytes(2)),
            ("uuid", uuid(1), uuid(2)),
        ],
        Kind::MySql | Kind::MariaDb => vec![
            ("VARCHAR(9)", t("Z"), t("a")),
            ("DATETIME(6)", V::I(-30_610_224_000_000_000), V::I(noon)),
            ("TIMESTAMP(6) NULL", V::I(noon), V::I(noon + 1)),
            ("TIME(6)", V::I(1), V::I(86_399_999_999)),
            ("VARBINARY(9)", bytes(1), bytes(2)),
            ("FLOAT", V::F(f64::from(0.1_f32)), V::F(f64::from(0.2_f32))),
            ("YEAR", V::I(1999), V::I(2026)),
        ],
        Kind::Sqlite => vec![
            ("TEXT", t("Z"), t("a")),
            ("TIMESTAMP", V::I(-62_135_596_800_000_000), V::I(noon)),
            ("TIME", V::I(1), V::I(86_399_999_999)),
            ("BLOB", bytes(1), bytes(2)),
            ("UUID", uuid(1), uuid(2)),
        ],
    });
    if world.kind() == Kind::MariaDb {
        types.push(("UUID", uuid(1), uuid(2)));
    }
    for (number, (declared, lower, higher)) in types.into_iter().enumerate() {
        let name = format!("versions_{number}");
        world.run(&format!("CREATE TABLE {name} (id BIGINT PRIMARY KEY, v {declared})")).await;
        let mut worker = world.worker(&name, WriteMode::Upsert, Some("v")).await;
        let write = |id: i64, version: &V| (Operation::Write, vec![V::I(id), version.clone()]);
        let records = [
            write(1, &higher),
            write(2, &lower),
            // Of the row, and of its own.
            (Operation::Delete, vec![V::I(1), V::A]),
            (Operation::Delete, vec![V::I(2), higher.clone()]),
            write(1, &lower),
            write(2, &lower),
        ];
        assert_eq!(apply(&mut worker, &records).await, 2, "{declared}");
        assert_eq!(world.rows(&["id"], &format!("FROM {name}")).await, Vec::<String>::new(), "{declared}");
        assert_eq!(apply(&mut worker, &[write(1, &higher), write(2, &higher)]).await, 0, "{declared}: read back exactly");
        assert_eq!(apply(&mut worker, &[(Operation::Delete, vec![V::I(1), lower.clone()])]).await, 1, "{declared}");
    }
}

async fn a_version_in_the_key_is_its_own(world: World) {
    world.run("CREATE TABLE orders (id BIGINT, v BIGINT, note VARCHAR(20), PRIMARY KEY (id, v))").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, Some("v")).await;
    assert_eq!(apply(&mut worker, &[write(1, V::I(5), "five"), write(1, V::I(6), "six"), delete(1, V::I(5)), write(1, V::I(5), "again")]).await, 0);
    assert_eq!(world.rows(&["id", "v", "note"], "FROM orders ORDER BY v").await, ["1|5|again", "1|6|six"]);
}

async fn long_keys_and_keys_of_several_columns_are_told_apart(world: World) {
    world.run("CREATE TABLE orders (a VARCHAR(400), b BIGINT, v BIGINT, PRIMARY KEY (a, b))").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, Some("v")).await;
    let long = "ä".repeat(300);
    let keys = [("x", 1), ("x\",\"b\":\"1", 1), ("x", 2), (long.as_str(), 1), (long.as_str(), 2)];
    let record = |operation, (a, b): (&str, i64), version: i64| (operation, vec![t(a), V::I(b), V::I(version)]);
    for (index, key) in keys.into_iter().enumerate() {
        let others = keys.into_iter().enumerate().filter(|(other, _)| *other != index);
        let mut batch: Vec<_> = others.map(|(_, other)| record(Operation::Write, other, 10 * index as i64 + 2)).collect();
        batch.push(record(Operation::Delete, key, 10 * index as i64 + 3));
        assert_eq!(worker.apply(&batch).await.unwrap().stale, [0]);
        assert_eq!(worker.apply(&[record(Operation::Write, key, 10 * index as i64 + 2)]).await.unwrap().stale, [1]);
        assert_eq!(world.rows(&["count(*)"], "FROM orders").await, ["4"]);
        assert_eq!(tombstones(&world).await.len(), 1);
    }
}

async fn thousands_of_deletes_are_remembered(world: World) {
    let mut worker = worker(&world).await;
    worker.apply(&(0..3_000).map(|id| write(id, V::I(2), "x")).collect::<Vec<_>>()).await.unwrap();
    let deletes: Vec<_> = (0..3_000).map(|id| delete(id, if id % 2 == 0 { V::A } else { V::I(3) })).collect();
    assert_eq!(worker.apply(&deletes).await.unwrap().stale, [0]);
    assert_eq!(tombstones(&world).await.len(), 3_000);
    // Numbers beyond 32 bits.
    let (id, version) = (i64::MAX - 7, i64::MAX - 1);
    assert_eq!(worker.apply(&[write(id, V::I(version), "x"), write(-id, V::I(-version), "x")]).await.unwrap().stale, [0]);
    assert_eq!(worker.apply(&[delete(id, V::A), delete(-id, V::I(-version - 1))]).await.unwrap().stale, [1]);
    assert_eq!(worker.apply(&[write(id, V::I(version - 1), "late"), delete(-id, V::A)]).await.unwrap().stale, [1]);
    assert_eq!(orders(&world).await, Vec::<String>::new());
    let late: Vec<_> = (0..3_000).map(|id| write(id, V::I(if id < 1_000 { 1 } else { 3 }), "late")).collect();
    assert_eq!(worker.apply(&late).await.unwrap().stale, [1_000]);
    assert_eq!(world.rows(&["count(*)", "min(id)"], "FROM orders").await, ["2000|1000"]);
    assert_eq!(tombstones(&world).await.len(), 1_002);
}

/// A route that takes two topics, or whose table was described again, has two sets of rows in one batch.
async fn rows_of_one_table_know_of_each_other(world: World) {
    let mut worker = worker(&world).await;
    let mut both = worker.batch(&[delete(1, V::I(5)), write(2, V::I(5), "five"), delete(2, V::A)]);
    let mut others = worker.batch(&[write(1, V::I(4), "late"), write(2, V::I(4), "late"), write(2, V::I(6), "six")]);
    let mut rows = Arc::get_mut(&mut others.content).unwrap().rows.remove(0);
    rows.target = Arc::new((*worker.target).clone());
    Arc::get_mut(&mut both.content).unwrap().rows.push(rows);
    assert_eq!(worker.writer.apply(&both).await.unwrap().stale, [0, 2]);
    assert_eq!(orders(&world).await, ["2|6|six"]);
}

async fn an_update_makes_no_row_and_forgets_no_delete(world: World) {
    let mut worker = worker(&world).await;
    apply(&mut worker, &[write(1, V::I(5), "five")]).await;
    let upserts = worker.target.clone();
    worker.target = target(&world, "orders", WriteMode::Update, Some("v")).await;
    assert_eq!(apply(&mut worker, &[delete(1, V::I(6)), write(1, V::I(7), "seven")]).await, 0);
    worker.target = upserts;
    assert_eq!(apply(&mut worker, &[write(1, V::I(5), "late")]).await, 1);
    assert_eq!(orders(&world).await, Vec::<String>::new());
}

async fn a_mark_keeps_the_row(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, v BIGINT, note VARCHAR(20), gone BOOLEAN NOT NULL DEFAULT FALSE)").await;
    let write = |id: i64, version: i64, note: &str| (Operation::Write, vec![V::I(id), V::I(version), t(note), V::B(false)]);
    let mark = |id: i64, version: V| (Operation::Mark, vec![V::I(id), version, V::A, V::B(true)]);
    let shown = |world: World| async move { world.rows(&["id", "v", "note", "CASE WHEN gone THEN 'gone' ELSE 'there' END"], "FROM orders ORDER BY id").await };
    let mut plain = world.worker("orders", WriteMode::Upsert, None).await;
    assert_eq!(apply(&mut plain, &[write(1, 1, "a"), mark(1, V::A), mark(2, V::A)]).await, 0);
    assert_eq!(shown(world.clone()).await, ["1|1|a|gone"], "a mark makes no row");
    plain.apply(&[mark(1, V::A), write(1, 2, "b"), write(3, 1, "c"), mark(3, V::A)]).await.unwrap();
    assert_eq!(shown(world.clone()).await, ["1|2|b|there", "3|1|c|gone"], "the next write clears it");
    let mut worker = world.worker("orders", WriteMode::Upsert, Some("v")).await;
    assert_eq!(apply(&mut worker, &[mark(1, V::A), write(1, 1, "late"), write(3, 1, "back")]).await, 1);
    assert_eq!(shown(world.clone()).await, ["1|2|b|gone", "3|1|back|there"], "without a version of its own it has that of the row");
    assert_eq!(apply(&mut worker, &[mark(3, V::I(5)), write(3, 4, "late"), mark(3, V::I(3))]).await, 2);
    assert_eq!(shown(world.clone()).await, ["1|2|b|gone", "3|5|back|gone"], "its own version becomes the row's");
    assert_eq!(worker.apply(&[write(3, 6, "six"), mark(3, V::I(7)), write(3, 6, "late"), mark(4, V::I(9)), write(4, 8, "late")]).await.unwrap().stale, [2]);
    assert_eq!(shown(world.clone()).await, ["1|2|b|gone", "3|7|six|gone"]);
    assert_eq!(apply(&mut worker, &[write(3, 8, "eight"), write(1, 2, "two")]).await, 0);
    assert_eq!(shown(world.clone()).await, ["1|2|two|there", "3|8|eight|there"]);
}

/// Without a version there is nothing to compare: not one statement more.
async fn a_route_without_a_version_asks_nothing(world: World) {
    let mut versioned = worker(&world).await;
    let mut plain = world.worker("orders", WriteMode::Upsert, None).await;
    world.run(&format!("DROP TABLE {}", world.bookkeeping("oncesink_tombstone"))).await;
    if world.is_mysql_or_mariadb() {
        world.run("DROP TABLE oncesink_tombstone_lock").await;
    }
    assert_eq!(apply(&mut plain, &[write(1, V::I(5), "five"), delete(1, V::A), write(1, V::I(4), "four")]).await, 0);
    assert_eq!(orders(&world).await, ["1|4|four"]);
    versioned.claim().await;
    assert!(matches!(versioned.apply(&[write(1, V::I(5), "five")]).await, Err(ApplyError::Failed(_))));
}

/// Of another type, or of another column.
async fn a_version_that_cannot_be_compared_halts(world: World) {
    let mut worker = worker(&world).await;
    apply(&mut worker, &[delete(1, V::I(5))]).await;
    for (changed, told) in [("version = '5 days'", "cannot hold"), ("version = '5', version_column = 'w'", "a version of w,")] {
        world.run(&format!("UPDATE {} SET {changed}", world.bookkeeping("oncesink_tombstone"))).await;
        let fault = worker.fails(vec![vec![V::I(1), V::I(6), t("six")]]).await;
        assert_eq!((fault.class, &*fault.reason, fault.column.as_deref()), (FaultClass::Halt, "tombstone-type", Some("v")), "{fault}");
        assert!(fault.detail.contains(told), "{fault}");
    }
    assert_eq!(apply(&mut worker, &[write(2, V::I(1), "other")]).await, 0, "others go on");
}

/// As at-least-once reads it again after a crash: the other partition, whose delete is durable, is not.
async fn a_write_that_comes_again_does_not_undo_a_delete_from_elsewhere(world: World) {
    let worker = worker(&world).await;
    let mut partitions = Partitions::of(worker).await;
    for (id, version) in [(1, V::I(5)), (2, V::A)] {
        partitions.apply(&[(1, write(id, V::I(5), "five"))]).await;
        partitions.apply(&[(0, delete(id, version))]).await;
        assert_eq!(partitions.apply(&[(1, write(id, V::I(5), "five"))]).await.stale, [1]);
        partitions.apply(&[(0, write(10 + id, V::I(5), "five"))]).await;
        assert_eq!(partitions.apply(&[(0, delete(10 + id, V::I(5))), (0, write(10 + id, V::I(5), "later"))]).await.stale, [0]);
    }
    assert_eq!(orders(&world).await, ["11|5|later", "12|5|later"]);
}

/// It has come between the look at the table and the delete.
async fn a_row_of_another_writer_is_not_deleted_by_what_is_older(world: World) {
    let worker = worker(&world).await;
    let batch = worker.batch(&[delete(1, V::I(5)), delete(2, V::I(5))]);
    let rows = &batch.content.rows[0];
    world.run("INSERT INTO orders VALUES (1, 9, 'nine'), (2, 4, 'four')").await;
    let mut session = session(&world).await;
    let step = Step { rows, operation: Operation::Delete, shape: rows.shape(0), selection: &[0, 1], guard: rows.target.version };
    assert_eq!(session.write(&step).await.unwrap().stale, 1);
    session.commit().await.unwrap();
    assert_eq!(orders(&world).await, ["1|9|nine"]);
}

async fn tombstones_expire(world: World) {
    let mut worker = worker(&world).await;
    let table = world.bookkeeping("oncesink_tombstone");
    let day = 86_400_000_i64;
    worker.apply(&(0..1_300).map(|id| delete(id, V::I(5))).collect::<Vec<_>>()).await.unwrap();
    world.run(&format!("UPDATE {table} SET at = at - {} WHERE row_key <> '{{\"id\":\"7\"}}'", 8 * day)).await;
    world.run(&format!("INSERT INTO {table} (pipeline, table_name, row_key, version, version_column, deleted_by, at) VALUES ('another', 'orders', '{{\"id\":\"1\"}}', '5', 'v', 'x:0@1', 0)")).await;
    let week = Duration::from_secs(7 * 86_400);
    assert!(!worker.sink.expire_tombstones(PIPELINE, 2 * week).await.unwrap());
    assert_eq!(tombstones(&world).await.len(), 1_301);
    assert!(!worker.sink.expire_tombstones(PIPELINE, week).await.unwrap(), "all of them, a few at a time");
    let left = world.rows(&["pipeline", "row_key"], &format!("FROM {table} ORDER BY pipeline")).await;
    assert_eq!(left, ["another|{\"id\":\"1\"}".to_owned(), format!("{PIPELINE}|{{\"id\":\"7\"}}")]);
    assert_eq!(apply(&mut worker, &[write(7, V::I(4), "late"), write(8, V::I(4), "too late")]).await, 1);
    assert_eq!(orders(&world).await, ["8|4|too late"]);
}

/// One worker that holds three partitions.
struct Partitions {
    worker: Worker,
    claimed: Vec<Claimed>,
    next: [i64; 3],
}

impl Partitions {
    async fn of(worker: Worker) -> Self {
        let mut request = request();
        let one = request.wanted.remove(0);
        request.wanted = (0..3).map(|index| Wanted { partition: Partition::new("events", index), ..one.clone() }).collect();
        request.siblings.clear();
        let answers = worker.sink.claim(&request).await.unwrap();
        let claimed = answers.into_iter().map(|answer| answer.result.unwrap()).collect();
        Self { worker, claimed, next: [0; 3] }
    }

    fn batch(&mut self, records: &[(usize, (Operation, Vec<V>))]) -> Batch {
        let rows: Vec<_> = records.iter().map(|(_, row)| row.clone()).collect();
        let mut batch = self.worker.batch(&rows);
        let from = self.next;
        let content = Arc::get_mut(&mut batch.content).unwrap();
        content.partitions = (0..3).map(|index| Partition::new("events", index)).collect();
        for (mark, (partition, _)) in content.records.iter_mut().zip(records) {
            mark.partition = *partition as u16;
            mark.offset = self.next[*partition];
            self.next[*partition] += 1;
        }
        let moved = (0..3).filter(|index| from[*index] < self.next[*index]);
        let span = |index: usize| Span {
            partition: Partition::new("events", index as i32),
            claim: self.claimed[index].claim,
            from: NextOffset::new(from[index]),
            durable: NextOffset::new(from[index]),
            to: NextOffset::new(self.next[index]),
            last: None,
        };
        batch.spans = moved.map(span).collect();
        batch
    }

    async fn apply(&mut self, records: &[(usize, (Operation, Vec<V>))]) -> Applied {
        let batch = self.batch(records);
        self.worker.writer.apply(&batch).await.unwrap()
    }
}

/// Writes and deletes of a few keys, from several partitions, in any order and any batches. By fixed seeds.
async fn any_order_ends_in_the_highest_version(world: World) {
    let worker = worker(&world).await;
    let mut partitions = Partitions::of(worker).await;
    for seed in 0..12 {
        let mut random = SmallRng::seed_from_u64(seed);
        let first = i64::try_from(seed).unwrap() * 10;
        let mut versions: Vec<i64> = (0..90).collect();
        versions.shuffle(&mut random);
        let mut expected: BTreeMap<i64, (i64, Operation)> = BTreeMap::new();
        let mut records = Vec::new();
        for version in versions {
            let id = first + random.random_range(0..8);
            let operation = if random.random_range(0..5) < 2 { Operation::Delete } else { Operation::Write };
            let highest = expected.entry(id).or_insert((version, operation));
            *highest = if highest.0 < version { (version, operation) } else { *highest };
            let record = if operation == Operation::Delete { delete(id, V::I(version)) } else { write(id, V::I(version), "x") };
            records.push((random.random_range(0..3_usize), record));
        }
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(random.random_range(1..=12).min(rest.len()));
            partitions.apply(batch).await;
            rest = others;
        }
        let there: Vec<String> =
            expected.iter().filter(|(_, (_, operation))| *operation == Operation::Write).map(|(id, (version, _))| format!("{id}|{version}|x")).collect();
        let rows = world.rows(&["id", "v", "note"], &format!("FROM orders WHERE id >= {first} ORDER BY id")).await;
        assert_eq!(rows, there, "seed {seed}");
        let left = expected.values().filter(|(_, operation)| *operation == Operation::Delete).count();
        let kept = tombstones(&world).await.len();
        assert!(kept >= left, "seed {seed}: {kept} of {left} deletes are remembered");
    }
}

fn stored(version: &str) -> StoredTombstone {
    let (version_column, deleted_by) = ("v".to_owned(), "events:0@7".to_owned());
    StoredTombstone { key: "{\"id\":\"1\"}".to_owned(), version: Some(version.to_owned()), version_column, deleted_by }
}

async fn session(world: &World) -> Box<dyn Session> {
    let mut session = world.database.connect().await.unwrap();
    session.begin().await.unwrap();
    session
}

/// A write that has looked, and found no tombstone, ends before a delete of its key may look for the row.
async fn a_delete_and_a_write_of_one_key_wait_for_each_other(world: World) {
    worker(&world).await;
    let number = lock_number(PIPELINE, &table(&world, "orders"));
    let lock = move |mode| [TableLock { number, mode }];
    let (mut first, mut second) = (session(&world).await, session(&world).await);
    first.lock_tables(&lock(LockMode::Shared)).await.unwrap();
    second.lock_tables(&lock(LockMode::Shared)).await.unwrap();
    second.commit().await.unwrap();
    let mut deletes = {
        let world = world.clone();
        tokio::spawn(async move {
            let name = table(&world, "orders");
            let of = TombstonesOf { pipeline: PIPELINE, table: &name };
            let mut session = session(&world).await;
            session.lock_tables(&lock(LockMode::Exclusive)).await.unwrap();
            session.write_tombstones(of, &[stored("5")]).await.unwrap();
            session.commit().await.unwrap();
        })
    };
    assert!(timeout(Duration::from_millis(300), &mut deletes).await.is_err(), "somebody still compares");
    first.commit().await.unwrap();
    deletes.await.unwrap();
    let mut third = session(&world).await;
    third.lock_tables(&lock(LockMode::Shared)).await.unwrap();
    let name = table(&world, "orders");
    let found = third.read_tombstones(TombstonesOf { pipeline: PIPELINE, table: &name }, &["{\"id\":\"1\"}", "{\"id\":\"2\"}"]).await.unwrap();
    assert_eq!(found.len(), 1);
    third.commit().await.unwrap();
}

/// Two workers bring one key at once, one an older write and one a newer delete: whoever is first, the row is gone.
async fn writers_and_deleters_meet(world: World) {
    let worker = worker(&world).await;
    let mut partitions = Partitions::of(worker).await;
    let mut other = partitions.worker.sink.writer();
    for round in 0..60 {
        let ids = || (0..5).map(move |id| round * 5 + id);
        let writes: Vec<_> = ids().map(|id| (0, write(id, V::I(1), "old"))).collect();
        let deletes: Vec<_> = ids().rev().map(|id| (1, delete(id, if id % 2 == 0 { V::I(2) } else { V::I(1) }))).collect();
        // Every other round the row is there before.
        if round % 2 == 0 {
            partitions.apply(&ids().map(|id| (2, write(id, V::I(0), "first"))).collect::<Vec<_>>()).await;
        }
        let (writes, deletes) = (partitions.batch(&writes), partitions.batch(&deletes));
        let (written, deleted) = tokio::join!(again(&mut partitions.worker.writer, &writes), again(&mut other, &deletes));
        let stale = written.stale[0];
        assert_eq!(deleted.stale, [0]);
        let there = world.rows(&["v"], &format!("FROM orders WHERE id >= {} AND id % 2 = 0", round * 5)).await;
        assert_eq!(there, Vec::<String>::new(), "round {round}: {stale} were stale");
    }
}

/// What an engine does with a deadlock; there should be none.
async fn again(writer: &mut Box<dyn Writer>, batch: &Batch) -> Applied {
    match writer.apply(batch).await {
        Ok(applied) => applied,
        Err(error) => panic!("{error:?}"),
    }
}

/// Old tombstones that a batch is writing anew are left to the next look.
async fn what_a_batch_holds_is_not_waited_for(world: World) {
    let mut worker = worker(&world).await;
    apply(&mut worker, &[delete(1, V::I(5)), delete(2, V::I(5))]).await;
    world.run(&format!("UPDATE {} SET at = 0", world.bookkeeping("oncesink_tombstone"))).await;
    let name = table(&world, "orders");
    let of = TombstonesOf { pipeline: PIPELINE, table: &name };
    let mut batch = session(&world).await;
    batch.write_tombstones(of, &[stored("6")]).await.unwrap();
    let begun = std::time::Instant::now();
    let looked = worker.sink.expire_tombstones(PIPELINE, Duration::from_secs(1)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits for long");
    if let Err(fault) = &looked {
        assert_eq!(fault.class, FaultClass::Retry, "{fault}");
    }
    batch.commit().await.unwrap();
    worker.sink.expire_tombstones(PIPELINE, Duration::from_secs(60)).await.unwrap();
    assert_eq!(tombstones(&world).await, [format!("{name}|{{\"id\":\"1\"}}|6")], "what was written anew is new");
}
