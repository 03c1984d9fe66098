//! The tables of processed events. The file is locked from BEGIN on, so nobody else adds, empties or rolls over meanwhile.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::Row;

use super::{session::SqliteSession, statement::LIMITS};
use crate::{
    chunks::chunks,
    execute,
    fault::{During, Fault},
    generation::{Generation, Generations},
    model::{NextOffset, Partition},
    processed_events::{EventMarks, ProcessedEvents, generation_is_gone},
    stored,
};

const GENERATIONS: &str = "SELECT generation, opened_at, previous_opened_at, emptied, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), \
    (SELECT coalesce(max(milliseconds), 0) FROM oncesink_processed_event_retention), \
    (SELECT 'pipeline ' || e.pipeline || ', ' || e.topic || ':' || e.partition FROM oncesink_processed_event_end e \
     JOIN oncesink_processed_event_retention r USING (pipeline) JOIN oncesink_checkpoint p USING (pipeline, topic, partition) LEFT JOIN oncesink_committed c USING (pipeline, topic, partition) \
     WHERE e.generation = g.generation - 2 AND p.delivery <> 'exactly-once' AND coalesce(c.next_offset, 0) < e.next_offset ORDER BY 1 LIMIT 1) \
    FROM oncesink_processed_event_generation g";

const ROLL_OVER: [&str; 3] = [
    "INSERT INTO oncesink_processed_event_end (generation, pipeline, topic, partition, next_offset) \
     SELECT g.generation, p.pipeline, p.topic, p.partition, p.durable FROM oncesink_checkpoint p \
     JOIN oncesink_processed_event_retention r USING (pipeline) CROSS JOIN oncesink_processed_event_generation g WHERE p.delivery <> 'exactly-once'",
    "DELETE FROM oncesink_processed_event_end WHERE generation < (SELECT generation - 2 FROM oncesink_processed_event_generation)",
    "UPDATE oncesink_processed_event_generation SET generation = generation + 1, previous_opened_at = opened_at, \
     opened_at = CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
];

fn table(generation: Generation) -> String {
    format!("oncesink_processed_event_{}", generation.table())
}

#[async_trait]
impl ProcessedEvents for SqliteSession {
    async fn hold_generation(&mut self) -> Result<Generation, Fault> {
        let query = sqlx::query("SELECT generation FROM oncesink_processed_event_generation");
        let found = self.fetch(query, During::Bookkeeping, |row| row.try_get::<i64, _>(0)).await?;
        found.first().copied().map(Generation).ok_or_else(generation_is_gone)
    }

    async fn mark(&mut self, marks: &EventMarks<'_>) -> Result<Vec<bool>, Fault> {
        let newest = table(marks.generation);
        let [second, third] = marks.generation.looked_at().map(table);
        let mut added: HashSet<String> = HashSet::new();
        for ids in chunks(marks.ids, 1, LIMITS) {
            let places: Vec<String> = (2..ids.len() + 2).map(|number| format!("(?{number})")).collect();
            let known = |table: &str| format!("EXISTS (SELECT 1 FROM {table} o WHERE o.route_id = ?1 AND o.event_id = ids.event_id)");
            let text = format!(
                "WITH ids (event_id) AS (VALUES {}) INSERT INTO {newest} (route_id, event_id) SELECT ?1, event_id FROM ids \
                 WHERE NOT {} AND NOT {} ON CONFLICT DO NOTHING RETURNING event_id",
                places.join(", "),
                known(&second),
                known(&third)
            );
            let mut query = sqlx::query(execute::once(text)).bind(marks.route_id());
            for id in ids {
                query = query.bind(*id);
            }
            added.extend(self.fetch(query, During::Bookkeeping, |row| row.try_get::<String, _>(0)).await?);
        }
        Ok(marks.ids.iter().map(|id| added.contains(*id)).collect())
    }

    async fn keep_house(&mut self) -> Result<bool, Fault> {
        Ok(true)
    }

    async fn note_retention(&mut self, pipeline: &str, milliseconds: i64) -> Result<(), Fault> {
        let query = sqlx::query(
            "INSERT INTO oncesink_processed_event_retention (pipeline, milliseconds) VALUES (?, ?) \
             ON CONFLICT (pipeline) DO UPDATE SET milliseconds = excluded.milliseconds",
        );
        self.execute(query.bind(pipeline).bind(milliseconds), During::Bookkeeping).await.map(|_| ())
    }

    async fn note_committed(&mut self, pipeline: &str, committed: &[(Partition, NextOffset)]) -> Result<(), Fault> {
        for (partition, next) in committed {
            let query = sqlx::query(
                "INSERT INTO oncesink_committed (pipeline, topic, partition, next_offset) VALUES (?, ?, ?, ?) \
                 ON CONFLICT (pipeline, topic, partition) DO UPDATE SET next_offset = max(next_offset, excluded.next_offset)",
            );
            let query = query.bind(pipeline).bind(&*partition.topic).bind(partition.index).bind(next.get());
            self.execute(query, During::Bookkeeping).await?;
        }
        Ok(())
    }

    async fn generations(&mut self) -> Result<Generations, Fault> {
        self.fetch(sqlx::query(GENERATIONS), During::Bookkeeping, stored::generations).await?.into_iter().next().ok_or_else(generation_is_gone)
    }

    async fn empty_next(&mut self, newest: Generation) -> Result<(), Fault> {
        let next = newest.next();
        // Without a condition that drops the pages of the table, not its rows one by one.
        self.execute(sqlx::query(execute::once(format!("DELETE FROM {}", table(next)))), During::Bookkeeping).await?;
        let query = sqlx::query("UPDATE oncesink_processed_event_generation SET emptied = ?").bind(next.0);
        self.execute(query, During::Bookkeeping).await.map(|_| ())
    }

    async fn roll_over(&mut self, _: Generation) -> Result<(), Fault> {
        for statement in ROLL_OVER {
            self.execute(sqlx::query(statement), During::Bookkeeping).await?;
        }
        Ok(())
    }
}
