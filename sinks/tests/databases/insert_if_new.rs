//! `write: insert-if-new`, the same on every database: the first record of a key makes its row.

use std::sync::Arc;

use oncesink_sinks::{
    fault::FaultClass,
    model::{Operation, Target, WriteMode},
};

use crate::{
    on_each,
    world::{self, Kind, V, Worker, World, t},
};

on_each!(
    the_first_record_of_a_key_stays,
    the_first_record_stays_without_a_unique_key,
    a_key_of_two_columns_without_a_unique_key,
    a_row_that_is_there_needs_no_column,
    a_table_with_another_unique_key_is_looked_at_first,
    a_row_that_another_writer_has_made,
    many_rows_are_counted,
);

/// Writes in order, and deletes where there is no note; gives how many found their key taken.
async fn apply(worker: &mut Worker, rows: &[(i64, Option<&str>)]) -> u64 {
    let columns = worker.target.columns.len();
    let row = |(id, note): &(i64, Option<&str>)| {
        let mut cells = vec![V::A; columns];
        cells[0] = V::I(*id);
        match note {
            Some(note) => {
                cells[1] = t(note);
                (Operation::Write, cells)
            }
            None => (Operation::Delete, cells),
        }
    };
    let rows: Vec<(Operation, Vec<V>)> = rows.iter().map(row).collect();
    let applied = worker.apply(&rows).await.unwrap();
    assert_eq!(applied.stale, [0]);
    applied.deduplicated[0]
}

async fn first_stays(world: &World, table: &str, target: Arc<Target>) {
    let is_looked_for = !target.key_is_unique();
    let mut worker = world.worker_of(target).await;
    let rows = || world.rows_of(table);
    assert_eq!(apply(&mut worker, &[(2, Some("a")), (1, Some("b")), (2, Some("c"))]).await, 1, "within a batch");
    assert_eq!(rows().await, ["1|b", "2|a"]);
    assert_eq!(apply(&mut worker, &[(1, Some("d")), (3, Some("e")), (2, Some("f"))]).await, 2, "across batches");
    assert_eq!(rows().await, ["1|b", "2|a", "3|e"]);
    // A record that a delete makes invisible is not tried where a batch knows its keys, so nobody can say whether its key was taken.
    let unseen = u64::from(is_looked_for);
    assert_eq!(apply(&mut worker, &[(3, Some("g")), (3, None), (3, Some("h")), (3, Some("i"))]).await, 1 + unseen, "a delete between them");
    assert_eq!(rows().await, ["1|b", "2|a", "3|h"]);
    assert_eq!(apply(&mut worker, &[(4, Some("j")), (1, None), (4, None)]).await, 0);
    assert_eq!(rows().await, ["2|a", "3|h"]);
    assert_eq!(apply(&mut worker, &[(1, Some("k")), (4, Some("l"))]).await, 0, "a key that is gone is new");
    assert_eq!(rows().await, ["1|k", "2|a", "3|h", "4|l"]);
}

impl World {
    async fn rows_of(&self, table: &str) -> Vec<String> {
        self.rows(&["id", "note"], &format!("FROM {table} ORDER BY id, note")).await
    }
}

async fn the_first_record_of_a_key_stays(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, note VARCHAR(20))").await;
    let target = world::insert_if_new(&world, "orders", &["id"]).await;
    first_stays(&world, "orders", target).await;
}

async fn the_first_record_stays_without_a_unique_key(world: World) {
    world.run("CREATE TABLE orders (id BIGINT, note VARCHAR(20))").await;
    let target = world::insert_if_new(&world, "orders", &["id"]).await;
    assert!(!target.key_is_unique());
    first_stays(&world, "orders", target.clone()).await;
    // What repeats already stays as it is, and a delete takes all of it.
    world.run("INSERT INTO orders VALUES (9, 'x'), (9, 'y')").await;
    let mut worker = world.worker_of(target).await;
    assert_eq!(apply(&mut worker, &[(9, Some("z"))]).await, 1);
    assert_eq!(world.rows(&["note"], "FROM orders WHERE id = 9 ORDER BY note").await, ["x", "y"]);
    assert_eq!(apply(&mut worker, &[(9, None), (9, Some("z"))]).await, 0);
    assert_eq!(world.rows(&["note"], "FROM orders WHERE id = 9").await, ["z"]);
    let fault = worker.fails(vec![vec![V::N, t("a")]]).await;
    assert_eq!((fault.class, &*fault.reason, fault.column.as_deref()), (FaultClass::Poison, "not-null", Some("id")), "{fault}");
}

async fn a_key_of_two_columns_without_a_unique_key(world: World) {
    world.run("CREATE TABLE orders (a BIGINT, b VARCHAR(9), n BIGINT, PRIMARY KEY (a, b, n))").await;
    let mut worker = world.worker_of(world::insert_if_new(&world, "orders", &["a", "b"]).await).await;
    let row = |a: i64, b: &str, n: i64| (Operation::Write, vec![V::I(a), t(b), V::I(n)]);
    let applied = worker.apply(&[row(1, "x", 1), row(1, "y", 2), row(1, "x", 3), row(2, "x", 4)]).await.unwrap();
    assert_eq!(applied.deduplicated, [1]);
    assert_eq!(worker.apply(&[row(1, "y", 5), row(2, "y", 6)]).await.unwrap().deduplicated, [1]);
    assert_eq!(world.rows(&["a", "b", "n"], "FROM orders ORDER BY a, b").await, ["1|x|1", "1|y|2", "2|x|4", "2|y|6"]);
}

async fn a_row_that_is_there_needs_no_column(world: World) {
    for (table, key) in [("keyed", " PRIMARY KEY"), ("keyless", "")] {
        world.run(&format!("CREATE TABLE {table} (id BIGINT{key}, note VARCHAR(20), n BIGINT NOT NULL)")).await;
        let mut worker = world.worker_of(world::insert_if_new(&world, table, &["id"]).await).await;
        worker.write(vec![vec![V::I(1), t("a"), V::I(1)]]).await;
        assert_eq!(apply(&mut worker, &[(1, Some("b"))]).await, 1, "nothing is written, so nothing is missed");
        let fault = worker.fails(vec![vec![V::I(1), t("c"), V::A], vec![V::I(2), t("c"), V::A]]).await;
        assert_eq!((fault.class, &*fault.reason, fault.column.as_deref()), (FaultClass::Poison, "required-column-absent", Some("n")), "{fault}");
        assert_eq!(world.rows_of(table).await, ["1|a"]);
    }
    // The same holds of an upsert that has nothing to set.
    let mut worker = world.worker("keyed", WriteMode::Upsert, None).await;
    worker.write(vec![vec![V::I(1), V::A, V::A]]).await;
    let fault = worker.fails(vec![vec![V::I(2), V::A, V::A]]).await;
    assert_eq!(&*fault.reason, "required-column-absent", "{fault}");
}

async fn a_table_with_another_unique_key_is_looked_at_first(world: World) {
    world.run("CREATE TABLE users (id BIGINT PRIMARY KEY, note VARCHAR(20) UNIQUE)").await;
    let target = world::insert_if_new(&world, "users", &["id"]).await;
    first_stays(&world, "users", target.clone()).await;
    let mut worker = world.worker_of(target).await;
    let fault = worker.fails(vec![vec![V::I(7), t("a")]]).await;
    assert_eq!((fault.class, &*fault.reason), (FaultClass::Poison, "unique"), "nothing that does not fit is passed over: {fault:?}");
}

async fn a_row_that_another_writer_has_made(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, note VARCHAR(20))").await;
    let mut worker = world.worker_of(world::insert_if_new(&world, "orders", &["id"]).await).await;
    world.run("INSERT INTO orders VALUES (1, 'theirs')").await;
    assert_eq!(apply(&mut worker, &[(1, Some("ours")), (2, Some("ours"))]).await, 1);
    assert_eq!(world.rows_of("orders").await, ["1|theirs", "2|ours"]);
}

async fn many_rows_are_counted(world: World) {
    let text = if world.kind() == Kind::Sqlite { "TEXT" } else { "VARCHAR(9)" };
    for (table, key) in [("numbers", "BIGINT"), ("texts", text)] {
        world.run(&format!("CREATE TABLE {table} (id {key} PRIMARY KEY, note VARCHAR(20))")).await;
        let mut target = Target::clone(&*world::insert_if_new(&world, table, &["id"]).await);
        target.key_equality = target.table.keys[0].equality;
        let mut worker = world.worker_of(Arc::new(target)).await;
        let row = |id: i64, note: &str| (Operation::Write, vec![if key == "BIGINT" { V::I(id) } else { t(&id.to_string()) }, t(note)]);
        let first: Vec<_> = (0..900).map(|id| row(id * 2, "first")).collect();
        assert_eq!(worker.apply(&first).await.unwrap().deduplicated, [0]);
        let second: Vec<_> = (0..1300).map(|id| row(id, "second")).collect();
        assert_eq!(worker.apply(&second).await.unwrap().deduplicated, [650]);
        let counts = world.rows(&["count(*)"], &format!("FROM {table} GROUP BY note ORDER BY note")).await;
        assert_eq!(counts, ["900", "650"]);
    }
}
