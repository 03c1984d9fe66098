//! Names that users bring along: from other sinks, from Java's clients, from later versions. They are answered with ours.

use super::{nearest::plain, properties};

/// An answer to a key that is not known.
pub(super) struct Answer {
    pub label: String,
    /// The key that was meant; it is then not missing as well. `[]` is any route.
    pub means: Option<&'static str>,
}

/// Their name without separators, our key, and what to say where the key alone is not enough.
const KEYS: &[(&str, &str, &str)] = &[
    ("bootstrapservers", "kafka.brokers", ""),
    ("bootstrap", "kafka.brokers", ""),
    ("metadatabrokerlist", "kafka.brokers", ""),
    ("brokerlist", "kafka.brokers", ""),
    ("seedbrokers", "kafka.brokers", ""),
    ("groupid", "kafka.group", ""),
    ("consumergroup", "kafka.group", ""),
    ("autooffsetreset", "kafka.start", ""),
    ("offsetreset", "kafka.start", ""),
    ("startoffset", "kafka.start", ""),
    ("startingoffsets", "kafka.start", ""),
    ("groupinstanceid", "kafka.instance_id", ""),
    ("librdkafkaoptions", "kafka.properties", ""),
    ("consumerproperties", "kafka.properties", ""),
    ("connectionurl", "database.url", ""),
    ("jdbcurl", "database.url", ""),
    ("dsn", "database.url", ""),
    ("databaseurl", "database.url", ""),
    ("connectionstring", "database.url", ""),
    ("connectionuser", "database.username", ""),
    ("connectionusername", "database.username", ""),
    ("user", "database.username", ""),
    ("connectionpassword", "database.password", ""),
    ("sslmode", "database.tls", ""),
    ("connectionpoolmaxsize", "database.writers", ""),
    ("poolsize", "database.writers", ""),
    ("maxconnections", "database.writers", ""),
    ("parallelism", "database.writers", ""),
    ("concurrency", "database.writers", ""),
    ("tasksmax", "database.writers", "more processes of the same name share the partitions; in one process it is `database.writers`"),
    ("batchsize", "batch.rows", ""),
    ("maxrows", "batch.rows", ""),
    ("lingerms", "batch.linger", ""),
    ("flushinterval", "batch.linger", ""),
    ("flushintervalms", "batch.linger", ""),
    ("maxretries", "retry.give_up_after", "it is a time here: `retry.give_up_after`"),
    ("flushmaxretries", "retry.give_up_after", "it is a time here: `retry.give_up_after`"),
    ("errorsretrytimeout", "retry.give_up_after", ""),
    ("retrybackoffms", "retry.initial_delay", ""),
    ("flushretrydelayms", "retry.initial_delay", ""),
    ("errorsretrydelaymaxms", "retry.max_delay", ""),
    ("maxrowspersecond", "rate_limit.records_per_second", ""),
    ("metricsport", "observe.listen", ""),
    ("loglevel", "log.level", ""),
    ("logformat", "log.format", ""),
    ("sink", "routes", ""),
    ("sinks", "routes", ""),
    ("tables", "routes", ""),
    ("insertmode", "routes[].write", "here it is `write: append`, `upsert`, `update` or `insert-if-new` in a route"),
    ("mode", "routes[].write", ""),
    ("insert", "routes[].write", "here it is `write: append` in a route"),
    ("upsert", "routes[].write", "here it is `write: upsert` in a route"),
    ("pkfields", "routes[].key_columns", ""),
    ("primarykeyfields", "routes[].key_columns", ""),
    ("primarykey", "routes[].key_columns", ""),
    ("keyfields", "routes[].key_columns", ""),
    ("pkmode", "routes[].columns", "the key is the table's own; if its columns come from the record's key, write `columns: { id: key.id }`"),
    ("primarykeymode", "routes[].columns", "the key is the table's own; if its columns come from the record's key, write `columns: { id: key.id }`"),
    ("deleteenabled", "routes[].tombstone", "here it is `tombstone: delete`, `ignore` or `bad-record` in a route"),
    ("deleteonnull", "routes[].tombstone", "here it is `tombstone: delete`, `ignore` or `bad-record` in a route"),
    ("softdelete", "routes[].tombstone", "here it is `tombstone: { mark: column }` in a route"),
    ("softdeletecolumn", "routes[].tombstone", "here it is `tombstone: { mark: column }` in a route"),
    ("tablenameformat", "routes[].table", "here it is `table` in a route, with `{topic}` for the topic's name"),
    ("collectionnameformat", "routes[].table", "here it is `table` in a route, with `{topic}` for the topic's name"),
    ("tablename", "routes[].table", ""),
    ("topicsregex", "routes[].topics", "here it is `topics` in a route; an expression begins with ^"),
    ("topicregex", "routes[].topics", "here it is `topics` in a route; an expression begins with ^"),
    ("topicpattern", "routes[].topics", "here it is `topics` in a route; an expression begins with ^"),
    ("fieldswhitelist", "routes[].columns", "fields without a column are left out; `columns: { name: none }` leaves out a column"),
    ("fieldsincludelist", "routes[].columns", "fields without a column are left out; `columns: { name: none }` leaves out a column"),
    ("transforms", "routes[].columns", "here it is `columns: { column: value.some.field }` in a route"),
    ("mapping", "routes[].columns", ""),
    ("fields", "routes[].columns", ""),
    ("keyconverter", "routes[].key_format", ""),
    ("keydeserializer", "routes[].key_format", ""),
    ("valueconverter", "routes[].format", ""),
    ("valuedeserializer", "routes[].format", ""),
    ("decoding", "routes[].format", ""),
    ("errorstolerance", "routes[].on_bad_record", "here it is `on_bad_record: halt` or `skip` in a route"),
    ("onerror", "routes[].on_bad_record", ""),
    ("dbtimezone", "routes[].timezone", ""),
    ("databasetimezone", "routes[].timezone", ""),
    ("usetimezone", "routes[].timezone", ""),
    ("versioncolumn", "routes[].version", ""),
    ("deliveryguarantee", "routes[].delivery", ""),
    ("idempotencykey", "routes[].event_id", ""),
    ("eventid", "routes[].event_id", ""),
    ("dedupkey", "routes[].event_id", ""),
    ("exactlyonce", "routes[].delivery", "here it is `delivery: exactly-once` in a route, and the default"),
    ("processingguarantee", "routes[].delivery", ""),
    ("quoteidentifiers", "", "leave it out; names are quoted where they need it"),
    ("quotesqlidentifiers", "", "leave it out; names are quoted where they need it"),
    ("connectorclass", "", "leave it out; database.url says which database it is"),
    ("dialectname", "", "leave it out; database.url says which database it is"),
    ("errorslogenable", "", "leave it out; every record that is left out is logged"),
];

/// Keys of this product that this version does not have yet.
const LATER: &[&str] = &["schema_registry", "dead_letter", "dead_letters", "otlp", "where", "schema_evolution"];

/// Their names for what this version does not have yet.
const LATER_FOREIGN: &[(&str, &str)] = &[
    ("autocreate", "schema_evolution"),
    ("autoevolve", "schema_evolution"),
    ("schemaevolution", "schema_evolution"),
    ("errorsdeadletterqueuetopicname", "dead_letter"),
    ("deadletterqueue", "dead_letter"),
    ("deadletter", "dead_letter"),
    ("dlq", "dead_letter"),
    ("schemaregistryurl", "schema_registry"),
    ("valueconverterschemaregistryurl", "schema_registry"),
    ("filter", "where"),
    ("when", "where"),
];

/// What to say to a key that no table of the file has.
pub(super) fn key(written: &str) -> Option<Answer> {
    let name = plain(written);
    if let Some(later) =
        LATER.iter().find(|later| plain(later) == name).or_else(|| LATER_FOREIGN.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| ours))
    {
        return Some(Answer { label: format!("this version does not have `{later}` yet"), means: None });
    }
    if let Some((_, ours, said)) = KEYS.iter().find(|(theirs, ..)| *theirs == name) {
        let label = match (*said, ours.strip_prefix("routes[].")) {
            ("", Some(key)) => format!("here it is `{key}` in a route"),
            ("", None) => format!("here it is `{ours}`"),
            (said, _) => said.to_owned(),
        };
        return Some(Answer { label, means: Some(*ours).filter(|ours| !ours.is_empty()) });
    }
    let property = written.replace('_', ".");
    if let Some(answer) = properties::java(&property) {
        return Some(Answer { label: format!("under kafka.properties: {answer}"), means: None });
    }
    (written.contains(['.', '_']) && properties::is_property(&property))
        .then(|| Answer { label: format!("librdkafka's own settings stand under kafka.properties: {{ {property}: … }}"), means: None })
}

/// The last part of our key, their word without separators, ours.
const WORDS: &[(&str, &str, &str)] = &[
    ("write", "insert", "append"),
    ("write", "insertonly", "append"),
    ("write", "merge", "upsert"),
    ("write", "replace", "upsert"),
    ("write", "insertignore", "insert-if-new"),
    ("write", "ignore", "insert-if-new"),
    ("write", "accumulate", "accumulate: { column: add }"),
    ("delivery", "eos", "exactly-once"),
    ("delivery", "effectivelyonce", "exactly-once"),
    ("format", "string", "text"),
    ("format", "plain", "text"),
    ("format", "raw", "bytes"),
    ("format", "binary", "bytes"),
    ("format", "bytearray", "bytes"),
    ("key_format", "string", "text"),
    ("on_bad_record", "fail", "halt"),
    ("on_bad_record", "stop", "halt"),
    ("on_bad_record", "none", "halt"),
    ("on_bad_record", "all", "skip"),
    ("on_bad_record", "ignore", "skip"),
    ("on_bad_record", "log", "skip"),
    ("tombstone", "true", "delete"),
    ("tombstone", "false", "ignore"),
    ("tombstone", "mark", "{ mark: column }"),
    ("tombstone", "soft", "{ mark: column }"),
    ("tombstone", "softdelete", "{ mark: column }"),
    ("extra_fields", "error", "bad-record"),
    ("extra_fields", "fail", "bad-record"),
    ("tls", "true", "verify-full"),
    ("tls", "false", "disable"),
    ("tls", "off", "disable"),
    ("tls", "verifyidentity", "verify-full"),
    ("tls", "allow", "prefer"),
    ("timestamp_unit", "ms", "milliseconds"),
    ("timestamp_unit", "millis", "milliseconds"),
    ("timestamp_unit", "us", "microseconds"),
    ("timestamp_unit", "micros", "microseconds"),
    ("timestamp_unit", "s", "seconds"),
    ("level", "warning", "warn"),
    ("migrate", "true", "auto"),
    ("migrate", "false", "never"),
    ("dedup", "uniquekey", "unique-key"),
    ("dedup", "processedevents", "processed-event"),
    ("dedup", "inbox", "processed-event"),
];

const LATER_WORDS: &[(&str, &[&str])] = &[
    ("format", &["connect-json", "debezium", "avro", "protobuf", "json-schema", "cloudevents"]),
    ("key_format", &["connect-json", "avro", "protobuf", "json-schema"]),
    ("on_bad_record", &["dead-letter"]),
];

/// What to say to a word that `key` does not take.
pub(super) fn word(key: &str, written: &str) -> Option<String> {
    let name = plain(written);
    if let Some(later) = LATER_WORDS.iter().filter(|(theirs, _)| *theirs == key).flat_map(|(_, words)| words.iter()).find(|later| plain(later) == name) {
        return Some(format!("this version does not have `{later}` yet"));
    }
    WORDS.iter().find(|(theirs, word, _)| *theirs == key && *word == name).map(|(_, _, ours)| format!("here it is `{ours}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_written_without_separators() {
        for (theirs, ..) in KEYS {
            assert_eq!(plain(theirs), *theirs);
        }
        for (theirs, _) in LATER_FOREIGN {
            assert_eq!(plain(theirs), *theirs);
        }
        for (_, theirs, _) in WORDS {
            assert_eq!(plain(theirs), *theirs);
        }
    }
}
