//! The text of the statements that write rows. Pure.

use std::sync::Arc;

use super::{array::Element, kind::cast};
use crate::{
    execute::{qualified, quoted},
    model::{Generated, Identifier, Kind, Operation, Shape, Target, WriteMode},
};

/// A statement and the positions of the target whose columns are its array parameters, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub text: Arc<str>,
    pub parameters: Vec<usize>,
}

/// How rows of one operation and one shape are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// There is nothing in them to write.
    Nothing,
    /// Rows without a single column: all defaults, one statement a row.
    Defaults(Statement),
    /// One statement. Under a guard, rows that it does not affect are stale.
    Once(Statement),
    /// Writes what exists and returns which rows it wrote (numbered from 1). What of the rest does exist is stale;
    /// what does not is inserted, if there is an `insert`.
    Update { update: Statement, existing: Statement, insert: Option<Statement>, lacks: Vec<Identifier> },
}

pub(super) fn plan(target: &Target, operation: Operation, shape: &Shape, guard: Option<usize>) -> Plan {
    let builder = Builder { target, table: qualified(&target.table.name), shape, guard };
    let settable = builder.settable();
    match (operation, target.write) {
        (Operation::Delete, _) => {
            let delete = builder.delete();
            // A delete that carries a version can lose; one that does not (a tombstone) cannot.
            match builder.version_carried() {
                Some(_) => Plan::Update { update: delete, existing: builder.existing(), insert: None, lacks: Vec::new() },
                None => Plan::Once(delete),
            }
        }
        (Operation::Write, WriteMode::Append) if builder.written().is_empty() => {
            Plan::Defaults(Statement { text: format!("INSERT INTO {} DEFAULT VALUES", builder.table).into(), parameters: Vec::new() })
        }
        (Operation::Write, WriteMode::Append) => Plan::Once(builder.insert("")),
        (Operation::Write, WriteMode::Update) if settable.is_empty() => Plan::Nothing,
        (Operation::Write, WriteMode::Update) if guard.is_none() => Plan::Once(builder.update(false)),
        (Operation::Write, WriteMode::Update) => Plan::Update { update: builder.update(true), existing: builder.existing(), insert: None, lacks: Vec::new() },
        (Operation::Write, WriteMode::Upsert) => {
            let lacks = lacking(target, shape);
            // An insert would fail on the missing column before it found the row that is there.
            if !lacks.is_empty() && !settable.is_empty() {
                let insert = Some(builder.insert(&builder.on_conflict(&settable)));
                return Plan::Update { update: builder.update(true), existing: builder.existing(), insert, lacks };
            }
            Plan::Once(builder.insert(&builder.on_conflict(&settable)))
        }
    }
}

/// Columns that an insert of this shape would need and does not carry.
fn lacking(target: &Target, shape: &Shape) -> Vec<Identifier> {
    let carried: Vec<usize> = shape.positions().filter_map(|position| target.columns.get(position).copied()).collect();
    let needed =
        |index: usize| target.table.columns.get(index).is_some_and(|column| !column.nullable && !column.has_default && column.generated == Generated::No);
    (0..target.table.columns.len())
        .filter(|index| needed(*index) && !carried.contains(index))
        .filter_map(|index| target.table.columns.get(index).map(|column| column.name.clone()))
        .collect()
}

struct Builder<'a> {
    target: &'a Target,
    table: String,
    shape: &'a Shape,
    guard: Option<usize>,
}

impl Builder<'_> {
    /// Columns that are sent and may be written.
    fn written(&self) -> Vec<usize> {
        self.shape.positions().filter(|position| self.target.column(*position).generated != Generated::Always).collect()
    }

    fn settable(&self) -> Vec<usize> {
        self.written().into_iter().filter(|position| !self.target.key.contains(position)).collect()
    }

    /// The guard's column, if the rows carry it.
    fn version_carried(&self) -> Option<usize> {
        self.guard.filter(|guard| self.shape.0.get(*guard).copied().unwrap_or(false))
    }

    fn name(&self, position: usize) -> String {
        quoted(&self.target.column(position).name)
    }

    /// The value of a column in row `u`, as its column's type.
    fn value(&self, position: usize) -> String {
        format!("u.c{position}::{}", cast(&self.target.column(position).declared))
    }

    fn arrays(&self, positions: &[usize], numbered: bool) -> String {
        let arrays: Vec<String> = positions
            .iter()
            .enumerate()
            .map(|(index, position)| format!("${}::{}[]", index + 1, Element::of(&self.target.column(*position).kind).name()))
            .collect();
        let mut names: Vec<String> = positions.iter().map(|position| format!("c{position}")).collect();
        if numbered {
            names.push("number".to_owned());
        }
        let ordinality = if numbered { " WITH ORDINALITY" } else { "" };
        format!("UNNEST({}){ordinality} AS u({})", arrays.join(", "), names.join(", "))
    }

    fn insert(&self, on_conflict: &str) -> Statement {
        let parameters = self.written();
        let names: Vec<String> = parameters.iter().map(|position| self.name(*position)).collect();
        let values: Vec<String> = parameters.iter().map(|position| self.value(*position)).collect();
        // The alias is what the guard compares with.
        let text = format!(
            "INSERT INTO {} AS t ({}) SELECT {} FROM {}{on_conflict}",
            self.table,
            names.join(", "),
            values.join(", "),
            self.arrays(&parameters, false)
        );
        Statement { text: text.into(), parameters }
    }

    fn on_conflict(&self, settable: &[usize]) -> String {
        let key: Vec<String> = self.target.key.iter().map(|position| self.name(*position)).collect();
        if settable.is_empty() {
            return format!(" ON CONFLICT ({}) DO NOTHING", key.join(", "));
        }
        let assignments: Vec<String> = settable.iter().map(|position| format!("{0} = EXCLUDED.{0}", self.name(*position))).collect();
        let guard = self.newer(|version| format!("EXCLUDED.{}", self.name(version))).map_or_else(String::new, |guard| format!(" WHERE {guard}"));
        format!(" ON CONFLICT ({}) DO UPDATE SET {}{guard}", key.join(", "), assignments.join(", "))
    }

    fn update(&self, returning: bool) -> Statement {
        let parameters = self.sent_for_update();
        let assignments: Vec<String> = self.settable().iter().map(|position| format!("{} = {}", self.name(*position), self.value(*position))).collect();
        let returning = if returning { " RETURNING u.number" } else { "" };
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

    fn delete(&self) -> Statement {
        let mut parameters = self.target.key.clone();
        parameters.extend(self.version_carried().filter(|version| !self.target.key.contains(version)));
        let (guard, returning) = if self.version_carried().is_some() { (self.and_newer(), " RETURNING u.number") } else { (String::new(), "") };
        let text = format!("DELETE FROM {} AS t USING {} WHERE {}{guard}{returning}", self.table, self.arrays(&parameters, true), self.same_key());
        Statement { text: text.into(), parameters }
    }

    fn existing(&self) -> Statement {
        let parameters = self.target.key.clone();
        let text =
            format!("SELECT u.number FROM {} WHERE EXISTS (SELECT 1 FROM {} AS t WHERE {})", self.arrays(&parameters, true), self.table, self.same_key());
        Statement { text: text.into(), parameters }
    }

    /// Key columns too, even where they are generated and never written: they find the row.
    fn sent_for_update(&self) -> Vec<usize> {
        self.shape.positions().filter(|position| self.target.key.contains(position) || self.target.column(*position).generated != Generated::Always).collect()
    }

    fn same_key(&self) -> String {
        let parts: Vec<String> = self.target.key.iter().map(|position| format!("t.{} = {}", self.name(*position), self.value(*position))).collect();
        parts.join(" AND ")
    }

    fn and_newer(&self) -> String {
        self.newer(|version| self.value(version)).map_or_else(String::new, |guard| format!(" AND ({guard})"))
    }

    /// NULL never wins over a value; NULL against NULL applies; of equal versions the later record wins.
    fn newer(&self, theirs: impl Fn(usize) -> String) -> Option<String> {
        let guard = self.guard?;
        let mine = format!("t.{}", self.name(guard));
        if self.version_carried().is_none() {
            return Some(format!("{mine} IS NULL"));
        }
        // Texts are ordered by their bytes, as compaction orders them, whatever the column's collation.
        let collation = if matches!(self.target.column(guard).kind, Kind::Text { .. }) { " COLLATE \"C\"" } else { "" };
        Some(format!("{mine} IS NULL OR {mine}{collation} <= {}{collation}", theirs(guard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeyEquality, Table, TableColumn, TableName, UniqueKey};

    fn target(write: WriteMode) -> Target {
        let column = |name: &str, kind: Kind, declared: &str, nullable: bool| TableColumn {
            name: Identifier::new(name),
            kind,
            declared: declared.to_owned(),
            nullable,
            has_default: false,
            generated: Generated::No,
        };
        let table = Table {
            name: TableName::parse("s.orders"),
            columns: vec![
                column("id", Kind::Int { bits: 32 }, "integer", false),
                column("note", Kind::Text { max_chars: Some(9) }, "character varying(9)", true),
                column("total", Kind::Decimal { precision: None, scale: None, exact: true }, "numeric(12,2)", false),
            ],
            keys: vec![UniqueKey { name: "orders_pkey".to_owned(), primary: true, columns: vec![0], equality: KeyEquality::Bytes }],
            warnings: Vec::new(),
        };
        Target { route: "orders".into(), table: Arc::new(table), columns: vec![0, 1, 2], key: vec![0], key_equality: KeyEquality::Bytes, version: None, write }
    }

    fn shape(present: [bool; 3]) -> Shape {
        Shape(Box::new(present))
    }

    #[test]
    fn an_upsert_is_one_statement_with_its_guard() {
        let Plan::Once(statement) = plan(&target(WriteMode::Upsert), Operation::Write, &shape([true; 3]), Some(2)) else { panic!() };
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
        let Plan::Update { update, insert, lacks, .. } = plan(&target(WriteMode::Upsert), Operation::Write, &shape([true, true, false]), None) else {
            panic!()
        };
        assert_eq!(
            &*update.text,
            "UPDATE \"s\".\"orders\" AS t SET \"note\" = u.c1::character varying FROM UNNEST($1::int8[], $2::text[]) WITH ORDINALITY \
             AS u(c0, c1, number) WHERE t.\"id\" = u.c0::integer RETURNING u.number"
        );
        assert!(insert.is_some());
        assert_eq!(lacks, vec![Identifier::new("total")]);
    }

    #[test]
    fn a_tombstone_deletes_whatever_the_version() {
        let Plan::Once(statement) = plan(&target(WriteMode::Upsert), Operation::Delete, &shape([true, false, false]), Some(2)) else { panic!() };
        assert_eq!(
            &*statement.text,
            "DELETE FROM \"s\".\"orders\" AS t USING UNNEST($1::int8[]) WITH ORDINALITY AS u(c0, number) WHERE t.\"id\" = u.c0::integer"
        );
    }

    #[test]
    fn what_has_nothing_to_set_does_nothing() {
        assert_eq!(plan(&target(WriteMode::Update), Operation::Write, &shape([true, false, false]), None), Plan::Nothing);
        let Plan::Once(statement) = plan(&target(WriteMode::Upsert), Operation::Write, &shape([true, false, false]), None) else { panic!() };
        assert!(statement.text.ends_with("ON CONFLICT (\"id\") DO NOTHING"));
    }
}
