//! The id of what happened, by which a repeat of it is known again.

use std::borrow::Cow;

use oncesink_sinks::model::EventIdKind;

use super::{Broken, input::Input, rule};

/// Where the id of a record's event comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventIdSource {
    /// `orders:3@88211`, with the time and a hash of the record: a record that Kafka delivers again is a repeat, one that its producer sends again is not.
    Coordinate,
    /// A path below the value; not empty.
    Value(Vec<String>),
    /// Empty: the whole key.
    Key(Vec<String>),
    Header(String),
}

impl EventIdSource {
    #[must_use]
    pub const fn kind(&self) -> EventIdKind {
        match self {
            Self::Coordinate => EventIdKind::Coordinate,
            Self::Value(_) | Self::Key(_) | Self::Header(_) => EventIdKind::Producer,
        }
    }
}

/// As long as every database takes it in the key of a table.
const MOST_BYTES: usize = 255;

/// The id as text. A number is the text that the record has for it.
pub(super) fn text(input: Option<Input<'_>>) -> Result<Cow<'_, str>, Broken> {
    let text = match input {
        Some(Input::Text(text) | Input::Number(text)) => text,
        Some(Input::Null) | None => return Err(Broken::new(rule::EVENT_ID_ABSENT, "the record has no event id")),
        Some(other) => return Err(Broken::new(rule::WRONG_TYPE, format!("the event id is {}; a string or a number is one", other.name()))),
    };
    if text.is_empty() {
        return Err(Broken::new(rule::EVENT_ID_ABSENT, "the event id is empty"));
    }
    if text.len() > MOST_BYTES {
        return Err(Broken::new(rule::TOO_LONG, format!("the event id has more than {MOST_BYTES} bytes")));
    }
    if text.contains('\0') {
        return Err(Broken::new(rule::NUL_IN_TEXT, "U+0000 in the event id"));
    }
    Ok(text)
}
