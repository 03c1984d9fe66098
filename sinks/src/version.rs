//! The version of a row or of a delete by itself: it outlives its batch, and is kept as text. Pure.

use std::fmt::Write as _;

use crate::{
    as_text,
    model::{Cell, Kind},
};

/// A value of a version column. No version is `None` of an [`Option`], as NULL and absent are one to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Version {
    Bool(bool),
    /// As [`crate::model::Values::Int`] holds dates and times.
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Uuid([u8; 16]),
}

/// What the text of a date, and of a time, ends with: one is never read as the other, nor as a number, if the column's type was changed.
const DAYS: &str = " days";
const MICROSECONDS: &str = " microseconds";

impl Version {
    #[must_use]
    pub fn of(cell: Cell<'_>) -> Option<Self> {
        Some(match cell {
            Cell::Absent | Cell::Null => return None,
            Cell::Bool(value) => Self::Bool(value),
            Cell::Int(value) => Self::Int(value),
            Cell::Float(value) => Self::Float(value),
            Cell::Text(value) => Self::Text(value.to_owned()),
            Cell::Bytes(value) => Self::Bytes(value.to_owned()),
            Cell::Uuid(value) => Self::Uuid(value),
        })
    }

    #[must_use]
    pub fn cell(&self) -> Cell<'_> {
        match self {
            Self::Bool(value) => Cell::Bool(*value),
            Self::Int(value) => Cell::Int(*value),
            Self::Float(value) => Cell::Float(*value),
            Self::Text(value) => Cell::Text(value),
            Self::Bytes(value) => Cell::Bytes(value),
            Self::Uuid(value) => Cell::Uuid(*value),
        }
    }

    /// The text that [`Self::parse`] reads back exactly.
    #[must_use]
    pub fn text(&self, kind: &Kind) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => format!("{value}{}", unit(kind)),
            // The shortest that is read back as the same number.
            Self::Float(value) => format!("{value:?}"),
            Self::Text(value) => value.clone(),
            Self::Bytes(value) => value.iter().fold(String::with_capacity(2 * value.len()), |mut text, byte| {
                // Writing to memory cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            }),
            Self::Uuid(value) => as_text::uuid(*value),
        }
    }

    /// Reads the text of a version of a column of this kind. None: it was written when the column had another type.
    #[must_use]
    pub fn parse(text: &str, kind: &Kind) -> Option<Self> {
        match kind {
            Kind::Bool => text.parse().ok().map(Self::Bool),
            Kind::Int { .. } | Kind::Date | Kind::Time { .. } | Kind::Timestamp { .. } | Kind::TimestampTz { .. } => {
                text.strip_suffix(unit(kind))?.parse().ok().map(Self::Int)
            }
            Kind::Float { .. } => text.parse().ok().map(Self::Float),
            Kind::Bytes { .. } => bytes(text).map(Self::Bytes),
            Kind::Uuid => as_text::parse_uuid(text).map(Self::Uuid),
            Kind::Text { .. } | Kind::Decimal { .. } | Kind::Json | Kind::Enum { .. } | Kind::Array { .. } | Kind::Other => Some(Self::Text(text.to_owned())),
        }
    }
}

/// A version, or NULL, as compaction compares it.
#[must_use]
pub fn cell_of(version: Option<&Version>) -> Cell<'_> {
    version.map_or(Cell::Null, Version::cell)
}

const fn unit(kind: &Kind) -> &'static str {
    match kind {
        Kind::Date => DAYS,
        Kind::Time { .. } | Kind::Timestamp { .. } | Kind::TimestampTz { .. } => MICROSECONDS,
        _ => "",
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads_back(version: &Version, kind: &Kind) {
        assert_eq!(Version::parse(&version.text(kind), kind).as_ref(), Some(version), "{kind:?}");
    }

    #[test]
    fn a_version_is_not_read_as_one_of_another_type() {
        let timestamp = Version::Int(1_700_000_000_000_000).text(&Kind::TimestampTz { digits: 6 });
        assert_eq!(timestamp, "1700000000000000 microseconds");
        assert_eq!(Version::parse(&timestamp, &Kind::Int { bits: 64 }), None);
        assert_eq!(Version::parse(&timestamp, &Kind::Date), None);
        assert_eq!(Version::parse("7", &Kind::Timestamp { digits: 6 }), None);
        assert_eq!(Version::parse("é", &Kind::Bytes { max_bytes: None }), None);
        assert_eq!(Version::parse("7", &Kind::Bool), None);
    }

    proptest! {
        #[test]
        fn every_version_reads_back(int: i64, float in any::<f64>().prop_filter("a number", |float| !float.is_nan()), text: String, raw: Vec<u8>, uuid: [u8; 16], flag: bool) {
            for kind in [Kind::Int { bits: 64 }, Kind::Date, Kind::Time { digits: 6 }, Kind::Timestamp { digits: 3 }, Kind::TimestampTz { digits: 6 }] {
                reads_back(&Version::Int(int), &kind);
            }
            reads_back(&Version::Float(float), &Kind::Float { bits: 64 });
            reads_back(&Version::Text(text), &Kind::Text { max_chars: None });
            reads_back(&Version::Bytes(raw), &Kind::Bytes { max_bytes: None });
            reads_back(&Version::Uuid(uuid), &Kind::Uuid);
            reads_back(&Version::Bool(flag), &Kind::Bool);
        }

        #[test]
        fn no_text_panics(text: String) {
            for kind in [Kind::Bool, Kind::Int { bits: 64 }, Kind::Date, Kind::Float { bits: 64 }, Kind::Bytes { max_bytes: None }, Kind::Uuid] {
                let _ = Version::parse(&text, &kind);
            }
        }
    }
}
