//! The key of a row by itself: it outlives its batch, and is kept as text. Pure.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_128;

use crate::{model::Rows, version::Version};

/// As long as every database takes it in the key of a table, beside the names of pipeline and table.
const MOST_BYTES: usize = 255;

/// The key of a row as text, `{"id":"42"}`, the same for every process and every database. A longer one is known by its hash.
///
/// With the names of its columns, and sorted by them: routes may write one table by different keys, and a constraint that is made again
/// may list its columns in another order.
pub(crate) fn row_key(rows: &Rows, row: u32) -> String {
    let mut text = String::with_capacity(24);
    text.push('{');
    let mut key: Vec<usize> = rows.target.key.to_vec();
    key.sort_unstable_by(|left, right| rows.target.column(*left).name.cmp(&rows.target.column(*right).name));
    for (index, position) in key.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        quote(&mut text, rows.target.column(*position).name.as_str());
        text.push(':');
        match rows.columns.get(*position).and_then(|column| Version::of(column.cell(row as usize))) {
            Some(Version::Int(value)) => {
                // Writing to memory cannot fail.
                let _ = write!(text, "\"{value}\"");
            }
            // Zero has two signs.
            Some(Version::Float(value)) => quote(&mut text, &format!("{:?}", value + 0.0)),
            Some(value) => quote(&mut text, &value.text(&rows.target.column(*position).kind)),
            None => text.push_str("null"),
        }
    }
    text.push('}');
    if text.len() > MOST_BYTES {
        // A hash that somebody makes two keys for on purpose does him no good: whoever writes such records can delete any key.
        return format!("xxh3:{:032x}", xxh3_128(text.as_bytes()));
    }
    text
}

/// A JSON string.
fn quote(text: &mut String, value: &str) {
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            letter if u32::from(letter) < 0x20 => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Kind, Operation, Presence, Values, WriteMode,
        sample::{self, column},
    };

    #[test]
    fn a_key_is_one_text() {
        let columns = vec![column("a\"b", Kind::Text { max_chars: None }, "text", false), column("n", Kind::Float { bits: 64 }, "double precision", false)];
        let mut target = sample::target("t", columns, WriteMode::Upsert);
        target.key = vec![1, 0];
        let mut rows = Rows::new(Arc::new(target));
        for (row, (text, number)) in [("x\\\n", -0.0), ("\",\"n\":\"0.0", 0.5), (&"x".repeat(300), 1.0), (&"y".repeat(300), 1.0)].into_iter().enumerate() {
            let Values::Text(texts) = &mut rows.columns[0].values else { panic!() };
            texts.push(text.as_bytes());
            let Values::Float(numbers) = &mut rows.columns[1].values else { panic!() };
            numbers.push(number);
            rows.columns.iter_mut().for_each(|column| column.presence.push(Presence::Value));
            rows.finish_row(row as u32, Operation::Write);
        }
        assert_eq!(row_key(&rows, 0), r#"{"a\"b":"x\\\u000a","n":"0.0"}"#);
        assert_eq!(row_key(&rows, 1), r#"{"a\"b":"\",\"n\":\"0.0","n":"0.5"}"#);
        assert!(row_key(&rows, 2).starts_with("xxh3:") && row_key(&rows, 2).len() == 37 && row_key(&rows, 2) != row_key(&rows, 3));
    }
}
