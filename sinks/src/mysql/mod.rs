//! MySQL and MariaDB: one executor, two dialects, told apart by what the server says of itself. Rows in statements of many.

mod bookkeeping;
mod catalogue;
mod checkpoint;
mod database;
mod fault;
mod flavour;
mod kind;
mod options;
mod processed_events;
mod rows;
mod session;
mod statement;
mod tombstones;
mod value;

pub use database::MySql;
pub use options::MySqlOptions;
