//! The table of tombstones.

use async_trait::async_trait;
use sqlx::{Row, mysql::MySqlRow};

use super::session::MySqlSession;
use crate::{
    chunks::{ChunkLimits, chunks},
    execute,
    fault::{During, Fault},
    model::Kind,
    session::Step,
    stored,
    tombstone_table::{LockMode, StoredTombstone, TableLock, TombstoneTable, TombstonesOf, in_buckets},
    version::Version,
};

/// Keys in one statement. Beyond a few hundred more bring nothing.
const LIMITS: ChunkLimits = ChunkLimits { binds: 60_000, rows: 1024 };

/// Rows of `oncesink_tombstone_lock`. A lock of its own for each table would be a row that somebody must make first.
const BUCKETS: u32 = 4096;

/// By the server's clock, in milliseconds since the Unix epoch.
const NOW: &str = "CAST(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(3)) * 1000 AS SIGNED)";

impl MySqlSession {
    fn tombstones(&self) -> String {
        format!("{}.oncesink_tombstone", self.options.schema())
    }
}

#[async_trait]
impl TombstoneTable for MySqlSession {
    async fn lock_tables(&mut self, locks: &[TableLock]) -> Result<(), Fault> {
        for lock in in_buckets(locks, BUCKETS) {
            let how = match lock.mode {
                LockMode::Shared => "LOCK IN SHARE MODE",
                LockMode::Exclusive => "FOR UPDATE",
            };
            let text = format!("SELECT bucket FROM {}.oncesink_tombstone_lock WHERE bucket = ? {how}", self.options.schema());
            self.fetch_one(sqlx::query(execute::once(text)).bind(i64::from(lock.number)), During::Bookkeeping, |_| Ok(())).await?;
        }
        Ok(())
    }

    async fn read_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<Vec<StoredTombstone>, Fault> {
        let mut found = Vec::new();
        for keys in chunks(keys, 1, LIMITS) {
            let places = vec!["?"; keys.len()].join(", ");
            let text = format!(
                "SELECT row_key, version, version_column, deleted_by FROM {} WHERE pipeline = ? AND table_name = ? AND row_key IN ({places})",
                self.tombstones()
            );
            let mut query = sqlx::query(execute::once(text)).bind(of.pipeline).bind(of.table);
            for key in keys {
                query = query.bind(*key);
            }
            found.extend(self.fetch(query, During::Bookkeeping, stored::tombstone).await?);
        }
        Ok(found)
    }

    async fn read_versions(&mut self, step: &Step<'_>, version: usize) -> Result<Vec<(u32, Option<Version>)>, Fault> {
        let kind = &step.rows.target.column(version).kind;
        let read = |row: &MySqlRow, index: usize| match kind {
            Kind::Float { .. } => Ok(row.try_get::<Option<f64>, _>(index)?.map(Version::Float)),
            _ => Ok(row.try_get::<Option<String>, _>(index)?.and_then(|text| Version::parse(&text, kind))),
        };
        self.versions(step, version, read).await
    }

    async fn write_tombstones(&mut self, of: TombstonesOf<'_>, tombstones: &[StoredTombstone]) -> Result<(), Fault> {
        for tombstones in chunks(tombstones, 6, LIMITS) {
            let rows = vec![format!("(?, ?, ?, ?, ?, ?, {NOW})"); tombstones.len()].join(", ");
            // VALUES() is deprecated in MySQL, and MariaDB has nothing else.
            let text = format!(
                "INSERT INTO {} (pipeline, table_name, row_key, version, version_column, deleted_by, at) VALUES {rows} ON DUPLICATE KEY UPDATE \
                 version = VALUES(version), version_column = VALUES(version_column), deleted_by = VALUES(deleted_by), at = VALUES(at)",
                self.tombstones()
            );
            let mut query = sqlx::query(execute::once(text));
            for tombstone in tombstones {
                let StoredTombstone { key, version, version_column, deleted_by } = tombstone;
                query = query.bind(of.pipeline).bind(of.table).bind(key).bind(version).bind(version_column).bind(deleted_by);
            }
            self.execute(query, During::Bookkeeping).await?;
        }
        Ok(())
    }

    async fn remove_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<(), Fault> {
        for keys in chunks(keys, 1, LIMITS) {
            let places = vec!["?"; keys.len()].join(", ");
            let text = format!("DELETE FROM {} WHERE pipeline = ? AND table_name = ? AND row_key IN ({places})", self.tombstones());
            let mut query = sqlx::query(execute::once(text)).bind(of.pipeline).bind(of.table);
            for key in keys {
                query = query.bind(*key);
            }
            self.execute(query, During::Bookkeeping).await?;
        }
        Ok(())
    }

    async fn expire_tombstones(&mut self, pipeline: &str, milliseconds: i64, most: u32) -> Result<u64, Fault> {
        // What a batch holds is left to the next look; the session ends with this one.
        self.run("SET SESSION innodb_lock_wait_timeout = 1".to_owned(), During::Bookkeeping).await?;
        let text = format!("DELETE FROM {} WHERE pipeline = ? AND at <= {NOW} - ? ORDER BY at LIMIT ?", self.tombstones());
        let query = sqlx::query(execute::once(text)).bind(pipeline).bind(milliseconds).bind(i64::from(most));
        self.execute(query, During::Bookkeeping).await
    }
}
