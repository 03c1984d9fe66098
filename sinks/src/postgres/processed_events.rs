//! The tables of processed events.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row;

use super::session::PostgresSession;
use crate::{
    execute::{self, quoted_text},
    fault::{During, Fault, FaultClass},
    generation::{Generation, Generations},
    model::{NextOffset, Partition},
    processed_events::{EventMarks, ProcessedEvents, generation_is_gone},
    stored,
};

/// By the server's clock, in milliseconds since the Unix epoch.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::int8";

/// The statements on processed events, for one schema.
#[derive(Debug)]
pub(super) struct ProcessedEventStatements {
    schema: String,
    hold: Arc<str>,
    /// By the table of the newest generation.
    mark: Vec<Arc<str>>,
    keep_house: Arc<str>,
    note_retention: Arc<str>,
    note_committed: Arc<str>,
    generations: Arc<str>,
    roll_over: Arc<str>,
}

impl ProcessedEventStatements {
    pub fn new(schema: &str) -> Self {
        // Advisory locks are the database's, and their names are numbers: `once` in ASCII and what follows it, and the schema's hash beside.
        let lock = |number: u32| format!("{number}, hashtext('{}')", schema.replace('\'', "''"));
        let (generation_lock, house_lock) = (lock(1_869_505_382), lock(1_869_505_383));
        let schema = quoted_text(schema);
        let table = |generation: Generation| format!("{schema}.oncesink_processed_event_{}", generation.table());
        let mark = |newest: Generation| {
            // OFFSET 0 keeps the planner from turning the look-ups into a join that reads a whole table.
            let not_in = |older: Generation| {
                format!("NOT EXISTS (SELECT FROM {} o WHERE o.route_id = $1 AND o.event_id = u.event_id COLLATE \"C\" OFFSET 0)", table(older))
            };
            let [second, third] = newest.looked_at();
            Arc::from(format!(
                "INSERT INTO {} (route_id, event_id) SELECT $1, u.event_id FROM UNNEST($2::text[]) WITH ORDINALITY AS u(event_id, number) \
                 WHERE {} AND {} ORDER BY u.number ON CONFLICT DO NOTHING RETURNING event_id",
                table(newest),
                not_in(second),
                not_in(third)
            ))
        };
        Self {
            // Two statements: one alone would read the row as it was before it waited for the lock.
            hold: format!(
                "SELECT 0::int8 FROM (SELECT pg_advisory_xact_lock_shared({generation_lock})) locked; \
                 SELECT generation FROM {schema}.oncesink_processed_event_generation"
            )
            .into(),
            mark: (0..Generation::TABLES).map(|newest| mark(Generation(newest + Generation::TABLES))).collect(),
            keep_house: format!("SELECT pg_try_advisory_xact_lock({house_lock})").into(),
            note_retention: format!(
                "INSERT INTO {schema}.oncesink_processed_event_retention AS r (pipeline, milliseconds) VALUES ($1, $2) \
                 ON CONFLICT (pipeline) DO UPDATE SET milliseconds = EXCLUDED.milliseconds WHERE r.milliseconds <> EXCLUDED.milliseconds"
            )
            .into(),
            note_committed: format!(
                "INSERT INTO {schema}.oncesink_committed AS c (pipeline, topic, partition, next_offset) \
                 SELECT $1, u.* FROM UNNEST($2::text[], $3::int4[], $4::int8[]) AS u ORDER BY 2, 3 \
                 ON CONFLICT (pipeline, topic, partition) DO UPDATE SET next_offset = EXCLUDED.next_offset WHERE c.next_offset < EXCLUDED.next_offset"
            )
            .into(),
            generations: format!(
                "SELECT generation, opened_at, previous_opened_at, emptied, {NOW}, \
                 (SELECT coalesce(max(milliseconds), 0) FROM {schema}.oncesink_processed_event_retention), \
                 (SELECT format('pipeline %s, %s:%s', e.pipeline, e.topic, e.partition) FROM {schema}.oncesink_processed_event_end e \
                  JOIN {schema}.oncesink_processed_event_retention r USING (pipeline) \
                  JOIN {schema}.oncesink_checkpoint p USING (pipeline, topic, partition) \
                  LEFT JOIN {schema}.oncesink_committed c USING (pipeline, topic, partition) \
                  WHERE e.generation = g.generation - 2 AND p.delivery <> 'exactly-once' AND coalesce(c.next_offset, 0) < e.next_offset \
                  ORDER BY 1 LIMIT 1) \
                 FROM {schema}.oncesink_processed_event_generation g"
            )
            .into(),
            // A long batch is not waited for: meanwhile no other batch could begin.
            roll_over: format!(
                "SET LOCAL lock_timeout = 2000; SELECT pg_advisory_xact_lock({generation_lock}); \
                 INSERT INTO {schema}.oncesink_processed_event_end (generation, pipeline, topic, partition, next_offset) \
                 SELECT g.generation, p.pipeline, p.topic, p.partition, p.durable FROM {schema}.oncesink_checkpoint p \
                 JOIN {schema}.oncesink_processed_event_retention r USING (pipeline) CROSS JOIN {schema}.oncesink_processed_event_generation g \
                 WHERE p.delivery <> 'exactly-once'; \
                 DELETE FROM {schema}.oncesink_processed_event_end \
                 WHERE generation < (SELECT generation - 2 FROM {schema}.oncesink_processed_event_generation); \
                 UPDATE {schema}.oncesink_processed_event_generation SET generation = generation + 1, previous_opened_at = opened_at, \
                 opened_at = {NOW}"
            )
            .into(),
            schema,
        }
    }

    fn empty(&self, newest: Generation) -> String {
        let (schema, next) = (&self.schema, newest.next());
        format!("TRUNCATE {schema}.oncesink_processed_event_{}; UPDATE {schema}.oncesink_processed_event_generation SET emptied = {}", next.table(), next.0)
    }
}

#[async_trait]
impl ProcessedEvents for PostgresSession {
    async fn hold_generation(&mut self) -> Result<Generation, Fault> {
        let hold = self.processed_events.hold.clone();
        let generation = self.fetch_text(&hold, During::Bookkeeping, |row| row.try_get::<i64, _>(0)).await?.last().copied();
        generation.map(Generation).ok_or_else(generation_is_gone)
    }

    async fn mark(&mut self, marks: &EventMarks<'_>) -> Result<Vec<bool>, Fault> {
        let statements = self.processed_events.clone();
        let table = usize::try_from(marks.generation.table()).unwrap_or(0);
        let Some(statement) = statements.mark.get(table) else { return Err(generation_is_gone()) };
        let query = sqlx::query(execute::text(statement)).bind(marks.route_id()).bind(marks.ids);
        // They come in the order in which they were sent.
        let added = self.fetch(query, During::Bookkeeping, |row| row.try_get::<String, _>(0)).await?;
        let mut added = added.iter().map(String::as_str).peekable();
        let is_new = marks.ids.iter().map(|id| added.next_if_eq(id).is_some()).collect();
        if added.peek().is_some() {
            // Their records would be left out for good.
            return Err(Fault::new(FaultClass::Halt, "event-ids", "PostgreSQL returned event ids in another order than they were sent"));
        }
        Ok(is_new)
    }

    async fn keep_house(&mut self) -> Result<bool, Fault> {
        let statement = self.processed_events.keep_house.clone();
        let got = self.fetch(sqlx::query(execute::text(&statement)), During::Bookkeeping, |row| row.try_get::<bool, _>(0)).await?;
        Ok(got.contains(&true))
    }

    async fn note_retention(&mut self, pipeline: &str, milliseconds: i64) -> Result<(), Fault> {
        let statement = self.processed_events.note_retention.clone();
        self.execute(sqlx::query(execute::text(&statement)).bind(pipeline).bind(milliseconds), During::Bookkeeping).await.map(|_| ())
    }

    async fn note_committed(&mut self, pipeline: &str, committed: &[(Partition, NextOffset)]) -> Result<(), Fault> {
        let topics: Vec<&str> = committed.iter().map(|(partition, _)| &*partition.topic).collect();
        let indexes: Vec<i32> = committed.iter().map(|(partition, _)| partition.index).collect();
        let offsets: Vec<i64> = committed.iter().map(|(_, next)| next.get()).collect();
        let statement = self.processed_events.note_committed.clone();
        let query = sqlx::query(execute::text(&statement)).bind(pipeline).bind(topics).bind(indexes).bind(offsets);
        self.execute(query, During::Bookkeeping).await.map(|_| ())
    }

    async fn generations(&mut self) -> Result<Generations, Fault> {
        let statement = self.processed_events.generations.clone();
        self.fetch(sqlx::query(execute::text(&statement)), During::Bookkeeping, stored::generations).await?.into_iter().next().ok_or_else(generation_is_gone)
    }

    async fn empty_next(&mut self, newest: Generation) -> Result<(), Fault> {
        let statements = self.processed_events.clone();
        // A backup that reads the table must not be waited for: whoever waits for a table lock stands in the way of all who come later.
        self.run(format!("SET LOCAL lock_timeout = 1000; {}", statements.empty(newest)), During::Bookkeeping).await
    }

    async fn roll_over(&mut self, _: Generation) -> Result<(), Fault> {
        let statement = self.processed_events.roll_over.to_string();
        self.run(statement, During::Bookkeeping).await
    }
}
