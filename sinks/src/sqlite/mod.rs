//! SQLite: one writer at a time, rows in statements of many, types kept by what is bound to each affinity.

mod bookkeeping;
mod catalogue;
mod checkpoint;
mod database;
mod fault;
mod kind;
mod options;
mod processed_events;
mod same_file;
mod session;
mod statement;
mod tombstones;
mod value;

pub use database::Sqlite;
pub use options::SqliteOptions;
