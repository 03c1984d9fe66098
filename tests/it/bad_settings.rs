//! A file that must be edited: exit 78, every problem at once, with its place and what to write instead.

use crate::{
    database::{Database, Kind},
    file::{PipelineFile, write},
    kafka::Outgoing,
    topic::Topic,
    worker::{oncesink, path},
};

/// `check`, `plan` and `run` say the same; nothing is started.
#[track_caller]
fn refused(label: &str, text: &str, parts: &[&str]) {
    let file = write(label, text);
    let file = file.to_str().expect("a path of text");
    for command in ["check", "plan", "run"] {
        oncesink(&[command, file]).expect_code(78).expect_text(parts);
    }
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let text = "name: orders\nkafka: 127.0.0.1:1\ndatabase: sqlite:///tmp/none.db\nroutes: [ { topic: orders, tabel: public.orders } ]\n";
    refused("unknown_key", text, &["tabel", "did you mean `table`", "pipeline.yaml:4:28", "routes[0]"]);
}

#[test]
fn every_problem_is_told_at_once() {
    let text = "name: orders\nkafka: { brokers: 127.0.0.1:1, properties: { enable.auto.commit: \"true\" } }\ndatabase: sqlite:///tmp/none.db\n\
                max_bufer: 1MiB\nroutes:\n  - { topic: orders, table: orders, write: insert }\n  - { topic: orders, tabel: orders }\n";
    refused("every_problem", text, &["enable.auto.commit", "max_bufer", "max_buffer", "insert", "tabel", "4 problems"]);
}

#[test]
fn other_tools_names_are_answered_by_ours() {
    for (theirs, ours) in [("bootstrap_servers: 127.0.0.1:1", "brokers"), ("group_id: x", "group")] {
        let text =
            format!("name: orders\nkafka: {{ brokers: 127.0.0.1:1, {theirs} }}\ndatabase: sqlite:///tmp/none.db\nroutes: [ {{ topic: a, table: a }} ]\n");
        refused("their_names", &text, &[theirs.split(':').next().expect("a name"), ours]);
    }
}

#[test]
fn a_variable_that_is_not_set_is_named() {
    let text = "name: orders\nkafka: 127.0.0.1:1\ndatabase: ${ONCESINK_NO_SUCH_VARIABLE}\nroutes: [ { topic: a, table: a } ]\n";
    refused("no_variable", text, &["ONCESINK_NO_SUCH_VARIABLE"]);
}

#[test]
fn an_environment_variable_in_a_table_is_answered_by_the_topic() {
    let text = "name: orders\nkafka: 127.0.0.1:1\ndatabase: sqlite:///tmp/none.db\nroutes: [ { topic: a, table: \"${topic}\" } ]\n";
    refused("topic_variable", text, &["{topic}"]);
}

#[test]
fn a_missing_file_is_a_usage_error_or_a_problem() {
    let finished = oncesink(&["check", "/no/such/pipeline.yaml"]);
    assert!(matches!(finished.code, Some(2 | 78)), "{finished:?}");
    finished.expect_text(&["/no/such/pipeline.yaml"]);
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    oncesink(&["ruin"]).expect_code(2);
}

/// A table without a key: 78 with the statement that gives it one, from `plan` and from `run`.
#[test]
fn no_key_comes_with_the_statement_that_adds_one() {
    let topic = Topic::create("no_key", 1);
    topic.send(&[Outgoing::json("1", r#"{"id":1,"name":"a"}"#)]);
    let database = Database::create(Kind::Postgres, "no_key");
    database.execute("CREATE TABLE keyless (id bigint NOT NULL, name text)");
    let file = PipelineFile::new("no_key", &topic, &database, &format!("routes: [ {{ topic: {}, table: keyless }} ]\n", topic.name));
    for arguments in [&["plan", path(&file)][..], &["run", path(&file), "--until-end"]] {
        oncesink(arguments).expect_code(78).expect_text(&["keyless", "ADD PRIMARY KEY (id)", "write: append"]);
    }
}

#[test]
fn secrets_are_never_shown() {
    let text = "name: orders\nkafka: { brokers: 127.0.0.1:1, properties: { sasl.password: swordfish } }\n\
                database: { url: \"postgres://app@127.0.0.1:1/x\", password: hunter2 }\nroutes: [ { topic: a, table: a } ]\n";
    let file = write("secrets", text);
    let file = file.to_str().expect("a path of text");
    let shown = oncesink(&["check", file, "--show"]).expect_code(0).text();
    let planned = oncesink(&["plan", file]).text();
    for secret in ["swordfish", "hunter2"] {
        assert!(!shown.contains(secret), "check --show prints a secret");
        assert!(!planned.contains(secret), "plan prints a secret");
    }
}
