//! What only MySQL and MariaDB do.

use oncesink_sinks::{
    checkpoint::Checkpoint,
    fault::{Fault, FaultClass},
    model::{NextOffset, Operation, Partition, TableName, WriteMode},
    open::open,
    options::{DatabaseOptions, Tls},
    session::{Bookkeeping, CommitError, LockWait},
    sink::ApplyError,
};

use crate::{
    on_each,
    world::{self, PIPELINE, V, World, partition, t},
};

on_each!(on_mysql, on_mariadb: [
    a_grant_and_a_password_are_taken_back,
    a_connection_is_closed,
    a_server_waits_ten_seconds_for_its_client,
    rows_are_locked_by_their_key,
    keys_change_while_rows_are_written,
    a_message_is_never_too_large,
    a_trigger_refuses_a_row,
    a_row_that_another_writer_makes_meanwhile,
    values_that_the_server_would_change,
    bookkeeping_goes_where_it_is_told
]);

fn named(fault: &Fault) -> (FaultClass, &str) {
    (fault.class, &fault.reason)
}

fn least(world: &World, user: &str, change: impl FnOnce(&mut DatabaseOptions)) -> World {
    let mut options = DatabaseOptions::new(world.url.clone());
    options.username = Some(user.to_owned());
    options.password = Some("secret".into());
    change(&mut options);
    World { url: world.url.clone(), database: open(&options).unwrap() }
}

async fn a_grant_and_a_password_are_taken_back(world: World) {
    world.run("CREATE TABLE orders (id INT PRIMARY KEY, note VARCHAR(9))").await;
    let user = format!("u{:08x}", rand::random::<u32>());
    world.run(&format!("CREATE USER {user} IDENTIFIED BY 'secret'; GRANT SELECT ON orders TO {user}")).await;
    let least = least(&world, &user, |_| {});
    let fault = least.database.migrate().await.unwrap_err();
    assert_eq!(named(&fault), (FaultClass::Halt, "permission"), "{fault:?}");
    // What is printed is enough, for whoever runs it.
    let Bookkeeping::Needed { statements, .. } = world.database.bookkeeping().await.unwrap() else { panic!() };
    world.run(&statements.join(";\n")).await;
    let orders = world.database.describe(&TableName::parse("orders")).await.unwrap().name;
    world.run(&least.database.grants(&user, &[orders]).join("\n")).await;
    let mut worker = least.worker("orders", WriteMode::Upsert, None).await;
    worker.write(vec![vec![V::I(1), t("a")]]).await;
    world.run(&format!("REVOKE INSERT ON orders FROM {user}")).await;
    let fault = worker.fails(vec![vec![V::I(2), t("a")]]).await;
    assert_eq!(named(&fault), (FaultClass::Halt, "permission"), "{fault:?}");
    world.run(&fault.mend.unwrap()).await;
    worker.write(vec![vec![V::I(2), t("a")]]).await;
    world.run(&format!("ALTER USER {user} IDENTIFIED BY 'other'")).await;
    let fault = least.database.facts().await.unwrap_err();
    assert_eq!(named(&fault), (FaultClass::Halt, "password"), "{fault:?}");
    assert!(!format!("{fault:?}").contains("secret"));
    world.run(&format!("DROP USER {user}")).await;
    let fault = open(&DatabaseOptions::new(world.url.replace("oncesink_test_", "oncesink_none_"))).unwrap().facts().await.unwrap_err();
    assert_eq!(named(&fault), (FaultClass::Halt, "missing-database"), "{fault:?}");
}

async fn a_connection_is_closed(world: World) {
    let name = world.url.rsplit('/').next().unwrap().to_owned();
    world.run("CREATE TABLE journal (id INT)").await;
    let mut worker = world.worker("journal", WriteMode::Append, None).await;
    worker.write(vec![vec![V::I(1)]]).await;
    let kill = async || {
        let ids = world.texts(&format!("SELECT CAST(id AS char) FROM information_schema.PROCESSLIST WHERE db = '{name}' AND id <> CONNECTION_ID()")).await;
        for id in ids.into_iter().flatten() {
            world.run(&format!("KILL {id}")).await;
        }
    };
    kill().await;
    assert_eq!(named(&worker.fails(vec![vec![V::I(2)]]).await), (FaultClass::Retry, "connection"));
    worker.write(vec![vec![V::I(2)]]).await;

    // Between the last statement and COMMIT: whether it took effect, only the row tells.
    let mut session = world.database.connect().await.unwrap();
    session.begin().await.unwrap();
    let rows = session.lock(PIPELINE, &[partition()], LockWait::Wait).await.unwrap();
    session.save(PIPELINE, &rows).await.unwrap();
    kill().await;
    let Err(CommitError::Unknown(fault)) = session.commit().await else { panic!("the reply is lost") };
    assert_eq!(named(&fault), (FaultClass::Retry, "connection"));
    assert!(session.rollback().await.is_err() && session.begin().await.is_err(), "a broken session is not used again");
    assert_eq!(worker.fails(vec![vec![V::I(3)]]).await.class, FaultClass::Retry);
    worker.write(vec![vec![V::I(3)]]).await;
    assert_eq!(world.rows(&["id"], "FROM journal ORDER BY id").await, ["1", "2", "3"]);
}

/// For its next statement, and for an answer to be read. What the session has set, a trigger sees in it.
async fn a_server_waits_ten_seconds_for_its_client(world: World) {
    world.run("CREATE TABLE orders (id INT PRIMARY KEY, note VARCHAR(9))").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    let idle = if world.url.starts_with("mariadb") { "idle_transaction_timeout" } else { "wait_timeout" };
    world
        .run(&format!("CREATE TRIGGER limits BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = CONCAT(@@SESSION.{idle}, ' ', @@SESSION.net_write_timeout)"))
        .await;
    worker.write(vec![vec![V::I(1), t("a")]]).await;
    assert_eq!(world.rows(&["note"], "FROM orders").await, ["10 10"]);
}

/// Those of other partitions are neither held nor waited for, and a held one is left out or waited for as it is asked.
async fn rows_are_locked_by_their_key(world: World) {
    world.run("CREATE TABLE journal (id INT)").await;
    let worker = world.worker("journal", WriteMode::Append, None).await;
    assert_eq!(worker.sink.read(PIPELINE).await.unwrap().len(), 2);
    let (first, second) = (partition(), Partition::new("orders", 1));
    let mut holder = world.database.connect().await.unwrap();
    holder.begin().await.unwrap();
    assert_eq!(holder.lock(PIPELINE, std::slice::from_ref(&first), LockWait::Wait).await.unwrap().len(), 1);
    let mut other = world.database.connect().await.unwrap();
    other.begin().await.unwrap();
    let free = tokio::time::timeout(std::time::Duration::from_secs(3), other.lock(PIPELINE, std::slice::from_ref(&second), LockWait::Wait)).await;
    assert_eq!(free.expect("another partition is not waited for").unwrap().len(), 1);
    let both = [first.clone(), second.clone()];
    let found = other.lock(PIPELINE, &both, LockWait::SkipLocked).await.unwrap();
    assert_eq!(found.iter().map(|row| row.partition.clone()).collect::<Vec<_>>(), [second]);
    // An insert that meets the held row would wait for it.
    let held = holder.lock(PIPELINE, std::slice::from_ref(&first), LockWait::Wait).await.unwrap();
    let insert = tokio::time::timeout(std::time::Duration::from_secs(3), other.insert_absent(PIPELINE, &held)).await;
    insert.expect("a row that is there is not waited for").unwrap();
    let wanted = first.clone();
    let waiting = tokio::spawn(async move { other.lock(PIPELINE, &[wanted], LockWait::Wait).await.unwrap() });
    let mut rows = held;
    rows[0].next_offset = NextOffset::new(55);
    holder.save(PIPELINE, &rows).await.unwrap();
    holder.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap()[0].next_offset, NextOffset::new(55), "the row as it is after the wait");
}

/// An upsert here names no key: with another one it would set another row.
async fn keys_change_while_rows_are_written(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, email VARCHAR(9) NOT NULL)").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    worker.write(vec![vec![V::I(1), t("a")], vec![V::I(2), t("b")]]).await;
    for change in [
        "ALTER TABLE orders ADD UNIQUE KEY by_email (email)",
        "ALTER TABLE orders DROP KEY by_email, DROP PRIMARY KEY, ADD PRIMARY KEY (id, email)",
        "ALTER TABLE orders DROP PRIMARY KEY",
    ] {
        world.run(change).await;
        assert_eq!(named(&worker.fails(vec![vec![V::I(3), t("a")]]).await), (FaultClass::Changed, "missing-key"), "{change}");
    }
    world.run("ALTER TABLE orders ADD PRIMARY KEY (id)").await;
    worker.write(vec![vec![V::I(2), t("c")]]).await;
    assert_eq!(world.rows(&["id", "email"], "FROM orders ORDER BY id").await, ["1|a", "2|c"]);
}

async fn a_message_is_never_too_large(world: World) {
    world.run("CREATE TABLE things (id BIGINT PRIMARY KEY, note LONGTEXT)").await;
    let mut worker = world.worker("things", WriteMode::Upsert, None).await;
    let long = "x".repeat(3 * 1024 * 1024);
    worker.write((0..12).map(|id| vec![V::I(id), t(&long)]).collect()).await;
    assert_eq!(world.rows(&["count(*)", "min(length(note))"], "FROM things").await, [format!("12|{}", long.len())]);
    let limit: usize = world.texts("SELECT CAST(@@max_allowed_packet AS char)").await[0].as_deref().unwrap().parse().unwrap();
    let fault = worker.fails(vec![vec![V::I(99), t(&"y".repeat(limit + 1))]]).await;
    assert_eq!(named(&fault), (FaultClass::Poison, "too-large"), "{fault:?}");
    worker.write(vec![vec![V::I(99), t("fits")]]).await;
}

async fn a_trigger_refuses_a_row(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, note VARCHAR(9))").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    world.run("CREATE TRIGGER refuse BEFORE INSERT ON orders FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'secret'").await;
    let fault = worker.fails(vec![vec![V::I(1), t("a")]]).await;
    assert_eq!(named(&fault), (FaultClass::Poison, "raised"), "{fault:?}");
    assert!(!format!("{fault:?}").contains("secret"));
    assert!(world.database.describe(&TableName::parse("orders")).await.unwrap().warnings.iter().any(|warning| warning.contains("triggers")));
}

/// In a table with several unique keys a row is looked for and then made: between the two somebody else may make it.
async fn a_row_that_another_writer_makes_meanwhile(world: World) {
    const ROWS: i64 = 400;
    world.run("CREATE TABLE users (id BIGINT PRIMARY KEY, email VARCHAR(20) NOT NULL UNIQUE, v BIGINT)").await;
    let mut worker = world.worker("users", WriteMode::Upsert, Some("v")).await;
    let url = world.url.clone();
    let (id, at) = tokio::sync::watch::channel(0_i64);
    // It makes each row at about the same time, with an older version.
    let other = tokio::spawn(async move {
        use sqlx::{Connection, Executor};
        let (mut connection, mut at) = (sqlx::MySqlConnection::connect(&url).await.unwrap(), at);
        while at.changed().await.is_ok() {
            let row = *at.borrow_and_update();
            let sql = format!("INSERT INTO users VALUES ({row}, 'old{row}', 1) ON DUPLICATE KEY UPDATE id = {row}");
            connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
        }
    });
    for row in 1..=ROWS {
        id.send(row).unwrap();
        loop {
            match worker.apply(&[(Operation::Write, vec![V::I(row), t(&format!("new{row}")), V::I(2)])]).await {
                Ok(applied) => {
                    assert_eq!(applied.stale, [0], "it is newer than the other's");
                    break;
                }
                Err(ApplyError::Failed(fault)) => assert_eq!(fault.class, FaultClass::Retry, "the record is not to blame: {fault:?}"),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    drop(id);
    other.await.unwrap();
    assert_eq!(world.rows(&["count(*)"], "FROM users WHERE v = 2 AND email LIKE 'new%'").await, [ROWS.to_string()]);
}

/// Strict mode lets these pass, changed.
async fn values_that_the_server_would_change(world: World) {
    world
        .run("CREATE TABLE things (id BIGINT UNSIGNED PRIMARY KEY, y YEAR, b BINARY(4), c CHAR(5), s TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), u INT UNSIGNED)")
        .await;
    let mut worker = world.worker("things", WriteMode::Upsert, None).await;
    let row = |id: &str| vec![t(id), V::I(2024), V::Y(vec![1, 2, 3, 4]), t("ab  "), V::I(1_795_222_923_000_004), V::I(7)];
    worker.write(vec![row("18446744073709551615")]).await;
    assert_eq!(world.rows(&["y", "hex(b)", "c", "s", "u"], "FROM things").await, ["2024|01020304|ab|2026-11-21 01:02:03.000004|7"]);
    for (position, cell, reason) in
        [(0, t("-1"), "out-of-range"), (1, V::I(24), "out-of-range"), (2, V::Y(vec![1]), "not-exact"), (4, V::N, "not-null"), (5, V::I(-1), "out-of-range")]
    {
        let mut bad = row("1");
        bad[position] = cell;
        let fault = worker.fails(vec![bad]).await;
        assert_eq!(named(&fault), (FaultClass::Poison, reason), "{position}: {fault:?}");
    }
    let deleted = worker.apply(&[(Operation::Delete, vec![t("-1"), V::A, V::A, V::A, V::A, V::A])]).await;
    assert!(matches!(deleted, Err(ApplyError::Failed(fault)) if fault.class == FaultClass::Poison), "it is another row's number to the server");
    assert_eq!(world.rows(&["count(*)"], "FROM things").await, ["1"]);
    world.run("ALTER TABLE things ADD COLUMN needed INT NOT NULL").await;
    assert_eq!(named(&worker.fails(vec![row("2")]).await), (FaultClass::Changed, "missing-column"), "a column that nobody knew of");
}

async fn bookkeeping_goes_where_it_is_told(world: World) {
    let name = format!("oncesink_test_{:016x}", rand::random::<u64>());
    world.run("CREATE TABLE journal (id INT)").await;
    let mut options = DatabaseOptions::new(world.url.clone());
    options.bookkeeping = Some(name.clone());
    let elsewhere = World { url: world.url.clone(), database: open(&options).unwrap() };
    let mut worker = elsewhere.worker("journal", WriteMode::Append, None).await;
    worker.write(vec![vec![V::I(1)]]).await;
    assert_eq!(world.rows(&["next_offset"], &format!("FROM {name}.oncesink_checkpoint WHERE epoch > 0")).await, ["1"]);
    let table = elsewhere.database.describe(&TableName::parse("journal")).await.unwrap();
    assert!(table.warnings.iter().any(|warning| warning.contains("what restores one must restore the other")), "{:?}", table.warnings);
    world.run(&format!("DROP DATABASE {name}")).await;
}

#[tokio::test]
async fn mysql_wants_a_password_over_a_protected_connection() {
    world::on_mysql(|world| async move {
        let user = format!("u{:08x}", rand::random::<u32>());
        world.run(&format!("CREATE USER {user} IDENTIFIED WITH caching_sha2_password BY 'secret'; GRANT SELECT ON *.* TO {user}")).await;
        let fault = least(&world, &user, |options| options.tls = Some(Tls::Disable)).database.facts().await.unwrap_err();
        assert_eq!(named(&fault), (FaultClass::Halt, "password-needs-tls"), "{fault:?}");
        assert!(fault.mend.unwrap().contains("database.tls"));
        least(&world, &user, |options| options.tls = Some(Tls::Require)).database.facts().await.unwrap();
        world.run(&format!("DROP USER {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn mariadb_ends_a_statement_that_runs_too_long() {
    world::on_mariadb(|world| async move {
        world.run("CREATE TABLE orders (id INT PRIMARY KEY, note VARCHAR(9))").await;
        let mut options = DatabaseOptions::new(world.url.clone());
        options.statement_timeout = std::time::Duration::from_millis(300);
        let hasty = World { url: world.url.clone(), database: open(&options).unwrap() };
        let mut worker = hasty.worker("orders", WriteMode::Upsert, None).await;
        world.run("CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = SLEEP(60)").await;
        assert_eq!(named(&worker.fails(vec![vec![V::I(1), t("a")]]).await), (FaultClass::Pause, "statement-timeout"));
        world.run("DROP TRIGGER slow").await;
        worker.write(vec![vec![V::I(1), t("a")]]).await;
    })
    .await;
}
