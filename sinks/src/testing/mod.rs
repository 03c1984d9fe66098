//! The contract of a sink, for those who write one of their own.
//!
//! A sink keeps oncesink's promise only if its batches are fenced, applied together with their checkpoint, and known again after a lost
//! reply. [`run`] asks all of that, as it is asked of PostgreSQL, MySQL, MariaDB and SQLite, and beyond it whatever [`Feature`]s the sink
//! declares. A check of a feature that is not declared is reported as left out.
//!
//! Somebody who writes a sink implements two small traits, and asks for the report:
//!
//! ```
//! use async_trait::async_trait;
//! use oncesink_sinks::testing::{Feature, Fixture, FixtureError, MemorySink, Place, TableLayout, run};
//!
//! #[derive(Debug)]
//! struct InMemory;
//!
//! #[async_trait]
//! impl Fixture for InMemory {
//!     fn features(&self) -> Vec<Feature> {
//!         vec![Feature::Append, Feature::Upsert, Feature::Versions]
//!     }
//!
//!     async fn fresh(&self, layout: &TableLayout) -> Result<Box<dyn Place>, FixtureError> {
//!         // An own sink makes an empty table here. A `Place` opens it as one more process would, and reads the rows beside it.
//!         Ok(Box::new(MemorySink::with_table(layout.clone())))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let report = run(&InMemory).await;
//! assert!(report.is_kept(), "{report}");
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | `fixture` | what the author implements: [`Fixture`], [`Place`] |
//! | `feature`, `layout` | what a sink can do; the tables of the checks, and their values |
//! | `contract` | [`run`], [`Check`], [`Report`] |
//! | `checks` | the rules, by what they are about |
//! | `memory` | [`MemorySink`], with every feature, and wrong on request |

mod broken;
mod checks;
mod contract;
mod feature;
mod fixture;
mod layout;
mod memory;
#[cfg(test)]
mod tests;
mod trial;
mod worker;

use self::broken::Broken;
pub use self::{
    contract::{Check, Outcome, Report, checks, run},
    feature::Feature,
    fixture::{Fixture, FixtureError, Place, Process},
    layout::{ColumnLayout, ColumnType, TableLayout, Value},
    memory::{JournalEntry, MemorySink, Mistake},
};
