//! The text of the statements that write rows. Pure.

use std::sync::Arc;

use super::{array::Element, kind::cast};
use crate::{
    execute::{qualified, quoted},
    model::{Generated, Operation, Rule},
    write_plan::{RowsToWrite, VersionCondition, VersionOrder, WritePlan},
};

/// A statement and the positions of the target whose columns are its array parameters, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub text: Arc<str>,
    pub parameters: Vec<usize>,
}

/// The statements of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statements {
    Nothing,
    /// One without parameters for each row.
    EachRow(Statement),
    /// A row that it does not affect is not stale.
    Once(Statement),
    /// A row that it does not affect is stale.
    OnceGuarded(Statement),
    /// A row that it does not affect was there.
    Absent(Statement),
    /// Writes what exists and returns which rows it wrote (numbered from 1). What of the rest does exist is stale;
    /// what does not is inserted, if there is an `insert`.
    Divided {
        first: Statement,
        existing: Statement,
        insert: Option<Statement>,
    },
}

pub(super) fn statements(rows: RowsToWrite<'_>, operation: Operation) -> Statements {
    let builder = Builder { rows, table: qualified(&rows.target.table.name) };
    let divided = |first| Statements::Divided { first, existing: builder.existing(), insert: None };
    match rows.plan(operation) {
        WritePlan::Nothing => Statements::Nothing,
        WritePlan::Defaults => Statements::EachRow(Statement { text: format!("INSERT INTO {} DEFAULT VALUES", builder.table).into(), parameters: Vec::new() }),
        WritePlan::Insert => Statements::Once(builder.insert("")),
        WritePlan::InsertAbsent => Statements::Absent(builder.insert(&builder.on_conflict())),
        WritePlan::LookElseInsert => Statements::Absent(builder.insert_where_absent()),
        WritePlan::Upsert => Statements::Once(builder.insert(&builder.on_conflict())),
        WritePlan::UpsertGuarded => Statements::OnceGuarded(builder.insert(&builder.on_conflict())),
        WritePlan::UpdateElseInsert | WritePlan::Accumulate => {
            Statements::Divided { first: builder.update(RETURNING), existing: builder.existing(), insert: Some(builder.insert(&builder.on_conflict())) }
        }
        WritePlan::Update => Statements::Once(builder.update("")),
        WritePlan::UpdateGuarded => divided(builder.update(RETURNING)),
        WritePlan::Delete => Statements::Once(builder.delete("")),
        WritePlan::DeleteGuarded => divided(builder.delete(&format!("{}{RETURNING}", builder.and_newer()))),
    }
}

/// Which rows are in the table, numbered from 1, and a column of each as it is sent to it. Locked, so that what is said of them stays true.
pub(super) fn versions(rows: RowsToWrite<'_>, version: usize) -> Statement {
    let builder = Builder { rows, table: qualified(&rows.target.table.name) };
    let parameters = rows.target.key.clone();
    let text = format!(
        "SELECT u.number, t.{}::{} FROM {} JOIN {} AS t ON {} FOR UPDATE OF t",
        builder.name(version),
        Element::of(&rows.target.column(version).kind).name(),
        builder.arrays(&parameters, true),
        builder.table,
        builder.same_key()
    );
    Statement { text: text.into(), parameters }
}

/// Which rows were affected.
const RETURNING: &str = " RETURNING u.number";

struct Builder<'a> {
    rows: RowsToWrite<'a>,
    table: String,
}

impl Builder<'_> {
    fn name(&self, position: usize) -> String {
        quoted(&self.rows.target.column(position).name)
    }

    /// The value of a column in row `u`, as its column's type.
    fn value(&self, position: usize) -> String {
        format!("u.c{position}::{}", cast(&self.rows.target.column(position).declared))
    }

    fn arrays(&self, positions: &[usize], numbered: bool) -> String {
        let arrays: Vec<String> = positions
            .iter()
            .enumerate()
            .map(|(index, position)| format!("${}::{}[]", index + 1, Element::of(&self.rows.target.column(*position).kind).name()))
            .collect();
        let mut names: Vec<String> = positions.iter().map(|position| format!("c{position}")).collect();
        if numbered {
            names.push("number".to_owned());
        }
        let ordinality = if numbered { " WITH ORDINALITY" } else { "" };
        format!("UNNEST({}){ordinality} AS u({})", arrays.join(", "), names.join(", "))
    }

    fn insert(&self, rest: &str) -> Statement {
        let parameters = self.rows.written();
        let names: Vec<String> = parameters.iter().map(|position| self.name(*position)).collect();
        let values: Vec<String> = parameters.iter().map(|position| self.value(*position)).collect();
        // The alias is what the guard compares with.
        let text =
            format!("INSERT INTO {} AS t ({}) SELECT {} FROM {}{rest}", self.table, names.join(", "), values.join(", "), self.arrays(&parameters, false));
        Statement { text: text.into(), parameters }
    }

    /// Leaves out what is there, before any column is missed. A unique key, if there is one, also sees what another writer inserts meanwhile.
    fn insert_where_absent(&self) -> Statement {
        let on_conflict = if self.rows.target.key_is_unique() { self.on_conflict() } else { String::new() };
        self.insert(&format!(" WHERE NOT EXISTS (SELECT 1 FROM {} AS t WHERE {}){on_conflict}", self.table, self.same_key()))
    }

    /// What a column becomes whose old value is in row `t`.
    fn combined(&self, position: usize, theirs: &str) -> String {
        let mine = format!("t.{}", self.name(position));
        // As text: `citext` and the like have an order of their own, whatever the collation.
        let ordered = |value: &str| match self.rows.order_of(position) {
            VersionOrder::OfBytes => format!("{value}::text COLLATE \"C\""),
            VersionOrder::OfType => value.to_owned(),
        };
        match self.rows.target.rule(position) {
            Rule::Add => format!("COALESCE({mine} + {theirs}, {mine}, {theirs})"),
            Rule::Max => format!("GREATEST({}, {})", ordered(&mine), ordered(theirs)),
            Rule::Min => format!("LEAST({}, {})", ordered(&mine), ordered(theirs)),
            Rule::Coalesce => format!("COALESCE({theirs}, {mine})"),
            Rule::First => format!("COALESCE({mine}, {theirs})"),
            Rule::Replace => theirs.to_owned(),
        }
    }

    fn on_conflict(&self) -> String {
        let settable = self.rows.settable();
        let key: Vec<String> = self.rows.target.key.iter().map(|position| self.name(*position)).collect();
        if settable.is_empty() {
            return format!(" ON CONFLICT ({}) DO NOTHING", key.join(", "));
        }
        let theirs = |position: usize| format!("EXCLUDED.{}", self.name(position));
        let assignments: Vec<String> =
            settable.iter().map(|position| format!("{} = {}", self.name(*position), self.combined(*position, &theirs(*position)))).collect();
        let guard = self.newer(theirs).map_or_else(String::new, |guard| format!(" WHERE {guard}"));
        format!(" ON CONFLICT ({}) DO UPDATE SET {}{guard}", key.join(", "), assignments.join(", "))
    }

    fn update(&self, returning: &str) -> Statement {
        let parameters = self.sent_for_update();
        let settable = self.rows.settable();
        let assignments: Vec<String> =
            settable.iter().map(|position| format!("{} = {}", self.name(*position), self.combined(*position, &self.value(*position)))).collect();
        let text = format!(
            "UPDATE {} AS t SET {} FROM {} WHERE {}{}{returning}",
            self.table,
            assignments.join(", "),
            self.arrays(&parameters, true),
            self.same_key(),
            self.and_newer()
        );
        Statement { text: text.into(), parameters }
    }

    fn delete(&self, rest: &str) -> Statement {
        let parameters = self.rows.sent_for_delete();
        let text = format!("DELETE FROM {} AS t USING {} WHERE {}{rest}", self.table, self.arrays(&parameters, true), self.same_key());
        Statement { text: text.into(), parameters }
    }

    fn existing(&self) -> Statement {
        let parameters = self.rows.target.key.clone();
        // Locked, so that what is said of them stays true.
        let text = format!("SELECT u.number FROM {} JOIN {} AS t ON {} FOR UPDATE OF t", self.arrays(&parameters, true), self.table, self.same_key());
        Statement { text: text.into(), parameters }
    }

    /// Key columns too, even where they are generated and never written: they find the row.
    fn sent_for_update(&self) -> Vec<usize> {
        let RowsToWrite { target, shape, .. } = self.rows;
        shape.positions().filter(|position| target.key.contains(position) || target.column(*position).generated != Generated::Always).collect()
    }

    fn same_key(&self) -> String {
        let parts: Vec<String> = self.rows.target.key.iter().map(|position| format!("t.{} = {}", self.name(*position), self.value(*position))).collect();
        parts.join(" AND ")
    }

    fn and_newer(&self) -> String {
        self.newer(|version| self.value(version)).map_or_else(String::new, |guard| format!(" AND ({guard})"))
    }

    fn newer(&self, theirs: impl Fn(usize) -> String) -> Option<String> {
        Some(match self.rows.version_condition()? {
            VersionCondition::IsNull(version) => format!("t.{} IS NULL", self.name(version)),
            VersionCondition::IsNullOrNotNewer(version, order) => {
                let mine = format!("t.{}", self.name(version));
                let collation = match order {
                    VersionOrder::OfBytes => " COLLATE \"C\"",
                    VersionOrder::OfType => "",
                };
                format!("{mine} IS NULL OR {mine}{collation} <= {}{collation}", theirs(version))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Kind, Shape, Table, Target, WriteMode,
        sample::{self, column},
    };

    fn target(write: WriteMode) -> Target {
        let columns = vec![
            column("id", Kind::Int { bits: 32 }, "integer", false),
            column("note", Kind::Text { max_chars: Some(9) }, "character varying(9)", true),
            column("total", Kind::Decimal { precision: None, scale: None, exact: true }, "numeric(12,2)", false),
        ];
        sample::target("s.orders", columns, write)
    }

    fn of(write: WriteMode, operation: Operation, present: [bool; 3], guard: Option<usize>) -> Statements {
        statements(RowsToWrite { target: &target(write), shape: &Shape(Box::new(present)), guard }, operation)
    }

    #[test]
    fn an_upsert_is_one_statement_with_its_guard() {
        let Statements::OnceGuarded(statement) = of(WriteMode::Upsert, Operation::Write, [true; 3], Some(2)) else { panic!() };
        assert_eq!(
            &*statement.text,
            "INSERT INTO \"s\".\"orders\" AS t (\"id\", \"note\", \"total\") SELECT u.c0::integer, u.c1::character varying, u.c2::numeric \
             FROM UNNEST($1::int8[], $2::text[], $3::text[]) AS u(c0, c1, c2) ON CONFLICT (\"id\") DO UPDATE SET \"note\" = EXCLUDED.\"note\", \
             \"total\" = EXCLUDED.\"total\" WHERE t.\"total\" IS NULL OR t.\"total\" <= EXCLUDED.\"total\""
        );
        assert_eq!(statement.parameters, vec![0, 1, 2]);
    }

    #[test]
    fn a_shape_without_a_required_column_updates_first() {
        let Statements::Divided { first, insert, .. } = of(WriteMode::Upsert, Operation::Write, [true, true, false], None) else { panic!() };
        assert_eq!(
            &*first.text,
            "UPDATE \"s\".\"orders\" AS t SET \"note\" = u.c1::character varying FROM UNNEST($1::int8[], $2::text[]) WITH ORDINALITY \
             AS u(c0, c1, number) WHERE t.\"id\" = u.c0::integer RETURNING u.number"
        );
        assert!(insert.is_some());
    }

    #[test]
    fn a_tombstone_deletes_whatever_the_version() {
        let Statements::Once(statement) = of(WriteMode::Upsert, Operation::Delete, [true, false, false], Some(2)) else { panic!() };
        assert_eq!(
            &*statement.text,
            "DELETE FROM \"s\".\"orders\" AS t USING UNNEST($1::int8[]) WITH ORDINALITY AS u(c0, number) WHERE t.\"id\" = u.c0::integer"
        );
    }

    #[test]
    fn a_delete_with_a_version_can_lose() {
        let Statements::Divided { first, insert: None, .. } = of(WriteMode::Upsert, Operation::Delete, [true, false, true], Some(2)) else { panic!() };
        assert_eq!(
            &*first.text,
            "DELETE FROM \"s\".\"orders\" AS t USING UNNEST($1::int8[], $2::text[]) WITH ORDINALITY AS u(c0, c2, number) \
             WHERE t.\"id\" = u.c0::integer AND (t.\"total\" IS NULL OR t.\"total\" <= u.c2::numeric) RETURNING u.number"
        );
    }

    #[test]
    fn a_row_with_nothing_to_set_is_inserted_where_there_is_none() {
        let Statements::Absent(statement) = of(WriteMode::Upsert, Operation::Write, [true, false, false], None) else { panic!() };
        assert!(statement.text.ends_with("ON CONFLICT (\"id\") DO NOTHING"));
    }

    #[test]
    fn a_key_without_a_unique_constraint_is_looked_for() {
        let mut target = target(WriteMode::InsertIfNew);
        let shape = Shape(Box::new([true; 3]));
        let text = |target: &Target| match statements(RowsToWrite { target, shape: &shape, guard: None }, Operation::Write) {
            Statements::Absent(statement) => statement.text.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(text(&target).ends_with("AS u(c0, c1, c2) ON CONFLICT (\"id\") DO NOTHING"), "{}", text(&target));
        target.table = Arc::new(Table { keys: Vec::new(), ..Table::clone(&target.table) });
        assert!(
            text(&target).ends_with("AS u(c0, c1, c2) WHERE NOT EXISTS (SELECT 1 FROM \"s\".\"orders\" AS t WHERE t.\"id\" = u.c0::integer)"),
            "{}",
            text(&target)
        );
    }

    #[test]
    fn each_column_accumulates_by_its_rule() {
        let mut target = target(WriteMode::Accumulate);
        let shape = Shape(Box::new([true; 3]));
        let mut texts = |note: Rule, total: Rule| {
            target.accumulate = vec![Rule::Replace, note, total];
            match statements(RowsToWrite { target: &target, shape: &shape, guard: None }, Operation::Write) {
                Statements::Divided { first, insert: Some(insert), .. } => (first.text.to_string(), insert.text.to_string()),
                other => panic!("{other:?}"),
            }
        };
        let (update, insert) = texts(Rule::Max, Rule::Add);
        assert!(
            update.contains(
                "SET \"note\" = GREATEST(t.\"note\"::text COLLATE \"C\", u.c1::character varying::text COLLATE \"C\"), \
                 \"total\" = COALESCE(t.\"total\" + u.c2::numeric, t.\"total\", u.c2::numeric) FROM"
            ),
            "{update}"
        );
        assert!(insert.ends_with("\"total\" = COALESCE(t.\"total\" + EXCLUDED.\"total\", t.\"total\", EXCLUDED.\"total\")"), "{insert}");
        let (_, insert) = texts(Rule::First, Rule::Min);
        assert!(insert.ends_with("SET \"note\" = COALESCE(t.\"note\", EXCLUDED.\"note\"), \"total\" = LEAST(t.\"total\", EXCLUDED.\"total\")"), "{insert}");
        let (_, insert) = texts(Rule::Coalesce, Rule::Replace);
        assert!(insert.ends_with("SET \"note\" = COALESCE(EXCLUDED.\"note\", t.\"note\"), \"total\" = EXCLUDED.\"total\""), "{insert}");
    }
}
