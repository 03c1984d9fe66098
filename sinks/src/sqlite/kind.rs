//! What SQLite's declared types are to decoding. SQLite itself knows five affinities; the names beyond them are a convention.

use crate::model::{Kind, TableColumn};

/// How SQLite changes a value that is stored in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    /// Turns a text that reads as a number into one.
    Numeric,
}

/// SQLite's own rule, in its order. In a STRICT table the few names allowed mean the same, and `ANY` keeps everything.
pub(super) fn affinity(declared: &str, strict: bool) -> Affinity {
    let name = declared.to_ascii_uppercase();
    let has = |part: &str| name.contains(part);
    if strict && name == "ANY" {
        Affinity::Blob
    } else if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || name.is_empty() {
        Affinity::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// Whether values of a column are equal to SQLite exactly if they are as decoded. A collation is not looked at here.
pub(super) fn is_equal_by_bytes(column: &TableColumn) -> bool {
    match &column.kind {
        Kind::Bool | Kind::Int { .. } | Kind::Text { .. } | Kind::Bytes { .. } | Kind::Uuid => true,
        Kind::Date | Kind::Time { .. } | Kind::Timestamp { .. } | Kind::TimestampTz { .. } | Kind::Enum { .. } => true,
        Kind::Decimal { exact, .. } => *exact,
        // Zero has two signs, and what reads as a number may be stored as one.
        Kind::Float { .. } | Kind::Json | Kind::Array { .. } | Kind::Other => false,
    }
}

/// A time is a text of our own, which keeps microseconds whatever is declared.
const DIGITS: u8 = 6;

pub(super) fn kind(declared: &str, strict: bool) -> Kind {
    let upper = declared.to_ascii_uppercase();
    let (name, limits) = upper.split_once('(').unwrap_or((&upper, ""));
    match (affinity(declared, strict), name.trim()) {
        (Affinity::Integer, _) => Kind::Int { bits: 64 },
        // SQLite does not hold a text to its declared length.
        (Affinity::Text, _) => Kind::Text { max_chars: None },
        (Affinity::Real, _) => Kind::Float { bits: 64 },
        (Affinity::Blob, name) if name.contains("BLOB") => Kind::Bytes { max_bytes: None },
        (Affinity::Blob, _) => Kind::Other,
        (Affinity::Numeric, "BOOL" | "BOOLEAN") => Kind::Bool,
        (Affinity::Numeric, "DATE") => Kind::Date,
        (Affinity::Numeric, "TIME") => Kind::Time { digits: DIGITS },
        // An instant, stored in UTC: that is what SQLite's own functions take a text with Z for.
        (Affinity::Numeric, "DATETIME" | "TIMESTAMP" | "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE") => Kind::TimestampTz { digits: DIGITS },
        (Affinity::Numeric, "TIMESTAMP WITHOUT TIME ZONE") => Kind::Timestamp { digits: DIGITS },
        (Affinity::Numeric, "JSON" | "JSONB") => Kind::Json,
        (Affinity::Numeric, "UUID") => Kind::Uuid,
        (Affinity::Numeric, _) => {
            let mut numbers = limits.trim_end_matches(')').split(',').map(str::trim);
            let precision = numbers.next().and_then(|number| number.parse().ok());
            let scale = numbers.next().and_then(|number| number.parse().ok());
            Kind::Decimal { precision, scale: scale.or_else(|| precision.map(|_| 0)), exact: false }
        }
    }
}

/// The name is one that SQLite takes for a number's although nobody would.
pub(super) fn is_numeric_by_surprise(declared: &str, strict: bool) -> bool {
    let name = declared.to_ascii_uppercase();
    let meant = ["NUM", "DEC", "MONEY", "FIXED"];
    matches!(kind(declared, strict), Kind::Decimal { .. }) && !meant.iter().any(|meant| name.contains(meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_have_kinds() {
        for (declared, expected) in [
            ("INTEGER", Kind::Int { bits: 64 }),
            ("bigint", Kind::Int { bits: 64 }),
            ("VARCHAR(10)", Kind::Text { max_chars: None }),
            ("DOUBLE PRECISION", Kind::Float { bits: 64 }),
            ("BLOB", Kind::Bytes { max_bytes: None }),
            ("", Kind::Other),
            ("BOOLEAN", Kind::Bool),
            ("DATE", Kind::Date),
            ("DATETIME", Kind::TimestampTz { digits: 6 }),
            ("TIMESTAMP(3)", Kind::TimestampTz { digits: 6 }),
            ("JSONB", Kind::Json),
            ("UUID", Kind::Uuid),
            ("DECIMAL(12,2)", Kind::Decimal { precision: Some(12), scale: Some(2), exact: false }),
            ("NUMERIC", Kind::Decimal { precision: None, scale: None, exact: false }),
        ] {
            assert_eq!(kind(declared, false), expected, "{declared}");
        }
        assert_eq!(kind("ANY", true), Kind::Other);
        assert!(is_numeric_by_surprise("STRING", false) && !is_numeric_by_surprise("DECIMAL(3)", false) && !is_numeric_by_surprise("TEXT", false));
    }
}
