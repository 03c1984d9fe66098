//! The bookkeeping tables are made and brought up to date under a lock, by whoever comes first; what is cut short, the next one ends.

use std::time::{Duration, Instant};

use oncesink_migrations::{MYSQL, Migration, POSTGRES, SQLITE};
use oncesink_sinks::{
    checkpoint::{Checkpoint, Expiry, StoredHalt},
    fault::{Fault, FaultClass},
    model::{BatchId, NextOffset, Operation, TableName, WriteMode},
    open::open,
    options::DatabaseOptions,
    processed_events::EventMarks,
    session::{Bookkeeping, Database, Skip, SkipMode},
};
use sqlx::{Connection, Executor, MySqlConnection, PgConnection};

use crate::{
    on_each,
    world::{self, Kind, PIPELINE, V, Worker, World, partition, t},
};

on_each!(
    several_workers_make_the_tables_at_once,
    several_workers_bring_old_tables_up_to_date_at_once,
    an_older_binary_works_beside_newer_tables,
    newer_tables_are_refused_unless_marked,
    a_migration_that_fails_is_ended_by_the_next_one,
);

mod on_servers {
    use super::{a_connection_that_is_killed_in_the_middle, who_may_not_create_says_who_must};
    crate::on_each!(on_postgres, on_mysql, on_mariadb: [who_may_not_create_says_who_must, a_connection_that_is_killed_in_the_middle]);
}

/// Each statement takes effect by itself there.
mod statement_by_statement {
    use super::any_statements_that_were_run_are_gone_on_with;
    crate::on_each!(on_mysql, on_mariadb: [any_statements_that_were_run_are_gone_on_with]);
}

fn named(fault: &Fault) -> (FaultClass, &str) {
    (fault.class, &fault.reason)
}

fn known(world: &World) -> &'static [Migration] {
    match world.kind() {
        Kind::Postgres => POSTGRES,
        Kind::MySql | Kind::MariaDb => MYSQL,
        Kind::Sqlite => SQLITE,
    }
}

async fn needed(database: &dyn Database) -> Vec<String> {
    match database.bookkeeping().await.unwrap() {
        Bookkeeping::Needed { statements, .. } => statements,
        other => panic!("{other:?}"),
    }
}

/// The steps that are noted as applied.
async fn history(world: &World) -> Vec<String> {
    world.rows(&["version"], &format!("FROM {} ORDER BY version", world.bookkeeping("oncesink_schema"))).await
}

fn all_versions(world: &World) -> Vec<String> {
    known(world).iter().map(|migration| migration.version.to_string()).collect()
}

/// Leaves the tables as the first release has made them.
async fn make_the_first_version(world: &World) {
    let statements = needed(world.database.as_ref()).await;
    let end = statements.iter().position(|statement| statement.contains("oncesink_schema (version, ") && statement.contains("VALUES (1, ")).unwrap();
    world.run(&statements[..=end].join(";\n")).await;
    assert_eq!(history(world).await, ["1"]);
}

/// Everything that a worker does with the tables.
async fn everything_works(world: &World, worker: &mut Worker) {
    let note = StoredHalt { reason: "check".to_owned(), detail: String::new(), offset: worker.next.get(), at: 5 };
    worker.claim().await;
    let record = |operation, version| (operation, vec![V::I(1), V::I(version), t("x")]);
    worker.apply(&[record(Operation::Write, 1)]).await.unwrap();
    worker.apply(&[record(Operation::Delete, 2)]).await.unwrap();
    assert_eq!(worker.apply(&[record(Operation::Write, 1)]).await.unwrap().stale, [1], "the delete is remembered");
    worker.apply(&[record(Operation::Write, 3)]).await.unwrap();
    worker.sink.note_halt(PIPELINE, &partition(), None, Some(&note)).await.unwrap();
    worker.sink.expire_tombstones(PIPELINE, Duration::from_secs(60)).await.unwrap();
    let expiry = Expiry { pipeline: PIPELINE.into(), retention: Duration::from_secs(60), committed: vec![(partition(), worker.next)] };
    worker.sink.expire(&expiry).await.unwrap();
    assert_eq!(worker.sink.read(PIPELINE).await.unwrap()[0].next_offset, worker.next);
    let event = format!("{:016x}", rand::random::<u64>());
    for is_new in [true, false] {
        let mut session = world.database.connect().await.unwrap();
        session.begin().await.unwrap();
        let generation = session.hold_generation().await.unwrap();
        let marks = EventMarks { generation, pipeline: PIPELINE, route: "route", ids: &[&event], batch: BatchId(rand::random()) };
        assert_eq!(session.mark(&marks).await.unwrap(), [is_new]);
        session.commit().await.unwrap();
    }
}

async fn make_orders(world: &World) {
    world.run("CREATE TABLE orders (id BIGINT PRIMARY KEY, v BIGINT, note VARCHAR(20))").await;
}

/// They all end well, and each step is applied once.
async fn all_migrate(world: &World) {
    let workers: Vec<_> = (0..6)
        .map(|_| {
            let database = world.database.clone();
            tokio::spawn(async move {
                database.migrate().await.unwrap();
                database.database_id().await.unwrap()
            })
        })
        .collect();
    let mut ids = Vec::new();
    for worker in workers {
        ids.push(worker.await.unwrap());
    }
    ids.dedup();
    assert_eq!((ids.len(), ids[0].len()), (1, 32));
    assert_eq!(world.database.bookkeeping().await.unwrap(), Bookkeeping::Current);
    assert_eq!(history(world).await, all_versions(world), "each step is applied once");
}

async fn several_workers_make_the_tables_at_once(world: World) {
    let Bookkeeping::Needed { statements, allowed: true } = world.database.bookkeeping().await.unwrap() else { panic!("nothing is there yet") };
    assert!(statements.iter().any(|statement| statement.contains("oncesink_checkpoint")));
    assert_eq!(named(&world.database.database_id().await.unwrap_err()), (FaultClass::Halt, "missing-bookkeeping"));
    assert_eq!(named(&world.database.checkpoints(PIPELINE).await.unwrap_err()), (FaultClass::Halt, "missing-bookkeeping"));
    all_migrate(&world).await;
}

async fn several_workers_bring_old_tables_up_to_date_at_once(world: World) {
    make_the_first_version(&world).await;
    let id = world.texts(&format!("SELECT database_id FROM {}", world.bookkeeping("oncesink_schema"))).await;
    all_migrate(&world).await;
    assert_eq!(Some(&*world.database.database_id().await.unwrap()), id[0].as_deref(), "it is the same database");
    make_orders(&world).await;
    everything_works(&world, &mut world.worker("orders", WriteMode::Upsert, Some("v")).await).await;
}

/// Migrations only expand: there are more columns and tables than it knows, also while it is at work.
async fn an_older_binary_works_beside_newer_tables(world: World) {
    make_orders(&world).await;
    let mut at_work = world.worker("orders", WriteMode::Upsert, Some("v")).await;
    everything_works(&world, &mut at_work).await;
    let (id, newest) = (world.database.database_id().await.unwrap(), known(&world).last().unwrap().version);
    for table in ["checkpoint", "audit", "tombstone", "processed_event_generation", "processed_event_retention", "processed_event_end", "committed"] {
        let table = world.bookkeeping(&format!("oncesink_{table}"));
        world.run(&format!("ALTER TABLE {table} ADD COLUMN later VARCHAR(20) NOT NULL DEFAULT 'later'")).await;
    }
    for number in 0..4 {
        let table = world.bookkeeping(&format!("oncesink_processed_event_{number}"));
        world.run(&format!("ALTER TABLE {table} ADD COLUMN later VARCHAR(20) NOT NULL DEFAULT 'later'")).await;
    }
    world.run(&format!("CREATE TABLE {} (id INT PRIMARY KEY)", world.bookkeeping("oncesink_later"))).await;
    let schema = world.bookkeeping("oncesink_schema");
    world.run(&format!("INSERT INTO {schema} (version, description, needs, database_id) VALUES ({}, 'later', {newest}, '{id}')", newest + 1)).await;

    // What was there before, after one look again: a statement that was prepared may be so no more.
    match at_work.apply(&[(Operation::Write, vec![V::I(2), V::I(1), t("x")])]).await {
        Ok(_) => {}
        Err(oncesink_sinks::sink::ApplyError::Failed(fault)) => assert_eq!(fault.class, FaultClass::Retry, "{fault}"),
        Err(other) => panic!("{other:?}"),
    }
    everything_works(&world, &mut at_work).await;
    assert_eq!(world.database.bookkeeping().await.unwrap(), Bookkeeping::Current);
    everything_works(&world, &mut world.worker("orders", WriteMode::Upsert, Some("v")).await).await;
    let mut noted = all_versions(&world);
    noted.push((newest + 1).to_string());
    assert_eq!(history(&world).await, noted, "it changes nothing of them");
    let skipped = world.database.skip(PIPELINE, &partition().at(99), "ada", SkipMode::LeaveOut).await.unwrap();
    assert!(matches!(skipped, Skip::NotHaltedThere { row: Some(_) }));
}

async fn newer_tables_are_refused_unless_marked(world: World) {
    world.database.migrate().await.unwrap();
    let (id, known) = (world.database.database_id().await.unwrap(), known(&world).last().unwrap().version);
    let (schema, found) = (world.bookkeeping("oncesink_schema"), known + 1);
    world.run(&format!("INSERT INTO {schema} (version, description, needs, database_id) VALUES ({found}, 'newer', {known}, '{id}')")).await;
    assert_eq!(world.database.bookkeeping().await.unwrap(), Bookkeeping::Current);
    world.run(&format!("UPDATE {schema} SET needs = {found} WHERE version = {found}")).await;
    assert_eq!(world.database.bookkeeping().await.unwrap(), Bookkeeping::Newer { found, known });
    for fault in [world.database.migrate().await.unwrap_err(), world.database.database_id().await.unwrap_err()] {
        assert_eq!(named(&fault), (FaultClass::Halt, "newer-bookkeeping"));
        assert!(fault.detail.contains(&format!("of version {found}")) && fault.detail.contains(&format!("knows {known}")), "{fault}");
        assert_eq!(fault.mend.as_deref(), Some("run the newer oncesink"));
    }
    // A still newer one does not take the need away.
    world.run(&format!("INSERT INTO {schema} (version, description, needs, database_id) VALUES ({}, 'newest', {known}, '{id}')", found + 1)).await;
    assert_eq!(world.database.bookkeeping().await.unwrap(), Bookkeeping::Newer { found: found + 1, known });
    world.run(&format!("DELETE FROM {schema} WHERE version >= {found}")).await;
    world.database.migrate().await.unwrap();
}

/// Somebody's own table has a name of ours.
async fn a_migration_that_fails_is_ended_by_the_next_one(world: World) {
    let is_one_transaction = !world.is_mysql_or_mariadb();
    let table = world.bookkeeping(if is_one_transaction { "oncesink_tombstone" } else { "oncesink_tombstone_lock" });
    if world.is_postgres() {
        world.run("CREATE SCHEMA oncesink").await;
    }
    world.run(&format!("CREATE TABLE {table} (own INT)")).await;
    let fault = world.database.migrate().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Halt, "{fault}");
    if is_one_transaction {
        assert_eq!(named(&world.database.database_id().await.unwrap_err()), (FaultClass::Halt, "missing-bookkeeping"), "nothing of it stays");
    } else {
        assert_eq!(history(&world).await, ["1", "2"], "what was whole is noted");
    }
    world.run(&format!("DROP TABLE {table}")).await;
    all_migrate(&world).await;
    make_orders(&world).await;
    everything_works(&world, &mut world.worker("orders", WriteMode::Upsert, Some("v")).await).await;
}

/// It starts where the tables are, and needs to make nothing.
async fn who_may_not_create_says_who_must(world: World) {
    make_orders(&world).await;
    let role = world.create_role().await;
    world.run(&format!("GRANT SELECT ON orders TO {role}")).await;
    let mine = world.seen_by(&role);
    let is_refused = async || {
        let fault = mine.database.migrate().await.unwrap_err();
        assert_eq!(named(&fault), (FaultClass::Halt, "permission"), "{fault}");
        assert!(fault.detail.contains(&role) && fault.detail.contains("bookkeeping tables"), "{fault}");
        assert!(fault.mend.as_ref().unwrap().contains("run `oncesink migrate` once"), "{fault:?}");
    };
    is_refused().await;
    if let Bookkeeping::Needed { allowed, .. } = mine.database.bookkeeping().await.unwrap() {
        assert!(world.is_mysql_or_mariadb() || !allowed, "PostgreSQL tells it beforehand");
    }
    let whole = needed(world.database.as_ref()).await.len();
    make_the_first_version(&world).await;
    assert!(needed(world.database.as_ref()).await.len() < whole);
    let (schema, usage) =
        (world.bookkeeping("oncesink_schema"), if world.is_postgres() { format!("GRANT USAGE ON SCHEMA oncesink TO {role};") } else { String::new() });
    world.run(&format!("{usage} GRANT SELECT ON {schema} TO {role}")).await;
    is_refused().await;
    assert_eq!(history(&world).await, ["1"], "it leaves older tables as they are");

    world.run(&needed(world.database.as_ref()).await.join(";\n")).await;
    world.run(&mine.database.grants(&role, &[TableName::parse("orders")]).join("\n")).await;
    let mut worker = mine.worker("orders", WriteMode::Upsert, Some("v")).await;
    everything_works(&mine, &mut worker).await;
    let next = worker.next.get();
    let note = StoredHalt { reason: "check".to_owned(), detail: String::new(), offset: next, at: 5 };
    mine.database.note_halt(PIPELINE, &partition(), None, Some(&note)).await.unwrap();
    assert_eq!(mine.database.skip(PIPELINE, &partition().at(next), "ada", SkipMode::LeaveOut).await.unwrap(), Skip::Done);
    world.drop_role(&role).await;
}

/// A file that this process may not write is what a missing right is to a server.
#[tokio::test]
async fn sqlite_says_that_its_file_cannot_be_written() {
    world::on_sqlite(|world| async move {
        make_orders(&world).await;
        let read_only = open(&DatabaseOptions::new(world.url.replace("mode=rwc", "mode=ro"))).unwrap();
        let fault = read_only.migrate().await.unwrap_err();
        assert_eq!(named(&fault), (FaultClass::Halt, "read-only"), "{fault}");
        assert_eq!(fault.mend.as_deref(), Some("let the process write the file and its directory"));
        let mut worker = world.worker("orders", WriteMode::Upsert, Some("v")).await;
        everything_works(&world, &mut worker).await;
        assert_eq!(read_only.bookkeeping().await.unwrap(), Bookkeeping::Current);
        read_only.migrate().await.unwrap();
        assert_eq!(read_only.checkpoints(PIPELINE).await.unwrap()[0].next_offset, worker.next, "it can be looked at");
        let nowhere = open(&DatabaseOptions::new(world.url.replace("shop.db", "missing/shop.db"))).unwrap();
        assert_eq!(named(&nowhere.migrate().await.unwrap_err()), (FaultClass::Halt, "missing-database"), "no directory");
    })
    .await;
}

/// Waits for the statement that is held up, and ends its connection.
async fn kill_who_waits(world: &World) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let waiting = match world.kind() {
        Kind::Postgres => {
            "SELECT pid::text FROM pg_stat_activity WHERE application_name = 'oncesink' AND datname = current_database() AND wait_event_type = 'Lock'"
        }
        _ => "SELECT CAST(id AS char) FROM information_schema.PROCESSLIST WHERE db = database() AND state = 'Waiting for table metadata lock'",
    };
    loop {
        if let Some(Some(id)) = world.texts(waiting).await.into_iter().next() {
            return world.run(&if world.is_postgres() { format!("SELECT pg_terminate_backend({id})") } else { format!("KILL {id}") }).await;
        }
        assert!(Instant::now() < deadline, "the migration is not held up");
        tokio::task::yield_now().await;
    }
}

async fn a_connection_that_is_killed_in_the_middle(world: World) {
    make_the_first_version(&world).await;
    let id = world.texts(&format!("SELECT database_id FROM {}", world.bookkeeping("oncesink_schema"))).await.remove(0).unwrap();
    let migrating = |world: &World| {
        let database = world.database.clone();
        tokio::spawn(async move { database.migrate().await })
    };
    let killed = if world.is_postgres() {
        let mut holder = PgConnection::connect(&world.url).await.unwrap();
        // Whoever makes a table of this name too, waits for the end of this transaction.
        holder.execute("BEGIN; CREATE TABLE oncesink.oncesink_tombstone (own int)").await.unwrap();
        let migrating = migrating(&world);
        kill_who_waits(&world).await;
        let killed = migrating.await.unwrap();
        holder.execute("ROLLBACK").await.unwrap();
        killed
    } else {
        let mut holder = MySqlConnection::connect(&world.url).await.unwrap();
        // The tables of a step are made, and it cannot be noted.
        holder.execute(sqlx::raw_sql("LOCK TABLES oncesink_schema READ")).await.unwrap();
        let migrating = migrating(&world);
        kill_who_waits(&world).await;
        let killed = migrating.await.unwrap();
        holder.execute(sqlx::raw_sql("UNLOCK TABLES")).await.unwrap();
        assert_eq!(world.rows(&["count(*)"], "FROM oncesink_processed_event_generation").await, ["1"], "the second step was begun");
        killed
    };
    assert_eq!(named(&killed.unwrap_err()), (FaultClass::Retry, "connection"));
    assert_eq!(history(&world).await, ["1"], "no step is noted that is not whole");
    all_migrate(&world).await;
    assert_eq!(*world.database.database_id().await.unwrap(), *id, "it is the same database");
    make_orders(&world).await;
    let mut worker = world.worker("orders", WriteMode::Upsert, Some("v")).await;
    everything_works(&world, &mut worker).await;
    assert!(worker.next > NextOffset::ZERO);
}

/// A worker may have ended between any two statements.
async fn any_statements_that_were_run_are_gone_on_with(world: World) {
    make_orders(&world).await;
    let count = needed(world.database.as_ref()).await.len();
    for cut in 1..=count {
        let mut options = DatabaseOptions::new(world.url.clone());
        let name = format!("oncesink_test_{:016x}", rand::random::<u64>());
        options.bookkeeping = Some(name.clone());
        let cut_short = World { url: world.url.clone(), database: open(&options).unwrap() };
        // One more than the tables': the database is made first.
        let statements = needed(cut_short.database.as_ref()).await;
        assert_eq!(statements.len(), count + 1);
        for statement in &statements[..cut] {
            world.run(statement).await;
        }
        cut_short.database.migrate().await.unwrap();
        assert_eq!(cut_short.database.bookkeeping().await.unwrap(), Bookkeeping::Current, "after {cut} statements");
        let noted = world.rows(&["version"], &format!("FROM {name}.oncesink_schema ORDER BY version")).await;
        assert_eq!(noted, all_versions(&world), "after {cut} statements");
        let rows = world.rows(&["count(*)"], &format!("FROM {name}.oncesink_processed_event_generation")).await;
        assert_eq!((rows, world.rows(&["count(*)"], &format!("FROM {name}.oncesink_tombstone_lock")).await), (vec!["1".to_owned()], vec!["4096".to_owned()]));
        everything_works(&cut_short, &mut cut_short.worker("orders", WriteMode::Upsert, Some("v")).await).await;
        world.run(&format!("DROP DATABASE {name}; DELETE FROM orders")).await;
    }
}
