//! The text of the statements that write rows, for a number of rows at once. Pure.

use crate::{
    chunks::ChunkLimits,
    execute::quoted,
    model::{Kind, Rule, WriteMode},
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
        let text = format!("INSERT INTO {} AS t ({}) VALUES {}", self.table(), self.names(&written), tuples(written.len(), rows));
        if self.rows.target.write == WriteMode::Append { text } else { text + &self.on_conflict() }
    }

    /// The columns of an insert that looks for the key: the key first.
    pub fn sent_where_absent(&self) -> Vec<usize> {
        let mut positions = self.rows.target.key.clone();
        positions.extend(self.rows.written().into_iter().filter(|position| !self.rows.target.key.contains(position)));
        positions
    }

    /// Leaves out what is there, before any column is missed.
    pub fn insert_where_absent(&self, rows: usize) -> String {
        let sent = self.sent_where_absent();
        let values: Vec<String> = (1..=sent.len()).map(|index| format!("u.column{index}")).collect();
        let on_conflict = if self.rows.target.key_is_unique() { self.on_conflict() } else { String::new() };
        format!(
            "INSERT INTO {0} AS t ({1}) SELECT {2} FROM (VALUES {3}) AS u WHERE NOT EXISTS (SELECT 1 FROM {0} AS t WHERE {4}){on_conflict}",
            self.table(),
            self.names(&sent),
            values.join(", "),
            tuples(sent.len(), rows),
            self.same_key(0)
        )
    }

    /// What a column becomes whose old value is in row `t`.
    fn combined(&self, position: usize, theirs: &str) -> String {
        let mine = format!("t.{}", self.name(position));
        // A comparison takes the column's affinity to both sides, which `max()` would not; of texts it must not take the collation.
        let winner = |wins: &str| {
            let collation = match self.rows.order_of(position) {
                VersionOrder::OfBytes => " COLLATE BINARY",
                VersionOrder::OfType => "",
            };
            format!("COALESCE(CASE WHEN {mine}{collation} {wins} {theirs} THEN {mine} END, {theirs}, {mine})")
        };
        match self.rows.target.rule(position) {
            // `+` makes a float of an integer that is too large, and NULL of a number and NULL; `sum` fails, and leaves NULL out.
            Rule::Add => format!("(SELECT sum(n) FROM (SELECT {mine} AS n UNION ALL SELECT {theirs}))"),
            Rule::Max => winner(">="),
            Rule::Min => winner("<="),
            Rule::Coalesce => format!("COALESCE({theirs}, {mine})"),
            Rule::First => format!("COALESCE({mine}, {theirs})"),
            Rule::Replace => theirs.to_owned(),
        }
    }

    fn on_conflict(&self) -> String {
        let mut text = format!(" ON CONFLICT ({}) DO ", self.names(&self.rows.target.key));
        let settable = self.rows.settable();
        if settable.is_empty() {
            text.push_str("NOTHING");
            return text;
        }
        let theirs = |position: usize| format!("excluded.{}", self.name(position));
        let assignments: Vec<String> =
            settable.iter().map(|position| format!("{} = {}", self.name(*position), self.combined(*position, &theirs(*position)))).collect();
        text.push_str(&format!("UPDATE SET {}", assignments.join(", ")));
        if let Some(guard) = self.newer(theirs) {
            text.push_str(&format!(" WHERE {guard}"));
        }
        text
    }

    pub fn update(&self, rows: usize) -> String {
        let sent = self.sent_for_update();
        let column = |position: usize| format!("u.column{}", sent.iter().position(|sent| *sent == position).map_or(0, |index| index + 1));
        let settable = self.rows.settable();
        let assignments: Vec<String> =
            settable.iter().map(|position| format!("{} = {}", self.name(*position), self.combined(*position, &column(*position)))).collect();
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

    /// Which of the numbered keys are there, each with a column as [`crate::version::Version`] has it: numbers as they are, the rest as text.
    pub fn versions(&self, rows: usize, version: usize) -> String {
        let mine = format!("t.{}", self.name(version));
        // A column holds what somebody has put into it, whatever it is declared to be.
        let value = match self.rows.target.column(version).kind {
            Kind::Bool | Kind::Int { .. } => format!("CASE typeof({mine}) WHEN 'integer' THEN {mine} END"),
            Kind::Float { .. } => format!("CASE WHEN typeof({mine}) IN ('integer', 'real') THEN CAST({mine} AS REAL) END"),
            Kind::Bytes { .. } => format!("CAST({mine} AS BLOB)"),
            _ => format!("CAST({mine} AS TEXT)"),
        };
        let tuples = tuples(self.rows.target.key.len() + 1, rows);
        format!("SELECT u.column1, {value} FROM (VALUES {tuples}) AS u, {} AS t WHERE {}", self.table(), self.same_key(1))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Shape, Table, Target,
        sample::{self, column},
    };

    fn target(write: WriteMode) -> Target {
        let columns = vec![
            column("id", Kind::Int { bits: 64 }, "", true),
            column("note", Kind::Text { max_chars: None }, "", true),
            column("total", Kind::Int { bits: 64 }, "", true),
        ];
        sample::target("orders", columns, write)
    }

    #[test]
    fn a_row_that_is_there_stays_under_insert_if_new() {
        let mut target = target(WriteMode::InsertIfNew);
        let shape = Shape(Box::new([true; 3]));
        let of = |target: &Target, look: bool| {
            let statements = Statements { rows: RowsToWrite { target, shape: &shape, guard: None } };
            if look { statements.insert_where_absent(1) } else { statements.insert(1) }
        };
        assert_eq!(of(&target, false), "INSERT INTO \"orders\" AS t (\"id\", \"note\", \"total\") VALUES (?, ?, ?) ON CONFLICT (\"id\") DO NOTHING");
        let looked_for = "INSERT INTO \"orders\" AS t (\"id\", \"note\", \"total\") SELECT u.column1, u.column2, u.column3 FROM (VALUES (?, ?, ?)) AS u \
                          WHERE NOT EXISTS (SELECT 1 FROM \"orders\" AS t WHERE t.\"id\" = u.column1)";
        assert_eq!(of(&target, true), format!("{looked_for} ON CONFLICT (\"id\") DO NOTHING"));
        target.table = Arc::new(Table { keys: Vec::new(), ..Table::clone(&target.table) });
        assert_eq!(of(&target, true), looked_for);
    }

    #[test]
    fn each_column_accumulates_by_its_rule() {
        let mut target = target(WriteMode::Accumulate);
        target.accumulate = vec![Rule::Replace, Rule::Max, Rule::Add];
        let shape = Shape(Box::new([true; 3]));
        let statements = Statements { rows: RowsToWrite { target: &target, shape: &shape, guard: None } };
        assert_eq!(
            statements.update(1),
            "UPDATE \"orders\" AS t SET \"note\" = COALESCE(CASE WHEN t.\"note\" COLLATE BINARY >= u.column2 THEN t.\"note\" END, u.column2, t.\"note\"), \
             \"total\" = (SELECT sum(n) FROM (SELECT t.\"total\" AS n UNION ALL SELECT u.column3)) FROM (VALUES (?, ?, ?)) AS u WHERE t.\"id\" = u.column1"
        );
        assert!(statements.insert(1).ends_with("(SELECT t.\"total\" AS n UNION ALL SELECT excluded.\"total\"))"));
    }
}
