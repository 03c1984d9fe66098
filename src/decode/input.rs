use std::borrow::Cow;

use super::{Broken, escape::unescape};

/// A value before it is known which column takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input<'a> {
    Null,
    Bool(bool),
    /// In JSON's grammar.
    Number(Cow<'a, str>),
    /// A JSON string, a header, a plain text key, a literal, a topic.
    Text(Cow<'a, str>),
    /// A JSON object or array, as it stands.
    Object(&'a str),
    Array(&'a str),
    /// A value or key that is one byte string.
    Bytes(&'a [u8]),
    /// The record's timestamp: milliseconds since the Unix epoch.
    Milliseconds(i64),
}

impl<'a> Input<'a> {
    /// Reads one JSON value whose grammar was checked before.
    pub(crate) fn from_json(json: &'a str) -> Result<Self, Broken> {
        Ok(match json.as_bytes().first() {
            Some(b'"') => Self::Text(unescape(json)?),
            Some(b'{') => Self::Object(json),
            Some(b'[') => Self::Array(json),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'-' | b'0'..=b'9') => Self::Number(Cow::Borrowed(json)),
            _ => Self::Null,
        })
    }

    /// What it is called in messages.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Object(_) => "an object",
            Self::Array(_) => "an array",
            Self::Bytes(_) => "a byte string",
            Self::Milliseconds(_) => "the record's timestamp",
        }
    }
}
