//! Rows whose keys, columns and defaults only a database knows; what every sink promises is in the contract.

use oncesink_sinks::{
    checkpoint::Checkpoint,
    claim::{Committed, NotClaimed, Wanted},
    fault::FaultClass,
    model::{Delivery, NextOffset, Operation, Partition, WriteMode},
    refusal::Refusal,
    sink::ApplyError,
    start::commit_metadata,
};

use crate::{
    on_each,
    world::{V, World, request, t},
};

on_each!(
    keys_that_only_the_database_holds_equal_keep_their_order,
    deletes_remove_rows,
    a_delete_by_a_key_that_was_renamed_is_not_passed_over,
    partitions_without_a_row_are_answered_for_what_they_are,
    a_new_row_needs_its_required_columns,
    a_row_of_a_key_alone_is_inserted_once,
    rows_without_any_column_take_defaults,
    many_rows_and_shapes,
);

/// The two zeros differ in their bytes and in no comparison.
async fn keys_that_only_the_database_holds_equal_keep_their_order(world: World) {
    world.run("CREATE TABLE orders (id DOUBLE PRECISION PRIMARY KEY, note VARCHAR(20), v BIGINT)").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, Some("v")).await;
    let row = |id: f64, note: &str, version: i64| vec![V::F(id), t(note), V::I(version)];
    assert_eq!(worker.write(vec![row(0.0, "first", 1), row(-0.0, "second", 2), row(1.0, "other", 1)]).await, 0);
    assert_eq!(world.rows(&["note", "v"], "FROM orders ORDER BY id").await, ["second|2", "other|1"]);
    assert_eq!(worker.write(vec![row(-0.0, "fourth", 4), row(0.0, "third", 3)]).await, 1, "the table's own guard finds the older one");
    assert_eq!(world.rows(&["note", "v"], "FROM orders ORDER BY id").await, ["fourth|4", "other|1"]);
    let delete = (Operation::Delete, vec![V::F(0.0), V::A, V::A]);
    worker.apply(&[(Operation::Write, row(0.0, "fifth", 5)), delete, (Operation::Write, row(-0.0, "sixth", 6))]).await.unwrap();
    assert_eq!(world.rows(&["note", "v"], "FROM orders ORDER BY id").await, ["sixth|6", "other|1"]);
}

/// By default a collation of MySQL folds case, and of a row that is written twice the later one must stay.
#[tokio::test]
async fn keys_that_a_collation_holds_equal_keep_their_order() {
    async fn test(world: World) {
        world.run("CREATE TABLE orders (id VARCHAR(9) PRIMARY KEY, note VARCHAR(20), v BIGINT)").await;
        let mut worker = world.worker("orders", WriteMode::Upsert, Some("v")).await;
        let row = |id: &str, note: &str, version: i64| vec![t(id), t(note), V::I(version)];
        assert_eq!(worker.write(vec![row("b", "first", 1), row("B", "second", 2), row("a", "other", 1)]).await, 0);
        assert_eq!(world.rows(&["note", "v"], "FROM orders ORDER BY id").await, ["other|1", "second|2"]);
        assert_eq!(worker.write(vec![row("B", "fourth", 4), row("b", "third", 3)]).await, 1);
        assert_eq!(world.rows(&["note", "v"], "FROM orders ORDER BY id").await, ["other|1", "fourth|4"]);
    }
    crate::world::on_mysql(test).await;
    crate::world::on_mariadb(test).await;
}

/// What an upsert of MySQL would do by any unique key is done by the route's key alone.
#[tokio::test]
async fn a_row_that_meets_another_unique_key_is_refused() {
    async fn test(world: World) {
        world.run("CREATE TABLE users (id BIGINT PRIMARY KEY, email VARCHAR(20) UNIQUE, v BIGINT)").await;
        let mut worker = world.worker("users", WriteMode::Upsert, Some("v")).await;
        let row = |id: i64, email: &str, version: i64| vec![V::I(id), t(email), V::I(version)];
        assert_eq!(worker.write(vec![row(1, "a", 1), row(2, "b", 1)]).await, 0);
        assert_eq!(worker.write(vec![row(1, "c", 2), row(2, "d", 0), row(3, "a", 1)]).await, 1);
        let fault = worker.fails(vec![row(4, "c", 9)]).await;
        assert_eq!((fault.class, &*fault.reason), (FaultClass::Poison, "unique"), "{fault:?}");
        assert_eq!(world.rows(&["id", "email", "v"], "FROM users ORDER BY id").await, ["1|c|2", "2|b|1", "3|a|1"]);
    }
    crate::world::on_mysql(test).await;
    crate::world::on_mariadb(test).await;
}

async fn a_delete_by_a_key_that_was_renamed_is_not_passed_over(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, name VARCHAR(20))").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    worker.write(vec![vec![V::I(1), t("a")], vec![V::I(2), t("b")]]).await;
    world.run("ALTER TABLE orders RENAME COLUMN id TO number").await;
    match worker.apply(&[(Operation::Delete, vec![V::I(1), V::A])]).await {
        Err(ApplyError::Failed(fault)) => assert_eq!(fault.class, FaultClass::Changed, "{fault}"),
        other => panic!("expected a failure: {other:?}"),
    }
    assert_eq!(world.rows(&["number"], "FROM orders ORDER BY number").await, ["1", "2"]);
}

/// Of several partitions that are claimed together, one whose row is locked must be told from one that has none.
async fn partitions_without_a_row_are_answered_for_what_they_are(world: World) {
    world.run("CREATE TABLE journal (id BIGINT)").await;
    let worker = world.worker("journal", WriteMode::Append, None).await;
    let ours = Committed::At { next: NextOffset::new(9), metadata: commit_metadata(&worker.sink.database_id(), Delivery::ExactlyOnce) };
    let refused = NotClaimed::Refused(Refusal::CommittedButNeverClaimed { committed: NextOffset::new(9) });
    for (committed, expected) in [(Committed::Unknown, NotClaimed::NeedsCommitted), (ours, refused)] {
        let mut request = request();
        let one = request.wanted.remove(0);
        request.wanted = (0..2).map(|index| Wanted { partition: Partition::new("payments", index), committed: committed.clone(), ..one.clone() }).collect();
        let answers = worker.sink.claim(&request).await.unwrap();
        assert_eq!(answers.into_iter().map(|answer| answer.result).collect::<Vec<_>>(), [Err(expected.clone()), Err(expected)]);
    }
}

async fn deletes_remove_rows(world: World) {
    world.run("CREATE TABLE orders (a BIGINT, b VARCHAR(9), n BIGINT, PRIMARY KEY (a, b))").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    worker.write((0..700).map(|id| vec![V::I(id), t("x"), V::I(1)]).collect()).await;
    let mut rows: Vec<(Operation, Vec<V>)> = (10..700).map(|id| (Operation::Delete, vec![V::I(id), t("x"), V::A])).collect();
    rows.push((Operation::Delete, vec![V::I(3), t("y"), V::A]));
    rows.push((Operation::Delete, vec![V::I(4), t("x"), V::A]));
    rows.push((Operation::Write, vec![V::I(4), t("x"), V::I(2)]));
    rows.push((Operation::Write, vec![V::I(5), t("x"), V::I(2)]));
    rows.push((Operation::Delete, vec![V::I(5), t("x"), V::A]));
    assert_eq!(worker.apply(&rows).await.unwrap().stale, [0]);
    assert_eq!(world.rows(&["a", "n"], "FROM orders ORDER BY a").await, ["0|1", "1|1", "2|1", "3|1", "4|2", "6|1", "7|1", "8|1", "9|1"]);
}

async fn a_new_row_needs_its_required_columns(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, note VARCHAR(20), n BIGINT NOT NULL, v BIGINT)").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, Some("v")).await;
    worker.write(vec![vec![V::I(1), t("a"), V::I(1), V::I(5)], vec![V::I(2), t("b"), V::I(2), V::I(5)]]).await;
    assert_eq!(worker.write(vec![vec![V::I(1), t("c"), V::A, V::I(6)], vec![V::I(2), t("d"), V::A, V::I(4)]]).await, 1);
    assert_eq!(world.rows(&["id", "note", "n"], "FROM orders ORDER BY id").await, ["1|c|1", "2|b|2"]);
    let fault = worker.fails(vec![vec![V::I(1), t("e"), V::A, V::I(7)], vec![V::I(3), t("f"), V::A, V::I(7)]]).await;
    assert_eq!((fault.class, &*fault.reason, fault.column.as_deref()), (FaultClass::Poison, "required-column-absent", Some("n")), "{fault}");
    assert_eq!(world.rows(&["id", "note", "n"], "FROM orders ORDER BY id").await, ["1|c|1", "2|b|2"]);
}

async fn a_row_of_a_key_alone_is_inserted_once(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, note VARCHAR(20) DEFAULT 'none')").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    worker.write(vec![vec![V::I(1), t("a")]]).await;
    worker.write(vec![vec![V::I(1), V::A], vec![V::I(2), V::A]]).await;
    assert_eq!(world.rows(&["id", "note"], "FROM orders ORDER BY id").await, ["1|a", "2|none"]);
}

async fn rows_without_any_column_take_defaults(world: World) {
    world.run("CREATE TABLE journal (note VARCHAR(20) DEFAULT 'none')").await;
    let mut worker = world.worker("journal", WriteMode::Append, None).await;
    worker.write(vec![vec![V::A], vec![t("a")], vec![V::A]]).await;
    assert_eq!(world.rows(&["note"], "FROM journal ORDER BY note").await, ["a", "none", "none"]);
}

async fn many_rows_and_shapes(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, a VARCHAR(20), b BIGINT, c DOUBLE PRECISION)").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    let shaped = |id: i64, value: i64| {
        let present = |bit: i64, cell: V| if id & bit == 0 { cell } else { V::A };
        vec![V::I(id), present(1, t(&value.to_string())), present(2, V::I(value)), present(4, V::F(0.5))]
    };
    worker.write((0..5000).map(|id| shaped(id, 1)).collect()).await;
    worker.write((0..5000).rev().map(|id| shaped(id, 2)).collect()).await;
    assert_eq!(
        world.rows(&["count(*)", "sum(b)", "count(a)", "sum(c)"], "FROM orders").await[0].split('|').take(3).collect::<Vec<_>>(),
        ["5000", "5000", "2500"]
    );
    assert_eq!(world.rows(&["count(*)"], "FROM orders WHERE c = 0.5 AND a = '2'").await, ["1250"]);
}
