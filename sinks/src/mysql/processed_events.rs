//! The tables of processed events.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::Row;

use super::session::MySqlSession;
use crate::{
    chunks::{ChunkLimits, chunks},
    execute,
    fault::{During, Fault},
    generation::{Generation, Generations},
    model::{NextOffset, Partition},
    processed_events::{EventMarks, ProcessedEvents, generation_is_gone},
    stored,
};

/// Ids in one statement. Beyond a few hundred more bring nothing.
const LIMITS: ChunkLimits = ChunkLimits { binds: 60_000, rows: 1024 };

/// By the server's clock, in milliseconds since the Unix epoch.
const NOW: &str = "CAST(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(3)) * 1000 AS SIGNED)";

impl MySqlSession {
    fn table(&self, generation: Generation) -> String {
        format!("{}.oncesink_processed_event_{}", self.options.schema(), generation.table())
    }

    /// Which of these ids are in one of the tables; with a batch, only those that it has brought.
    async fn find_events(&mut self, marks: &EventMarks<'_>, ids: &[&str], tables: &[&str], batch: Option<i64>) -> Result<HashSet<Vec<u8>>, Fault> {
        let places = vec!["?"; ids.len()].join(", ");
        let of_batch = if batch.is_some() { " AND batch_id = ?" } else { "" };
        let of_table = |table: &&str| format!("SELECT event_id FROM {table} WHERE route_id = ? AND event_id IN ({places}){of_batch}");
        let text = tables.iter().map(of_table).collect::<Vec<_>>().join(" UNION ALL ");
        let mut query = sqlx::query(execute::once(text));
        for _ in tables {
            query = query.bind(marks.route_id());
            for id in ids {
                query = query.bind(id.as_bytes());
            }
            if let Some(batch) = batch {
                query = query.bind(batch);
            }
        }
        Ok(self.fetch(query, During::Bookkeeping, |row| row.try_get::<Vec<u8>, _>(0)).await?.into_iter().collect())
    }
}

#[async_trait]
impl ProcessedEvents for MySqlSession {
    async fn hold_generation(&mut self) -> Result<Generation, Fault> {
        let text = format!("SELECT generation FROM {}.oncesink_processed_event_generation WHERE id = 1 LOCK IN SHARE MODE", self.options.schema());
        let found = self.fetch(sqlx::query(execute::once(text)), During::Bookkeeping, |row| row.try_get::<i64, _>(0)).await?;
        found.first().copied().map(Generation).ok_or_else(generation_is_gone)
    }

    /// An insert that meets an id does not say so here; the id of the batch beside each new one does.
    async fn mark(&mut self, marks: &EventMarks<'_>) -> Result<Vec<bool>, Fault> {
        let [second, third] = marks.generation.looked_at();
        let (newest, second, third) = (self.table(marks.generation), self.table(second), self.table(third));
        let route_id = marks.route_id();
        let mut added = HashSet::new();
        for ids in chunks(marks.ids, 3, LIMITS) {
            // Nobody writes to the older ones any more, so what is read now stays true.
            let known = self.find_events(marks, ids, &[&second, &third], None).await?;
            let unknown: Vec<&str> = ids.iter().copied().filter(|id| !known.contains(id.as_bytes())).collect();
            if unknown.is_empty() {
                continue;
            }
            let rows = vec!["(?, ?, ?)"; unknown.len()].join(", ");
            let text = format!("INSERT INTO {newest} (route_id, event_id, batch_id) VALUES {rows} ON DUPLICATE KEY UPDATE batch_id = {newest}.batch_id");
            let mut query = sqlx::query(execute::once(text));
            for id in &unknown {
                query = query.bind(route_id).bind(id.as_bytes()).bind(marks.batch.0);
            }
            self.execute(query, During::Bookkeeping).await?;
            added.extend(self.find_events(marks, &unknown, &[&newest], Some(marks.batch.0)).await?);
        }
        Ok(marks.ids.iter().map(|id| added.contains(id.as_bytes())).collect())
    }

    async fn keep_house(&mut self) -> Result<bool, Fault> {
        // The session's: emptying a table ends the transaction. The name of a lock has 64 characters at most.
        let lock: String = format!("oncesink.events.{}", self.options.bookkeeping).chars().take(64).collect();
        let got = self.fetch(sqlx::query("SELECT GET_LOCK(?, 0)").bind(lock), During::Bookkeeping, |row| row.try_get::<Option<i64>, _>(0)).await?;
        Ok(got.first() == Some(&Some(1)))
    }

    async fn note_retention(&mut self, pipeline: &str, milliseconds: i64) -> Result<(), Fault> {
        let text = format!(
            "INSERT INTO {}.oncesink_processed_event_retention (pipeline, milliseconds) VALUES (?, ?) ON DUPLICATE KEY UPDATE milliseconds = ?",
            self.options.schema()
        );
        let query = sqlx::query(execute::once(text)).bind(pipeline).bind(milliseconds).bind(milliseconds);
        self.execute(query, During::Bookkeeping).await.map(|_| ())
    }

    async fn note_committed(&mut self, pipeline: &str, committed: &[(Partition, NextOffset)]) -> Result<(), Fault> {
        let text = format!(
            "INSERT INTO {}.oncesink_committed (pipeline, topic, `partition`, next_offset) VALUES (?, ?, ?, ?) \
             ON DUPLICATE KEY UPDATE next_offset = GREATEST(next_offset, ?)",
            self.options.schema()
        );
        for (partition, next) in committed {
            let query = sqlx::query(execute::once(text.clone()));
            let query = query.bind(pipeline).bind(&*partition.topic).bind(partition.index).bind(next.get()).bind(next.get());
            self.execute(query, During::Bookkeeping).await?;
        }
        Ok(())
    }

    async fn generations(&mut self) -> Result<Generations, Fault> {
        let schema = self.options.schema();
        let of_partition = |table: &str| format!("{table}.pipeline = e.pipeline AND {table}.topic = e.topic AND {table}.`partition` = e.`partition`");
        let text = format!(
            "SELECT generation, opened_at, previous_opened_at, emptied, {NOW}, \
             (SELECT coalesce(max(milliseconds), 0) FROM {schema}.oncesink_processed_event_retention), \
             (SELECT concat('pipeline ', e.pipeline, ', ', e.topic, ':', e.`partition`) FROM {schema}.oncesink_processed_event_end e \
              JOIN {schema}.oncesink_processed_event_retention r ON r.pipeline = e.pipeline JOIN {schema}.oncesink_checkpoint p ON {} LEFT JOIN {schema}.oncesink_committed c ON {} \
              WHERE e.generation = g.generation - 2 AND p.delivery <> 'exactly-once' AND coalesce(c.next_offset, 0) < e.next_offset \
              ORDER BY 1 LIMIT 1) \
             FROM {schema}.oncesink_processed_event_generation g WHERE g.id = 1",
            of_partition("p"),
            of_partition("c")
        );
        self.fetch(sqlx::query(execute::once(text)), During::Bookkeeping, stored::generations).await?.into_iter().next().ok_or_else(generation_is_gone)
    }

    /// Emptying ends the transaction; the note after it is one by itself. A crash between the two has the table emptied once more.
    async fn empty_next(&mut self, newest: Generation) -> Result<(), Fault> {
        let next = newest.next();
        // A backup that reads the table must not be waited for: whoever waits for a table stands in the way of all who come later.
        self.run(format!("SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 2; TRUNCATE TABLE {}", self.table(next)), During::Bookkeeping).await?;
        let text = format!("UPDATE {}.oncesink_processed_event_generation SET emptied = ? WHERE id = 1", self.options.schema());
        self.execute(sqlx::query(execute::once(text)).bind(next.0), During::Bookkeeping).await.map(|_| ())
    }

    async fn roll_over(&mut self, newest: Generation) -> Result<(), Fault> {
        let schema = self.options.schema();
        let Generation(number) = newest;
        let expires = newest.expires_next().0;
        // A long batch is not waited for: meanwhile no other batch could begin. Each statement is a message of its own, so that none is lost.
        for statement in [
            "SET SESSION innodb_lock_wait_timeout = 2".to_owned(),
            format!("SELECT generation FROM {schema}.oncesink_processed_event_generation WHERE id = 1 FOR UPDATE"),
            format!(
                "INSERT INTO {schema}.oncesink_processed_event_end (generation, pipeline, topic, `partition`, next_offset) \
                 SELECT {number}, p.pipeline, p.topic, p.`partition`, p.durable FROM {schema}.oncesink_checkpoint p \
                 JOIN {schema}.oncesink_processed_event_retention r ON r.pipeline = p.pipeline WHERE p.delivery <> 'exactly-once'"
            ),
            format!("DELETE FROM {schema}.oncesink_processed_event_end WHERE generation < {expires}"),
            format!(
                "UPDATE {schema}.oncesink_processed_event_generation SET previous_opened_at = opened_at, \
                 opened_at = {NOW}, generation = generation + 1 WHERE id = 1"
            ),
        ] {
            self.run(statement, During::Bookkeeping).await?;
        }
        Ok(())
    }
}
