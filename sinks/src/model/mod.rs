//! The vocabulary of both halves. No Kafka types, only Kafka's words.

mod batch;
mod claim;
mod column;
mod dedup;
mod offset;
mod partition;
mod rows;
#[cfg(test)]
pub(crate) mod sample;
mod table;

pub use batch::{Batch, BatchId, Content, LeftOut, LeftOutBecause, RecordMark, Split};
pub use claim::{Claim, ClaimId, Delivery, Epoch, LastRecord, Span};
pub use column::{Cell, Column, Presence, Strings, Values};
pub use dedup::{DedupBackend, EventIdKind};
pub use offset::NextOffset;
pub use partition::{Coordinate, ParseCoordinateError, Partition};
pub use rows::{Operation, Rows, Shape};
pub use table::{Generated, Identifier, KeyEquality, Kind, Rule, Table, TableColumn, TableName, Target, UniqueKey, WriteMode};
