//! A server that would bend what does not fit, if a session let it.

use crate::{database::Database, file::PipelineFile, kafka::Outgoing, servers::Server, topic::Topic, worker::run_until_end};

/// Its own mode would make 127 of 200, and say nothing. Only the server knows the sum.
fn nothing_is_bent(kind: &str) {
    let server = Server::of_database_with(kind, &["--sql-mode="]);
    let label = format!("lax_{kind}");
    let database = Database::create_on(server.get("url"), &label);
    database.execute("CREATE TABLE balances (id bigint PRIMARY KEY, total tinyint NOT NULL)");
    let topic = Topic::create(&label, 1);
    topic.send(&[100, 100, 20].map(|total| Outgoing::json("1", format!(r#"{{"id":1,"total":{total}}}"#))));
    let routes = format!("routes: [ {{ topic: {}, table: balances, accumulate: {{ total: add }}, on_bad_record: skip }} ]\n", topic.name);
    run_until_end(&PipelineFile::new(&label, &topic, &database, &routes)).expect_code(0).expect_text(&["out-of-range"]);
    assert_eq!(database.number("SELECT total FROM balances"), 120);
    database.execute("UPDATE balances SET total = total + 100");
    assert_eq!(database.number("SELECT total FROM balances"), 127, "the server bends what others write");
}

#[test]
fn nothing_is_bent_on_a_lax_mysql() {
    nothing_is_bent("mysql");
}

#[test]
fn nothing_is_bent_on_a_lax_mariadb() {
    nothing_is_bent("mariadb");
}
