//! Both databases, for real: SQLite files in a temporary directory, and the PostgreSQL server that ONCESINK_TEST_POSTGRES names
//! (the URL of a superuser; each test makes its own database there and drops it).

mod bookkeeping;
mod catalogue;
mod contract;
mod faults;
mod types;
mod world;
