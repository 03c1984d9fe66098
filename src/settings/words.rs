//! The words that a key may hold, and the short forms.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::document;

/// Declares an enum of the file: each word with its explanation.
macro_rules! words {
    ($(#[doc = $about:expr])* $name:ident { $($(#[doc = $doc:expr])* $variant:ident),* $(,)? }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        #[allow(clippy::enum_variant_names, reason = "they are the words of the file")]
        pub enum $name { $($(#[doc = $doc])* $variant),* }
    };
}

words! {
    /// How a connection is secured.
    Tls {
        /// Not at all.
        Disable,
        /// Encrypted where the server can, without a check of who it is.
        Prefer,
        /// Encrypted, without a check of who the server is.
        Require,
        /// Encrypted; the certificate must be signed by a known authority.
        VerifyCa,
        /// Encrypted; the certificate must be signed by a known authority, for this very host.
        VerifyFull,
    }
}

words! {
    /// What is done where Redis may forget by itself.
    Eviction {
        /// `run` waits, and says so.
        Refuse,
        /// What it forgets may take effect again.
        Allow,
    }
}

words! {
    /// Whether the bookkeeping tables are made by `run`.
    Migrate {
        /// By `run`, where its role may; else it waits and says so.
        Auto,
        /// Only by `oncesink migrate`.
        Never,
    }
}

words! {
    /// Whether statements are prepared by name.
    NamedStatements {
        /// Until a connection pooler is met.
        Auto,
        /// The pooler knows them.
        Always,
        /// Every statement is parsed each time.
        Never,
    }
}

words! {
    /// The least level that is logged.
    LogLevel {
        /// Only what needs a person.
        Error,
        /// And what may need one soon.
        Warn,
        /// And what happens: starts, rebalances, stops.
        Info,
        /// And why.
        Debug,
        /// Everything.
        Trace,
    }
}

words! {
    /// How log lines are written.
    LogFormat {
        /// Lines for people.
        Text,
        /// One JSON object a line.
        Json,
    }
}

words! {
    /// How values are written.
    Format {
        /// A JSON object, whose fields are matched with the columns by name.
        Json,
        /// One text; `columns` says where it goes.
        Text,
        /// One string of bytes; `columns` says where it goes.
        Bytes,
    }
}

words! {
    /// How keys are written.
    KeyFormat {
        /// JSON if it reads as JSON, else text.
        Auto,
        /// JSON.
        Json,
        /// One text.
        Text,
    }
}

words! {
    /// Fields without a column.
    ExtraFields {
        /// They are left out.
        Ignore,
        /// The record is a bad one.
        BadRecord,
    }
}

words! {
    /// Columns without a field.
    MissingFields {
        /// The column keeps what it holds, and takes its default in a new row.
        Keep,
        /// The column becomes NULL.
        Null,
    }
}

words! {
    /// What a record does to its table.
    Write {
        /// Each record is a row of its own; keys are never looked at.
        Append,
        /// The row of the record's key is made or overwritten.
        Upsert,
        /// The row of the record's key is overwritten; none is made.
        Update,
        /// The first record of a key makes its row; one that is there stays as it is.
        InsertIfNew,
    }
}

words! {
    /// What a column's value becomes when a record of the same key comes.
    Accumulate {
        /// The sum of both: a balance, a count. NULL counts as nothing.
        Add,
        /// The greater of both; NULL never wins over a value.
        Max,
        /// The lesser of both; NULL never wins over a value.
        Min,
        /// The record's value, unless it is NULL.
        Coalesce,
        /// The value that is there, unless it is NULL.
        First,
        /// The record's value, NULL too. So it is with every column that is not named.
        Replace,
    }
}

words! {
    /// What a crash can do to a record.
    Delivery {
        /// A crash changes nothing: rows and checkpoint are committed in one transaction.
        ExactlyOnce,
        /// A crash can repeat the batch in flight.
        AtLeastOnce,
        /// A crash can lose what was read and not yet written, a failure its batch; nothing is ever repeated, and what is lost is counted. For what is worth little the second time.
        AtMostOnce,
    }
}

words! {
    /// What stops a repeat.
    Dedup {
        /// The ids of events, remembered in `redis` for `redis.ttl`, after their rows are durable: it stops most repeats, and none for certain.
        Redis,
        /// The ids of events, kept in a table beside the checkpoints for `retention.processed_events`, in the transaction of the rows.
        ProcessedEvent,
        /// The row itself: a repeat writes the same row again.
        UniqueKey,
        /// The checkpoint in the transaction of the rows, under exactly-once.
        Checkpoint,
    }
}

words! {
    /// What a record without a value does.
    TombstoneWord {
        /// The row of its key is deleted.
        Delete,
        /// Nothing.
        Ignore,
        /// It is a bad record.
        BadRecord,
    }
}

words! {
    /// What is done with a bad record.
    OnBadRecord {
        /// Its partition stands still before it until a person has decided; the others go on. Nothing is lost.
        Halt,
        /// It is left out, counted and logged.
        Skip,
    }
}

words! {
    /// What a number in a timestamp column counts.
    TimestampUnit {
        /// Seconds since 1970.
        Seconds,
        /// Milliseconds since 1970.
        Milliseconds,
        /// Microseconds since 1970.
        Microseconds,
    }
}

/// What a record without a value does: one of the words, or a table that names the column of the mark.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Tombstone {
    Word(TombstoneWord),
    Mark(document::Mark),
}

pub(super) fn tombstone_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut word = generator.subschema_for::<TombstoneWord>();
    word.insert("type".to_owned(), "string".into());
    json_schema!({ "anyOf": [generator.subschema_for::<document::Mark>(), word] })
}

/// A list of texts, or one text for a list of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Texts(pub Vec<String>);

impl JsonSchema for Texts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Texts".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// A table, or the text of the one key that it is short for.
pub(super) fn kafka_schema(generator: &mut SchemaGenerator) -> Schema {
    short_or_long(generator.subschema_for::<document::Kafka>())
}

pub(super) fn database_schema(generator: &mut SchemaGenerator) -> Schema {
    short_or_long(generator.subschema_for::<document::Database>())
}

pub(super) fn redis_schema(generator: &mut SchemaGenerator) -> Schema {
    short_or_long(generator.subschema_for::<document::Redis>())
}

fn short_or_long(long: Schema) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string" }, long] })
}
