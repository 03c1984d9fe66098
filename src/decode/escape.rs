//! Escapes in JSON strings.

use std::borrow::Cow;

use super::{Broken, rule};

/// The text of a JSON string that was read before, quotes included.
pub(super) fn unescape(quoted: &str) -> Result<Cow<'_, str>, Broken> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    if !inner.as_bytes().contains(&b'\\') {
        return Ok(Cow::Borrowed(inner));
    }
    // The grammar of the escapes was checked when the record was read: what is left is half of a surrogate pair.
    serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| half_a_pair())
}

/// Checks the strings inside a JSON document that goes to the database as it is: databases refuse what JSON's grammar lets pass.
pub(super) fn check_document(document: &str) -> Result<(), Broken> {
    let bytes = document.as_bytes();
    let mut from = 0;
    let mut expect_low = false;
    while let Some(found) = bytes.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        if expect_low && found != 0 {
            return Err(half_a_pair());
        }
        let at = from + found;
        if bytes.get(at + 1) != Some(&b'u') {
            if expect_low {
                return Err(half_a_pair());
            }
            from = at + 2;
            continue;
        }
        let unit = document.get(at + 2..at + 6).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        match (unit, expect_low) {
            (Some(0xDC00..=0xDFFF), true) => expect_low = false,
            (Some(0xDC00..=0xDFFF) | None, false) | (_, true) => return Err(half_a_pair()),
            (Some(0xD800..=0xDBFF), false) => expect_low = true,
            (Some(0), false) => return Err(nul()),
            (Some(_), false) => {}
        }
        from = at + 6;
    }
    if expect_low { Err(half_a_pair()) } else { Ok(()) }
}

/// Checks a text that goes to a text column.
pub(super) fn check_text(text: &str) -> Result<(), Broken> {
    if text.as_bytes().contains(&0) { Err(nul()) } else { Ok(()) }
}

fn nul() -> Broken {
    Broken::new(rule::NUL_IN_TEXT, "the character U+0000, which PostgreSQL does not store")
}

fn half_a_pair() -> Broken {
    Broken::new(rule::INVALID_ESCAPE, "an escape that is half of a surrogate pair")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_of_pairs_and_nul_are_found() {
        for (document, expected) in [
            (r#"{"a":"\ud83d\ude00 \\u0000 \n"}"#, None),
            (r#"["\ud83d"]"#, Some(rule::INVALID_ESCAPE)),
            (r#"["\ud83d x \ude00"]"#, Some(rule::INVALID_ESCAPE)),
            (r#"["\ud83d\n"]"#, Some(rule::INVALID_ESCAPE)),
            (r#"["\ude00"]"#, Some(rule::INVALID_ESCAPE)),
            (r#"["\ud83d\u0041"]"#, Some(rule::INVALID_ESCAPE)),
            (r#"["a\u0000"]"#, Some(rule::NUL_IN_TEXT)),
        ] {
            assert_eq!(check_document(document).err().map(|broken| broken.rule), expected, "{document}");
        }
    }

    proptest! {
        /// serde_json is the model.
        #[test]
        fn a_document_is_judged_as_its_string_is(units in proptest::collection::vec(prop_oneof![0xD7FE_u16..0xE001, 1_u16..128], 0..6)) {
            let quoted = format!("\"{}\"", units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>());
            prop_assert_eq!(check_document(&quoted).is_ok(), serde_json::from_str::<String>(&quoted).is_ok());
            prop_assert_eq!(unescape(&quoted).is_ok(), serde_json::from_str::<String>(&quoted).is_ok());
        }
    }
}
