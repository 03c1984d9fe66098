//! The bookkeeping tables, `skip`, and what is kept of a halt.

use oncesink_sinks::{
    checkpoint::{Checkpoint, StoredHalt},
    fault::FaultClass,
    model::{NextOffset, TableName, WriteMode},
    open::open,
    options::DatabaseOptions,
    session::{Bookkeeping, Database, Skip, SkipMode},
};

use crate::{
    on_each,
    world::{self, PIPELINE, V, World, partition},
};

on_each!(several_workers_migrate_at_once, a_newer_schema_is_refused_unless_marked, a_halt_is_kept_and_ends_with_a_batch, skip_leaves_out_one_record);

async fn several_workers_migrate_at_once(world: World) {
    let Bookkeeping::Needed { statements, allowed: true } = world.database.bookkeeping().await.unwrap() else { panic!("nothing is there yet") };
    assert!(statements.iter().any(|statement| statement.contains("oncesink_checkpoint")));
    let fault = world.database.database_id().await.unwrap_err();
    assert_eq!((fault.class, &*fault.reason), (FaultClass::Halt, "missing-bookkeeping"));
    let fault = world.database.checkpoints(PIPELINE).await.unwrap_err();
    assert_eq!((fault.class, &*fault.reason), (FaultClass::Halt, "missing-bookkeeping"));
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
    assert_eq!(world.rows(&["count(*)"], &format!("FROM {}", world.bookkeeping("oncesink_schema"))).await, ["3"], "each step is applied once");
}

async fn a_newer_schema_is_refused_unless_marked(world: World) {
    world.database.migrate().await.unwrap();
    let id = world.database.database_id().await.unwrap();
    let schema = world.bookkeeping("oncesink_schema");
    world.run(&format!("INSERT INTO {schema} (version, description, needs, database_id) VALUES (4, 'newer', 3, '{id}')")).await;
    assert_eq!(world.database.bookkeeping().await.unwrap(), Bookkeeping::Current);
    world.run(&format!("UPDATE {schema} SET needs = 4 WHERE version = 4")).await;
    assert_eq!(world.database.bookkeeping().await.unwrap(), Bookkeeping::Newer { found: 4, known: 3 });
    let fault = world.database.migrate().await.unwrap_err();
    assert_eq!((fault.class, &*fault.reason), (FaultClass::Halt, "newer-bookkeeping"));
}

fn halt(offset: i64) -> StoredHalt {
    StoredHalt { reason: "check".to_owned(), detail: "orders_total_check".to_owned(), offset, at: 1_795_222_923_004 }
}

async fn a_halt_is_kept_and_ends_with_a_batch(world: World) {
    world.run("CREATE TABLE journal (id BIGINT)").await;
    let mut worker = world.worker("journal", WriteMode::Append, None).await;
    worker.write(vec![vec![V::I(1)]]).await;
    world.database.note_halt(PIPELINE, &partition(), None, Some(&halt(1))).await.unwrap();
    let row = worker.sink.read(PIPELINE).await.unwrap().remove(0);
    assert_eq!((row.halt, row.next_offset, row.last.unwrap().offset), (Some(halt(1)), NextOffset::new(1), 0), "a halt moves nothing");
    world.database.note_halt(PIPELINE, &partition(), None, None).await.unwrap();
    assert_eq!(worker.sink.read(PIPELINE).await.unwrap()[0].halt, None);
    world.database.note_halt(PIPELINE, &partition(), None, Some(&halt(1))).await.unwrap();
    worker.write(vec![vec![V::I(2)]]).await;
    assert_eq!(worker.sink.read(PIPELINE).await.unwrap()[0].halt, None);
}

async fn skip_leaves_out_one_record(world: World) {
    world.run("CREATE TABLE journal (id BIGINT)").await;
    let mut worker = world.worker("journal", WriteMode::Append, None).await;
    worker.write(vec![vec![V::I(1)], vec![V::I(2)]]).await;
    let skip = |offset: i64, mode: SkipMode| {
        let world = world.clone();
        async move { world.database.skip(PIPELINE, &partition().at(offset), "ada", mode).await.unwrap() }
    };
    assert!(matches!(skip(2, SkipMode::LeaveOut).await, Skip::NotHaltedThere { row: Some(_) }), "it is not halted");
    world.database.note_halt(PIPELINE, &partition(), None, Some(&halt(2))).await.unwrap();
    assert!(matches!(skip(3, SkipMode::LeaveOut).await, Skip::NotHaltedThere { row: Some(_) }), "it is halted elsewhere");
    assert_eq!(skip(2, SkipMode::Look).await, Skip::Possible { halt: halt(2) });
    assert_eq!(worker.sink.read(PIPELINE).await.unwrap()[0].next_offset, NextOffset::new(2));
    assert_eq!(skip(2, SkipMode::LeaveOut).await, Skip::Done);
    let row = worker.sink.read(PIPELINE).await.unwrap().remove(0);
    assert_eq!((row.next_offset, row.durable, row.halt), (NextOffset::new(3), NextOffset::new(3), None));
    assert!(matches!(skip(2, SkipMode::LeaveOut).await, Skip::NotHaltedThere { .. }), "only once");
    world.database.note_halt(PIPELINE, &partition(), None, Some(&halt(1))).await.unwrap();
    assert!(matches!(skip(1, SkipMode::LeaveOut).await, Skip::NotHaltedThere { .. }), "what is done is not moved back");
    let audit = world.rows(&["pipeline", "topic", &world.quoted("offset"), "action", "who"], &format!("FROM {}", world.bookkeeping("oncesink_audit"))).await;
    assert_eq!(audit, ["shop|orders|2|skip|ada"]);
    let elsewhere = world.database.skip("other", &partition().at(2), "ada", SkipMode::LeaveOut).await.unwrap();
    assert_eq!(elsewhere, Skip::NotHaltedThere { row: None });
}

#[tokio::test]
async fn the_printed_statements_and_grants_are_enough() {
    world::on_postgres(|world| async move {
        world.run("CREATE TABLE orders (id int PRIMARY KEY, note text)").await;
        let role = format!("oncesink_role_{:016x}", rand::random::<u64>());
        world.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
        let mut options = DatabaseOptions::new(world.url.clone());
        options.username = Some(role.clone());
        options.password = Some("secret".into());
        let least: std::sync::Arc<dyn Database> = open(&options).unwrap();

        let Bookkeeping::Needed { allowed, .. } = least.bookkeeping().await.unwrap() else { panic!() };
        assert!(!allowed, "it may not make a schema");
        let fault = least.migrate().await.unwrap_err();
        assert_eq!((fault.class, &*fault.reason), (FaultClass::Halt, "permission"));
        let Bookkeeping::Needed { statements, .. } = world.database.bookkeeping().await.unwrap() else { panic!() };
        world.run(&statements.join(";\n")).await;
        let fault = least.database_id().await.unwrap_err();
        assert_eq!((fault.class, &*fault.reason), (FaultClass::Halt, "permission"));

        let orders = world.database.describe(&TableName::parse("orders")).await.unwrap().name;
        world.run(&least.grants(&role, &[orders]).join("\n")).await;
        let mine = World { url: world.url.clone(), database: least };
        let mut worker = mine.worker("orders", WriteMode::Upsert, None).await;
        worker.write(vec![vec![V::I(1), world::t("a")]]).await;
        mine.database.note_halt(PIPELINE, &partition(), None, Some(&halt(1))).await.unwrap();
        assert_eq!(mine.database.skip(PIPELINE, &partition().at(1), "ada", SkipMode::LeaveOut).await.unwrap(), Skip::Done);
        world.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    })
    .await;
}
