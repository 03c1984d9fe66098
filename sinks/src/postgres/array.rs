//! Columns straight into PostgreSQL's binary array format: no copy of a value before the one that is sent.

use sqlx::{
    Encode, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, Postgres, types::Oid},
};

use crate::{
    model::{Column, Kind, Presence, Values},
    version::Version,
};

const UNIX_TO_2000_DAYS: i64 = 10_957;
const UNIX_TO_2000_MICROSECONDS: i64 = 946_684_800_000_000;

/// The type of the elements as they are sent. What PostgreSQL reads from text is sent as text and cast in the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Bool,
    Int8,
    Float8,
    Text,
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp,
    TimestampTz,
}

impl Element {
    pub fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool,
            Kind::Int { .. } => Self::Int8,
            Kind::Float { .. } => Self::Float8,
            Kind::Bytes { .. } => Self::Bytea,
            Kind::Uuid => Self::Uuid,
            Kind::Date => Self::Date,
            Kind::Time { .. } => Self::Time,
            Kind::Timestamp { .. } => Self::Timestamp,
            Kind::TimestampTz { .. } => Self::TimestampTz,
            Kind::Text { .. } | Kind::Decimal { .. } | Kind::Json | Kind::Enum { .. } | Kind::Array { .. } | Kind::Other => Self::Text,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int8 => "int8",
            Self::Float8 => "float8",
            Self::Text => "text",
            Self::Bytea => "bytea",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
        }
    }

    /// The numbers of the type and of its array, fixed in PostgreSQL's catalogue.
    const fn oids(self) -> (u32, u32) {
        match self {
            Self::Bool => (16, 1000),
            Self::Int8 => (20, 1016),
            Self::Float8 => (701, 1022),
            Self::Text => (25, 1009),
            Self::Bytea => (17, 1001),
            Self::Uuid => (2950, 2951),
            Self::Date => (1082, 1182),
            Self::Time => (1083, 1183),
            Self::Timestamp => (1114, 1115),
            Self::TimestampTz => (1184, 1185),
        }
    }
}

/// The selected rows of a column as one array parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColumnArray<'a> {
    pub column: &'a Column,
    pub selection: &'a [u32],
    pub element: Element,
}

/// A value that its type cannot hold, or a column whose values are not of its kind.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArrayError {
    #[error("a date or time is out of PostgreSQL's range")]
    OutOfRange,
    #[error("a column holds values of another kind than its table says")]
    WrongKind,
}

impl Type<Postgres> for ColumnArray<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(Element::Text.oids().1))
    }
}

impl<'q> Encode<'q, Postgres> for ColumnArray<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let present = |row: u32| self.column.presence.get(row as usize) == Some(&Presence::Value);
        let has_nulls = !self.selection.iter().all(|row| present(*row));
        buffer.extend_from_slice(&i32::from(!self.selection.is_empty()).to_be_bytes());
        buffer.extend_from_slice(&i32::from(has_nulls).to_be_bytes());
        buffer.extend_from_slice(&self.element.oids().0.to_be_bytes());
        if self.selection.is_empty() {
            return Ok(IsNull::No);
        }
        buffer.extend_from_slice(&i32::try_from(self.selection.len())?.to_be_bytes());
        buffer.extend_from_slice(&1_i32.to_be_bytes());
        for row in self.selection {
            if present(*row) {
                self.element_into(*row as usize, buffer)?;
            } else {
                buffer.extend_from_slice(&(-1_i32).to_be_bytes());
            }
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.element.oids().1)))
    }
}

impl ColumnArray<'_> {
    fn element_into(&self, row: usize, buffer: &mut Vec<u8>) -> Result<(), BoxDynError> {
        match (self.element, &self.column.values) {
            (Element::Bool, Values::Bool(values)) => write(buffer, &[u8::from(*at(values, row)?)]),
            (Element::Int8, Values::Int(values)) => write(buffer, &at(values, row)?.to_be_bytes()),
            (Element::Float8, Values::Float(values)) => write(buffer, &at(values, row)?.to_be_bytes()),
            (Element::Text, Values::Text(values)) | (Element::Bytea, Values::Bytes(values)) => write(buffer, values.get(row)),
            (Element::Uuid, Values::Uuid(values)) => write(buffer, at(values, row)?),
            (Element::Date, Values::Int(values)) => {
                // The ends of the range mean infinity there: no date may turn into one.
                let days = at(values, row)?.checked_sub(UNIX_TO_2000_DAYS).and_then(|days| i32::try_from(days).ok());
                let days = days.filter(|days| *days != i32::MIN && *days != i32::MAX).ok_or(ArrayError::OutOfRange)?;
                write(buffer, &days.to_be_bytes())
            }
            (Element::Time, Values::Int(values)) => write(buffer, &at(values, row)?.to_be_bytes()),
            (Element::Timestamp | Element::TimestampTz, Values::Int(values)) => {
                let microseconds = at(values, row)?.checked_sub(UNIX_TO_2000_MICROSECONDS).filter(|value| *value != i64::MIN);
                write(buffer, &microseconds.ok_or(ArrayError::OutOfRange)?.to_be_bytes())
            }
            _ => Err(ArrayError::WrongKind.into()),
        }
    }
}

impl Element {
    /// Reads a value in the form in which it is sent. The ends of the range of a time are infinite to PostgreSQL, and stay the ends here.
    pub fn read(self, bytes: &[u8]) -> Option<Version> {
        Some(match self {
            Self::Bool => Version::Bool(*bytes.first()? != 0),
            Self::Int8 | Self::Time => Version::Int(i64::from_be_bytes(bytes.try_into().ok()?)),
            Self::Float8 => Version::Float(f64::from_be_bytes(bytes.try_into().ok()?)),
            Self::Text => Version::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
            Self::Bytea => Version::Bytes(bytes.to_owned()),
            Self::Uuid => Version::Uuid(bytes.try_into().ok()?),
            Self::Date => Version::Int(i64::from(i32::from_be_bytes(bytes.try_into().ok()?)).saturating_add(UNIX_TO_2000_DAYS)),
            Self::Timestamp | Self::TimestampTz => Version::Int(i64::from_be_bytes(bytes.try_into().ok()?).saturating_add(UNIX_TO_2000_MICROSECONDS)),
        })
    }
}

fn at<T>(values: &[T], row: usize) -> Result<&T, ArrayError> {
    values.get(row).ok_or(ArrayError::WrongKind)
}

fn write(buffer: &mut Vec<u8>, value: &[u8]) -> Result<(), BoxDynError> {
    buffer.extend_from_slice(&i32::try_from(value.len())?.to_be_bytes());
    buffer.extend_from_slice(value);
    Ok(())
}
