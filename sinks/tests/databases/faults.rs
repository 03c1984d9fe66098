//! Everything that can go wrong and be provoked, with its class.

use oncesink_sinks::{
    checkpoint::Checkpoint,
    fault::{Fault, FaultClass},
    model::{NextOffset, Operation, WriteMode},
    open::open,
    options::{DatabaseOptions, NamedStatements},
    session::{CommitError, LockWait},
    sink::ApplyError,
};

use crate::{
    on_each,
    world::{self, PIPELINE, V, World, partition, t},
};

on_each!(constraints_are_the_data_s_fault, a_table_that_changed_is_described_again);

fn named(fault: &Fault) -> (FaultClass, &str) {
    (fault.class, &fault.reason)
}

async fn constraints_are_the_data_s_fault(world: World) {
    world
        .run(
            "CREATE TABLE parents (id BIGINT PRIMARY KEY); INSERT INTO parents VALUES (1);
             CREATE TABLE orders (id BIGINT PRIMARY KEY, email VARCHAR(9) UNIQUE, total BIGINT NOT NULL CHECK (total > 0), parent BIGINT,
               FOREIGN KEY (parent) REFERENCES parents (id))",
        )
        .await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    let row = |id: i64, email: &str, total: V, parent: i64| vec![V::I(id), t(email), total, V::I(parent)];
    worker.write(vec![row(1, "secret", V::I(1), 1)]).await;
    for (cells, reason) in [
        (row(2, "secret", V::I(1), 1), "unique"),
        (row(2, "b", V::N, 1), "not-null"),
        (row(2, "b", V::I(-4711), 1), "check"),
        (row(2, "b", V::I(1), 4711), "foreign-key"),
    ] {
        let fault = worker.fails(vec![cells]).await;
        assert_eq!(named(&fault), (FaultClass::Poison, reason), "{fault:?}");
        assert!(!format!("{fault:?}").contains("secret") && !format!("{fault:?}").contains("4711"), "{fault:?}");
        if reason == "not-null" {
            assert_eq!(fault.column.as_deref(), Some("total"));
        }
    }
    worker.write(vec![row(2, "b", V::I(2), 1)]).await;
    assert_eq!(world.rows(&["id", "total"], "FROM orders ORDER BY id").await, ["1|1", "2|2"]);
}

async fn a_table_that_changed_is_described_again(world: World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, note VARCHAR(20), n BIGINT)").await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    let row = || vec![V::I(1), t("a"), V::I(1)];
    worker.write(vec![row()]).await;
    world.run("ALTER TABLE orders DROP COLUMN n").await;
    assert_eq!(named(&worker.fails(vec![row()]).await), (FaultClass::Changed, "missing-column"));
    world.run("ALTER TABLE orders ADD COLUMN n BIGINT").await;
    worker.write(vec![row()]).await;
    world.run("DROP TABLE orders").await;
    assert_eq!(named(&worker.fails(vec![row()]).await), (FaultClass::Changed, "missing-table"));
    world.run("CREATE TABLE orders (id BIGINT, note VARCHAR(20), n BIGINT)").await;
    assert_eq!(named(&worker.fails(vec![row()]).await), (FaultClass::Changed, "missing-key"));
    world.run(&format!("DROP TABLE {}", world.bookkeeping("oncesink_checkpoint"))).await;
    assert_eq!(named(&worker.fails(vec![row()]).await), (FaultClass::Halt, "missing-bookkeeping"));
}

#[tokio::test]
async fn a_refused_commit_changes_nothing_on_postgres() {
    world::on_postgres(a_refused_commit_changes_nothing).await;
}

#[tokio::test]
async fn a_refused_commit_changes_nothing_on_sqlite() {
    world::on_sqlite(a_refused_commit_changes_nothing).await;
}

async fn a_refused_commit_changes_nothing(world: World) {
    world
        .run("CREATE TABLE parents (id BIGINT PRIMARY KEY); CREATE TABLE orders (id BIGINT PRIMARY KEY, parent BIGINT REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)")
        .await;
    let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
    let fault = worker.fails(vec![vec![V::I(1), V::I(4711)]]).await;
    assert_eq!(named(&fault), (FaultClass::Poison, "foreign-key"));
    world.run("INSERT INTO parents VALUES (4711)").await;
    worker.write(vec![vec![V::I(1), V::I(4711)]]).await;
    assert_eq!(worker.sink.read(PIPELINE).await.unwrap()[0].next_offset, NextOffset::new(1));
}

#[tokio::test]
async fn postgres_takes_back_a_grant_and_a_password() {
    world::on_postgres(|world| async move {
        world.run("CREATE TABLE orders (id int PRIMARY KEY, note text)").await;
        world.database.migrate().await.unwrap();
        let role = format!("oncesink_role_{:016x}", rand::random::<u64>());
        world.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
        let mut options = DatabaseOptions::new(world.url.clone());
        options.username = Some(role.clone());
        options.password = Some("secret".into());
        let least = World { url: world.url.clone(), database: open(&options).unwrap() };
        let orders = world.database.describe(&oncesink_sinks::model::TableName::parse("orders")).await.unwrap().name;
        world.run(&least.database.grants(&role, &[orders]).join("\n")).await;
        let mut worker = least.worker("orders", WriteMode::Upsert, None).await;
        worker.write(vec![vec![V::I(1), t("a")]]).await;
        world.run(&format!("REVOKE INSERT ON orders FROM {role}")).await;
        let fault = worker.fails(vec![vec![V::I(2), t("a")]]).await;
        assert_eq!(named(&fault), (FaultClass::Halt, "permission"));
        world.run(&fault.mend.unwrap()).await;
        worker.write(vec![vec![V::I(2), t("a")]]).await;
        world.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
        assert_eq!(named(&least.database.facts().await.unwrap_err()), (FaultClass::Halt, "password"), "the role is gone");

        let mut options = DatabaseOptions::new(world.url.replace("oncesink_test_", "oncesink_none_"));
        options.username = None;
        let fault = open(&options).unwrap().facts().await.unwrap_err();
        assert_eq!(named(&fault), (FaultClass::Halt, "missing-database"));
    })
    .await;
}

#[tokio::test]
async fn postgres_closes_a_connection() {
    world::on_postgres(|world| async move {
        world.run("CREATE TABLE journal (id int)").await;
        let mut worker = world.worker("journal", WriteMode::Append, None).await;
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oncesink' AND datname = current_database()";
        worker.write(vec![vec![V::I(1)]]).await;
        world.run(kill).await;
        assert_eq!(named(&worker.fails(vec![vec![V::I(2)]]).await), (FaultClass::Retry, "connection"));
        worker.write(vec![vec![V::I(2)]]).await;

        // Between the last statement and COMMIT: whether it took effect, only the row tells.
        let mut session = world.database.connect().await.unwrap();
        session.begin().await.unwrap();
        let rows = session.lock(PIPELINE, &[partition()], LockWait::Wait).await.unwrap();
        session.save(PIPELINE, &rows).await.unwrap();
        world.run(kill).await;
        let Err(CommitError::Unknown(fault)) = session.commit().await else { panic!("the reply is lost") };
        assert_eq!(named(&fault), (FaultClass::Retry, "connection"));
        assert!(session.rollback().await.is_err() && session.begin().await.is_err(), "a broken session is not used again");
        assert_eq!(worker.fails(vec![vec![V::I(3)]]).await.class, FaultClass::Retry);
        worker.write(vec![vec![V::I(3)]]).await;
        assert_eq!(world.rows(&["id"], "FROM journal ORDER BY id").await, ["1", "2", "3"]);
    })
    .await;
}

#[tokio::test]
async fn postgres_limits_and_locks() {
    world::on_postgres(|world| async move {
        world.run("CREATE TABLE orders (id int PRIMARY KEY, note text); CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'").await;
        let mut options = DatabaseOptions::new(world.url.clone());
        options.statement_timeout = std::time::Duration::from_millis(300);
        let hasty = World { url: world.url.clone(), database: open(&options).unwrap() };
        let mut worker = hasty.worker("orders", WriteMode::Upsert, None).await;
        world.run("CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION slow()").await;
        assert_eq!(named(&worker.fails(vec![vec![V::I(1), t("a")]]).await), (FaultClass::Pause, "statement-timeout"));
        world
            .run("DROP TRIGGER slow ON orders; CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''% is bad'', NEW.note; END';
                  CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION slow()")
            .await;
        let fault = worker.fails(vec![vec![V::I(1), t("secret")]]).await;
        assert_eq!(named(&fault), (FaultClass::Poison, "raised"));
        assert!(!format!("{fault:?}").contains("secret"));
        world.run("DROP TRIGGER slow ON orders").await;
        worker.write(vec![vec![V::I(1), t("a")]]).await;

        // A row that is held is left out, and waited for otherwise.
        let mut holder = world.database.connect().await.unwrap();
        holder.begin().await.unwrap();
        assert_eq!(holder.lock(PIPELINE, &[partition()], LockWait::Wait).await.unwrap().len(), 1);
        let mut other = world.database.connect().await.unwrap();
        other.begin().await.unwrap();
        assert!(other.lock(PIPELINE, &[partition()], LockWait::SkipLocked).await.unwrap().is_empty());
        let waiting = tokio::spawn(async move { other.lock(PIPELINE, &[partition()], LockWait::Wait).await.unwrap() });
        let mut rows = holder.lock(PIPELINE, &[partition()], LockWait::Wait).await.unwrap();
        rows[0].next_offset = NextOffset::new(55);
        holder.save(PIPELINE, &rows).await.unwrap();
        holder.commit().await.unwrap();
        assert_eq!(waiting.await.unwrap()[0].next_offset, NextOffset::new(55), "the row as it is after the wait");
    })
    .await;
}

#[tokio::test]
async fn postgres_keys_that_differ_only_in_bytes() {
    world::on_postgres(|world| async move {
        world.run("CREATE TABLE orders (id numeric PRIMARY KEY, note text)").await;
        let mut worker = world.worker("orders", WriteMode::Upsert, None).await;
        let fault = worker.fails(vec![vec![t("1.0"), t("a")], vec![t("1.00"), t("b")]]).await;
        assert_eq!(named(&fault), (FaultClass::Poison, "same-key-twice"), "the batch is cut, and each part passes");
        worker.write(vec![vec![t("1.0"), t("a")]]).await;
        worker.write(vec![vec![t("1.00"), t("b")]]).await;
        assert_eq!(world.rows(&["note"], "FROM orders").await, ["b"]);
    })
    .await;
}

#[tokio::test]
async fn postgres_without_statement_names_and_with_synchronous_commit_off() {
    world::on_postgres(|world| async move {
        world.run("CREATE TABLE journal (id int, setting text DEFAULT current_setting('synchronous_commit'))").await;
        world.run("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$").await;
        let mut options = DatabaseOptions::new(world.url.clone());
        options.named_statements = NamedStatements::Never;
        let plain = World { url: world.url.clone(), database: open(&options).unwrap() };
        let mut worker = plain.worker("journal", WriteMode::Append, None).await;
        for id in 0..3 {
            worker.write(vec![vec![V::I(id), V::A]]).await;
        }
        assert_eq!(world.rows(&["id", "setting"], "FROM journal ORDER BY id").await, ["0|on", "1|on", "2|on"]);
    })
    .await;
}

#[tokio::test]
async fn sqlite_waits_for_its_file() {
    world::on_sqlite(|world| async move {
        world.run("CREATE TABLE journal (id BIGINT)").await;
        let mut worker = world.worker("journal", WriteMode::Append, None).await;
        let mut holder = world.database.connect().await.unwrap();
        holder.begin().await.unwrap();
        let waiting = tokio::spawn(async move { worker.apply(&[(Operation::Write, vec![V::I(1)])]).await.map(|_| ()) });
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(!waiting.is_finished());
        holder.rollback().await.unwrap();
        assert_eq!(waiting.await.unwrap(), Ok::<(), ApplyError>(()));
        std::fs::write(
            world.url.trim_start_matches("sqlite://").trim_end_matches("?mode=rwc").to_owned() + ".txt",
            "not a database, but a text that is long enough for a header",
        )
        .unwrap();
        let text = open(&DatabaseOptions::new(world.url.replace("shop.db?mode=rwc", "shop.db.txt"))).unwrap();
        assert_eq!(named(&text.facts().await.unwrap_err()), (FaultClass::Halt, "corrupt"));
    })
    .await;
}
