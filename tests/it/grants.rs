//! A user with the least that it needs, and a grant that is taken away while the worker runs: it halts, says what is missing,
//! tells it to whoever asks from elsewhere, and goes on once it is granted again.

use serde_json::Value;

use crate::{
    checker::{applied, assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    servers::unique,
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::{Worker, oncesink, path},
};

const PARTITIONS: usize = 3;

struct Job {
    topic: Topic,
    database: Database,
    file: PipelineFile,
    role: String,
    worker: Worker,
}

impl Job {
    /// A worker at work with exactly the grants that `migrate --grants` prints.
    fn running(kind: Kind, label: &str) -> Self {
        let topic = Topic::create(label, 3);
        let database = Database::create(kind, label);
        create_order_tables(&database);
        topic.send(&Orders::seeded(131, 200).take(1_000));
        let admin = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
        oncesink(&["migrate", path(&admin)]).expect_code(0);
        let role = unique("least");
        database.execute(&match kind {
            Kind::Postgres => format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"),
            _ => format!("CREATE USER {role} IDENTIFIED BY 'secret'"),
        });
        database.execute(&oncesink(&["migrate", path(&admin), "--grants", &role]).expect_code(0).stdout);
        let file = admin.database(&format!("\"{}\"", database.url_as(&role, "secret")));
        let worker = Worker::start(&file);
        let mut job = Self { topic, database, file, role, worker };
        job.wait_for_all();
        job
    }

    /// The look of another process at the same pipeline: its exit code, and the reasons of the halts that it tells.
    fn status(&self) -> (Option<i32>, Vec<String>) {
        let status = oncesink(&["status", path(&self.file), "--json"]);
        let json: Value = serde_json::from_str(&status.stdout).expect("JSON on standard output");
        let partitions = json["partitions"].as_array().expect("the partitions");
        (status.code, partitions.iter().filter_map(|partition| partition["halt"]["reason"].as_str().map(str::to_owned)).collect())
    }

    #[track_caller]
    fn wait_for_all(&mut self) {
        let expected = i64::try_from(self.topic.read().len()).expect("a count");
        wait_until(seconds(120), "every record is applied", || {
            self.worker.assert_runs();
            applied(&self.database) >= expected
        });
    }

    /// Everything is right, and nothing is halted any more, for whoever looks.
    #[track_caller]
    fn finish(mut self) {
        self.wait_for_all();
        wait_until(seconds(60), "status tells of no halt", || self.status() == (Some(0), Vec::new()));
        assert_eq!(self.worker.metric("oncesink_partition_halted", &[]), Some(0.0));
        assert_eq!(self.worker.stop(), Some(0), "{}", self.worker.log());
        assert_orders(&self.database, &self.topic.read());
    }
}

fn a_grant_on_the_table_is_revoked_and_given_back(kind: Kind, label: &str) {
    let mut job = Job::running(kind, label);
    job.database.execute(&format!("REVOKE INSERT ON order_log FROM {}", job.role));
    job.topic.send(&Orders::seeded(132, 200).take(1_000));
    let missing = match kind {
        Kind::Postgres => format!("GRANT SELECT, INSERT, UPDATE, DELETE ON \"public\".\"order_log\" TO \"{}\"", job.role),
        _ => format!("GRANT SELECT, INSERT, UPDATE, DELETE ON `order_log` TO '{}'@'%'", job.role),
    };
    job.worker.wait_for_log(seconds(60), &["halted", "permission", "order_log", &missing]);
    wait_until(seconds(60), "another process sees every partition halted, and why", || {
        job.worker.assert_runs();
        job.status() == (Some(1), vec!["permission".to_owned(); PARTITIONS])
    });
    // All of them are: then the worker is not ready either.
    wait_until(seconds(10), "the worker is not ready", || job.worker.page("/ready").is_some_and(|(status, body)| status == 503 && body.contains("permission")));
    assert_eq!(applied(&job.database), 1_000, "nothing is written meanwhile");
    assert_eq!(job.database.number(&format!("SELECT sum(next_offset) FROM {}", job.database.checkpoints())), 1_000, "no checkpoint moves");
    job.database.execute(&format!("GRANT INSERT ON order_log TO {}", job.role));
    job.finish();
}

#[test]
fn a_grant_on_the_table_is_revoked_and_given_back_on_postgres() {
    a_grant_on_the_table_is_revoked_and_given_back(Kind::Postgres, "grant_revoked");
}

#[test]
fn a_grant_on_the_table_is_revoked_and_given_back_on_mysql() {
    a_grant_on_the_table_is_revoked_and_given_back(Kind::MySql, "grant_revoked_mysql");
}

#[test]
fn a_grant_on_the_table_is_revoked_and_given_back_on_mariadb() {
    a_grant_on_the_table_is_revoked_and_given_back(Kind::MariaDb, "grant_revoked_mariadb");
}

/// The reason cannot be stored then: the worker itself tells it.
fn a_grant_on_the_checkpoints_is_revoked_and_given_back(kind: Kind, label: &str) {
    let mut job = Job::running(kind, label);
    job.database.execute(&format!("REVOKE UPDATE ON {} FROM {}", job.database.checkpoints(), job.role));
    job.topic.send(&Orders::seeded(133, 200).take(1_000));
    job.worker.wait_for_log(seconds(60), &["halted", "permission", "oncesink_checkpoint", "oncesink migrate --grants"]);
    wait_until(seconds(60), "the worker is not ready and says why", || {
        job.worker.assert_runs();
        job.worker.page("/ready").is_some_and(|(status, body)| status == 503 && body.contains("permission"))
    });
    assert_eq!(applied(&job.database), 1_000, "nothing is written meanwhile");
    job.database.execute(&format!("GRANT UPDATE ON {} TO {}", job.database.checkpoints(), job.role));
    job.finish();
}

#[test]
fn a_grant_on_the_checkpoints_is_revoked_and_given_back_on_postgres() {
    a_grant_on_the_checkpoints_is_revoked_and_given_back(Kind::Postgres, "checkpoint_revoked");
}

#[test]
fn a_grant_on_the_checkpoints_is_revoked_and_given_back_on_mysql() {
    a_grant_on_the_checkpoints_is_revoked_and_given_back(Kind::MySql, "checkpoint_revoked_mysql");
}

#[test]
fn a_grant_on_the_checkpoints_is_revoked_and_given_back_on_mariadb() {
    a_grant_on_the_checkpoints_is_revoked_and_given_back(Kind::MariaDb, "checkpoint_revoked_mariadb");
}
