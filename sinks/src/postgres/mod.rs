//! PostgreSQL: typed arrays, one statement a shape, and a checkpoint row that is locked first.

mod array;
mod bookkeeping;
mod catalogue;
mod checkpoint;
mod database;
mod fault;
mod kind;
mod options;
mod pooler;
mod processed_events;
mod session;
mod statement;
mod tombstones;

pub use database::Postgres;
pub use options::PostgresOptions;
