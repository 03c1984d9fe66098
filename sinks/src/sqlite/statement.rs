//! The text of the statements that write rows, for a number of rows at once. Pure.

use crate::{
    execute::quoted,
    model::{Generated, Kind, Operation, Shape, Target, WriteMode},
};

/// SQLite binds at most 32,766 values in a statement.
const BINDS: usize = 32_766;
/// More rows than this in one statement are slower again: its text is parsed once, but its program grows.
const ROWS: usize = 512;

/// The statements for one target, operation and shape.
#[derive(Debug)]
pub(super) struct Statements<'a> {
    pub target: &'a Target,
    pub shape: &'a Shape,
    pub guard: Option<usize>,
}

/// How rows are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Nothing,
    Defaults,
    Insert,
    Update,
    /// An insert would fail on a missing column before it found the row that is there: what exists is updated, the rest inserted.
    UpdateElseInsert,
    Delete,
    /// Deletes that carry a version can lose: one at a time.
    DeleteGuarded,
}

impl Statements<'_> {
    pub fn plan(&self, operation: Operation) -> Plan {
        let sets = !self.settable().is_empty();
        match (operation, self.target.write) {
            (Operation::Delete, _) if self.version_carried().is_some() => Plan::DeleteGuarded,
            (Operation::Delete, _) => Plan::Delete,
            (Operation::Write, WriteMode::Append) if self.written().is_empty() => Plan::Defaults,
            (Operation::Write, WriteMode::Append) => Plan::Insert,
            (Operation::Write, WriteMode::Update) if sets => Plan::Update,
            (Operation::Write, WriteMode::Update) => Plan::Nothing,
            (Operation::Write, WriteMode::Upsert) if sets && self.lacks_required() => Plan::UpdateElseInsert,
            (Operation::Write, WriteMode::Upsert) => Plan::Insert,
        }
    }

    /// Columns that are sent and may be written.
    pub fn written(&self) -> Vec<usize> {
        self.shape.positions().filter(|position| self.target.column(*position).generated != Generated::Always).collect()
    }

    fn settable(&self) -> Vec<usize> {
        self.written().into_iter().filter(|position| !self.target.key.contains(position)).collect()
    }

    /// The columns of an UPDATE: those that are set, and the key.
    pub fn sent_for_update(&self) -> Vec<usize> {
        let mut positions = self.target.key.clone();
        positions.extend(self.settable());
        positions
    }

    pub fn sent_for_delete(&self) -> Vec<usize> {
        let mut positions = self.target.key.clone();
        positions.extend(self.version_carried().filter(|version| !self.target.key.contains(version)));
        positions
    }

    pub fn version_carried(&self) -> Option<usize> {
        self.guard.filter(|guard| self.shape.0.get(*guard).copied().unwrap_or(false))
    }

    /// Whether an insert of this shape would need a column that it does not carry.
    pub fn lacks_required(&self) -> bool {
        let carried: Vec<usize> = self.shape.positions().filter_map(|position| self.target.columns.get(position).copied()).collect();
        self.target
            .table
            .columns
            .iter()
            .enumerate()
            .any(|(index, column)| !column.nullable && !column.has_default && column.generated == Generated::No && !carried.contains(&index))
    }

    fn name(&self, position: usize) -> String {
        quoted(&self.target.column(position).name)
    }

    fn names(&self, positions: &[usize]) -> String {
        positions.iter().map(|position| self.name(*position)).collect::<Vec<_>>().join(", ")
    }

    fn table(&self) -> String {
        // The session has one database; a name without its schema keeps the texts short.
        quoted(&self.target.table.name.name)
    }

    pub fn defaults(&self) -> String {
        format!("INSERT INTO {} DEFAULT VALUES", self.table())
    }

    pub fn insert(&self, rows: usize) -> String {
        let written = self.written();
        let mut text = format!("INSERT INTO {} AS t ({}) VALUES {}", self.table(), self.names(&written), tuples(written.len(), rows));
        if self.target.write != WriteMode::Upsert {
            return text;
        }
        text.push_str(&format!(" ON CONFLICT ({}) DO ", self.names(&self.target.key)));
        let settable = self.settable();
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
        let assignments: Vec<String> = self.settable().iter().map(|position| format!("{} = {}", self.name(*position), column(*position))).collect();
        let mut text =
            format!("UPDATE {} AS t SET {} FROM (VALUES {}) AS u WHERE {}", self.table(), assignments.join(", "), tuples(sent.len(), rows), self.same_key(0));
        if let Some(guard) = self.newer(column) {
            text.push_str(&format!(" AND ({guard})"));
        }
        text
    }

    pub fn delete(&self, rows: usize) -> String {
        // With the table before each name: SQLite takes a quoted name that it does not know for a text, and would delete nothing.
        let key: Vec<String> = self.target.key.iter().map(|position| format!("t.{}", self.name(*position))).collect();
        format!("DELETE FROM {} AS t WHERE ({}) IN (VALUES {})", self.table(), key.join(", "), tuples(key.len(), rows))
    }

    pub fn delete_guarded(&self) -> String {
        let key: Vec<String> = self.target.key.iter().enumerate().map(|(index, position)| format!("t.{} = ?{}", self.name(*position), index + 1)).collect();
        let sent = self.sent_for_delete();
        let guard = self.newer(|version| format!("?{}", sent.iter().position(|sent| *sent == version).map_or(0, |index| index + 1)));
        format!("DELETE FROM {} AS t WHERE {} AND ({})", self.table(), key.join(" AND "), guard.unwrap_or_else(|| "TRUE".to_owned()))
    }

    /// Which of the numbered keys are there: a number and the key for each row.
    pub fn existing(&self, rows: usize) -> String {
        format!("SELECT u.column1 FROM (VALUES {}) AS u, {} AS t WHERE {}", tuples(self.target.key.len() + 1, rows), self.table(), self.same_key(1))
    }

    /// The key of the table's row equals that of `u`, whose key columns follow `before` others.
    fn same_key(&self, before: usize) -> String {
        let parts: Vec<String> =
            self.target.key.iter().enumerate().map(|(index, position)| format!("t.{} = u.column{}", self.name(*position), before + index + 1)).collect();
        parts.join(" AND ")
    }

    /// NULL never wins over a value; NULL against NULL applies; of equal versions the later record wins.
    fn newer(&self, theirs: impl Fn(usize) -> String) -> Option<String> {
        let guard = self.guard?;
        let mine = format!("t.{}", self.name(guard));
        if self.version_carried().is_none() {
            return Some(format!("{mine} IS NULL"));
        }
        // Texts are ordered by their bytes, as compaction orders them, whatever the column's collation.
        let collation = if matches!(self.target.column(guard).kind, Kind::Text { .. }) { " COLLATE BINARY" } else { "" };
        Some(format!("{mine} IS NULL OR {mine}{collation} <= {}", theirs(guard)))
    }
}

/// `(?, ?), (?, ?)`
fn tuples(columns: usize, rows: usize) -> String {
    let tuple = format!("({})", vec!["?"; columns].join(", "));
    vec![tuple; rows].join(", ")
}

/// Cuts a selection into runs of a few sizes only, so that each statement is prepared once: as many rows as fit, then powers of two.
pub(super) fn chunks(selection: &[u32], columns: usize) -> Vec<&[u32]> {
    let most = (BINDS / columns.max(1)).clamp(1, ROWS);
    let mut chunks = Vec::new();
    let mut rest = selection;
    while !rest.is_empty() {
        let size = if rest.len() >= most { most } else { 1 << rest.len().ilog2() };
        let (chunk, others) = rest.split_at(size);
        chunks.push(chunk);
        rest = others;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_selection_within_the_limit_of_binds() {
        for (rows, columns) in [(0, 8), (1, 8), (511, 8), (512, 8), (5000, 8), (100, 1000), (3, 40_000)] {
            let selection: Vec<u32> = (0..rows).collect();
            let chunks = chunks(&selection, columns);
            assert_eq!(chunks.concat(), selection);
            assert!(chunks.iter().all(|chunk| chunk.len() == 1 || chunk.len() * columns <= BINDS));
        }
    }
}
