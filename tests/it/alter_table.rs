//! The table changes while its route runs.

use serde_json::json;

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::Worker,
};

struct Job {
    topic: Topic,
    database: Database,
    worker: Worker,
}

impl Job {
    /// A running route into `items (id, name, size)` with one record applied.
    fn running(label: &str, kind: Kind) -> Self {
        let topic = Topic::create(label, 1);
        let database = Database::create(kind, label);
        database.execute("CREATE TABLE items (id bigint PRIMARY KEY, name text, size bigint)");
        let file = PipelineFile::new(label, &topic, &database, &format!("routes: [ {{ topic: {}, table: items }} ]\n", topic.name));
        let mut job = Self { topic, database, worker: Worker::start(&file) };
        job.send(1);
        job.wait_for("SELECT name FROM items WHERE id = 1", "n1");
        job
    }

    fn send(&self, id: i64) {
        let value = json!({ "id": id, "name": format!("n{id}"), "size": id * 10, "colour": format!("c{id}") });
        self.topic.send(&[Outgoing::json(id.to_string(), value.to_string())]);
    }

    #[track_caller]
    fn wait_for(&mut self, sql: &str, expected: &str) {
        wait_until(seconds(90), &format!("{sql} gives {expected}"), || {
            self.worker.assert_runs();
            self.database.try_rows(sql).is_ok_and(|rows| rows.first().is_some_and(|row| row[0].as_deref() == Some(expected)))
        });
    }
}

/// A column that the table gains is filled from then on, without a restart. The worker may notice at its next look at the
/// catalogue, so records keep coming until one is filled; none is lost meanwhile.
fn added(label: &str, kind: Kind) {
    let mut job = Job::running(label, kind);
    job.database.execute("ALTER TABLE items ADD COLUMN colour text");
    let mut id = 1;
    wait_until(seconds(120), "the new column is filled", || {
        id += 1;
        job.send(id);
        job.worker.assert_runs();
        crate::wait::pause(seconds(1));
        job.database.number("SELECT count(*) FROM items WHERE colour IS NOT NULL") > 0
    });
    job.wait_for("SELECT count(*) FROM items", &id.to_string());
    let filled = job.database.rows("SELECT id, colour FROM items WHERE colour IS NOT NULL");
    for row in filled {
        assert_eq!(row[1], row[0].as_ref().map(|id| format!("c{id}")));
    }
    assert_eq!(job.worker.stop(), Some(0), "{}", job.worker.log());
}

/// A column that goes is left out: the table is read again, and the record is applied to what is there.
fn dropped(label: &str, kind: Kind) {
    let mut job = Job::running(label, kind);
    job.database.execute("ALTER TABLE items DROP COLUMN size");
    job.send(2);
    job.wait_for("SELECT name FROM items WHERE id = 2", "n2");
    assert_eq!(job.worker.stop(), Some(0), "{}", job.worker.log());
}

/// A NOT NULL column that no field finds any more: the partition halts and names it, and goes on once it is mended.
fn renamed(label: &str, kind: Kind) {
    let mut job = Job::running(label, kind);
    job.database.execute("ALTER TABLE items RENAME COLUMN id TO item_number");
    job.send(2);
    job.worker.wait_for_log(seconds(60), &[&format!("{}:0@1", job.topic.name), "item_number"]);
    assert_eq!(job.database.count("items"), 1, "nothing was written past the halt");
    job.database.execute("ALTER TABLE items RENAME COLUMN item_number TO id");
    job.wait_for("SELECT name FROM items WHERE id = 2", "n2");
    assert_eq!(job.worker.stop(), Some(0), "{}", job.worker.log());
}

/// Columns that records fill come, get another name and go in the middle of a backlog: each record is applied once all the same.
fn under_load(label: &str, kind: Kind) {
    let topic = Topic::create(label, 4);
    let database = Database::create(kind, label);
    create_order_tables(&database);
    let mut orders = Orders::seeded(141, 500);
    let mut more = |count: usize| {
        let extra = |order: Outgoing| {
            let text = String::from_utf8(order.value.expect("a value")).expect("text");
            Outgoing::json(order.key.expect("a key"), text.replacen('{', r#"{"extra":7,"#, 1))
        };
        topic.send(&orders.take(count).into_iter().map(extra).collect::<Vec<_>>());
    };
    more(4_000);
    // Held back, so that there is a backlog to change the tables in.
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name)).also("batch: { rows: 100 }\nrate_limit: { records_per_second: 2000 }");
    let mut worker = Worker::start(&file);
    wait_until(seconds(60), "the first records are applied", || applied(&database) > 0);
    let mut sent = 4_000;
    for change in ["ADD COLUMN extra bigint", "RENAME COLUMN extra TO other", "RENAME COLUMN other TO extra", "DROP COLUMN extra"] {
        more(4_000);
        sent += 4_000;
        for table in ["order_log", "orders"] {
            let before = applied(&database);
            assert!(before < sent, "there is something to apply when {change} comes");
            database.execute(&format!("ALTER TABLE {table} {change}"));
        }
        // The look at the catalogue, twice a minute, is what brings a new column into use.
        if change == "ADD COLUMN extra bigint" || change == "RENAME COLUMN other TO extra" {
            wait_until(seconds(120), "the new column is filled", || {
                more(200);
                sent += 200;
                crate::wait::pause(seconds(1));
                worker.assert_runs();
                database.number("SELECT count(*) FROM order_log WHERE extra = 7") > 0
            });
        }
    }
    let records = topic.read();
    let expected = i64::try_from(records.len()).expect("a count");
    wait_until(seconds(120), "every record is applied", || {
        worker.assert_runs();
        applied(&database) >= expected
    });
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert_orders(&database, &records);
}

#[test]
fn columns_change_under_load_on_postgres() {
    under_load("altered_postgres", Kind::Postgres);
}

#[test]
fn columns_change_under_load_on_sqlite() {
    under_load("altered_sqlite", Kind::Sqlite);
}

#[test]
fn a_column_is_added_on_postgres() {
    added("added_postgres", Kind::Postgres);
}

#[test]
fn a_column_is_added_on_sqlite() {
    added("added_sqlite", Kind::Sqlite);
}

#[test]
fn a_column_is_dropped_on_postgres() {
    dropped("dropped_postgres", Kind::Postgres);
}

#[test]
fn a_column_is_dropped_on_sqlite() {
    dropped("dropped_sqlite", Kind::Sqlite);
}

#[test]
fn the_key_is_renamed_on_postgres() {
    renamed("renamed_postgres", Kind::Postgres);
}

#[test]
fn the_key_is_renamed_on_sqlite() {
    renamed("renamed_sqlite", Kind::Sqlite);
}

#[test]
fn columns_change_under_load_on_mysql() {
    under_load("altered_mysql", Kind::MySql);
}

#[test]
fn a_column_is_added_on_mysql() {
    added("added_mysql", Kind::MySql);
}

#[test]
fn a_column_is_dropped_on_mysql() {
    dropped("dropped_mysql", Kind::MySql);
}

#[test]
fn the_key_is_renamed_on_mysql() {
    renamed("renamed_mysql", Kind::MySql);
}

#[test]
fn columns_change_under_load_on_mariadb() {
    under_load("altered_mariadb", Kind::MariaDb);
}

#[test]
fn a_column_is_added_on_mariadb() {
    added("added_mariadb", Kind::MariaDb);
}

#[test]
fn a_column_is_dropped_on_mariadb() {
    dropped("dropped_mariadb", Kind::MariaDb);
}

#[test]
fn the_key_is_renamed_on_mariadb() {
    renamed("renamed_mariadb", Kind::MariaDb);
}
