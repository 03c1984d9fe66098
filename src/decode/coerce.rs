//! The closed table of coercions: which value goes into which kind of column. docs/types.md says the same in rows that a test reads.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oncesink_sinks::model::{Column, Kind, Presence, TableColumn, Values};

use super::{
    Broken, TimestampUnit, array, escape,
    input::Input,
    number::{Number, is_canonical, to_float},
    rule,
    time::{self, Zone},
};

/// What a column takes.
#[derive(Clone, Debug)]
pub(crate) struct CellType {
    kind: Kind,
    step: i64,
}

impl CellType {
    pub(crate) fn of(column: &TableColumn) -> Self {
        Self { kind: column.kind.clone(), step: step(&column.kind) }
    }
}

/// What a route says of times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) timezone: Option<Zone>,
    pub(crate) timestamp_unit: Option<TimestampUnit>,
}

/// A value of a column's own type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Coerced<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Uuid([u8; 16]),
}

impl Coerced<'_> {
    pub(crate) fn into_owned(self) -> Coerced<'static> {
        match self {
            Self::Null => Coerced::Null,
            Self::Bool(value) => Coerced::Bool(value),
            Self::Int(value) => Coerced::Int(value),
            Self::Float(value) => Coerced::Float(value),
            Self::Text(text) => Coerced::Text(Cow::Owned(text.into_owned())),
            Self::Bytes(bytes) => Coerced::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Uuid(value) => Coerced::Uuid(value),
        }
    }

    /// Appends the value to the column it was coerced for.
    pub(crate) fn push(&self, column: &mut Column) -> Result<(), Broken> {
        match (&mut column.values, self) {
            (values, Self::Null) => {
                values.push_nothing();
                column.presence.push(Presence::Null);
                return Ok(());
            }
            (Values::Bool(values), Self::Bool(value)) => values.push(*value),
            (Values::Int(values), Self::Int(value)) => values.push(*value),
            (Values::Float(values), Self::Float(value)) => values.push(*value),
            (Values::Text(values), Self::Text(text)) => values.push(text.as_bytes()),
            (Values::Bytes(values), Self::Bytes(bytes)) => values.push(bytes),
            (Values::Uuid(values), Self::Uuid(value)) => values.push(*value),
            _ => return Err(Broken::new(rule::WRONG_TYPE, "the rows were made for another table")),
        }
        column.presence.push(Presence::Value);
        Ok(())
    }
}

/// Turns `input` into the type of a column, or says which rule it breaks.
pub(crate) fn coerce<'a>(input: Input<'a>, cell: &CellType, rules: &Rules) -> Result<Coerced<'a>, Broken> {
    match (&cell.kind, input) {
        (Kind::Array { element }, Input::Array(json)) => Ok(Coerced::Text(Cow::Owned(array::literal(json, element, rules)?))),
        (kind, input) => Ok(match coerce_scalar(input, kind, rules)? {
            Coerced::Int(value) if cell.step > 1 => Coerced::Int(value - value.rem_euclid(cell.step)),
            value => value,
        }),
    }
}

/// The microseconds of one step of `timestamp(3)` and the like; 1 for all other columns.
///
/// The database would round to it: a time would move into the future, and a newer version could look older than the rounded one.
fn step(kind: &Kind) -> i64 {
    match kind {
        Kind::Time { digits } | Kind::Timestamp { digits } | Kind::TimestampTz { digits } => 10_i64.pow(6_u32.saturating_sub(u32::from(*digits))),
        _ => 1,
    }
}

/// [`coerce`] for all but JSON's arrays.
pub(super) fn coerce_scalar<'a>(input: Input<'a>, kind: &Kind, rules: &Rules) -> Result<Coerced<'a>, Broken> {
    let wrong_type = Broken::new(rule::WRONG_TYPE, input.name());
    Ok(match (kind, input) {
        (_, Input::Null) => Coerced::Null,
        (Kind::Bool, Input::Bool(value)) => Coerced::Bool(value),
        (Kind::Int { bits }, Input::Number(text) | Input::Text(text)) => Coerced::Int(integer(&text, *bits)?),
        (Kind::Int { bits }, Input::Milliseconds(milliseconds)) => Coerced::Int(fitting(milliseconds, *bits)?),
        (Kind::Float { bits }, Input::Number(text)) => Coerced::Float(to_float(&text, *bits)?),
        (Kind::Decimal { precision, scale, exact }, Input::Number(text) | Input::Text(text)) => {
            let number = number(&text)?;
            number.check_decimal(*precision, *scale)?;
            if !exact {
                number.check_affinity()?;
            }
            Coerced::Text(if is_canonical(&text) { text } else { Cow::Owned(number.to_text()) })
        }
        (Kind::Text { max_chars }, Input::Text(text)) => Coerced::Text(checked_text(text, *max_chars)?),
        (Kind::Text { max_chars }, Input::Bytes(bytes)) => Coerced::Text(checked_text(Cow::Borrowed(utf8(bytes)?), *max_chars)?),
        (Kind::Bytes { max_bytes }, Input::Text(text)) => {
            let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| Broken::new(rule::NOT_BASE64, "not base64 of the standard alphabet, padded"))?;
            Coerced::Bytes(Cow::Owned(fitting_bytes(bytes, *max_bytes)?))
        }
        (Kind::Bytes { max_bytes }, Input::Bytes(bytes)) => Coerced::Bytes(Cow::Borrowed(fitting_bytes(bytes, *max_bytes)?)),
        (Kind::Uuid, Input::Text(text)) => Coerced::Uuid(uuid(&text)?),
        (Kind::Date, Input::Text(text)) => Coerced::Int(time::date(&text)?),
        (Kind::Time { .. }, Input::Text(text)) => Coerced::Int(time::time(&text)?),
        (Kind::Timestamp { .. }, Input::Text(text)) => Coerced::Int(time::timestamp_without_zone(&text, rules.timezone.as_ref())?),
        (Kind::TimestampTz { .. }, Input::Text(text)) => Coerced::Int(time::timestamp_with_zone(&text, rules.timezone.as_ref())?),
        (Kind::Timestamp { .. }, Input::Number(text)) => Coerced::Int(time::local_of_instant(instant(&text, rules)?, rules.timezone.as_ref())?),
        (Kind::TimestampTz { .. }, Input::Number(text)) => Coerced::Int(time::in_range(instant(&text, rules)?)?),
        (Kind::Timestamp { .. }, Input::Milliseconds(value)) => Coerced::Int(time::local_of_instant(value.saturating_mul(1_000), rules.timezone.as_ref())?),
        (Kind::TimestampTz { .. }, Input::Milliseconds(value)) => Coerced::Int(time::in_range(value.saturating_mul(1_000))?),
        (Kind::Json, Input::Text(text)) => {
            escape::check_text(&text)?;
            Coerced::Text(Cow::Owned(serde_json::Value::from(text).to_string()))
        }
        (Kind::Json, Input::Number(text)) => Coerced::Text(text),
        (Kind::Json, Input::Bool(value)) => Coerced::Text(Cow::Borrowed(if value { "true" } else { "false" })),
        (Kind::Json, Input::Object(json) | Input::Array(json)) => {
            escape::check_document(json)?;
            Coerced::Text(Cow::Borrowed(json))
        }
        (Kind::Enum { labels }, Input::Text(text)) => {
            if !labels.iter().any(|label| *label == *text) {
                return Err(Broken::new(rule::NOT_A_LABEL, "not one of its labels"));
            }
            Coerced::Text(text)
        }
        (Kind::Array { .. } | Kind::Other, Input::Text(text)) => Coerced::Text(checked_text(text, None)?),
        (Kind::Other, Input::Number(text)) => Coerced::Text(text),
        _ => return Err(wrong_type),
    })
}

fn number(text: &str) -> Result<Number<'_>, Broken> {
    Number::parse(text).ok_or_else(|| Broken::new(rule::NOT_A_NUMBER, "a string that is not a number as JSON writes them"))
}

fn integer(text: &str, bits: u8) -> Result<i64, Broken> {
    // What reads here as it stands, and begins as JSON's integers begin, needs no closer look.
    let plain = matches!(text.as_bytes(), [b'1'..=b'9', ..] | [b'0'] | [b'-', b'1'..=b'9', ..]);
    match text.parse::<i64>() {
        Ok(value) if plain => fitting(value, bits),
        _ => fitting(number(text)?.to_integer(0)?, bits),
    }
}

fn fitting(value: i64, bits: u8) -> Result<i64, Broken> {
    let limit = 1_i128 << (u32::from(bits.clamp(1, 64)) - 1);
    if (-limit..limit).contains(&i128::from(value)) { Ok(value) } else { Err(Broken::new(rule::OUT_OF_RANGE, format!("does not fit in {bits} bits"))) }
}

fn instant(text: &str, rules: &Rules) -> Result<i64, Broken> {
    let power = match rules.timestamp_unit {
        Some(TimestampUnit::Seconds) => 6,
        Some(TimestampUnit::Milliseconds) => 3,
        Some(TimestampUnit::Microseconds) => 0,
        None => return Err(Broken::new(rule::WRONG_TYPE, "a number, and the route names no `timestamp_unit`")),
    };
    number(text)?.to_integer(power)
}

fn utf8(bytes: &[u8]) -> Result<&str, Broken> {
    std::str::from_utf8(bytes).map_err(|_| Broken::new(rule::NOT_UTF8, "not UTF-8"))
}

fn checked_text(text: Cow<'_, str>, max_chars: Option<u32>) -> Result<Cow<'_, str>, Broken> {
    escape::check_text(&text)?;
    match max_chars {
        Some(most) if text.len() > most as usize && text.chars().count() > most as usize => {
            Err(Broken::new(rule::TOO_LONG, format!("more than {most} characters")))
        }
        _ => Ok(text),
    }
}

fn fitting_bytes<B: AsRef<[u8]>>(bytes: B, max_bytes: Option<u32>) -> Result<B, Broken> {
    match max_bytes {
        Some(most) if bytes.as_ref().len() > most as usize => Err(Broken::new(rule::TOO_LONG, format!("more than {most} bytes"))),
        _ => Ok(bytes),
    }
}

/// 32 hexadecimal digits, with hyphens after the 8th, 12th, 16th and 20th or with none.
fn uuid(text: &str) -> Result<[u8; 16], Broken> {
    let broken = || Broken::new(rule::NOT_A_UUID, "not 32 hexadecimal digits in groups of 8-4-4-4-12");
    let bytes = text.as_bytes();
    let hyphens = match bytes.len() {
        32 => false,
        36 => true,
        _ => return Err(broken()),
    };
    let mut uuid = [0_u8; 16];
    let mut digits = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if hyphens && matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return Err(broken());
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(broken)?;
        if let Some(slot) = uuid.get_mut(digits / 2) {
            *slot = *slot << 4 | digit;
        }
        digits += 1;
    }
    Ok(uuid)
}
