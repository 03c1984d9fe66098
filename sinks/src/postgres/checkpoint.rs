//! The statements on the checkpoint rows.

use std::sync::Arc;

use crate::{execute::quoted_text, session::LockWait, stored::COLUMNS};

/// The statements on `oncesink_checkpoint`, for one schema.
#[derive(Debug)]
pub(super) struct CheckpointStatements {
    pub lock: Arc<str>,
    pub lock_skipping: Arc<str>,
    pub with_rows: Arc<str>,
    pub insert_absent: Arc<str>,
    pub save: Arc<str>,
    pub read: Arc<str>,
    pub others: Arc<str>,
    pub note_halt: Arc<str>,
    pub audit: Arc<str>,
}

impl CheckpointStatements {
    pub fn new(schema: &str) -> Self {
        let schema = quoted_text(schema);
        let table = format!("{schema}.oncesink_checkpoint");
        let lock = format!(
            "SELECT {COLUMNS} FROM {table} c WHERE pipeline = $1 AND (topic, partition) IN (SELECT * FROM UNNEST($2::text[], $3::int4[])) \
             ORDER BY topic, partition FOR UPDATE OF c"
        );
        let arrays = "UNNEST($2::text[], $3::int4[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::text[], $9::text[], $10::text[], $11::text[], \
                      $12::int8[], $13::int8[], $14::int8[], $15::int8[], $16::text[], $17::text[], $18::int8[], $19::int8[])";
        let assignments: Vec<String> = COLUMNS.split(", ").skip(2).map(|column| format!("{0} = u.{0}", column.trim())).collect();
        Self {
            lock_skipping: format!("{lock} SKIP LOCKED").into(),
            lock: lock.into(),
            with_rows: format!("SELECT topic, partition FROM {table} WHERE pipeline = $1 AND topic = ANY ($2::text[])").into(),
            insert_absent: format!("INSERT INTO {table} (pipeline, {COLUMNS}) SELECT $1, u.* FROM {arrays} AS u ON CONFLICT DO NOTHING").into(),
            save: format!(
                "UPDATE {table} c SET {}, updated_at = now() FROM {arrays} AS u({COLUMNS}) \
                 WHERE c.pipeline = $1 AND c.topic = u.topic AND c.partition = u.partition",
                assignments.join(", ")
            )
            .into(),
            read: format!("SELECT {COLUMNS} FROM {table} WHERE pipeline = $1 ORDER BY topic, partition").into(),
            others: format!(
                "SELECT pipeline, sum(next_offset)::int8 FROM {table} WHERE pipeline <> $1 AND topic = $2 AND epoch > 0 GROUP BY pipeline ORDER BY pipeline"
            )
            .into(),
            note_halt: format!(
                "UPDATE {table} SET halt_reason = $4, halt_detail = $5, halt_offset = $6, halt_at = $7, updated_at = now() \
                 WHERE pipeline = $1 AND topic = $2 AND partition = $3 \
                 AND ($8::int8 IS NULL OR (epoch = $8 AND claim_id = $9 AND (delivery <> 'exactly-once' OR next_offset = $10)))"
            )
            .into(),
            audit: format!(
                "INSERT INTO {schema}.oncesink_audit (pipeline, topic, partition, \"offset\", action, who, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            )
            .into(),
        }
    }

    pub fn lock(&self, wait: LockWait) -> &Arc<str> {
        match wait {
            LockWait::Wait => &self.lock,
            LockWait::SkipLocked => &self.lock_skipping,
        }
    }
}

/// PostgreSQL's texts hold no NUL; a note without it is better than none.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "")
}
