//! Somebody alters the offsets of the group. Under exactly-once nothing moves; under at-least-once a reset is followed, but never below
//! the floor, and the worker says so.

use std::collections::BTreeMap;

use crate::{
    checker::{applied, assert_latest, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    kafka::{Record, committed, try_commit},
    servers::{kafka_tool, unique},
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::Worker,
};

const PARTITIONS: i32 = 3;

#[derive(Clone, Copy, Debug)]
enum Alteration {
    Deleted,
    ToEarliest,
    ToLatest,
    GroupDeleted,
}

impl Alteration {
    /// By Kafka's own tool; what it printed.
    fn try_on(self, topic: &Topic, group: &str) -> String {
        let of_topic = ["--group", group, "--topic", &topic.name];
        let arguments: Vec<&str> = match self {
            Self::Deleted => [&["--delete-offsets"], &of_topic[..]].concat(),
            Self::ToEarliest => [&["--reset-offsets", "--to-earliest", "--execute"], &of_topic[..]].concat(),
            Self::ToLatest => [&["--reset-offsets", "--to-latest", "--execute"], &of_topic[..]].concat(),
            Self::GroupDeleted => vec!["--delete", "--group", group],
        };
        kafka_tool("consumer-groups", &topic.brokers, &arguments)
    }

    /// The tool is quick to print that it has done something: the group itself is asked.
    #[track_caller]
    fn execute(self, topic: &Topic, group: &str) {
        let printed = self.try_on(topic, group);
        let ends: BTreeMap<i32, i64> = topic.read().iter().map(|record| (record.partition, record.offset + 1)).collect();
        for (partition, offset) in committed(&topic.brokers, group, &topic.name, topic.partitions) {
            let expected = match self {
                Self::Deleted | Self::GroupDeleted => None,
                Self::ToEarliest => Some(0),
                Self::ToLatest => ends.get(&partition).copied(),
            };
            assert_eq!(offset, expected, "{self:?} of partition {partition}; the tool printed:\n{printed}");
        }
    }
}

/// Starts a worker, waits until that many records are in the log, and stops it in order. What it said.
#[track_caller]
fn work(file: &PipelineFile, database: &Database, until: i64) -> String {
    let mut worker = Worker::start(file);
    wait_until(seconds(60), "every record is applied", || {
        worker.assert_runs();
        database.try_rows("SELECT count(*) FROM order_log").is_ok() && applied(database) >= until
    });
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    worker.log()
}

fn nothing_moves(kind: Kind, label: &str) {
    use Alteration::{Deleted, GroupDeleted, ToEarliest, ToLatest};
    let topic = Topic::create(label, PARTITIONS);
    let database = Database::create(kind, label);
    create_order_tables(&database);
    let mut orders = Orders::seeded(91, 200);
    topic.send(&orders.take(600));
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
    let mut expected = 600;
    work(&file, &database, expected);
    // From here on a start by the policy would leave out what is unread.
    let file = file.kafka("start: latest");
    for (alteration, says) in [
        (Deleted, "the group holds no offset: the checkpoint says"),
        (ToEarliest, "is not followed: the checkpoint says"),
        (ToLatest, "is not followed: the checkpoint says"),
        (GroupDeleted, "the group holds no offset: the checkpoint says"),
    ] {
        assert_eq!(topic.lag(&file.group()), Some(0), "before {alteration:?}");
        topic.send(&orders.take(300));
        alteration.execute(&topic, &file.group());
        expected += 300;
        let said = work(&file, &database, expected);
        assert!(said.contains(says), "{alteration:?}: `{says}` is not in:\n{said}");
        assert_orders(&database, &topic.read());
    }
    // Nothing new in the topic: what was deleted is committed again all the same, so that others see the lag.
    Deleted.execute(&topic, &file.group());
    let mut worker = Worker::start(&file);
    wait_until(seconds(60), "the group's offsets are back", || {
        worker.assert_runs();
        topic.lag(&file.group()) == Some(0)
    });
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_orders(&database, &topic.read());
}

#[test]
fn nothing_moves_under_exactly_once_on_postgres() {
    nothing_moves(Kind::Postgres, "group_offsets_postgres");
}

#[test]
fn nothing_moves_under_exactly_once_on_sqlite() {
    nothing_moves(Kind::Sqlite, "group_offsets_sqlite");
}

/// Kafka protects the offsets of a group with members, and a worker that is frozen past its session is none.
#[test]
fn nothing_moves_while_a_worker_runs_or_is_frozen() {
    use Alteration::{Deleted, GroupDeleted, ToEarliest, ToLatest};
    let topic = Topic::create("offsets_running", PARTITIONS);
    let database = Database::create(Kind::Postgres, "offsets_running");
    create_order_tables(&database);
    let mut orders = Orders::seeded(92, 200);
    topic.send(&orders.take(600));
    let file = PipelineFile::new("offsets_running", &topic, &database, &order_routes(&topic.name));
    let group = file.group();
    let mut worker = Worker::start(&file);
    wait_until(seconds(60), "the group knows what is applied", || {
        worker.assert_runs();
        topic.lag(&group) == Some(0)
    });
    let before = committed(&topic.brokers, &group, &topic.name, PARTITIONS);
    for alteration in [Deleted, ToEarliest, ToLatest, GroupDeleted] {
        let printed = alteration.try_on(&topic, &group);
        assert!(printed.contains("Error") || printed.contains("not empty"), "{alteration:?} of a running group:\n{printed}");
    }
    assert!(try_commit(&topic.brokers, &group, &topic.name, 0, 1).is_err(), "the group's members commit, and nobody else");
    assert_eq!(committed(&topic.brokers, &group, &topic.name, PARTITIONS), before);

    worker.freeze();
    topic.send(&orders.take(300));
    wait_until(seconds(60), "the group is empty", || try_commit(&topic.brokers, &group, &topic.name, 0, 1).is_ok());
    ToLatest.execute(&topic, &group);
    worker.thaw();
    wait_until(seconds(60), "the thawed worker has applied what it was to skip", || {
        worker.assert_runs();
        applied(&database) >= 900
    });
    wait_until(seconds(60), "the group's offsets are its own again", || topic.lag(&group) == Some(0));
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_orders(&database, &topic.read());
}

/// How often each group of records is in the log: those before the first start, and the ones sent later, by their number.
fn times(database: &Database, name: &str) -> Vec<(i64, i64)> {
    let rows = database.rows(&format!(
        "SELECT min(times), max(times) FROM (SELECT count(*) AS times FROM order_log WHERE note LIKE '{name}%' GROUP BY kafka_partition, kafka_offset) AS counted"
    ));
    let number = |value: &Option<String>| value.as_ref().map_or(0, |text| text.parse().expect("a number"));
    rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect()
}

#[test]
fn a_reset_is_followed_under_at_least_once_but_never_below_the_floor() {
    use Alteration::{Deleted, ToEarliest, ToLatest};
    let topic = Topic::create("offsets_at_least_once", PARTITIONS);
    let database = Database::create(Kind::Postgres, "offsets_at_least_once");
    create_order_tables(&database);
    let name = unique("offsets_at_least_once").replace('_', "-");
    let file =
        PipelineFile::new("offsets_at_least_once", &topic, &database, &order_routes(&topic.name).replace("write: append", "write: append\n    dedup: []"))
            .named(&name)
            .kafka("start: latest")
            .also("defaults: { delivery: at-least-once }");
    let mut orders = Orders::seeded(93, 200);
    let mut send = |name: &str, count: usize| topic.send(&orders.take_noted(count, name));
    let count = |name: &str| database.number(&format!("SELECT count(*) FROM order_log WHERE note LIKE '{name}%'"));

    send("before", 300);
    let mut worker = Worker::start(&file);
    wait_until(seconds(60), "the topic is claimed", || {
        worker.assert_runs();
        let claimed = format!("SELECT count(*) FROM oncesink.oncesink_checkpoint WHERE epoch > 0 AND next_offset > 0 AND topic = '{}'", topic.name);
        database.try_rows(&claimed).is_ok_and(|rows| rows[0][0].as_deref() == Some("3"))
    });
    send("first", 300);
    wait_until(seconds(60), "the first records are applied", || count("first") >= 300);
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_eq!(times(&database, "first"), [(1, 1)]);

    // Back to the floor, which is where the pipeline began.
    ToEarliest.execute(&topic, &file.group());
    send("second", 300);
    let said = work(&file, &database, 900);
    assert!(said.contains("is not followed: the checkpoint says") && said.contains("is written again"), "{said}");
    assert_eq!([times(&database, "before"), times(&database, "first"), times(&database, "second")], [[(0, 0)], [(2, 2)], [(1, 1)]]);

    // An admin leaves records out.
    send("third", 300);
    ToLatest.execute(&topic, &file.group());
    send("fourth", 300);
    let said = work(&file, &database, 1200);
    assert!(said.contains("was not committed by oncesink, and is followed"), "{said}");
    assert_eq!([times(&database, "second"), times(&database, "third"), times(&database, "fourth")], [[(1, 1)], [(0, 0)], [(1, 1)]]);

    // Without any offset it begins at the floor, and what was left out comes after all.
    Deleted.execute(&topic, &file.group());
    let said = work(&file, &database, 1200 + 1200);
    assert!(said.contains("the group holds no offset") && said.contains("is written again"), "{said}");
    let all = ["before", "first", "second", "third", "fourth"].map(|name| times(&database, name)[0]);
    assert_eq!(all, [(0, 0), (3, 3), (2, 2), (1, 1), (2, 2)]);
    let records: Vec<Record> = topic.read().into_iter().filter(|record| !is_before(record)).collect();
    assert_latest(&database, &records);

    // Retention has passed the floor since. All that is gone was written once: no gap.
    topic.delete_before(&[(0, 250), (1, 250), (2, 250)]);
    Deleted.execute(&topic, &file.group());
    let readable = i64::try_from(topic.read().len()).expect("a count");
    let said = work(&file, &database, 2400 + readable);
    assert!(said.contains("the checkpoint says 250"), "{said}");
    assert_eq!(applied(&database), 2400 + readable);
    assert_latest(&database, &records);
}

fn is_before(record: &Record) -> bool {
    record.value.as_deref().is_some_and(|value| String::from_utf8_lossy(value).contains(r#""note":"before"#))
}
