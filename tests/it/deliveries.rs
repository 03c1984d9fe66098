//! Topics of all three deliveries in one process, and several pipelines beside each other.

use std::collections::BTreeSet;

use crate::{
    database::{Database, Kind},
    event_log::{Keys, WEEK, assert_latest, create_tables, file, file_by_keys, numbered, rows},
    file::PipelineFile,
    main_job::{kill_at_work, kill_until_committed, wait_until_committed},
    servers::{ask_redis, shared_redis},
    topic::Topic,
    wait::{seconds, wait_until},
    worker::{Worker, oncesink, path},
};

const RECORDS: usize = 15_000;

struct Table {
    name: &'static str,
    topic: Topic,
}

/// Rows of a table, and how many different records they are of.
fn counted(database: &Database, table: &str) -> (usize, usize) {
    let rows = database.rows(&format!("SELECT kafka_partition, kafka_offset FROM {table}"));
    (rows.len(), rows.iter().collect::<BTreeSet<_>>().len())
}

/// Killed at work: of the money everything once, of the events everything at least once, of the readings nothing twice.
fn mixed(kind: Kind, label: &str) {
    let database = Database::create(kind, label);
    let integer = if kind == Kind::Sqlite { "INTEGER" } else { "bigint" };
    let tables = ["money", "events", "readings"].map(|name| {
        database.execute(&format!("CREATE TABLE {name} (kafka_partition {integer}, kafka_offset {integer}, event varchar(40))"));
        let topic = Topic::create(&format!("{label}_{name}"), 3);
        topic.send(&numbered(0..RECORDS));
        Table { name, topic }
    });
    let route = |table: &Table| {
        let delivery = match table.name {
            "money" => "exactly-once",
            "events" => "at-least-once, dedup: []",
            _ => "at-most-once",
        };
        format!(
            "  - {{ topic: {}, table: {}, write: append, columns: {{ kafka_partition: partition, kafka_offset: offset }}, delivery: {delivery} }}\n",
            table.topic.name, table.name
        )
    };
    let routes = format!("routes:\n{}", tables.iter().map(route).collect::<String>());
    let file = PipelineFile::new(label, &tables[0].topic, &database, &routes).also("rate_limit: { records_per_second: 3000 }\nbatch: { rows: 200 }");
    let topics: Vec<&Topic> = tables.iter().map(|table| &table.topic).collect();
    kill_until_committed(seconds(180), &topics, &file, 7);
    assert_eq!(counted(&database, "money"), (RECORDS, RECORDS), "of the money everything once");
    let (events, different) = counted(&database, "events");
    assert_eq!(different, RECORDS, "of the events everything");
    let (readings, distinct) = counted(&database, "readings");
    assert_eq!(readings, distinct, "of the readings nothing twice");
    println!("{label}: {} events repeated, {} readings missing", events - different, RECORDS - readings);
}

#[test]
fn all_three_in_one_process_on_postgres() {
    mixed(Kind::Postgres, "deliveries_postgres");
}

#[test]
fn all_three_in_one_process_on_mysql() {
    mixed(Kind::MySql, "deliveries_mysql");
}

#[test]
fn all_three_in_one_process_on_mariadb() {
    mixed(Kind::MariaDb, "deliveries_mariadb");
}

#[test]
fn all_three_in_one_process_on_sqlite() {
    mixed(Kind::Sqlite, "deliveries_sqlite");
}

/// Two pipelines in one process: one halts at a table that is not there any more, the other one goes on and ends all it has.
#[test]
fn a_pipeline_that_halts_does_not_disturb_another() {
    let job = |label: &str| {
        let topic = Topic::create(label, 2);
        let database = Database::create(Kind::Postgres, label);
        create_tables(&database);
        let file = file(label, &topic, &database, "delivery: exactly-once");
        (topic, database, file)
    };
    let (sound, sound_database, sound_file) = job("tenant_sound");
    let (broken, broken_database, broken_file) = job("tenant_broken");
    broken.send(&numbered(0..10));
    let mut worker = Worker::start_with(&sound_file, &[path(&broken_file)]);
    wait_until(seconds(60), "the broken one works yet", || {
        worker.assert_runs();
        broken_database.count("event_log") == 10
    });
    broken_database.execute("DROP TABLE event_log");
    broken.send(&numbered(10..20));
    wait_until(seconds(60), "the broken one halts", || worker.page("/status").is_some_and(|(_, status)| status.contains(r#""reason": "missing-table""#)));
    sound.send(&numbered(0..RECORDS));
    wait_until(seconds(60), "the sound one has done all", || {
        worker.assert_runs();
        sound.lag(&sound_file.group()) == Some(0)
    });
    assert_eq!(rows(&sound_database).len(), RECORDS);
    assert_eq!(worker.stop(), Some(1), "a partition is halted at the stop");
}

/// The guarantee is changed by rolling three workers one at a time under load, from weak to strong and back: by a unique key or by nothing, by
/// the checkpoint, by the ids of events, and by Redis besides. From the end of a roll-out to a strong one to the begin of the next one nothing is
/// lost and nothing repeated, though a worker is killed.
#[test]
fn the_guarantee_changes_by_rolling_workers() {
    let topic = Topic::create("rolling", 6);
    topic.keep_for(WEEK);
    let database = Database::create(Kind::Postgres, "rolling");
    create_tables(&database);
    let redis = format!("redis: {}", shared_redis());
    // Slow enough that there is something to do at each stop and kill.
    let slow = |keys| file_by_keys("rolling", &topic, &database, keys).also("rate_limit: { records_per_second: 500 }\nbatch: { rows: 100 }");
    // The table with a key by its unique key, the other by nothing.
    let weak = slow(Keys { log: "delivery: at-least-once\n    dedup: []", latest: "delivery: at-least-once\n    dedup: [unique-key]" });
    let named = |keys| slow(Keys { log: keys, latest: keys }).named(&weak.name);
    let strong = named("delivery: exactly-once");
    let by_event = named("delivery: at-least-once\n    dedup: [processed-event]\n    event_id: value.event");
    let with_redis = named("delivery: at-least-once\n    dedup: [redis, processed-event]\n    event_id: value.event").also(&redis);
    let mut sent = 0_usize;
    let mut send = |count: usize| {
        topic.send(&numbered(sent..sent + count));
        sent += count;
        sent
    };
    let start = |file: &PipelineFile, index: usize| Worker::start_with(file, &["--set", &format!("kafka.instance_id=worker-{index}")]);
    let mut workers: Vec<Worker> = (0..3).map(|index| start(&weak, index)).collect();
    let mut from_switch_on = BTreeSet::new();
    for (file, is_strong) in [(&strong, true), (&weak, false), (&by_event, true), (&with_redis, true), (&strong, true)] {
        for (index, worker) in workers.iter_mut().enumerate() {
            let _ = send(1_000);
            assert_eq!(worker.stop(), Some(0), "{}", worker.log());
            *worker = start(file, index);
        }
        wait_until_committed(seconds(120), &[&topic], file, &mut workers);
        // All workers have the new file, and hold their partitions under it.
        let before = send(0);
        let _ = send(6_000);
        kill_at_work(&mut workers, 1, 1);
        workers[1] = start(file, 1);
        wait_until_committed(seconds(120), &[&topic], file, &mut workers);
        if is_strong {
            from_switch_on.extend(before..send(0));
        }
    }
    workers.iter_mut().for_each(|worker| assert_eq!(worker.stop(), Some(0), "{}", worker.log()));
    let mut times = vec![0_u32; sent];
    for (event, _) in rows(&database) {
        times[event.trim_start_matches("e-").parse::<usize>().expect("a number")] += 1;
    }
    assert!(times.iter().all(|times| *times >= 1), "an event is lost");
    assert_latest(&topic, &database);
    let repeated: Vec<usize> = from_switch_on.into_iter().filter(|number| times[*number] != 1).collect();
    assert!(repeated.is_empty(), "applied twice after the switch: {repeated:?}");
    assert!(ask_redis(shared_redis(), &format!("KEYS oncesink:{}:*", weak.name)).contains("e-"), "Redis was told");
    println!("rolling: {} repeats while the delivery was at-least-once without dedup", times.iter().filter(|times| **times > 1).count());
}

/// What it says of each route: what holds and why, and what nothing stops.
#[test]
fn plan_says_what_each_route_gives_and_what_remains() {
    let topic = Topic::create("plan_gives", 2);
    let database = Database::create(Kind::Postgres, "plan_gives");
    create_tables(&database);
    database.execute("CREATE TABLE firsts (id bigint, event varchar(40))");
    let planned = |keys: &str| {
        let routes = format!("routes: [ {{ topic: {}, {keys} }} ]\n", topic.name);
        let file = PipelineFile::new("plan_gives", &topic, &database, &routes);
        oncesink(&["plan", path(&file)]).expect_code(0)
    };
    planned("table: event_log, write: append").expect_text(&[
        "exactly-once, each record takes effect once: rows and checkpoint commit in one transaction",
        "not stopped: an event sent twice by its producer becomes two rows: append looks at no key; dedup: [processed-event] with an `event_id` stops it",
    ]);
    planned("table: event_log, write: append, dedup: [processed-event], event_id: value.event")
        .expect_text(&["harmless: an event sent twice by its producer is left out: its id is known"]);
    planned("table: event_log, write: append, delivery: at-least-once, dedup: []")
        .expect_text(&["at-least-once, repeats remain: a crash repeats the batch in flight"]);
    planned("table: latest, version: version, delivery: at-least-once")
        .expect_text(&["the right rows in the end", "harmless: an older event sent after a newer one"]);
    planned("table: latest, delivery: at-most-once").expect_text(&["each record at most once", "name a `version` column"]);
    planned("table: firsts, write: insert-if-new, key_columns: [id]")
        .expect_text(&["two workers that bring a new key at the same moment both insert it", "ADD UNIQUE (id)"]);
}
