//! What the default build speaks: every codec, SASL, TLS, on both sides.

use crate::{
    checker::{assert_orders, create_order_tables, order_routes},
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Producer,
    servers::{certificates, shared_kafka_at},
    topic::{Orders, Topic},
    wait::seconds,
    worker::{Worker, oncesink, path, run_until_end},
};

struct Job {
    topic: Topic,
    database: Database,
}

impl Job {
    fn new(label: &str) -> Self {
        let topic = Topic::create(label, 2);
        let database = Database::create(Kind::Postgres, label);
        create_order_tables(&database);
        Self { topic, database }
    }

    fn filled(label: &str) -> Self {
        let job = Self::new(label);
        job.topic.send(&Orders::seeded(41, 100).take(1_000));
        job
    }

    fn file(&self, label: &str) -> PipelineFile {
        PipelineFile::new(label, &self.topic, &self.database, &order_routes(&self.topic.name))
    }

    fn file_at(&self, label: &str, listener: &str) -> PipelineFile {
        PipelineFile::with(label, shared_kafka_at(listener), &self.database.url(), &order_routes(&self.topic.name))
    }

    #[track_caller]
    fn assert_arrives(&self, file: &PipelineFile) {
        run_until_end(file).expect_code(0);
        assert_orders(&self.database, &self.topic.read());
    }
}

fn authority(name: &str) -> String {
    certificates().join(name).display().to_string()
}

#[test]
fn every_codec_arrives() {
    let job = Job::new("codecs");
    let mut orders = Orders::seeded(42, 500);
    for codec in ["gzip", "snappy", "lz4", "zstd", "none"] {
        let producer = Producer::new(&job.topic.brokers, &job.topic.name, &[("compression.type", codec)]);
        for order in orders.take(500) {
            producer.send(&order);
        }
        producer.flush();
    }
    assert_eq!(job.topic.read().len(), 2_500);
    job.assert_arrives(&job.file("codecs"));
}

fn scram(job: &Job, label: &str, mechanism: &str) -> PipelineFile {
    job.file_at(label, "scram")
        .property("security.protocol", "SASL_SSL")
        .property("ssl.ca.location", &authority("ca.pem"))
        .property("sasl.mechanisms", mechanism)
        .property("sasl.username", "app")
        .property("sasl.password", "secret")
}

#[test]
fn scram_sha_256_over_tls_arrives() {
    let job = Job::filled("scram_256");
    job.assert_arrives(&scram(&job, "scram_256", "SCRAM-SHA-256"));
}

#[test]
fn scram_sha_512_over_tls_arrives() {
    let job = Job::filled("scram_512");
    job.assert_arrives(&scram(&job, "scram_512", "SCRAM-SHA-512"));
}

#[test]
fn plain_arrives() {
    let job = Job::filled("plain");
    let file = job
        .file_at("plain", "sasl")
        .property("security.protocol", "SASL_PLAINTEXT")
        .property("sasl.mechanisms", "PLAIN")
        .property("sasl.username", "app")
        .property("sasl.password", "secret");
    job.assert_arrives(&file);
}

#[test]
fn oauthbearer_arrives() {
    let job = Job::filled("oauthbearer");
    let file = job
        .file_at("oauthbearer", "sasl")
        .property("security.protocol", "SASL_PLAINTEXT")
        .property("sasl.mechanisms", "OAUTHBEARER")
        .property("enable.sasl.oauthbearer.unsecure.jwt", "true")
        .property("sasl.oauthbearer.config", "principal=app");
    job.assert_arrives(&file);
}

#[test]
fn a_broker_of_an_unknown_authority_is_refused() {
    let job = Job::filled("wrong_ca");
    let file = scram(&job, "wrong_ca", "SCRAM-SHA-256").property("ssl.ca.location", &authority("other-ca.pem"));
    let plan = oncesink(&["plan", path(&file)]);
    assert!(matches!(plan.code, Some(1 | 75)), "plan says so: {:?}\n{}", plan.code, plan.text());
    assert!(plan.text().to_lowercase().contains("certificate"), "it names the certificate:\n{}", plan.text());
}

/// PostgreSQL over TLS, by `localhost`, which the certificate names.
fn verified(job: &Job, label: &str, authority_file: &str) -> PipelineFile {
    let url = job.database.url().replacen("@127.0.0.1:", "@localhost:", 1);
    job.file(label).database(&format!("{{ url: \"{url}?sslrootcert={}\", tls: verify-full }}", authority(authority_file)))
}

#[test]
fn postgres_is_verified_in_full() {
    let job = Job::filled("verify_full");
    job.assert_arrives(&verified(&job, "verify_full", "ca.pem"));
}

#[test]
fn a_postgres_of_an_unknown_authority_is_refused() {
    let job = Job::filled("verify_wrong");
    let file = verified(&job, "verify_wrong", "other-ca.pem");
    let plan = oncesink(&["plan", path(&file)]);
    assert!(matches!(plan.code, Some(1 | 75)), "plan says so: {:?}\n{}", plan.code, plan.text());
    assert!(plan.text().to_lowercase().contains("certificate"), "it names the certificate:\n{}", plan.text());
    let mut worker = Worker::start(&file);
    worker.wait_for_log(seconds(60), &["ertificate"]);
    assert_eq!(job.database.count("order_log"), 0);
}
