//! What the types of MySQL and MariaDB are to decoding.

use crate::model::{Kind, TableColumn};

/// A column's type as `information_schema` has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeclaredType<'a> {
    /// `varchar`.
    pub name: &'a str,
    /// `varchar(20)`, `int unsigned`, `enum('a','b')`.
    pub whole: &'a str,
    pub max_chars: Option<i64>,
    pub precision: Option<i64>,
    pub scale: Option<i64>,
    /// After the point of a second.
    pub digits: Option<i64>,
}

pub(super) fn kind(declared: DeclaredType<'_>) -> Kind {
    let is_unsigned = declared.whole.contains("unsigned");
    let digits = declared.digits.and_then(|digits| u8::try_from(digits).ok()).unwrap_or(0);
    let max_chars = declared.max_chars.and_then(|chars| u32::try_from(chars).ok());
    match declared.name {
        // What `BOOLEAN` stands for.
        "tinyint" if declared.whole.starts_with("tinyint(1)") && !is_unsigned => Kind::Bool,
        "bit" if declared.precision == Some(1) => Kind::Bool,
        "bit" => Kind::Int { bits: 64 },
        "bigint" if is_unsigned => Kind::Decimal { precision: Some(20), scale: Some(0), exact: true },
        // The server tells what is out of the range of these.
        "tinyint" | "smallint" | "mediumint" | "int" if is_unsigned => Kind::Int { bits: 64 },
        "tinyint" => Kind::Int { bits: 8 },
        "smallint" | "year" => Kind::Int { bits: 16 },
        "mediumint" => Kind::Int { bits: 24 },
        "int" => Kind::Int { bits: 32 },
        "bigint" => Kind::Int { bits: 64 },
        "float" => Kind::Float { bits: 32 },
        "double" => Kind::Float { bits: 64 },
        "decimal" => Kind::Decimal {
            precision: declared.precision.and_then(|precision| u16::try_from(precision).ok()),
            scale: declared.scale.and_then(|scale| i16::try_from(scale).ok()),
            exact: true,
        },
        "char" | "varchar" => Kind::Text { max_chars },
        // Limited in bytes: the server tells.
        "tinytext" | "text" | "mediumtext" | "longtext" => Kind::Text { max_chars: None },
        "binary" | "varbinary" => Kind::Bytes { max_bytes: max_chars },
        "tinyblob" | "blob" | "mediumblob" | "longblob" => Kind::Bytes { max_bytes: None },
        "uuid" => Kind::Uuid,
        "date" => Kind::Date,
        "time" => Kind::Time { digits },
        "datetime" => Kind::Timestamp { digits },
        // An instant, which the server keeps in UTC; our sessions speak UTC.
        "timestamp" => Kind::TimestampTz { digits },
        "json" => Kind::Json,
        "enum" => Kind::Enum { labels: labels(declared.whole) },
        _ => Kind::Other,
    }
}

/// `enum('a','it''s')`
fn labels(whole: &str) -> Vec<String> {
    let inside = whole.split_once('(').map_or("", |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    let mut labels = Vec::new();
    let mut letters = inside.chars().peekable();
    while letters.next_if_eq(&'\'').is_some() {
        let mut label = String::new();
        while let Some(letter) = letters.next() {
            match letter {
                '\'' if letters.next_if_eq(&'\'').is_none() => break,
                letter => label.push(letter),
            }
        }
        labels.push(label);
        let _ = letters.next_if_eq(&',');
    }
    labels
}

/// Whether values of a column are equal to the database exactly if they are as decoded.
pub(super) fn is_equal_by_bytes(column: &TableColumn, collation: Option<&str>) -> bool {
    match &column.kind {
        Kind::Bool | Kind::Int { .. } | Kind::Uuid | Kind::Date | Kind::Enum { .. } => true,
        // Equal numbers are decoded to equal texts.
        Kind::Decimal { exact, .. } => *exact,
        Kind::Time { digits } | Kind::Timestamp { digits } | Kind::TimestampTz { digits } => *digits == 6,
        // A collation folds case and accents, and most of the binary ones ignore spaces at the end; so does `char` by itself.
        Kind::Text { .. } => {
            column.declared.starts_with("varchar") && collation.is_some_and(|name| name.ends_with("_0900_bin") || name.ends_with("_nopad_bin"))
        }
        // `binary(8)` is filled up with zeros.
        Kind::Bytes { .. } => !column.declared.starts_with("binary"),
        Kind::Float { .. } | Kind::Json | Kind::Array { .. } | Kind::Other => false,
    }
}

/// How a value is compared with a column where it is not written to it: a text beside a number would be compared as a float.
pub(super) fn comparand(column: &TableColumn) -> String {
    match &column.kind {
        Kind::Decimal { .. } if column.declared.contains("bigint") => "CAST(? AS UNSIGNED)".to_owned(),
        Kind::Decimal { precision: Some(precision), scale: Some(scale), .. } => format!("CAST(? AS DECIMAL({precision},{scale}))"),
        _ => "?".to_owned(),
    }
}

/// How a value has the type of its column where there is none beside it. None: its type is not one that a value can be cast to and stay equal.
pub(super) fn typed(column: &TableColumn) -> Option<String> {
    Some(match &column.kind {
        Kind::Bool | Kind::Int { .. } => "CAST(? AS SIGNED)".to_owned(),
        Kind::Float { bits: 64 } => "CAST(? AS DOUBLE)".to_owned(),
        Kind::Decimal { .. } => comparand(column),
        Kind::Date => "CAST(? AS DATE)".to_owned(),
        Kind::Timestamp { .. } | Kind::TimestampTz { .. } => "CAST(? AS DATETIME(6))".to_owned(),
        _ => return None,
    })
}

/// A value of a version column as the text that [`crate::version::Version::parse`] reads; a float as itself, which its text may not tell exactly.
pub(super) fn version_text(column: &TableColumn, value: &str) -> String {
    match &column.kind {
        Kind::Bool => format!("CASE WHEN {value} IS NULL THEN NULL WHEN {value} THEN 'true' ELSE 'false' END"),
        // A `bit` is a number only after that.
        Kind::Int { .. } => format!("CAST({value} + 0 AS CHAR)"),
        Kind::Float { .. } => format!("{value} + 0E0"),
        Kind::Bytes { .. } => format!("HEX({value})"),
        Kind::Uuid => format!("CAST({value} AS CHAR(36))"),
        Kind::Date => format!("CONCAT(DATEDIFF({value}, DATE'1970-01-01'), ' days')"),
        // The two servers do not agree on what TIME_TO_SEC makes of a fraction.
        Kind::Time { .. } => {
            let microseconds = format!("(HOUR({value}) * 3600 + MINUTE({value}) * 60 + SECOND({value})) * 1000000 + MICROSECOND({value})");
            format!("CONCAT(IF({value} < 0, -1, 1) * ({microseconds}), ' microseconds')")
        }
        Kind::Timestamp { .. } | Kind::TimestampTz { .. } => {
            format!("CONCAT(TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', {value}), ' microseconds')")
        }
        _ => format!("CONVERT({value} USING utf8mb4)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Generated, Identifier};

    fn of(whole: &str, max_chars: Option<i64>, precision: Option<i64>, scale: Option<i64>, digits: Option<i64>) -> Kind {
        let name = whole.split(['(', ' ']).next().unwrap();
        kind(DeclaredType { name, whole, max_chars, precision, scale, digits })
    }

    #[test]
    fn declared_types_have_kinds() {
        for (whole, expected) in [
            ("tinyint(1)", Kind::Bool),
            ("tinyint(4)", Kind::Int { bits: 8 }),
            ("tinyint unsigned", Kind::Int { bits: 64 }),
            ("int(11)", Kind::Int { bits: 32 }),
            ("bigint", Kind::Int { bits: 64 }),
            ("bigint(20) unsigned", Kind::Decimal { precision: Some(20), scale: Some(0), exact: true }),
            ("longtext", Kind::Text { max_chars: None }),
            ("blob", Kind::Bytes { max_bytes: None }),
            ("date", Kind::Date),
            ("json", Kind::Json),
            ("uuid", Kind::Uuid),
            ("point", Kind::Other),
            ("enum('new','it''s','a,b')", Kind::Enum { labels: vec!["new".to_owned(), "it's".to_owned(), "a,b".to_owned()] }),
            ("enum('')", Kind::Enum { labels: vec![String::new()] }),
        ] {
            assert_eq!(of(whole, None, None, None, None), expected, "{whole}");
        }
        assert_eq!(of("varchar(20)", Some(20), None, None, None), Kind::Text { max_chars: Some(20) });
        assert_eq!(of("decimal(12,2)", None, Some(12), Some(2), None), Kind::Decimal { precision: Some(12), scale: Some(2), exact: true });
        assert_eq!(of("datetime(3)", None, None, None, Some(3)), Kind::Timestamp { digits: 3 });
        assert_eq!(of("timestamp", None, None, None, Some(0)), Kind::TimestampTz { digits: 0 });
    }

    #[test]
    fn keys_that_the_database_may_hold_equal_are_not_compared_by_bytes() {
        let column = |whole: &str| TableColumn {
            name: Identifier::new("k"),
            kind: of(whole, Some(8), None, None, None),
            declared: whole.to_owned(),
            nullable: false,
            has_default: false,
            generated: Generated::No,
        };
        assert!(is_equal_by_bytes(&column("bigint"), None) && is_equal_by_bytes(&column("varbinary(8)"), None));
        assert!(is_equal_by_bytes(&column("varchar(8)"), Some("utf8mb4_0900_bin")) && is_equal_by_bytes(&column("varchar(8)"), Some("utf8mb4_nopad_bin")));
        for collation in ["utf8mb4_0900_ai_ci", "utf8mb4_bin", "utf8mb4_0900_as_cs"] {
            assert!(!is_equal_by_bytes(&column("varchar(8)"), Some(collation)), "{collation}");
        }
        assert!(!is_equal_by_bytes(&column("char(8)"), Some("utf8mb4_0900_bin")) && !is_equal_by_bytes(&column("binary(8)"), None));
    }
}
