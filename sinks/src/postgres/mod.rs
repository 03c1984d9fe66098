//! PostgreSQL: typed arrays, one statement a shape, and a checkpoint row that is locked first.

mod array;
mod bookkeeping;
mod catalogue;
mod checkpoint;
mod fault;
mod kind;
mod options;
mod server;
mod session;
mod statement;

pub use options::PostgresOptions;
pub use server::Postgres;
