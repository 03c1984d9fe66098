//! The table of tombstones.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{Row, ValueRef};

use super::{array::Element, session::PostgresSession, statement::versions};
use crate::{
    execute::{self, quoted_text},
    fault::{During, Fault},
    session::Step,
    stored,
    tombstone_table::{LockMode, StoredTombstone, TableLock, TombstoneTable, TombstonesOf},
    version::Version,
    write_plan::RowsToWrite,
};

/// The class of the advisory locks, which are the database's: `once` in ASCII and what follows it, after those of processed events.
const LOCK_CLASS: u32 = 1_869_505_384;

/// By the server's clock, in milliseconds since the Unix epoch. Each statement has one time: so an index finds what is older.
const NOW: &str = "(extract(epoch FROM statement_timestamp()) * 1000)::int8";

/// The statements on tombstones, for one schema.
#[derive(Debug)]
pub(super) struct TombstoneStatements {
    read: Arc<str>,
    write: Arc<str>,
    remove: Arc<str>,
    expire: Arc<str>,
}

impl TombstoneStatements {
    pub fn new(schema: &str) -> Self {
        let table = format!("{}.oncesink_tombstone", quoted_text(schema));
        Self {
            read: format!("SELECT row_key, version, version_column, deleted_by FROM {table} WHERE pipeline = $1 AND table_name = $2 AND row_key = ANY ($3)")
                .into(),
            write: format!(
                "INSERT INTO {table} (pipeline, table_name, row_key, version, version_column, deleted_by, at) \
                 SELECT $1, $2, u.row_key, u.version, u.version_column, u.deleted_by, {NOW} \
                 FROM UNNEST($3::text[], $4::text[], $5::text[], $6::text[]) WITH ORDINALITY \
                 AS u(row_key, version, version_column, deleted_by, number) ORDER BY u.number \
                 ON CONFLICT (pipeline, table_name, row_key) DO UPDATE SET version = EXCLUDED.version, \
                 version_column = EXCLUDED.version_column, deleted_by = EXCLUDED.deleted_by, at = EXCLUDED.at"
            )
            .into(),
            remove: format!("DELETE FROM {table} WHERE pipeline = $1 AND table_name = $2 AND row_key = ANY ($3)").into(),
            // What a batch holds is left to the next look.
            expire: format!(
                "DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} WHERE pipeline = $1 AND at <= {NOW} - $2 \
                 ORDER BY at LIMIT $3 FOR UPDATE SKIP LOCKED)"
            )
            .into(),
        }
    }
}

#[async_trait]
impl TombstoneTable for PostgresSession {
    async fn lock_tables(&mut self, locks: &[TableLock]) -> Result<(), Fault> {
        for lock in locks {
            let function = match lock.mode {
                LockMode::Shared => "pg_advisory_xact_lock_shared",
                LockMode::Exclusive => "pg_advisory_xact_lock",
            };
            // Its arguments are signed.
            let text = format!("SELECT 1 FROM (SELECT {function}($1, $2)) locked");
            let query = sqlx::query(execute::once(text)).bind(LOCK_CLASS.cast_signed()).bind(lock.number.cast_signed());
            self.fetch(query, During::Bookkeeping, |_| Ok(())).await?;
        }
        Ok(())
    }

    async fn read_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<Vec<StoredTombstone>, Fault> {
        let statement = self.tombstones.read.clone();
        let query = sqlx::query(execute::text(&statement)).bind(of.pipeline).bind(of.table).bind(keys);
        self.fetch(query, During::Bookkeeping, stored::tombstone).await
    }

    async fn read_versions(&mut self, step: &Step<'_>, version: usize) -> Result<Vec<(u32, Option<Version>)>, Fault> {
        let element = Element::of(&step.rows.target.column(version).kind);
        let read = |row: &sqlx::postgres::PgRow| {
            let raw = row.try_get_raw(1)?;
            let version = if raw.is_null() { None } else { element.read(raw.as_bytes().map_err(sqlx::Error::Decode)?) };
            Ok((row.try_get::<i64, _>(0)?, version))
        };
        let found = self.fetch_rows(step, &versions(RowsToWrite::of(step), version), read).await?;
        let row = |number: i64| usize::try_from(number).ok().and_then(|number| step.selection.get(number.wrapping_sub(1))).copied();
        Ok(found.into_iter().filter_map(|(number, version)| Some((row(number)?, version))).collect())
    }

    async fn write_tombstones(&mut self, of: TombstonesOf<'_>, tombstones: &[StoredTombstone]) -> Result<(), Fault> {
        let keys: Vec<&str> = tombstones.iter().map(|tombstone| tombstone.key.as_str()).collect();
        let versions: Vec<Option<&str>> = tombstones.iter().map(|tombstone| tombstone.version.as_deref()).collect();
        let columns: Vec<&str> = tombstones.iter().map(|tombstone| tombstone.version_column.as_str()).collect();
        let deleted_by: Vec<&str> = tombstones.iter().map(|tombstone| tombstone.deleted_by.as_str()).collect();
        let statement = self.tombstones.write.clone();
        let query = sqlx::query(execute::text(&statement)).bind(of.pipeline).bind(of.table).bind(keys).bind(versions).bind(columns).bind(deleted_by);
        self.execute(query, During::Bookkeeping).await.map(|_| ())
    }

    async fn remove_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<(), Fault> {
        let statement = self.tombstones.remove.clone();
        let query = sqlx::query(execute::text(&statement)).bind(of.pipeline).bind(of.table).bind(keys);
        self.execute(query, During::Bookkeeping).await.map(|_| ())
    }

    async fn expire_tombstones(&mut self, pipeline: &str, milliseconds: i64, most: u32) -> Result<u64, Fault> {
        let statement = self.tombstones.expire.clone();
        let query = sqlx::query(execute::text(&statement)).bind(pipeline).bind(milliseconds).bind(i64::from(most));
        self.execute(query, During::Bookkeeping).await
    }
}
