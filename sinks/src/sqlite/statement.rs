//! The text of the statements that write rows, for a number of rows at once. Pure.

use crate::{
    chunks::ChunkLimits,
    execute::quoted,
    model::WriteMode,
    write_plan::{RowsToWrite, VersionCondition, VersionOrder},
};

/// SQLite binds at most 32,766 values in a statement. More rows than these in one are slower again: its text is parsed once, but its program grows.
pub(super) const LIMITS: ChunkLimits = ChunkLimits { binds: 32_766, rows: 512 };

/// The statements for rows of one target and shape.
#[derive(Debug)]
pub(super) struct Statements<'a> {
    pub rows: RowsToWrite<'a>,
}

impl Statements<'_> {
    /// The columns of an UPDATE: those that are set, and the key.
    pub fn sent_for_update(&self) -> Vec<usize> {
        let mut positions = self.rows.target.key.clone();
        positions.extend(self.rows.settable());
        positions
    }

    fn name(&self, position: usize) -> String {
        quoted(&self.rows.target.column(position).name)
    }

    fn names(&self, positions: &[usize]) -> String {
        positions.iter().map(|position| self.name(*position)).collect::<Vec<_>>().join(", ")
    }

    fn table(&self) -> String {
        // The session has one database; a name without its schema keeps the texts short.
        quoted(&self.rows.target.table.name.name)
    }

    pub fn defaults(&self) -> String {
        format!("INSERT INTO {} DEFAULT VALUES", self.table())
    }

    pub fn insert(&self, rows: usize) -> String {
        let written = self.rows.written();
        let mut text = format!("INSERT INTO {} AS t ({}) VALUES {}", self.table(), self.names(&written), tuples(written.len(), rows));
        if self.rows.target.write != WriteMode::Upsert {
            return text;
        }
        text.push_str(&format!(" ON CONFLICT ({}) DO ", self.names(&self.rows.target.key)));
        let settable = self.rows.settable();
        if settable.is_empty() {
            text.push_str("NOTHING");
            return text;
        }
        let assignments: Vec<String> = settable.iter().map(|position| format!("{0} = excluded.{0}", self.name(*position))).collect();
        text.push_str(&format!("UPDATE SET {}", assignments.join(", ")));
        if let Some(guard) = self.newer(|version| format!("excluded.{}", self.name(version))) {
            text.push_str(&format!(" WHERE {guard}"));
        }
        text
    }

    pub fn update(&self, rows: usize) -> String {
        let sent = self.sent_for_update();
        let column = |position: usize| format!("u.column{}", sent.iter().position(|sent| *sent == position).map_or(0, |index| index + 1));
        let assignments: Vec<String> = self.rows.settable().iter().map(|position| format!("{} = {}", self.name(*position), column(*position))).collect();
        let mut text =
            format!("UPDATE {} AS t SET {} FROM (VALUES {}) AS u WHERE {}", self.table(), assignments.join(", "), tuples(sent.len(), rows), self.same_key(0));
        if let Some(guard) = self.newer(column) {
            text.push_str(&format!(" AND ({guard})"));
        }
        text
    }

    pub fn delete(&self, rows: usize) -> String {
        // With the table before each name: SQLite takes a quoted name that it does not know for a text, and would delete nothing.
        let key: Vec<String> = self.rows.target.key.iter().map(|position| format!("t.{}", self.name(*position))).collect();
        format!("DELETE FROM {} AS t WHERE ({}) IN (VALUES {})", self.table(), key.join(", "), tuples(key.len(), rows))
    }

    pub fn delete_guarded(&self) -> String {
        let key: Vec<String> =
            self.rows.target.key.iter().enumerate().map(|(index, position)| format!("t.{} = ?{}", self.name(*position), index + 1)).collect();
        let sent = self.rows.sent_for_delete();
        let guard = self.newer(|version| format!("?{}", sent.iter().position(|sent| *sent == version).map_or(0, |index| index + 1)));
        format!("DELETE FROM {} AS t WHERE {} AND ({})", self.table(), key.join(" AND "), guard.unwrap_or_else(|| "TRUE".to_owned()))
    }

    /// Which of the numbered keys are there: a number and the key for each row.
    pub fn existing(&self, rows: usize) -> String {
        format!("SELECT u.column1 FROM (VALUES {}) AS u, {} AS t WHERE {}", tuples(self.rows.target.key.len() + 1, rows), self.table(), self.same_key(1))
    }

    /// The key of the table's row equals that of `u`, whose key columns follow `before` others.
    fn same_key(&self, before: usize) -> String {
        let parts: Vec<String> =
            self.rows.target.key.iter().enumerate().map(|(index, position)| format!("t.{} = u.column{}", self.name(*position), before + index + 1)).collect();
        parts.join(" AND ")
    }

    fn newer(&self, theirs: impl Fn(usize) -> String) -> Option<String> {
        Some(match self.rows.version_condition()? {
            VersionCondition::IsNull(version) => format!("t.{} IS NULL", self.name(version)),
            VersionCondition::IsNullOrNotNewer(version, order) => {
                let mine = format!("t.{}", self.name(version));
                let collation = match order {
                    VersionOrder::OfBytes => " COLLATE BINARY",
                    VersionOrder::OfType => "",
                };
                format!("{mine} IS NULL OR {mine}{collation} <= {}", theirs(version))
            }
        })
    }
}

/// `(?, ?), (?, ?)`
fn tuples(columns: usize, rows: usize) -> String {
    let tuple = format!("({})", vec!["?"; columns].join(", "));
    vec![tuple; rows].join(", ")
}
