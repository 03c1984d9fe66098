//! The table of tombstones of the simulated server. It does what SQL does for the real ones; all that is decided is the product's.

use async_trait::async_trait;
use oncesink_sinks::{
    fault::Fault,
    session::Step,
    tombstone_table::{LockMode, StoredTombstone, TableLock, TombstoneTable, TombstonesOf},
    tombstones::lock_number,
    version::Version,
};

use super::{
    database::{Lock, key},
    events::Event,
    session::SimulatedSession,
};

impl SimulatedSession {
    /// Whoever leaves a tombstone, or takes one away, keeps those away who would not see it.
    fn witness_lock(&self, of: TombstonesOf<'_>, least: LockMode, what: &str) {
        let mut world = self.sim.lock();
        let held = world.server.table_lock(self.connection, lock_number(of.pipeline, of.table));
        if held.is_none_or(|held| held < least) {
            world.story.violation(format!("{} {what} of {} without its lock", self.worker, of.table));
        }
    }
}

#[async_trait]
impl TombstoneTable for SimulatedSession {
    async fn lock_tables(&mut self, locks: &[TableLock]) -> Result<(), Fault> {
        self.send_write().await?;
        if !locks.is_sorted_by(|left, right| left.number < right.number) {
            self.sim.lock().story.violation(format!("{} locks tables out of order", self.worker));
        }
        for lock in locks {
            self.wait_for(Event::WaitedForTable, |world| world.server.ask_table(self.connection, *lock)).await?;
        }
        Ok(())
    }

    async fn read_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<Vec<StoredTombstone>, Fault> {
        self.send_write().await?;
        self.witness_lock(of, LockMode::Shared, "reads tombstones");
        let mut world = self.sim.lock();
        self.still_connected(&world)?;
        let found: Vec<StoredTombstone> =
            keys.iter().filter_map(|key| world.server.tombstone(self.connection, &(of.table.to_owned(), (*key).to_owned()))).collect();
        if !found.is_empty() {
            world.story.count(Event::TombstoneFound);
        }
        Ok(found)
    }

    async fn read_versions(&mut self, step: &Step<'_>, version: usize) -> Result<Vec<(u32, Option<Version>)>, Fault> {
        self.send_write().await?;
        let table = &step.rows.target.table.name.name.0;
        let mut versions = Vec::new();
        for row in step.selection {
            let Some(key) = key(step, *row) else { continue };
            self.acquire(Lock::Row(table.clone(), key)).await?;
            let found = self.sim.lock().server.row(self.connection, table, key);
            versions.extend(found.map(|found| (*row, found[step.rows.target.columns[version]].map(Version::Int))));
        }
        Ok(versions)
    }

    async fn write_tombstones(&mut self, of: TombstonesOf<'_>, tombstones: &[StoredTombstone]) -> Result<(), Fault> {
        self.send_write().await?;
        self.witness_lock(of, LockMode::Exclusive, "leaves tombstones");
        let mut world = self.sim.lock();
        self.still_connected(&world)?;
        world.story.count(Event::TombstoneLeft);
        if let Some(transaction) = world.server.transaction(self.connection) {
            let places = tombstones.iter().map(|tombstone| ((of.table.to_owned(), tombstone.key.clone()), Some(tombstone.clone())));
            transaction.tombstones.extend(places);
        }
        Ok(())
    }

    async fn remove_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<(), Fault> {
        self.send_write().await?;
        self.witness_lock(of, LockMode::Shared, "removes tombstones");
        let mut world = self.sim.lock();
        self.still_connected(&world)?;
        world.story.count(Event::TombstoneRemoved);
        if let Some(transaction) = world.server.transaction(self.connection) {
            transaction.tombstones.extend(keys.iter().map(|key| ((of.table.to_owned(), (*key).to_owned()), None)));
        }
        Ok(())
    }

    /// Here they are kept for good: how late a write is read, nobody can tell.
    async fn expire_tombstones(&mut self, _: &str, _: i64, _: u32) -> Result<u64, Fault> {
        Ok(0)
    }
}
