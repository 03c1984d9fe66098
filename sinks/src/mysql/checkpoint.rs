//! The statements on the checkpoint rows.

use super::value::MySqlQuery;
use crate::{checkpoint::CheckpointRow, execute::backticked_text, session::LockWait, stored::COLUMNS};

/// The statements on `oncesink_checkpoint`, for one schema.
#[derive(Debug)]
pub(super) struct CheckpointStatements {
    table: String,
    columns: String,
    pub insert_absent: String,
    pub save: String,
    pub others: String,
    pub note_halt: String,
    pub audit: String,
}

impl CheckpointStatements {
    /// `schema` as quoted.
    pub fn new(schema: &str) -> Self {
        let table = format!("{schema}.oncesink_checkpoint");
        let names: Vec<String> = COLUMNS.split(',').map(|column| backticked_text(column.trim())).collect();
        let columns = names.join(", ");
        let values = vec!["?"; names.len()].join(", ");
        let assignments: Vec<String> = names.iter().skip(2).map(|name| format!("{name} = ?")).collect();
        let of_row = "pipeline = ? AND topic = ? AND `partition` = ?";
        let rest = names.iter().skip(2).cloned().collect::<Vec<_>>().join(", ");
        Self {
            // Looked for first, because an insert that meets a row waits for whoever holds it. The last clause is for a row that another
            // transaction has made and not committed: it is waited for, and stays as it is.
            insert_absent: format!(
                "INSERT INTO {table} ({rest}, pipeline, topic, `partition`) SELECT {values}, ? FROM DUAL \
                 WHERE NOT EXISTS (SELECT 1 FROM {table} c WHERE c.pipeline = ? AND c.topic = ? AND c.`partition` = ?) \
                 ON DUPLICATE KEY UPDATE epoch = {table}.epoch"
            ),
            save: format!("UPDATE {table} SET {} WHERE {of_row}", assignments.join(", ")),
            others: format!(
                "SELECT pipeline, CAST(sum(next_offset) AS SIGNED) FROM {table} WHERE pipeline <> ? AND topic = ? AND epoch > 0 \
                 GROUP BY pipeline ORDER BY pipeline"
            ),
            note_halt: format!(
                "UPDATE {table} SET halt_reason = ?, halt_detail = ?, halt_offset = ?, halt_at = ? WHERE {of_row} \
                 AND (? OR (epoch = ? AND claim_id = ? AND (delivery <> 'exactly-once' OR next_offset = ?)))"
            ),
            audit: format!("INSERT INTO {schema}.oncesink_audit (pipeline, topic, `partition`, `offset`, action, who, detail) VALUES (?, ?, ?, ?, ?, ?, ?)"),
            table,
            columns,
        }
    }

    /// All rows of a pipeline.
    pub fn read(&self) -> String {
        format!("SELECT {} FROM {} WHERE pipeline = ? ORDER BY topic, `partition`", self.columns, self.table)
    }

    /// The rows of some partitions. By their key: on its way through others a scan would wait for each that somebody holds.
    pub fn lock(&self, partitions: usize, wait: LockWait) -> String {
        let tuples = vec!["(?, ?)"; partitions].join(", ");
        let skip = match wait {
            LockWait::Wait => "",
            LockWait::SkipLocked => " SKIP LOCKED",
        };
        format!(
            "SELECT {} FROM {} FORCE INDEX (PRIMARY) WHERE pipeline = ? AND (topic, `partition`) IN ({tuples}) ORDER BY topic, `partition` FOR UPDATE{skip}",
            self.columns, self.table
        )
    }

    pub fn with_rows(&self, topics: usize) -> String {
        format!("SELECT topic, `partition` FROM {} WHERE pipeline = ? AND topic IN ({})", self.table, vec!["?"; topics].join(", "))
    }
}

/// The columns of a row that are no key, and the key.
pub(super) fn bind_row<'q>(query: MySqlQuery<'q>, pipeline: &'q str, row: &'q CheckpointRow) -> MySqlQuery<'q> {
    let query = query
        .bind(row.claim.epoch.0)
        .bind(row.claim.id.0)
        .bind(row.next_offset.get())
        .bind(row.durable.get())
        .bind(row.delivery.as_str())
        .bind(&*row.cluster)
        .bind(&*row.group)
        .bind(&*row.owner)
        .bind(row.last.map(|last| last.offset))
        .bind(row.last.map(|last| last.timestamp))
        .bind(row.last.map(|last| last.hash))
        .bind(row.batch.0)
        .bind(row.halt.as_ref().map(|halt| halt.reason.as_str()))
        .bind(row.halt.as_ref().map(|halt| halt.detail.as_str()))
        .bind(row.halt.as_ref().map(|halt| halt.offset))
        .bind(row.halt.as_ref().map(|halt| halt.at));
    bind_key(query, pipeline, row)
}

pub(super) fn bind_key<'q>(query: MySqlQuery<'q>, pipeline: &'q str, row: &'q CheckpointRow) -> MySqlQuery<'q> {
    query.bind(pipeline).bind(&*row.partition.topic).bind(row.partition.index)
}
