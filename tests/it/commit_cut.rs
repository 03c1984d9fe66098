//! The reply to COMMIT is lost, again and again: whether it took effect is for the database to say, and nobody guesses.

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    database_wire::{DatabaseWire, LineFault},
    fate::Fate,
    file::PipelineFile,
    main_job::Stream,
    random::Random,
    tier::count,
    topic::{Orders, Topic},
    trail,
    wait::{seconds, wait_until},
    worker::Worker,
};

/// A third each, in an order of its own.
fn faults(count: u32) -> Vec<LineFault> {
    let kinds = [LineFault::CutBefore, LineFault::CutAfter, LineFault::CutBetween];
    let mut faults: Vec<LineFault> = (0..count).zip(kinds.into_iter().cycle()).map(|(_, fault)| fault).collect();
    let mut random = Random::seeded(81);
    for last in (1..faults.len()).rev() {
        let other = random.below(last as u64 + 1);
        faults.swap(last, usize::try_from(other).expect("an index"));
    }
    faults
}

fn each_cut_commit_is_looked_up_and_takes_effect_once(kind: Kind, label: &str) {
    let wanted = count(50, 200);
    let topic = Topic::create(label, 6);
    let database = Database::create(kind, label);
    create_order_tables(&database);
    topic.send(&Orders::seeded(82, 2_000).take(10_000));
    let stream = Stream::start(&topic, 83);
    let wire = DatabaseWire::to(&database, "order_log");
    wire.plan(&faults(wanted), 2);
    let cuts = usize::try_from(wanted).expect("a count");
    // Small batches, and fewer writers than partitions: cuts come often, and most batches hold several partitions.
    let file = PipelineFile::with(label, &topic.brokers, &wire.url(), &order_routes(&topic.name))
        .also("batch: { rows: 300 }")
        .database(&format!("{{ url: \"{}\", writers: 3 }}", wire.url()));
    trail::lay(&database, &file);
    let mut worker = Worker::start(&file);
    wait_until(seconds(300), &format!("{cuts} COMMITs are cut"), || {
        worker.assert_runs();
        wire.hits().len() >= cuts
    });
    stream.finish();
    let records = topic.read();
    let expected = i64::try_from(records.len()).expect("a count");
    wait_until(seconds(180), "every record is applied", || {
        worker.assert_runs();
        applied(&database) >= expected
    });

    // What the server says of each of these transactions, and not what the wire meant to do.
    let hits = wire.hits();
    assert_eq!(hits.len(), cuts);
    let mut committed = 0;
    for hit in &hits {
        let fate = hit.transaction.fate();
        match hit.fault {
            LineFault::CutBefore => assert_eq!(fate, Fate::Undone, "cut before the server had it"),
            LineFault::CutAfter => assert_eq!(fate, Fate::Committed, "cut after the server had answered"),
            _ => assert_ne!(fate, Fate::Open, "it is over by now"),
        }
        committed += usize::from(fate == Fate::Committed);
    }
    println!("{label}: {cuts} COMMITs cut: {committed} had taken effect, {} had not", cuts - committed);
    assert!(committed * 4 >= cuts, "a quarter had taken effect: {committed} of {cuts}");
    assert!((cuts - committed) * 4 >= cuts, "a quarter had not: {} of {cuts}", cuts - committed);
    let unknown = worker.metric("oncesink_batch_seconds_count", &[r#"result="unknown""#]);
    assert_eq!(unknown, Some(f64::from(wanted)), "the worker counts each of them");
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_orders(&database, &records);
    trail::assert_orderly(&database, &records);
    assert_eq!(topic.lag(&file.group()), Some(0));
}

#[test]
fn each_cut_commit_takes_effect_once_on_postgres() {
    each_cut_commit_is_looked_up_and_takes_effect_once(Kind::Postgres, "commit_cut");
}

#[test]
fn each_cut_commit_takes_effect_once_on_mysql() {
    each_cut_commit_is_looked_up_and_takes_effect_once(Kind::MySql, "commit_cut_mysql");
}

#[test]
fn each_cut_commit_takes_effect_once_on_mariadb() {
    each_cut_commit_is_looked_up_and_takes_effect_once(Kind::MariaDb, "commit_cut_mariadb");
}
