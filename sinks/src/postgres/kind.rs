//! What PostgreSQL's types are to decoding, and what a text is cast to.

use crate::model::{Kind, TableColumn};

/// Kind of a base type by its name in the catalogue. `modifier` is its `atttypmod`, -1 where it has none.
pub(super) fn kind(type_name: &str, in_catalogue: bool, type_kind: &str, modifier: i32, labels: Vec<String>) -> Kind {
    let length = u32::try_from(modifier - 4).ok().filter(|_| modifier >= 4);
    match (type_kind, type_name) {
        ("e", _) => Kind::Enum { labels },
        // `citext` is an extension's; a text is assigned to it as to text.
        ("b", "citext") => Kind::Text { max_chars: None },
        ("b", name) if in_catalogue => match name {
            "bool" => Kind::Bool,
            "int2" => Kind::Int { bits: 16 },
            "int4" => Kind::Int { bits: 32 },
            "int8" => Kind::Int { bits: 64 },
            "float4" => Kind::Float { bits: 32 },
            "float8" => Kind::Float { bits: 64 },
            "numeric" => decimal(modifier),
            "text" => Kind::Text { max_chars: None },
            "varchar" | "bpchar" => Kind::Text { max_chars: length },
            "char" => Kind::Text { max_chars: Some(1) },
            "name" => Kind::Text { max_chars: Some(63) },
            "bytea" => Kind::Bytes { max_bytes: None },
            "uuid" => Kind::Uuid,
            "date" => Kind::Date,
            "time" => Kind::Time { digits: digits(modifier) },
            "timestamp" => Kind::Timestamp { digits: digits(modifier) },
            "timestamptz" => Kind::TimestampTz { digits: digits(modifier) },
            "json" | "jsonb" => Kind::Json,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

/// Kind of an array by its type as printed; None: it is no array.
pub(super) fn array(declared: &str) -> Option<Kind> {
    declared.strip_suffix("[]").map(|element| Kind::Array { element: Box::new(element_kind(element)) })
}

/// The kind of the elements of `declared[]`. A type that is not known here takes strings, which the database reads.
fn element_kind(declared: &str) -> Kind {
    let (name, arguments) = match declared.split_once('(') {
        Some((name, arguments)) => (name.trim(), arguments.trim_end_matches(')')),
        None => (declared, ""),
    };
    let mut arguments = arguments.split(',').map(|argument| argument.trim().parse::<i32>().ok());
    let mut argument = || arguments.next().flatten();
    match name {
        "boolean" => Kind::Bool,
        "smallint" => Kind::Int { bits: 16 },
        "integer" => Kind::Int { bits: 32 },
        "bigint" => Kind::Int { bits: 64 },
        "real" => Kind::Float { bits: 32 },
        "double precision" => Kind::Float { bits: 64 },
        "numeric" => {
            let precision = argument().and_then(|precision| u16::try_from(precision).ok());
            let scale = argument().and_then(|scale| i16::try_from(scale).ok());
            Kind::Decimal { precision, scale: precision.map(|_| scale.unwrap_or(0)), exact: true }
        }
        "text" => Kind::Text { max_chars: None },
        "character varying" | "character" => Kind::Text { max_chars: argument().and_then(|chars| u32::try_from(chars).ok()) },
        "uuid" => Kind::Uuid,
        "bytea" => Kind::Bytes { max_bytes: None },
        _ => Kind::Other,
    }
}

/// Whether values of a column are equal to the database exactly if they are as decoded. A collation is not looked at here.
pub(super) fn is_equal_by_bytes(column: &TableColumn) -> bool {
    match &column.kind {
        Kind::Bool | Kind::Int { .. } | Kind::Bytes { .. } | Kind::Uuid | Kind::Date | Kind::Enum { .. } => true,
        // Equal numbers are decoded to equal texts.
        Kind::Decimal { exact, .. } => *exact,
        // `timestamp(3)` rounds on assignment.
        Kind::Time { digits } | Kind::Timestamp { digits } | Kind::TimestampTz { digits } => *digits == MOST_DIGITS,
        // The other texts fold case (`citext`), ignore spaces at the end (`character`) or cut off bytes (`name`, `"char"`).
        Kind::Text { .. } => column.declared == "text" || column.declared.starts_with("character varying"),
        // Zero has two signs, a jsonb many spellings, and `inet` or `interval` are read by the database.
        Kind::Float { .. } | Kind::Json | Kind::Array { .. } | Kind::Other => false,
    }
}

/// What a time keeps without a `(3)` or the like.
const MOST_DIGITS: u8 = 6;

fn digits(modifier: i32) -> u8 {
    u8::try_from(modifier).map_or(MOST_DIGITS, |digits| digits.min(MOST_DIGITS))
}

/// The scale is eleven bits with a sign since PostgreSQL 15, and never reaches the sign bit before.
fn decimal(modifier: i32) -> Kind {
    if modifier < 4 {
        return Kind::Decimal { precision: None, scale: None, exact: true };
    }
    let packed = modifier - 4;
    let scale = ((packed & 0x7ff) ^ 0x400) - 0x400;
    Kind::Decimal { precision: u16::try_from((packed >> 16) & 0xffff).ok(), scale: i16::try_from(scale).ok(), exact: true }
}

/// The type of a cast: as declared, without its length. A cast to a type with a length cuts off silently; the assignment after it does not.
pub(super) fn cast(declared: &str) -> String {
    let mut bare = String::with_capacity(declared.len());
    let (mut in_quotes, mut in_length) = (false, false);
    for letter in declared.chars() {
        match letter {
            '"' => in_quotes = !in_quotes,
            '(' if !in_quotes => in_length = true,
            _ => {}
        }
        if !in_length {
            bare.push(letter);
        }
        if letter == ')' && !in_quotes {
            in_length = false;
        }
    }
    // Without a length these two names mean a length of 1.
    let (base, array) = bare.split_at(bare.find('[').unwrap_or(bare.len()));
    match base {
        "character" => format!("bpchar{array}"),
        "bit" => format!("\"bit\"{array}"),
        _ => bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Generated, Identifier};

    #[test]
    fn a_cast_has_no_length() {
        for (declared, expected) in [
            ("numeric(12,2)", "numeric"),
            ("character varying(10)", "character varying"),
            ("character(5)", "bpchar"),
            ("character(5)[]", "bpchar[]"),
            ("bit(8)", "\"bit\""),
            ("bit varying(8)", "bit varying"),
            ("timestamp(3) with time zone", "timestamp with time zone"),
            ("\"odd(name\"", "\"odd(name\""),
            ("\"s\".\"a\"\"(b\"(3)", "\"s\".\"a\"\"(b\""),
            ("integer[]", "integer[]"),
        ] {
            assert_eq!(cast(declared), expected);
        }
    }

    #[test]
    fn keys_that_the_database_may_hold_equal_are_not_compared_by_bytes() {
        let column = |type_name: &str, in_catalogue: bool, modifier: i32, declared: &str| TableColumn {
            name: Identifier::new("k"),
            kind: kind(type_name, in_catalogue, "b", modifier, vec![]),
            declared: declared.to_owned(),
            nullable: false,
            has_default: false,
            generated: Generated::No,
        };
        for (type_name, declared) in [("int8", "bigint"), ("text", "text"), ("varchar", "character varying(10)"), ("numeric", "numeric"), ("uuid", "uuid")] {
            assert!(is_equal_by_bytes(&column(type_name, true, -1, declared)), "{declared}");
        }
        assert!(is_equal_by_bytes(&column("timestamptz", true, -1, "timestamp with time zone")));
        assert!(!is_equal_by_bytes(&column("citext", false, -1, "citext")) && !is_equal_by_bytes(&column("citext", false, -1, "extensions.citext")));
        for (type_name, modifier, declared) in [
            ("bpchar", 9, "character(5)"),
            ("bpchar", -1, "bpchar"),
            ("char", -1, "\"char\""),
            ("name", -1, "name"),
            ("timestamp", 3, "timestamp(3) without time zone"),
            ("time", 0, "time(0) without time zone"),
            ("timestamptz", 3, "timestamp(3) with time zone"),
            ("float8", -1, "double precision"),
            ("jsonb", -1, "jsonb"),
            ("inet", -1, "inet"),
            ("interval", -1, "interval"),
        ] {
            assert!(!is_equal_by_bytes(&column(type_name, true, modifier, declared)), "{declared}");
        }
    }

    #[test]
    fn limits_are_read_from_the_modifier() {
        assert_eq!(kind("numeric", true, "b", ((12 << 16) | 2) + 4, vec![]), Kind::Decimal { precision: Some(12), scale: Some(2), exact: true });
        assert_eq!(kind("numeric", true, "b", ((5 << 16) | 0x7fd) + 4, vec![]), Kind::Decimal { precision: Some(5), scale: Some(-3), exact: true });
        assert_eq!(kind("varchar", true, "b", 14, vec![]), Kind::Text { max_chars: Some(10) });
        assert_eq!(kind("text", true, "b", -1, vec![]), Kind::Text { max_chars: None });
        assert_eq!(kind("time", true, "b", -1, vec![]), Kind::Time { digits: 6 });
        assert_eq!(kind("timestamp", true, "b", 0, vec![]), Kind::Timestamp { digits: 0 });
        assert_eq!(kind("timestamptz", true, "b", 3, vec![]), Kind::TimestampTz { digits: 3 });
        assert_eq!(kind("text", false, "b", -1, vec![]), Kind::Other, "somebody's own type of that name");
    }

    #[test]
    fn elements_have_the_kind_of_a_column_of_their_type() {
        for (declared, expected) in [
            ("integer[]", Kind::Int { bits: 32 }),
            ("numeric(4,2)[]", Kind::Decimal { precision: Some(4), scale: Some(2), exact: true }),
            ("numeric[]", Kind::Decimal { precision: None, scale: None, exact: true }),
            ("character varying(2)[]", Kind::Text { max_chars: Some(2) }),
            ("bytea[]", Kind::Bytes { max_bytes: None }),
            ("inet[]", Kind::Other),
            ("app.mood[]", Kind::Other),
        ] {
            assert_eq!(array(declared), Some(Kind::Array { element: Box::new(expected) }), "{declared}");
        }
        assert_eq!(array("integer"), None);
    }
}
