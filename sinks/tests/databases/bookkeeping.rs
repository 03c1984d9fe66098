//! `skip`, and what is kept of a halt.

use oncesink_sinks::{
    checkpoint::{Checkpoint, StoredHalt},
    model::{NextOffset, WriteMode},
    session::{Skip, SkipMode},
};

use crate::{
    on_each,
    world::{PIPELINE, V, World, partition},
};

on_each!(a_halt_is_kept_and_ends_with_a_batch, skip_leaves_out_one_record);

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
