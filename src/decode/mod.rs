//! Bytes of a record straight into column arrays of the target's types.
//!
//! A record that cannot be decoded is [`Bad`]: it names column and rule, never the value. The closed table of what goes into which
//! column is docs/types.md.

use std::{borrow::Cow, fmt, sync::Arc};

use oncesink_sinks::model::{Rows, TableColumn};

use crate::source::RecordRef;

mod array;
mod coerce;
mod escape;
mod event_id;
mod fields;
mod input;
mod json;
mod key;
mod number;
mod options;
mod row;
pub mod rule;
#[cfg(test)]
mod tests;
mod time;

pub(crate) use coerce::{CellType, Rules};
pub use event_id::EventIdSource;
pub(crate) use fields::{FieldMatch, Fields};
pub(crate) use json::field_names;
pub use options::{ExtraFields, Format, KeyFormat, MissingFields, TimestampUnit, Tombstone};
pub(crate) use row::{CellSource, RowDecoder, RowOptions, fields_of, printable};
pub(crate) use time::Zone;

/// What decoding made of a record for one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// One row was added to the rows (a write or a delete).
    Row,
    /// Nothing of it concerns the route.
    Filtered,
}

/// A record that cannot be applied, whatever the world does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The rule that it breaks, from the closed list in docs/types.md: `out-of-range`, `not-utf8`, `tombstone-without-key`, …
    pub rule: &'static str,
    pub column: Option<Arc<str>>,
    /// More about the rule, after the column's type where a column is named; never a value of the record.
    pub detail: Cow<'static, str>,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "{} in column {column} {}", self.rule, self.detail),
            None => write!(f, "{}: {}", self.rule, self.detail),
        }
    }
}

/// Decodes the records of one topic for one route. It may keep what it learns of field names.
pub trait Decode: fmt::Debug + Send {
    /// Adds at most one row for `record` to `rows`, whose target it was made for, under the index `number`.
    /// On `Err` the rows are as they were.
    ///
    /// # Errors
    /// [`Bad`], if the record breaks a rule of docs/types.md.
    fn decode(&mut self, record: &RecordRef<'_>, number: u32, rows: &mut Rows) -> Result<Decoded, Bad>;
}

/// A broken rule, before it is known in which column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) rule: &'static str,
    pub(crate) detail: Cow<'static, str>,
}

impl Broken {
    fn new(rule: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { rule, detail: detail.into() }
    }

    fn in_column(self, column: &TableColumn) -> Bad {
        Bad { rule: self.rule, column: Some(column.name.0.clone()), detail: Cow::Owned(format!("{}: {}", column.declared, self.detail)) }
    }
}

/// Outside any column.
impl From<Broken> for Bad {
    fn from(broken: Broken) -> Self {
        Self { rule: broken.rule, column: None, detail: broken.detail }
    }
}
