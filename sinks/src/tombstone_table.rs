//! What one database does with tombstones. What they mean is decided in [`crate::tombstones`], the order of the steps in
//! [`crate::transaction`].

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{fault::Fault, session::Step, version::Version};

/// The tombstones of one table in one pipeline.
#[derive(Clone, Copy, Debug)]
pub struct TombstonesOf<'a> {
    pub pipeline: &'a str,
    pub table: &'a str,
}

/// A tombstone as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTombstone {
    pub key: String,
    /// None: the delete had no version, and neither had what it deleted.
    pub version: Option<String>,
    /// The column that it is a version of.
    pub version_column: String,
    /// The record that deleted, `orders:3@88211`.
    pub deleted_by: String,
}

/// How long others are kept away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// Others may hold it like this, too: writes only compare themselves with tombstones.
    Shared,
    /// Nobody else holds it: deletes leave tombstones.
    Exclusive,
}

/// The lock of a table of a pipeline, by its number.
///
/// Of two transactions that bring one key, a write and a delete, one must see what the other left. At READ COMMITTED neither the row (it
/// may be gone) nor the tombstone (it may not be there yet) can be locked for that; a tombstone that every write would insert first, so that
/// there is something to lock, would cost each of them a row. So whoever deletes keeps the others away, and those who only write share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableLock {
    pub number: u32,
    pub mode: LockMode,
}

/// The table of tombstones, in the transaction that is open on a session.
#[async_trait]
pub trait TombstoneTable: Send {
    /// Takes these locks to the end of the transaction, in the order given, which is sorted. Never one twice: who holds it shared would wait
    /// for others who do, and they for him.
    async fn lock_tables(&mut self, locks: &[TableLock]) -> Result<(), Fault>;

    /// Those of these keys that there are. `keys`: sorted, each once.
    async fn read_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<Vec<StoredTombstone>, Fault>;

    /// Of the rows of a step, whose keys alone count: which are in the table, locked, each with its version.
    async fn read_versions(&mut self, step: &Step<'_>, version: usize) -> Result<Vec<(u32, Option<Version>)>, Fault>;

    /// Writes tombstones, or overwrites those that are there. Sorted by key.
    async fn write_tombstones(&mut self, of: TombstonesOf<'_>, tombstones: &[StoredTombstone]) -> Result<(), Fault>;

    /// `keys`: sorted, each once.
    async fn remove_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<(), Fault>;

    /// Removes at most `most` tombstones of a pipeline that are older, by the clock of the database; says how many. Waits for nobody for long.
    async fn expire_tombstones(&mut self, pipeline: &str, milliseconds: i64, most: u32) -> Result<u64, Fault>;
}

/// The same locks where there are only so many: of two that fall together the stronger one, once.
#[must_use]
pub fn in_buckets(locks: &[TableLock], buckets: u32) -> Vec<TableLock> {
    let mut held: BTreeMap<u32, LockMode> = BTreeMap::new();
    for lock in locks {
        let mode = held.entry(lock.number % buckets.max(1)).or_insert(lock.mode);
        *mode = (*mode).max(lock.mode);
    }
    held.into_iter().map(|(number, mode)| TableLock { number, mode }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_that_fall_together_are_taken_once() {
        let lock = |number, mode| TableLock { number, mode };
        let locks = [lock(3, LockMode::Exclusive), lock(5, LockMode::Shared), lock(67, LockMode::Shared), lock(69, LockMode::Shared)];
        assert_eq!(in_buckets(&locks, 64), [lock(3, LockMode::Exclusive), lock(5, LockMode::Shared)]);
    }
}
