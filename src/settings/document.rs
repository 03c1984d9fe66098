//! The file as its user writes it. The comments here are what users read: in editors by the JSON Schema, and in docs/configuration.md.
//!
//! A default stands in the schema only; [`super::structure`] fills it in.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::words::{
    Accumulate, Dedup, Delivery, Eviction, ExtraFields, Format, KeyFormat, LogFormat, LogLevel, Migrate, MissingFields, NamedStatements, OnBadRecord, Texts,
    TimestampUnit, Tls, Tombstone, Write, database_schema, kafka_schema, redis_schema, tombstone_schema,
};

/// A pipeline of oncesink: one Kafka cluster and group, one database, and the routes between them.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(title = "A pipeline of oncesink")]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    /// The name of the pipeline, in letters, digits, `.`, `_` and `-`. Its checkpoints are kept under this name: a renamed pipeline starts anew.
    #[schemars(required, extend("format" = "name"))]
    pub name: Option<String>,
    /// Where the records come from. `kafka: host:port` is short for `kafka: { brokers: host:port }`.
    #[schemars(required, schema_with = "kafka_schema")]
    pub kafka: Option<Kafka>,
    /// Where the rows go. `database: postgres://…` is short for `database: { url: postgres://… }`.
    #[schemars(required, schema_with = "database_schema")]
    pub database: Option<Database>,
    /// Where events are remembered for `dedup: [redis]`. `redis: redis://host:6379` is short for `redis: { url: redis://host:6379 }`.
    #[serde(default)]
    #[schemars(schema_with = "redis_schema")]
    pub redis: Option<Redis>,
    /// What one database transaction holds at most.
    pub batch: Option<Batch>,
    /// What is done when Kafka or the database cannot be reached, or is short of something.
    pub retry: Option<Retry>,
    /// How long what was done is remembered.
    pub retention: Option<Retention>,
    /// Slows the pipeline down, to spare the database.
    pub rate_limit: Option<RateLimit>,
    /// Memory for records that are read but not yet written, over all partitions. Reading pauses when it is full and goes on at a quarter of it. Belongs to the process: equal in all its files.
    #[schemars(extend("format" = "size", "default" = "32MiB"))]
    pub max_buffer: Option<String>,
    /// How long a stop may take to finish what is in flight. Keep it below what the process is given (30 s in Kubernetes). Belongs to the process: equal in all its files.
    #[schemars(extend("format" = "duration", "default" = "25s"))]
    pub shutdown_timeout: Option<String>,
    /// Metrics and health over HTTP. Belongs to the process: equal in all its files.
    pub observe: Option<Observe>,
    /// The log on standard error. Belongs to the process: equal in all its files.
    pub log: Option<Log>,
    /// Any key of a route, for all routes that do not write it themselves. `columns` of both are taken together.
    #[expect(dead_code, reason = "routes have taken what it says before the document is made; here it is for the schema")]
    pub defaults: Option<Route>,
    /// From topics to tables. A topic that several routes match goes to all of them in one transaction, in the order of the file.
    #[schemars(required, length(min = 1))]
    pub routes: Option<Vec<Route>>,
}

/// One Kafka cluster and consumer group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kafka {
    /// `host:port` of one or more brokers, as a list or separated by commas.
    #[schemars(required, extend("format" = "broker"))]
    pub brokers: Option<Texts>,
    /// The consumer group; `oncesink-<name>` unless it is written. Only a group written here may have offsets that others committed: they are taken over.
    pub group: Option<String>,
    /// Where a partition starts that has neither a checkpoint nor a committed offset: `earliest`, `latest`, a time such as `2026-01-31T00:00:00Z`, or `error` to start nowhere.
    #[schemars(extend("format" = "start", "default" = "earliest"))]
    pub start: Option<String>,
    /// A name of this process that survives its restarts (static membership): a quick restart then moves no partitions. Each process needs its own: of two with one name the older ends with 1.
    pub instance_id: Option<String>,
    /// Settings of librdkafka under its own names, such as `security.protocol: SASL_SSL`. Those that oncesink depends on are refused.
    pub properties: Option<BTreeMap<String, String>>,
}

/// One database.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Database {
    /// `postgres://user:password@host:5432/database`, `mysql://user:password@host:3306/database` (also for MariaDB) or `sqlite:path/to/file.db`. A password in it is never printed.
    #[schemars(required, extend("format" = "database-url"))]
    pub url: Option<String>,
    /// Instead of a user in the address.
    pub username: Option<String>,
    /// Instead of a password in the address; never printed. `"${file:/run/secrets/password}"` reads it from a file.
    #[schemars(extend("format" = "secret"))]
    pub password: Option<String>,
    /// How many connections write at the same time. A SQLite file has one.
    #[schemars(range(min = 1, max = 64), extend("default" = 4))]
    pub writers: Option<u16>,
    /// How the connection is secured. Unless it is written here or as `sslmode` in the address: `prefer` on this machine, `verify-full` to any other.
    pub tls: Option<Tls>,
    /// A file with the certificates (PEM) that the server's is checked against, instead of the system's.
    pub ca: Option<String>,
    /// How long one statement may take before the server ends it and the batch is tried again.
    #[schemars(extend("format" = "duration", "default" = "30s"))]
    pub statement_timeout: Option<String>,
    /// Whether statements are prepared by name, and so parsed once a connection. `auto`: yes, but on PostgreSQL not any more once a connection pooler has
    /// given a transaction another session of the server. Write `always` behind one that knows such statements (PgBouncer 1.21 and newer with
    /// `max_prepared_statements`): it is faster.
    #[schemars(extend("default" = "auto"))]
    pub named_statements: Option<NamedStatements>,
    /// The schema that holds oncesink's own tables: on PostgreSQL `oncesink` unless named, on MySQL and MariaDB a database, that of the address
    /// unless named, so that a backup of it holds rows and checkpoints together. SQLite has no schemas: there they stand beside yours.
    pub bookkeeping: Option<String>,
    /// Whether `run` makes and updates oncesink's own tables itself, where it may. It never changes yours.
    #[schemars(extend("default" = "auto"))]
    pub migrate: Option<Migrate>,
}

/// One Redis server, or a primary behind sentinels, or a Cluster: write one of `url`, `sentinels` and `cluster`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Redis {
    /// `redis://user:password@host:6379/0`, or `rediss://…` with TLS, which is always verified. A password in it is never printed.
    #[schemars(extend("format" = "redis-url"))]
    pub url: Option<String>,
    /// The sentinels' addresses, as `redis://host:26379`; with `rediss://` the primary speaks TLS too.
    #[schemars(extend("format" = "redis-url"))]
    pub sentinels: Option<Texts>,
    /// The name under which the sentinels watch the primary.
    pub master: Option<String>,
    /// The number of the database behind sentinels; 0 unless it is written.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub database: Option<u32>,
    /// Addresses of some nodes of a Cluster; they name the others.
    #[schemars(extend("format" = "redis-url"))]
    pub cluster: Option<Texts>,
    /// An ACL user of the servers with the data, instead of one in the address.
    pub username: Option<String>,
    /// Instead of a password in the address; never printed. `"${file:/run/secrets/password}"` reads it from a file.
    #[schemars(extend("format" = "secret"))]
    pub password: Option<String>,
    /// A file with the certificates (PEM) that the server's is checked against, instead of the system's.
    pub ca: Option<String>,
    /// What every key begins with; `oncesink` unless it is written.
    pub prefix: Option<String>,
    /// How long an event is remembered: longer than a record can take to come again, above the topic's own retention; `8d` unless it is written.
    #[schemars(extend("format" = "duration"))]
    pub ttl: Option<String>,
    /// What is done where the server may forget events by itself under memory pressure (`maxmemory-policy`); `refuse` unless it is written.
    pub eviction: Option<Eviction>,
}

/// A batch ends at the first of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// Records at most.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 5000))]
    pub rows: Option<u32>,
    /// Size at most; never above `max_buffer`.
    #[schemars(extend("format" = "size", "default" = "8MiB"))]
    pub bytes: Option<String>,
    /// How long a batch waits for more records.
    #[schemars(extend("format" = "duration", "default" = "50ms"))]
    pub linger: Option<String>,
}

/// A failure of the world is tried again, each time after a longer pause. No record is left out for it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    /// The first pause.
    #[schemars(extend("format" = "duration", "default" = "100ms"))]
    pub initial_delay: Option<String>,
    /// The longest pause.
    #[schemars(extend("format" = "duration", "default" = "30s"))]
    pub max_delay: Option<String>,
    /// `never`, or how long a failure may last before the process ends with 75.
    #[schemars(extend("format" = "give-up", "default" = "never"))]
    pub give_up_after: Option<String>,
}

/// Longer than a record can take to come again: above the topic's own retention, if it may be read again from its beginning.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    /// How long the ids of `dedup: [processed-event]` are kept at least. Of several pipelines in one database the longest holds for all.
    #[schemars(extend("format" = "duration", "default" = "7d"))]
    pub processed_events: Option<String>,
    /// How long deletes are remembered where a route has a `version`. An older write that comes later than that after a delete brings the row back.
    #[schemars(extend("format" = "duration", "default" = "7d"))]
    pub tombstones: Option<String>,
}

/// Of this process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimit {
    /// Records a second at most, over all partitions.
    #[schemars(required, range(min = 1, max = 4_000_000_000_u32))]
    pub records_per_second: Option<u32>,
}

/// `/metrics`, `/live`, `/ready` and `/status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Observe {
    /// An address and port. If the default one is taken, that is a warning; if one that is written here is taken, an error.
    #[schemars(extend("format" = "listen", "default" = "127.0.0.1:9464"))]
    pub listen: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    /// The least level that is logged.
    #[schemars(extend("default" = "info"))]
    pub level: Option<LogLevel>,
    /// For people or for machines.
    #[schemars(extend("default" = "text"))]
    pub format: Option<LogFormat>,
}

/// Instead of deleting the row.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// The row stays, and this column says that it was deleted: a timestamp becomes the time of the record, a boolean true. The next write clears it.
    #[schemars(required)]
    pub mark: Option<String>,
}

/// From topics to one table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    /// The route in metrics and messages; its first topic unless it is written. Ids of its events are kept under it: under another name every event is new.
    #[schemars(extend("format" = "name"))]
    pub name: Option<String>,
    /// The topic: short for `topics` with one entry.
    #[schemars(extend("format" = "topic"))]
    pub topic: Option<String>,
    /// Names of topics, or expressions that begin with `^` and match a whole name: `'^bank\.(?<kind>[a-z]+)$'`.
    #[schemars(extend("format" = "topic"))]
    pub topics: Option<Texts>,
    /// Topics that an expression matches and the route does not take.
    #[schemars(extend("format" = "topic"))]
    pub exclude_topics: Option<Texts>,
    /// The table, as `table` or `schema.table`, without quotes. `{topic}` and the named groups of the expressions are put in: `ledger.{kind}`.
    #[schemars(extend("format" = "table"))]
    pub table: Option<String>,
    /// How values are written.
    #[schemars(extend("default" = "json"))]
    pub format: Option<Format>,
    /// How keys are written.
    #[schemars(extend("default" = "auto"))]
    pub key_format: Option<KeyFormat>,
    /// Where the value of a column comes from, where that is not the field of its name: `value.order.total`, `value`, `key`, `key.id`, `headers.trace`, `topic`, `partition`, `offset`, `timestamp`, `"'a text'"`, or `none` for a column that is never written.
    #[schemars(extend("format" = "column"))]
    pub columns: Option<BTreeMap<String, String>>,
    /// What is done with fields that find no column.
    #[schemars(extend("default" = "ignore"))]
    pub extra_fields: Option<ExtraFields>,
    /// What becomes of columns whose field a record lacks.
    #[schemars(extend("default" = "keep"))]
    pub missing_fields: Option<MissingFields>,
    /// The columns that tell which row a record means. Unless they are written: the table's primary key, else its only unique key.
    pub key_columns: Option<Texts>,
    /// What a record does to the table.
    #[schemars(extend("default" = "upsert"))]
    pub write: Option<Write>,
    /// Instead of `write`: a new key makes its row, and each column of a row that is there takes the record into account by a rule of its own: `accumulate: { balance: add, last_seen: max }`. Only where no record counts twice: under exactly-once, or with `dedup: [processed-event]`.
    pub accumulate: Option<BTreeMap<String, Accumulate>>,
    /// A column of the table by which the newer of two writes wins, whatever order they come in.
    pub version: Option<String>,
    /// What a crash can do. Routes that match one topic must agree.
    #[schemars(extend("default" = "exactly-once"))]
    pub delivery: Option<Delivery>,
    /// What stops a repeat. Unless it is written: `checkpoint` under exactly-once, where it is always there; else `unique-key`. `[]` under at-least-once with `append` says that repeats may stay. Under at-most-once nothing, unless it is written.
    pub dedup: Option<Vec<Dedup>>,
    /// What makes a record the same event as an earlier one, for `dedup: [processed-event]` and `[redis]`: `value.id`, `key`, `key.id` or `headers.ce_id`. Unless it is written: where the record stands in Kafka, so that what a producer sends twice is two events.
    #[schemars(extend("format" = "column"))]
    pub event_id: Option<String>,
    /// What a record without a value does. Unless it is written: `delete`, and `bad-record` with `write: append`. With a `version` a delete is remembered for `retention.tombstones`, so that an older write that comes after it does not bring the row back.
    #[serde(default)]
    #[schemars(schema_with = "tombstone_schema")]
    pub tombstone: Option<Tombstone>,
    /// What is done with a record that is itself at fault.
    #[schemars(extend("default" = "halt"))]
    pub on_bad_record: Option<OnBadRecord>,
    /// The zone of timestamps that have none, for columns with a zone: `UTC` or `+02:00`. Unless it is written, such a value is a bad record.
    #[schemars(extend("format" = "timezone"))]
    pub timezone: Option<String>,
    /// What a number in a timestamp column counts, since 1970. Unless it is written, such a value is a bad record.
    pub timestamp_unit: Option<TimestampUnit>,
}
