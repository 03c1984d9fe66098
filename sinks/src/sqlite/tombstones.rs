//! The table of tombstones. The file is locked from BEGIN on: whoever writes is alone, so that the locks of the tables are nothing here.

use async_trait::async_trait;
use sqlx::{Row, sqlite::SqliteRow};

use super::{
    session::SqliteSession,
    statement::{LIMITS, Statements},
};
use crate::{
    as_text::{parse_date, parse_time, parse_timestamp, parse_uuid},
    chunks::chunks,
    execute,
    fault::{During, Fault},
    model::Kind,
    session::Step,
    stored,
    tombstone_table::{StoredTombstone, TableLock, TombstoneTable, TombstonesOf},
    version::Version,
    write_plan::RowsToWrite,
};

/// In milliseconds since the Unix epoch.
const NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";

/// A value that is none of its column's kind is no version: others have put it there.
fn version(row: &SqliteRow, kind: &Kind) -> Result<Option<Version>, sqlx::Error> {
    Ok(match kind {
        Kind::Bool => row.try_get::<Option<i64>, _>(1)?.map(|value| Version::Bool(value != 0)),
        Kind::Int { .. } => row.try_get::<Option<i64>, _>(1)?.map(Version::Int),
        Kind::Float { .. } => row.try_get::<Option<f64>, _>(1)?.map(Version::Float),
        Kind::Bytes { .. } => row.try_get::<Option<Vec<u8>>, _>(1)?.map(Version::Bytes),
        _ => {
            let Some(text) = row.try_get::<Option<String>, _>(1)? else { return Ok(None) };
            match kind {
                Kind::Uuid => parse_uuid(&text).map(Version::Uuid),
                Kind::Date => parse_date(&text).map(Version::Int),
                Kind::Time { .. } => parse_time(&text).map(Version::Int),
                Kind::Timestamp { .. } | Kind::TimestampTz { .. } => parse_timestamp(&text).map(Version::Int),
                _ => Some(Version::Text(text)),
            }
        }
    })
}

/// `?3, ?4`: the first two are the pipeline and the table.
fn places(keys: usize) -> String {
    (3..keys + 3).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl TombstoneTable for SqliteSession {
    async fn lock_tables(&mut self, _: &[TableLock]) -> Result<(), Fault> {
        Ok(())
    }

    async fn read_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<Vec<StoredTombstone>, Fault> {
        let mut found = Vec::new();
        for keys in chunks(keys, 1, LIMITS) {
            let text = format!(
                "SELECT row_key, version, version_column, deleted_by FROM oncesink_tombstone WHERE pipeline = ?1 AND table_name = ?2 AND row_key IN ({})",
                places(keys.len())
            );
            let mut query = sqlx::query(execute::once(text)).bind(of.pipeline).bind(of.table);
            for key in keys {
                query = query.bind(*key);
            }
            found.extend(self.fetch(query, During::Bookkeeping, stored::tombstone).await?);
        }
        Ok(found)
    }

    async fn read_versions(&mut self, step: &Step<'_>, version_at: usize) -> Result<Vec<(u32, Option<Version>)>, Fault> {
        let statements = Statements { rows: RowsToWrite::of(step) };
        let (key, kind) = (&step.rows.target.key, &step.rows.target.column(version_at).kind);
        let mut versions = Vec::new();
        for chunk in chunks(step.selection, key.len() + 1, LIMITS) {
            let mut query = sqlx::query(execute::once(statements.versions(chunk.len(), version_at)));
            for row in chunk {
                query = query.bind(i64::from(*row));
                for position in key {
                    query = self.bind_cell(query, step, *position, *row)?;
                }
            }
            let during = During::Write { table: &step.rows.target.table.name };
            let found = self.fetch(query, during, |row| Ok((row.try_get::<i64, _>(0)?, version(row, kind)?))).await?;
            versions.extend(found.into_iter().filter_map(|(row, version)| Some((u32::try_from(row).ok()?, version))));
        }
        Ok(versions)
    }

    async fn write_tombstones(&mut self, of: TombstonesOf<'_>, tombstones: &[StoredTombstone]) -> Result<(), Fault> {
        for tombstones in chunks(tombstones, 4, LIMITS) {
            let row = |first: usize| format!("(?1, ?2, ?{first}, ?{}, ?{}, ?{}, {NOW})", first + 1, first + 2, first + 3);
            let rows: Vec<String> = (0..tombstones.len()).map(|index| row(4 * index + 3)).collect();
            let text = format!(
                "INSERT INTO oncesink_tombstone (pipeline, table_name, row_key, version, version_column, deleted_by, at) VALUES {} \
                 ON CONFLICT (pipeline, table_name, row_key) DO UPDATE SET version = excluded.version, \
                 version_column = excluded.version_column, deleted_by = excluded.deleted_by, at = excluded.at",
                rows.join(", ")
            );
            let mut query = sqlx::query(execute::once(text)).bind(of.pipeline).bind(of.table);
            for tombstone in tombstones {
                let StoredTombstone { key, version, version_column, deleted_by } = tombstone;
                query = query.bind(key).bind(version).bind(version_column).bind(deleted_by);
            }
            self.execute(query, During::Bookkeeping).await?;
        }
        Ok(())
    }

    async fn remove_tombstones(&mut self, of: TombstonesOf<'_>, keys: &[&str]) -> Result<(), Fault> {
        for keys in chunks(keys, 1, LIMITS) {
            let text = format!("DELETE FROM oncesink_tombstone WHERE pipeline = ?1 AND table_name = ?2 AND row_key IN ({})", places(keys.len()));
            let mut query = sqlx::query(execute::once(text)).bind(of.pipeline).bind(of.table);
            for key in keys {
                query = query.bind(*key);
            }
            self.execute(query, During::Bookkeeping).await?;
        }
        Ok(())
    }

    async fn expire_tombstones(&mut self, pipeline: &str, milliseconds: i64, most: u32) -> Result<u64, Fault> {
        let text = format!(
            "DELETE FROM oncesink_tombstone WHERE (pipeline, table_name, row_key) IN \
             (SELECT pipeline, table_name, row_key FROM oncesink_tombstone WHERE pipeline = ?1 AND at <= {NOW} - ?2 ORDER BY at LIMIT ?3)"
        );
        let query = sqlx::query(execute::once(text)).bind(pipeline).bind(milliseconds).bind(i64::from(most));
        self.execute(query, During::Bookkeeping).await
    }
}
