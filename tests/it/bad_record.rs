//! A record at fault under `halt`: its partition stands still and says all that a person needs, the others go on.

use serde_json::{Value, json};

use crate::{
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Outgoing,
    topic::Topic,
    wait::{seconds, wait_until},
    worker::{Worker, oncesink, path, run_until_end},
};

const SECRET: &str = "123456789012345";

struct Job {
    topic: Topic,
    database: Database,
    file: PipelineFile,
}

impl Job {
    /// Three partitions of five records; the third record of partition 1 has a total that does not fit.
    fn new(kind: Kind, label: &str) -> Self {
        let topic = Topic::create(label, 3);
        let database = Database::create(kind, label);
        database.execute("CREATE TABLE payments (id bigint PRIMARY KEY, total numeric(12,2))");
        let mut records = Vec::new();
        for partition in 0..3 {
            for number in 0..5 {
                let id = i64::from(partition) * 10 + number;
                let total = if partition == 1 && number == 2 { SECRET.to_owned() } else { "1.50".to_owned() };
                records.push(Outgoing::json(id.to_string(), json!({ "id": id, "total": total }).to_string()).to(partition));
            }
        }
        topic.send(&records);
        let file = PipelineFile::new(label, &topic, &database, &format!("routes: [ {{ topic: {}, table: payments }} ]\n", topic.name));
        Self { topic, database, file }
    }

    fn bad(&self) -> String {
        format!("{}:1@2", self.topic.name)
    }

    #[track_caller]
    fn wait_for_rows(&self, worker: &mut Worker, rows: i64) {
        wait_until(seconds(120), &format!("{rows} rows are there"), || {
            worker.assert_runs();
            self.database.count("payments") >= rows
        });
    }

    /// All rows of partitions 0 and 2, and of partition 1 what precedes the record at fault.
    #[track_caller]
    fn assert_halted_rows(&self) {
        let ids: Vec<String> = self.database.rows("SELECT id FROM payments ORDER BY id").into_iter().filter_map(|mut row| row.remove(0)).collect();
        assert_eq!(ids, ["0", "1", "2", "3", "4", "10", "11", "20", "21", "22", "23", "24"]);
    }
}

#[test]
fn its_partition_halts_and_the_others_go_on() {
    let job = Job::new(Kind::Postgres, "halt");
    let mut worker = Worker::start(&job.file);
    worker.wait_for_log(seconds(60), &[&job.bad(), "total", "out-of-range"]);
    job.wait_for_rows(&mut worker, 12);
    job.assert_halted_rows();
    assert!(!worker.log().contains(SECRET), "the value is never printed:\n{}", worker.log());
    // One halt does not make the worker unready: its body says it.
    // What is reported follows what is done a little later.
    wait_until(seconds(10), "the halted partition is named by /ready, which says 200", || {
        worker.page("/ready").is_some_and(|(status, body)| status == 200 && body.contains(&format!("{}:1", job.topic.name)))
    });
    wait_until(seconds(10), "its metric says that it is halted", || {
        worker.metric("oncesink_partition_halted", &[&format!("topic=\"{}\"", job.topic.name), "partition=\"1\""]) == Some(1.0)
    });

    let status = oncesink(&["status", path(&job.file), "--json"]).expect_code(1);
    let json: Value = serde_json::from_str(&status.stdout).expect("JSON on standard output");
    assert!(json.to_string().contains("out-of-range"), "{json}");
    assert!(!status.text().contains(SECRET));

    assert_eq!(worker.stop(), Some(1), "a halted partition at the stop:\n{}", worker.log());
    job.assert_halted_rows();
}

#[test]
fn until_end_ends_with_1_after_the_others() {
    let job = Job::new(Kind::Postgres, "halt_end");
    run_until_end(&job.file).expect_code(1).expect_text(&[&job.bad(), "total", "out-of-range"]);
    job.assert_halted_rows();
}

fn skip_heals_while_it_runs(kind: Kind, label: &str) {
    let job = Job::new(kind, label);
    let mut worker = Worker::start(&job.file);
    worker.wait_for_log(seconds(60), &[&job.bad()]);
    // Not the record at which it is halted: refused. Without --execute: nothing changes.
    let other = format!("{}:1@1", job.topic.name);
    assert_ne!(oncesink(&["skip", path(&job.file), &other, "--execute"]).code, Some(0), "only the halted record may be left out");
    oncesink(&["skip", path(&job.file), &job.bad()]).expect_code(0);
    job.wait_for_rows(&mut worker, 12);
    job.assert_halted_rows();
    oncesink(&["skip", path(&job.file), &job.bad(), "--execute"]).expect_code(0);
    job.wait_for_rows(&mut worker, 14);
    assert_eq!(job.database.number("SELECT count(*) FROM payments WHERE id = 12"), 0, "the record is left out");
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    assert!(job.database.count(&job.database.bookkeeping("oncesink_audit")) >= 1, "an audit row tells who left it out");
}

#[test]
fn skip_heals_while_it_runs_on_postgres() {
    skip_heals_while_it_runs(Kind::Postgres, "skip_postgres");
}

#[test]
fn skip_heals_while_it_runs_on_mysql() {
    skip_heals_while_it_runs(Kind::MySql, "skip_mysql");
}

#[test]
fn skip_heals_while_it_runs_on_mariadb() {
    skip_heals_while_it_runs(Kind::MariaDb, "skip_mariadb");
}

fn a_wider_column_heals_while_it_runs(kind: Kind, label: &str) {
    let job = Job::new(kind, label);
    let mut worker = Worker::start(&job.file);
    worker.wait_for_log(seconds(60), &[&job.bad(), "ALTER TABLE"]);
    let change = if kind == Kind::Postgres { "ALTER COLUMN total TYPE numeric(20,2)" } else { "MODIFY total numeric(20,2)" };
    job.database.execute(&format!("ALTER TABLE payments {change}"));
    job.wait_for_rows(&mut worker, 15);
    assert_eq!(job.database.number("SELECT count(*) FROM payments WHERE id = 12"), 1);
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
}

#[test]
fn a_wider_column_heals_while_it_runs_on_postgres() {
    a_wider_column_heals_while_it_runs(Kind::Postgres, "widen_postgres");
}

#[test]
fn a_wider_column_heals_while_it_runs_on_mysql() {
    a_wider_column_heals_while_it_runs(Kind::MySql, "widen_mysql");
}

#[test]
fn a_wider_column_heals_while_it_runs_on_mariadb() {
    a_wider_column_heals_while_it_runs(Kind::MariaDb, "widen_mariadb");
}
