//! What a person mends while the worker waits: a password, a grant, a topic, a table. `plan` exits 1 and says what to do;
//! `run` waits and goes on by itself.

use crate::{
    checker::{applied, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    servers::{Server, certificates, shared_kafka, shared_kafka_at, unique},
    topic::{Orders, Topic},
    wait::{seconds, wait_until},
    worker::{Worker, oncesink, path, run_until_end},
};

const RECORDS: i64 = 200;

fn filled(label: &str) -> Topic {
    let topic = Topic::create(label, 2);
    topic.send(&Orders::seeded(61, 50).take(200));
    topic
}

/// `plan` exits 1 with these; `run` says them, waits, and applies everything after `mend`.
#[track_caller]
fn mended_while_running(file: &PipelineFile, parts: &[&str], database: &Database, mend: impl FnOnce()) {
    oncesink(&["plan", path(file)]).expect_code(1).expect_text(parts);
    let mut worker = Worker::start(file);
    worker.wait_for_log(seconds(60), parts);
    mend();
    wait_until(seconds(120), "the worker goes on by itself", || {
        worker.assert_runs();
        database.try_rows("SELECT count(*) FROM order_log").is_ok_and(|_| applied(database) >= RECORDS)
    });
    assert_eq!(worker.stop(), Some(0), "{}", worker.log());
    oncesink(&["plan", path(file)]).expect_code(0);
}

/// A user that may do everything in this database.
fn add_user(database: &Database, password: &str) -> String {
    let user = unique("app");
    database.execute(&format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'"));
    database.execute(&format!("GRANT CREATE ON DATABASE {} TO {user}", database.name()));
    user
}

#[test]
fn a_wrong_password() {
    let topic = filled("wrong_password");
    let database = Database::create(Kind::Postgres, "wrong_password");
    create_order_tables(&database);
    let user = add_user(&database, "right");
    database.execute(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON orders, order_log TO {user}"));
    let file = PipelineFile::new("wrong_password", &topic, &database, &order_routes(&topic.name)).database(&format!("\"{}\"", database.url_as(&user, "wrong")));
    mended_while_running(&file, &["password", &user], &database, || {
        database.execute(&format!("ALTER ROLE {user} PASSWORD 'wrong'"));
    });
}

#[test]
fn no_permission_on_the_table() {
    let topic = filled("no_permission");
    let database = Database::create(Kind::Postgres, "no_permission");
    create_order_tables(&database);
    let user = add_user(&database, "right");
    let file = PipelineFile::new("no_permission", &topic, &database, &order_routes(&topic.name)).database(&format!("\"{}\"", database.url_as(&user, "right")));
    mended_while_running(&file, &["orders", "GRANT"], &database, || {
        database.execute(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON orders, order_log TO {user}"));
    });
}

#[test]
fn a_missing_topic() {
    let name = unique("missing_topic");
    let database = Database::create(Kind::Postgres, "missing_topic");
    create_order_tables(&database);
    let file =
        PipelineFile::with("missing_topic", shared_kafka(), &database.url(), &order_routes(&name)).property("topic.metadata.refresh.interval.ms", "2000");
    mended_while_running(&file, &[&name], &database, || {
        Topic::create_named(shared_kafka(), &name, 2).send(&Orders::seeded(62, 50).take(200));
    });
}

fn missing_table(kind: Kind, label: &str) {
    let topic = filled(label);
    let database = Database::create(kind, label);
    let file = PipelineFile::new(label, &topic, &database, &order_routes(&topic.name));
    mended_while_running(&file, &["table orders"], &database, || create_order_tables(&database));
}

#[test]
fn a_missing_table_on_postgres() {
    missing_table(Kind::Postgres, "missing_table_postgres");
}

#[test]
fn a_missing_table_on_sqlite() {
    missing_table(Kind::Sqlite, "missing_table_sqlite");
}

#[test]
fn a_missing_table_on_mysql() {
    missing_table(Kind::MySql, "missing_table_mysql");
}

#[test]
fn a_missing_table_on_mariadb() {
    missing_table(Kind::MariaDb, "missing_table_mariadb");
}

/// Kafka knows the user but lets it do nothing.
#[test]
fn no_permission_on_the_topic() {
    let topic = filled("no_acl");
    let database = Database::create(Kind::Postgres, "no_acl");
    create_order_tables(&database);
    let file = PipelineFile::with("no_acl", shared_kafka_at("scram"), &database.url(), &order_routes(&topic.name))
        .property("security.protocol", "SASL_SSL")
        .property("ssl.ca.location", &certificates().join("ca.pem").display().to_string())
        .property("sasl.mechanisms", "SCRAM-SHA-256")
        .property("sasl.username", "stranger")
        .property("sasl.password", "secret");
    oncesink(&["plan", path(&file)]).expect_code(1).expect_text(&[&topic.name]);
    let mut worker = Worker::start(&file);
    worker.wait_for_log(seconds(60), &[&topic.name, "grant READ"]);
    assert_eq!(applied(&database), 0);
}

/// Two deployments under one name, each with a group of its own: the second halts and says whose checkpoint it is.
#[test]
fn another_deployment_holds_the_checkpoint() {
    let topic = filled("two_deployments");
    let database = Database::create(Kind::Postgres, "two_deployments");
    create_order_tables(&database);
    let name = unique("deployment").replace('_', "-");
    let file = |group: &str| PipelineFile::new("two_deployments", &topic, &database, &order_routes(&topic.name)).named(&name).kafka(&format!("group: {group}"));
    let (first_group, second_group) = (unique("first"), unique("second"));
    let first = file(&first_group);
    run_until_end(&first).expect_code(0);
    assert_eq!(applied(&database), RECORDS);
    let second = file(&second_group);
    run_until_end(&second).expect_code(1).expect_text(&[&first_group]);
    assert_eq!(applied(&database), RECORDS, "the second deployment wrote nothing");
    run_until_end(&first).expect_code(0);
}

/// In a new cluster no group was ever asked for: its coordinator is made by the first question, and loads for a moment. That is no mistake of anybody.
#[test]
fn a_cluster_that_has_had_no_group_yet() {
    let server = Server::kafka();
    let topic = Topic::create_on(server.get("plaintext"), "no_group_yet", 2);
    let database = Database::create(Kind::Sqlite, "no_group_yet");
    create_order_tables(&database);
    let file = PipelineFile::new("no_group_yet", &topic, &database, &order_routes(&topic.name));
    oncesink(&["plan", path(&file)]).expect_code(0);
}
