//! Texts with a meaning: durations, sizes, addresses, starts, topics, tables, columns.

use std::{
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use regex::Regex;

use super::nearest::nearest;
use crate::{route::ColumnSource, source::kafka::StartPolicy};

/// Why a text does not mean what its key needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub message: String,
    /// What to write instead.
    pub label: String,
}

fn wrong<T>(message: impl Into<String>, label: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { message: message.into(), label: label.into() })
}

/// Judges a text by the `format` of its key in the schema.
pub(super) fn judge(format: &str, text: &str) -> Result<(), Wrong> {
    match format {
        "name" => name(text).map(drop),
        "duration" => duration(text).map(drop),
        "give-up" => give_up(text).map(drop),
        "size" => size(text).map(drop),
        "listen" => listen(text).map(drop),
        "start" => start(text).map(drop),
        "broker" => broker(text),
        "topic" => topic(text).map(drop),
        "table" => table(text).map(drop),
        "column" => column(text).map(drop),
        "timezone" => timezone(text),
        "database-url" => database_url(text).map(drop),
        "redis-url" => redis_url(text),
        _ => Ok(()),
    }
}

pub(super) fn name(text: &str) -> Result<&str, Wrong> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Ok(text);
    }
    wrong(format!("`{text}` cannot be a name"), "use letters, digits, `.`, `_` and `-`")
}

pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let longest = Duration::from_secs(366 * 24 * 3600);
    match humantime::parse_duration(text.trim()) {
        Ok(duration) if duration <= longest => Ok(duration),
        Ok(_) => wrong(format!("`{text}` is longer than a year"), "such as 250ms, 30s, 5m, 2h, 7d"),
        Err(_) => wrong(format!("`{text}` is not a duration"), "a number with its unit: 250ms, 30s, 5m, 2h, 7d"),
    }
}

/// `never` is `None`.
pub(super) fn give_up(text: &str) -> Result<Option<Duration>, Wrong> {
    if text == "never" {
        return Ok(None);
    }
    match duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => wrong(format!("`{text}` is neither `never` nor a duration"), "`never`, or such as 10m"),
    }
}

pub(super) fn size(text: &str) -> Result<usize, Wrong> {
    let bytes = bytesize::ByteSize::from_str(text.trim()).ok().filter(|_| text.trim().starts_with(|first: char| first.is_ascii_digit()));
    match bytes.and_then(|size| usize::try_from(size.as_u64()).ok()) {
        Some(bytes) if (1024..=1 << 40).contains(&bytes) => Ok(bytes),
        Some(_) => wrong(format!("`{text}` is out of range"), "from 1KiB to 1TiB"),
        None => wrong(format!("`{text}` is not a size"), "a number with its unit: 512KiB, 8MiB, 1GiB"),
    }
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    match (text.parse(), text.trim_start_matches(':').parse::<u16>()) {
        (Ok(address), _) => Ok(address),
        (Err(_), Ok(port)) => wrong(format!("`{text}` has no address"), format!("127.0.0.1:{port} for this machine only, 0.0.0.0:{port} for all")),
        _ => wrong(format!("`{text}` is not an address and port"), "such as 127.0.0.1:9464 or 0.0.0.0:9464"),
    }
}

pub(super) fn start(text: &str) -> Result<StartPolicy, Wrong> {
    Ok(match text {
        "earliest" => StartPolicy::Earliest,
        "latest" => StartPolicy::Latest,
        "error" => StartPolicy::Error,
        "beginning" | "smallest" => return wrong(format!("`{text}` is not a start"), "did you mean `earliest`?"),
        "end" | "largest" => return wrong(format!("`{text}` is not a start"), "did you mean `latest`?"),
        "none" => return wrong(format!("`{text}` is not a start"), "did you mean `error`?"),
        _ => match text.parse::<jiff::Timestamp>() {
            Ok(time) => StartPolicy::Time(time.as_millisecond()),
            Err(_) => {
                let label = nearest(text, ["earliest", "latest", "error"]).map(|near| format!("did you mean `{near}`?"));
                return wrong(
                    format!("`{text}` is not a start"),
                    label.unwrap_or_else(|| "earliest, latest, error, or a time such as 2026-01-31T00:00:00Z".to_owned()),
                );
            }
        },
    })
}

pub(super) fn broker(text: &str) -> Result<(), Wrong> {
    if text.contains("://") {
        return wrong(format!("`{text}` is not a broker"), "write host:port; how to connect is kafka.properties: { security.protocol: … }");
    }
    let port = text.rsplit_once(':').map_or("9092", |(_, port)| port);
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let fit = !host.is_empty() && !text.contains(|character: char| character.is_whitespace() || character == ',');
    // An IPv6 address in brackets, with or without a port.
    if fit && (port.parse::<u16>().is_ok_and(|port| port > 0) || text.ends_with(']')) {
        return Ok(());
    }
    wrong(format!("`{text}` is not a broker"), "write host:port, such as localhost:9092")
}

/// A name, or an expression.
#[derive(Clone, Debug)]
pub(super) enum Topic {
    Name(String),
    Pattern(Regex),
}

pub(super) fn topic(text: &str) -> Result<Topic, Wrong> {
    if text.starts_with('^') {
        // The whole name: `^bank` must not take `banker` as well.
        let whole = if text.ends_with('$') && !text.contains('|') { text.to_owned() } else { format!("^({text})$") };
        return Regex::new(&whole).map(Topic::Pattern).or_else(|_| {
            let reason = if text.contains("(?=") || text.contains("(?!") || text.contains("(?<=") || text.contains("(?<!") {
                "look-around is not supported; use exclude_topics"
            } else {
                "such as ^bank\\.(?<kind>[a-z]+)$"
            };
            wrong(format!("`{text}` is not a regular expression"), reason)
        });
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !text.is_empty() && text.len() <= 249 && text != "." && text != ".." && text.bytes().all(legal) {
        return Ok(Topic::Name(text.to_owned()));
    }
    if text.contains(['*', '+', '(', '[', '|']) {
        return wrong(
            format!("`{text}` cannot be a topic's name"),
            format!("an expression begins with ^: '^{}$'", text.trim_end_matches('$').replace(".*", "*").replace('*', ".*")),
        );
    }
    wrong(format!("`{text}` cannot be a topic's name"), "letters, digits, `.`, `_` and `-`; an expression begins with ^")
}

/// The names in braces.
pub(super) fn table(text: &str) -> Result<Vec<String>, Wrong> {
    let mut names = Vec::new();
    let mut rest = text;
    let mut fixed = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            return wrong(format!("`{text}` has a brace that is not closed"), "such as ledger.{topic}");
        };
        fixed += before;
        fixed += "x";
        names.push(name.to_owned());
        rest = after;
    }
    fixed += rest;
    if text.contains(['"', '`', '\'', '[', ']', ';']) {
        return wrong(format!("`{text}` cannot be a table's name"), "write it without quotes; they are added where they are needed");
    }
    if fixed.contains('}') || fixed.split('.').any(|part| part.trim().is_empty()) {
        return wrong(format!("`{text}` cannot be a table's name"), "write table or schema.table");
    }
    if fixed.split('.').count() > 2 {
        return wrong(format!("`{text}` has too many parts"), "write table or schema.table; the database is part of database.url");
    }
    Ok(names)
}

pub(super) fn column(text: &str) -> Result<ColumnSource, Wrong> {
    let path = |path: &str| path.split('.').map(str::to_owned).collect::<Vec<_>>();
    let sound = |path: &str| !path.is_empty() && path.split('.').all(|part| !part.is_empty());
    if let Some(literal) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Ok(ColumnSource::Literal(literal.replace("''", "'")));
    }
    Ok(match text.split_once('.').map_or((text, None), |(root, path)| (root, Some(path))) {
        ("value", None) => ColumnSource::Value(Vec::new()),
        ("value", Some(below)) if sound(below) => ColumnSource::Value(path(below)),
        ("key", None) => ColumnSource::Key(Vec::new()),
        ("key", Some(below)) if sound(below) => ColumnSource::Key(path(below)),
        // A header's name may hold dots.
        ("headers", Some(name)) if !name.is_empty() => ColumnSource::Header(name.to_owned()),
        ("topic", None) => ColumnSource::Topic,
        ("partition", None) => ColumnSource::Partition,
        ("offset", None) => ColumnSource::Offset,
        ("timestamp", None) => ColumnSource::Timestamp,
        ("none", None) => ColumnSource::None,
        ("header", Some(name)) => return wrong(format!("`{text}` is no source of a column"), format!("did you mean `headers.{name}`?")),
        ("envelope", Some(_)) => {
            return wrong(format!("`{text}` is no source of a column"), "this version does not have `envelope` yet; it comes with format: debezium");
        }
        _ => {
            let known = ["value", "key", "topic", "partition", "offset", "timestamp", "none"];
            let label = match nearest(text, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("a field is `value.{text}`; the text itself is \"'{text}'\""),
            };
            return wrong(format!("`{text}` is no source of a column"), label);
        }
    })
}

pub(super) fn timezone(text: &str) -> Result<(), Wrong> {
    let offset = |text: &str| {
        let (hours, minutes) = text.strip_prefix(['+', '-'])?.split_once(':')?;
        let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
        (hours <= 14 && minutes < 60).then_some(())
    };
    if text == "UTC" || offset(text).is_some() || jiff::tz::TimeZone::get(text).is_ok() {
        return Ok(());
    }
    wrong(format!("`{text}` is not a zone"), "UTC, or hours and minutes such as +02:00")
}

fn two_digits(text: &str) -> Option<u8> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// What kind of database an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    Postgres,
    /// MySQL or MariaDB: the server says which.
    MySql,
    Sqlite,
}

/// The address is a secret: no part of it stands in a message.
fn redis_url(text: &str) -> Result<(), Wrong> {
    if ["redis://", "rediss://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) {
        return Ok(());
    }
    wrong("this is not the address of a Redis server", "such as redis://host:6379, or rediss://user:password@host:6379/0 with TLS")
}

/// The address is a secret: no part of it but its scheme stands in a message.
pub(super) fn database_url(text: &str) -> Result<DatabaseKind, Wrong> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return wrong("this is not a database's address", "such as postgres://user@host:5432/database, mysql://user@host:3306/database or sqlite:orders.db");
    };
    match scheme {
        "postgres" | "postgresql" if rest.starts_with("//") => Ok(DatabaseKind::Postgres),
        "sqlite" if rest.contains(":memory:") || rest.contains("mode=memory") => {
            wrong("a database in memory forgets its checkpoints with the process", "name a file: sqlite:orders.db")
        }
        "sqlite" if !rest.trim_start_matches('/').is_empty() => Ok(DatabaseKind::Sqlite),
        "jdbc" => wrong("this is an address for Java", "leave out `jdbc:`; user and password are database.username and database.password"),
        "mysql" | "mariadb" if rest.starts_with("//") => Ok(DatabaseKind::MySql),
        _ => wrong("this is not a database's address", "such as postgres://user@host:5432/database, mysql://user@host:3306/database or sqlite:orders.db"),
    }
}
