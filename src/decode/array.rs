//! JSON arrays as PostgreSQL's array literals, each element by the coercions of a column of its type.

use std::borrow::Cow;

use oncesink_sinks::model::Kind;
use serde_json::value::RawValue;

use super::{
    Broken,
    coerce::{Coerced, Rules, coerce_scalar},
    input::Input,
    rule,
};

/// PostgreSQL's own limit.
const MOST_DIMENSIONS: usize = 6;

/// The literal of a JSON array: `{"a",NULL,"b"}`.
pub(super) fn literal(json: &str, element: &Kind, rules: &Rules) -> Result<String, Broken> {
    let mut literal = String::with_capacity(json.len() + 2);
    append(json, element, rules, 1, &mut literal)?;
    Ok(literal)
}

fn append(json: &str, element: &Kind, rules: &Rules, dimension: usize, literal: &mut String) -> Result<(), Broken> {
    if dimension > MOST_DIMENSIONS {
        return Err(Broken::new(rule::OUT_OF_RANGE, "more than 6 dimensions"));
    }
    // Its grammar was checked when the record was read.
    let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(|_| Broken::new(rule::NOT_JSON, "not an array"))?;
    literal.push('{');
    for (index, raw) in elements.iter().enumerate() {
        if index > 0 {
            literal.push(',');
        }
        match Input::from_json(raw.get())? {
            Input::Array(json) => append(json, element, rules, dimension + 1, literal)?,
            Input::Number(_) if *element == Kind::Other => return Err(Broken::new(rule::WRONG_TYPE, "an element that is a number")),
            input => append_scalar(&coerce_scalar(input, element, rules)?, literal),
        }
    }
    literal.push('}');
    Ok(())
}

fn append_scalar(value: &Coerced<'_>, literal: &mut String) {
    let text: Cow<'_, str> = match value {
        Coerced::Null => {
            literal.push_str("NULL");
            return;
        }
        Coerced::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
        Coerced::Int(value) => Cow::Owned(value.to_string()),
        Coerced::Float(value) => Cow::Owned(value.to_string()),
        Coerced::Text(text) => Cow::Borrowed(text),
        Coerced::Bytes(bytes) => Cow::Owned(format!("\\x{}", hexadecimal(bytes))),
        Coerced::Uuid(bytes) => Cow::Owned(hexadecimal(bytes)),
    };
    literal.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            literal.push('\\');
        }
        literal.push(character);
    }
    literal.push('"');
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(element: &Kind, json: &str) -> Result<String, &'static str> {
        literal(json, element, &Rules::default()).map_err(|broken| broken.rule)
    }

    #[test]
    fn elements_follow_the_rules_of_their_type() {
        let (text, integer) = (Kind::Text { max_chars: None }, Kind::Int { bits: 32 });
        assert_eq!(of(&Kind::Int { bits: 64 }, "[1, 2.0, null, \"3\"]").unwrap(), r#"{"1","2",NULL,"3"}"#);
        assert_eq!(of(&text, r#"["a\"b", "c\\d", "NULL", ""]"#).unwrap(), r#"{"a\"b","c\\d","NULL",""}"#);
        assert_eq!(of(&integer, "[[1],[2]]").unwrap(), r#"{{"1"},{"2"}}"#);
        assert_eq!(of(&Kind::Decimal { precision: Some(4), scale: Some(2), exact: true }, "[1.234]"), Err(rule::NOT_EXACT));
        assert_eq!(of(&Kind::Int { bits: 16 }, "[40000]"), Err(rule::OUT_OF_RANGE));
        assert_eq!(of(&Kind::Text { max_chars: Some(2) }, "[\"abc\"]"), Err(rule::TOO_LONG));
        assert_eq!(of(&Kind::Bool, "[1]"), Err(rule::WRONG_TYPE));
        assert_eq!(of(&text, "[{}]"), Err(rule::WRONG_TYPE));
        assert_eq!(of(&Kind::Other, "[1]"), Err(rule::WRONG_TYPE));
        assert_eq!(of(&integer, "[[[[[[[1]]]]]]]"), Err(rule::OUT_OF_RANGE));
        assert_eq!(of(&text, "[]").unwrap(), "{}");
    }
}
