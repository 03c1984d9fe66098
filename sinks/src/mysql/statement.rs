//! The text of the statements that write rows. Pure.

use super::{
    flavour::Flavour,
    kind::{comparand, typed, version_text},
};
use crate::{
    chunks::ChunkLimits,
    execute::backticked,
    model::{Kind, Rule, Table, TableName},
    write_plan::{RowsToWrite, VersionCondition, VersionOrder},
};

/// A prepared statement binds at most 65,535 values.
pub(super) const LIMITS: ChunkLimits = ChunkLimits { binds: 65_535, rows: 512 };

/// The statements for rows of one target and shape.
#[derive(Debug)]
pub(super) struct Statements<'a> {
    pub rows: RowsToWrite<'a>,
    pub flavour: Flavour,
}

/// What becomes of a row whose key is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// An error, as of any other unique key.
    Fails,
    /// It is set, or stays where there is nothing to set.
    IsSet,
}

impl Statements<'_> {
    /// Whether a row can meet only the key that it is written by. An upsert here cannot name a key: it would set the row that it meets by
    /// another one.
    pub fn has_one_key(&self) -> bool {
        self.rows.target.table.keys.len() + self.rows.target.table.other_unique.len() == 1
    }

    /// Whether a unique key of the table is the one that rows are written by.
    pub fn is_own_key(&self, name: &str) -> bool {
        let mine: Vec<usize> = self.rows.target.key.iter().filter_map(|position| self.rows.target.columns.get(*position).copied()).collect();
        self.rows
            .target
            .table
            .keys
            .iter()
            .any(|key| key.name == name && key.columns.len() == mine.len() && key.columns.iter().all(|column| mine.contains(column)))
    }

    /// The columns of an UPDATE of one row, in the order of its parameters: those that are set, each as often as its rule names the new value,
    /// the key, and the version that decides.
    pub fn sent_for_update(&self) -> Vec<usize> {
        let times = |position: usize| match self.rows.target.rule(position) {
            Rule::Add | Rule::Max | Rule::Min => 2,
            Rule::Coalesce | Rule::First | Rule::Replace => 1,
        };
        let mut positions: Vec<usize> = self.rows.settable().into_iter().flat_map(|position| vec![position; times(position)]).collect();
        positions.extend(&self.rows.target.key);
        positions.extend(self.version_sent());
        positions
    }

    /// Of a delete, and of the question for stale rows: the key, and the version that decides.
    pub fn sent_for_delete(&self) -> Vec<usize> {
        let mut positions = self.rows.target.key.clone();
        positions.extend(self.version_sent());
        positions
    }

    fn version_sent(&self) -> Option<usize> {
        match self.rows.version_condition()? {
            VersionCondition::IsNull(_) => None,
            VersionCondition::IsNullOrNotNewer(version, _) => Some(version),
        }
    }

    fn name(&self, position: usize) -> String {
        backticked(&self.rows.target.column(position).name)
    }

    /// A column of the row in the table.
    fn mine(&self, position: usize) -> String {
        format!("{}.{}", backticked(&self.rows.target.table.name.name), self.name(position))
    }

    fn comparand(&self, position: usize) -> String {
        comparand(self.rows.target.column(position))
    }

    fn table(&self) -> String {
        qualified(&self.rows.target.table.name)
    }

    pub fn defaults(&self) -> String {
        format!("INSERT INTO {} () VALUES ()", self.table())
    }

    pub fn insert(&self, rows: usize, met: Met) -> String {
        let written = self.rows.written();
        let names: Vec<String> = written.iter().map(|position| self.name(*position)).collect();
        let tuple = format!("({})", vec!["?"; written.len()].join(", "));
        let mut text = format!("INSERT INTO {} ({}) VALUES {}", self.table(), names.join(", "), vec![tuple; rows].join(", "));
        if met == Met::Fails {
            return text;
        }
        if self.flavour == Flavour::MySql {
            text.push_str(" AS oncesink_incoming");
        }
        text.push_str(" ON DUPLICATE KEY UPDATE ");
        let theirs = |position: usize| match self.flavour {
            Flavour::MySql => format!("oncesink_incoming.{}", self.name(position)),
            Flavour::MariaDb => format!("VALUES({})", self.name(position)),
        };
        let mut settable = self.rows.settable();
        // They are assigned one after the other, and each condition must still see the version of the row in the table.
        settable.sort_by_key(|position| Some(*position) == self.rows.guard);
        let guard = self.newer(theirs);
        let assignments: Vec<String> = match settable.first() {
            None => self.rows.target.key.first().map(|key| format!("{0} = {0}", self.mine(*key))).into_iter().collect(),
            Some(_) => settable
                .iter()
                .map(|position| match &guard {
                    Some(guard) => format!("{0} = IF({guard}, {1}, {0})", self.mine(*position), theirs(*position)),
                    // Of the row in the table it names this column only, which no assignment before has changed.
                    None => format!("{} = {}", self.mine(*position), self.combined(*position, &theirs(*position))),
                })
                .collect(),
        };
        text.push_str(&assignments.join(", "));
        text
    }

    /// One row. The server tells how many rows the condition found, whether it changed them or not.
    pub fn update(&self) -> String {
        let settable = self.rows.settable();
        let assignments: Vec<String> =
            settable.iter().map(|position| format!("{} = {}", self.mine(*position), self.combined(*position, &self.argument(*position)))).collect();
        format!("UPDATE {} SET {} WHERE {}{}", self.table(), assignments.join(", "), self.same_key(), self.and_newer())
    }

    /// A new value that stands beside the old one, with the type of its column: the server would add up texts as floats. Not that of a time, which
    /// MySQL 8.0 casts to another one (`00:00:01.5` to an hour), and compares rightly without a cast.
    fn argument(&self, position: usize) -> String {
        match self.rows.target.rule(position) {
            Rule::Replace => "?".to_owned(),
            _ => typed(self.rows.target.column(position)).unwrap_or_else(|| self.comparand(position)),
        }
    }

    /// What a column of the row in the table becomes.
    fn combined(&self, position: usize, theirs: &str) -> String {
        let mine = self.mine(position);
        let winner = |wins: &str| {
            let order = self.rows.order_of(position);
            let (left, right) = (self.ordered(position, &mine, order), self.ordered(position, theirs, order));
            format!("COALESCE(IF({left} {wins} {right}, {mine}, NULL), {theirs}, {mine})")
        };
        match self.rows.target.rule(position) {
            Rule::Add => format!("IF({mine} IS NULL, {theirs}, {mine} + COALESCE({theirs}, 0))"),
            Rule::Max => winner(">="),
            Rule::Min => winner("<="),
            Rule::Coalesce => format!("COALESCE({theirs}, {mine})"),
            Rule::First => format!("COALESCE({mine}, {theirs})"),
            Rule::Replace => theirs.to_owned(),
        }
    }

    /// Whether the key of one row is there.
    pub fn is_there(&self) -> String {
        format!("SELECT 1 FROM {} WHERE {} LIMIT 1", self.table(), self.same_key())
    }

    /// Whether the key of one row is there; it stays as it is until the end of the transaction.
    pub fn exists(&self) -> String {
        format!("SELECT 1 FROM {} WHERE {} FOR UPDATE", self.table(), self.same_key())
    }

    /// Rows by a key of one column.
    pub fn delete_several(&self, rows: usize) -> Option<String> {
        let [key] = self.rows.target.key.as_slice() else { return None };
        let list = vec![self.comparand(*key); rows].join(", ");
        Some(format!("DELETE FROM {} WHERE {} IN ({list})", self.table(), self.mine(*key)))
    }

    /// One row, whatever the version.
    pub fn delete(&self) -> String {
        format!("DELETE FROM {} WHERE {}", self.table(), self.same_key())
    }

    pub fn delete_guarded(&self) -> String {
        format!("DELETE FROM {} WHERE {}{}", self.table(), self.same_key(), self.and_newer())
    }

    /// How many of some rows lost against a newer version; without a version, how many are there. What lost is to be asked after they were written,
    /// which has locked them, and what is there before.
    pub fn count(&self, rows: usize) -> String {
        match self.sent_for_delete().iter().map(|position| self.incoming(*position)).collect::<Option<Vec<_>>>() {
            // Five times as fast as a condition for each row.
            Some(values) => {
                let lost = self.lost(|_| format!("oncesink_incoming.c{}", self.rows.target.key.len()));
                format!("{} WHERE {lost}", self.joined("count(*)", named(values), rows))
            }
            None => {
                let one = format!("({} AND {})", self.same_key(), self.lost(|version| self.comparand(version)));
                format!("SELECT count(*) FROM {} WHERE {}", self.table(), vec![one; rows].join(" OR "))
            }
        }
    }

    /// A value among rows that are joined with the table. None: its type is not one that it can be given there.
    fn incoming(&self, position: usize) -> Option<String> {
        let column = self.rows.target.column(position);
        match (self.flavour, &column.kind) {
            // MariaDB makes an INT of it there, and 2147483647 of a larger number, without a word.
            (Flavour::MariaDb, Kind::Bool | Kind::Int { .. }) => Some("CAST(? AS DECIMAL(20,0))".to_owned()),
            _ => typed(column),
        }
    }

    /// Which of the numbered keys are there, each with the text of a column; they stay as they are until the end of the transaction. None:
    /// nobody can say how the values of a key are compared where they are not beside their column.
    pub fn versions(&self, rows: usize, version: usize) -> Option<String> {
        let key = &self.rows.target.key;
        let values = key.iter().map(|position| self.incoming(*position)).collect::<Option<Vec<_>>>()?;
        let selected = format!("oncesink_incoming.number, {}", version_text(self.rows.target.column(version), &self.mine(version)));
        let number = ("number".to_owned(), "CAST(? AS SIGNED)".to_owned());
        Some(format!("{} FOR UPDATE", self.joined(&selected, [number].into_iter().chain(named(values)), rows)))
    }

    /// The same for the key of one row, without a number.
    pub fn version(&self, version: usize) -> String {
        let text = version_text(self.rows.target.column(version), &self.mine(version));
        format!("SELECT {text} FROM {} WHERE {} FOR UPDATE", self.table(), self.same_key())
    }

    /// What is selected of some rows and of those of the table that have their keys, which are `c0`, `c1`, ….
    fn joined(&self, selected: &str, values: impl Iterator<Item = (String, String)>, rows: usize) -> String {
        let row = match self.flavour {
            Flavour::MySql => "ROW",
            Flavour::MariaDb => "",
        };
        let (names, values): (Vec<String>, Vec<String>) = values.unzip();
        let key = self.rows.target.key.iter().enumerate();
        let same: Vec<String> = key.map(|(index, position)| format!("{} = oncesink_incoming.c{index}", self.mine(*position))).collect();
        format!(
            "WITH oncesink_incoming ({}) AS (VALUES {}) SELECT {selected} FROM oncesink_incoming STRAIGHT_JOIN {} ON {}",
            names.join(", "),
            vec![format!("{row}({})", values.join(", ")); rows].join(", "),
            self.table(),
            same.join(" AND ")
        )
    }

    fn lost(&self, theirs: impl Fn(usize) -> String) -> String {
        match self.rows.version_condition() {
            Some(VersionCondition::IsNull(version)) => format!("{} IS NOT NULL", self.mine(version)),
            Some(VersionCondition::IsNullOrNotNewer(version, order)) => {
                let mine = self.mine(version);
                let (left, right) = (self.ordered(version, &mine, order), self.ordered(version, &theirs(version), order));
                format!("{mine} IS NOT NULL AND NOT COALESCE({left} <= {right}, FALSE)")
            }
            None => "TRUE".to_owned(),
        }
    }

    fn same_key(&self) -> String {
        let parts: Vec<String> = self.rows.target.key.iter().map(|position| format!("{} = {}", self.mine(*position), self.comparand(*position))).collect();
        parts.join(" AND ")
    }

    fn and_newer(&self) -> String {
        self.newer(|version| self.comparand(version)).map_or_else(String::new, |newer| format!(" AND ({newer})"))
    }

    /// A value in the form in which the server orders the values of its column as compaction does.
    fn ordered(&self, position: usize, value: &str, order: VersionOrder) -> String {
        match (order, &self.rows.target.column(position).kind) {
            (VersionOrder::OfBytes, _) => format!("CAST(CONVERT({value} USING utf8mb4) AS BINARY)"),
            // MariaDB orders a uuid by its time, from the middle.
            (VersionOrder::OfType, Kind::Uuid) => format!("CAST({value} AS CHAR(36))"),
            (VersionOrder::OfType, _) => value.to_owned(),
        }
    }

    fn newer(&self, theirs: impl Fn(usize) -> String) -> Option<String> {
        Some(match self.rows.version_condition()? {
            VersionCondition::IsNull(version) => format!("{} IS NULL", self.mine(version)),
            VersionCondition::IsNullOrNotNewer(version, order) => {
                let mine = self.mine(version);
                format!("{mine} IS NULL OR {} <= {}", self.ordered(version, &mine, order), self.ordered(version, &theirs(version), order))
            }
        })
    }
}

/// The unique indexes of a table, a row for each of their columns. Naming the table has the server hold it until the end of the transaction:
/// whoever would change it waits.
pub(super) fn unique_indexes(table: &TableName) -> String {
    format!(
        "SELECT INDEX_NAME, CASE WHEN SUB_PART IS NULL THEN COLUMN_NAME END FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? AND NON_UNIQUE = 0 AND NOT EXISTS (SELECT 1 FROM {} WHERE FALSE) \
         ORDER BY INDEX_NAME, SEQ_IN_INDEX",
        qualified(table)
    )
}

/// How many CHECKs the server holds a table to. Those that make a JSON column of a text ask nothing of a number.
pub(super) const fn checks(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MySql => {
            "SELECT count(*) FROM information_schema.TABLE_CONSTRAINTS WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? \
             AND CONSTRAINT_TYPE = 'CHECK'"
        }
        Flavour::MariaDb => {
            "SELECT count(*) FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ? \
             AND CHECK_CLAUSE NOT LIKE 'json_valid(%'"
        }
    }
}

/// Whether a table has exactly the unique indexes of its description.
pub(super) fn are_as_described(table: &Table, parts: &[(String, Option<String>)]) -> bool {
    let mut found = 0;
    for index in parts.chunk_by(|left, right| left.0 == right.0) {
        let name = &index[0].0;
        let key = table.keys.iter().find(|key| key.name == *name);
        let is_same = match key {
            Some(key) => {
                let columns = key.columns.iter().map(|position| table.columns.get(*position).map(|column| column.name.as_str()));
                columns.eq(index.iter().map(|(_, column)| column.as_deref()))
            }
            None => table.other_unique.contains(name),
        };
        if !is_same {
            return false;
        }
        found += 1;
    }
    found == table.keys.len() + table.other_unique.len()
}

pub(super) fn qualified(name: &TableName) -> String {
    match &name.schema {
        Some(schema) => format!("{}.{}", backticked(schema), backticked(&name.name)),
        None => backticked(&name.name),
    }
}

/// Values among rows that are joined with the table, each with its name there.
fn named(values: Vec<String>) -> impl Iterator<Item = (String, String)> {
    values.into_iter().enumerate().map(|(index, value)| (format!("c{index}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Shape, Target, WriteMode,
        sample::{self, column},
    };

    fn target() -> Target {
        let columns = ["id", "version", "total"].map(|name| column(name, Kind::Int { bits: 64 }, "bigint", false)).to_vec();
        Target { version: Some(1), ..sample::target("shop.orders", columns, WriteMode::Upsert) }
    }

    #[test]
    fn the_version_is_assigned_last() {
        let (target, shape) = (target(), Shape(Box::new([true; 3])));
        let rows = RowsToWrite { target: &target, shape: &shape, guard: Some(1) };
        assert_eq!(
            Statements { rows, flavour: Flavour::MySql }.insert(2, Met::IsSet),
            "INSERT INTO `shop`.`orders` (`id`, `version`, `total`) VALUES (?, ?, ?), (?, ?, ?) AS oncesink_incoming ON DUPLICATE KEY UPDATE \
             `orders`.`total` = IF(`orders`.`version` IS NULL OR `orders`.`version` <= oncesink_incoming.`version`, oncesink_incoming.`total`, `orders`.`total`), \
             `orders`.`version` = IF(`orders`.`version` IS NULL OR `orders`.`version` <= oncesink_incoming.`version`, oncesink_incoming.`version`, `orders`.`version`)"
        );
        let text = Statements { rows, flavour: Flavour::MariaDb }.insert(1, Met::IsSet);
        assert!(text.ends_with("VALUES(`version`), `orders`.`version`)") && !text.contains("AS oncesink_incoming"), "{text}");
    }

    #[test]
    fn other_keys_than_the_described_ones_are_found() {
        let table = &target().table;
        let part = |index: &str, column: &str| (index.to_owned(), Some(column.to_owned()));
        assert!(are_as_described(table, &[part("PRIMARY", "id")]));
        assert!(!are_as_described(table, &[]));
        assert!(!are_as_described(table, &[part("PRIMARY", "total")]));
        assert!(!are_as_described(table, &[part("PRIMARY", "id"), part("PRIMARY", "total")]));
        assert!(!are_as_described(table, &[part("PRIMARY", "id"), part("by_total", "total")]));
    }

    #[test]
    fn no_row_is_ever_ignored() {
        let (target, shape) = (target(), Shape(Box::new([true, false, false])));
        let statements = Statements { rows: RowsToWrite { target: &target, shape: &shape, guard: None }, flavour: Flavour::MySql };
        assert!(statements.insert(1, Met::IsSet).ends_with("ON DUPLICATE KEY UPDATE `orders`.`id` = `orders`.`id`"));
        assert!(!statements.insert(1, Met::Fails).contains("DUPLICATE"));
    }

    #[test]
    fn each_column_accumulates_by_its_own_value_only() {
        let by =
            |version: Rule, total: Rule| Target { version: None, write: WriteMode::Accumulate, accumulate: vec![Rule::Replace, version, total], ..target() };
        let shape = Shape(Box::new([true; 3]));
        let (added, kept) = (by(Rule::Max, Rule::Add), by(Rule::First, Rule::Coalesce));
        let statements = Statements { rows: RowsToWrite { target: &added, shape: &shape, guard: None }, flavour: Flavour::MariaDb };
        assert_eq!(
            statements.insert(1, Met::IsSet),
            "INSERT INTO `shop`.`orders` (`id`, `version`, `total`) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE \
             `orders`.`version` = COALESCE(IF(`orders`.`version` >= VALUES(`version`), `orders`.`version`, NULL), VALUES(`version`), `orders`.`version`), \
             `orders`.`total` = IF(`orders`.`total` IS NULL, VALUES(`total`), `orders`.`total` + COALESCE(VALUES(`total`), 0))"
        );
        assert_eq!(statements.sent_for_update(), [1, 1, 2, 2, 0], "each parameter as often as it is named");
        assert!(statements.update().contains("`orders`.`total` + COALESCE(CAST(? AS SIGNED), 0)"));
        let statements = Statements { rows: RowsToWrite { target: &kept, shape: &shape, guard: None }, flavour: Flavour::MariaDb };
        assert_eq!(
            statements.update(),
            "UPDATE `shop`.`orders` SET `orders`.`version` = COALESCE(`orders`.`version`, CAST(? AS SIGNED)), \
             `orders`.`total` = COALESCE(CAST(? AS SIGNED), `orders`.`total`) WHERE `orders`.`id` = ?"
        );
    }

    #[test]
    fn a_row_that_is_there_stays_under_insert_if_new() {
        let target = Target { version: None, write: WriteMode::InsertIfNew, ..target() };
        let shape = Shape(Box::new([true; 3]));
        let statements = Statements { rows: RowsToWrite { target: &target, shape: &shape, guard: None }, flavour: Flavour::MySql };
        assert!(statements.insert(1, Met::IsSet).ends_with("AS oncesink_incoming ON DUPLICATE KEY UPDATE `orders`.`id` = `orders`.`id`"));
        assert_eq!(
            statements.count(2),
            "WITH oncesink_incoming (c0) AS (VALUES ROW(CAST(? AS SIGNED)), ROW(CAST(? AS SIGNED))) SELECT count(*) FROM oncesink_incoming \
             STRAIGHT_JOIN `shop`.`orders` ON `orders`.`id` = oncesink_incoming.c0 WHERE TRUE"
        );
    }
}
