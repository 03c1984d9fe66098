//! What a route says of the decoding of its records.

use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    /// The whole value is one text; `columns` says where it goes (`value`), or the one non-key column is it.
    Text,
    /// The whole value is one byte string.
    Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// JSON if it reads as JSON, else text.
    Auto,
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraFields {
    Ignore,
    BadRecord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingFields {
    /// The column keeps what it holds; on insert it takes its default.
    Keep,
    Null,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tombstone {
    Delete,
    /// The row stays, and this column of it says that it was deleted.
    Mark(Arc<str>),
    Ignore,
    BadRecord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampUnit {
    Seconds,
    Milliseconds,
    Microseconds,
}
