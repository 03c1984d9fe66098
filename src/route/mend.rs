//! What would make room for a record that does not fit its column.

use oncesink_sinks::model::{Kind, Target};

use crate::decode::{Bad, rule};

/// The statement that widens the column, where a wider type of the same kind takes the value; nothing is promised to take it.
#[must_use]
pub fn widening(target: &Target, bad: &Bad) -> Option<String> {
    if bad.rule != rule::OUT_OF_RANGE && bad.rule != rule::TOO_LONG {
        return None;
    }
    let column = target.table.columns.iter().find(|column| Some(column.name.as_str()) == bad.column.as_deref())?;
    let wider = match &column.kind {
        Kind::Int { bits } if *bits < 64 => "bigint".to_owned(),
        Kind::Decimal { precision: Some(precision), scale: Some(scale), exact: true } => format!("numeric({},{scale})", precision + 4),
        Kind::Text { max_chars: Some(_) } => "text".to_owned(),
        _ => return None,
    };
    Some(format!("ALTER TABLE {} ALTER COLUMN {} TYPE {wider};", target.table.name, column.name))
}
