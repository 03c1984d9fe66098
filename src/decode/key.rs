//! The key of a record: a source of columns, and the whole identity of a tombstone.

use oncesink_sinks::model::Kind;
use serde_json::value::RawValue;

use super::{Broken, KeyFormat, fields::folded, input::Input, json, rule};
use crate::source::RecordRef;

/// A record's key, read by the route's `key_format`.
#[derive(Clone, Debug)]
pub(super) struct RecordKey<'a> {
    text: &'a str,
    input: Input<'a>,
    /// A number may also be meant as text.
    auto: bool,
}

impl<'a> RecordKey<'a> {
    /// `None` if the record has no key.
    pub(super) fn read(record: &RecordRef<'a>, format: KeyFormat) -> Result<Option<Self>, Broken> {
        let Some(bytes) = record.key else { return Ok(None) };
        let text = std::str::from_utf8(bytes).map_err(|_| Broken::new(rule::NOT_UTF8, "the record's key is not UTF-8"))?;
        let plain = || Input::Text(text.into());
        let input = match format {
            KeyFormat::Text => plain(),
            KeyFormat::Json | KeyFormat::Auto => match serde_json::from_str::<&RawValue>(text) {
                Ok(raw) => Input::from_json(raw.get())?,
                Err(_) if format == KeyFormat::Auto => plain(),
                Err(error) => {
                    let Broken { rule, detail } = json::not_json(&error);
                    return Err(Broken::new(rule, format!("the record's key: {detail}")));
                }
            },
        };
        Ok(Some(Self { text, input, auto: format == KeyFormat::Auto }))
    }

    /// The whole key for a column of this kind. Under `auto`, `42` is a number for a number column and a text for all others.
    pub(super) fn whole(&self, kind: &Kind) -> Input<'a> {
        let takes_it = match self.input {
            Input::Number(_) => {
                matches!(kind, Kind::Int { .. } | Kind::Float { .. } | Kind::Decimal { .. } | Kind::Timestamp { .. } | Kind::TimestampTz { .. } | Kind::Json)
            }
            Input::Bool(_) => matches!(kind, Kind::Bool | Kind::Json),
            _ => true,
        };
        if self.auto && !takes_it { Input::Text(self.text.into()) } else { self.input.clone() }
    }

    /// The value at a path below the key; `None` if it lacks it.
    pub(super) fn at(&self, path: &[String]) -> Result<Option<Input<'a>>, Broken> {
        let Some((name, rest)) = path.split_first() else { return Ok(Some(self.input.clone())) };
        let Input::Object(object) = self.input else { return Err(Broken::new(rule::NOT_AN_OBJECT, "the record's key is not a JSON object")) };
        let mut found = exact(object, name)?;
        for name in rest {
            match found.map(Input::from_json).transpose()? {
                Some(Input::Object(object)) => found = exact(object, name)?,
                Some(Input::Null) | None => break,
                Some(_) => return Err(Broken::new(rule::NOT_AN_OBJECT, "its path goes through a value that is not an object")),
            }
        }
        found.map(Input::from_json).transpose()
    }

    /// The value for a key column of a tombstone: by name from an object, or the key itself if it is `alone`.
    pub(super) fn for_column(&self, names: &[&str], kind: &Kind, alone: bool) -> Result<Input<'a>, Broken> {
        match self.input {
            Input::Object(object) => {
                for name in names {
                    if let Some(found) = near(object, name)? {
                        return Input::from_json(found);
                    }
                }
                Err(Broken::new(rule::TOMBSTONE_WITHOUT_KEY, "the record's key has no field for it"))
            }
            Input::Array(_) => Err(Broken::new(rule::TOMBSTONE_WITHOUT_KEY, "the record's key is an array")),
            _ if alone => Ok(self.whole(kind)),
            _ => Err(Broken::new(rule::TOMBSTONE_WITHOUT_KEY, "the record's key is one value, but the table's key has several columns")),
        }
    }
}

fn exact<'a>(object: &'a str, name: &str) -> Result<Option<&'a str>, Broken> {
    only(json::members(object)?.into_iter().filter(|(field, _)| field == name).map(|(_, value)| value))
}

/// By its name, else by the only one that differs in case and `_`.
fn near<'a>(object: &'a str, name: &str) -> Result<Option<&'a str>, Broken> {
    match exact(object, name)? {
        Some(found) => Ok(Some(found)),
        None => only(json::members(object)?.into_iter().filter(|(field, _)| folded(field) == folded(name)).map(|(_, value)| value)),
    }
}

fn only<'a>(mut values: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, Broken> {
    match (values.next(), values.next()) {
        (found, None) => Ok(found),
        _ => Err(Broken::new(rule::DUPLICATE_FIELD, "the record's key gives it two values")),
    }
}
