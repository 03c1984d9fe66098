//! What `information_schema` says of a table.

use sqlx::{Row, mysql::MySqlRow};

use super::{
    flavour::Flavour,
    kind::{DeclaredType, is_equal_by_bytes, kind},
    session::MySqlSession,
    statement::qualified,
};
use crate::{
    fault::{During, Fault, FaultClass},
    model::{Generated, Identifier, KeyEquality, Kind, Table, TableColumn, TableName, UniqueKey},
};

const RELATION: &str = "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES \
    WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ?";

const COLUMNS: &str = "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CAST(CHARACTER_MAXIMUM_LENGTH AS SIGNED), CAST(NUMERIC_PRECISION AS SIGNED), \
    CAST(NUMERIC_SCALE AS SIGNED), CAST(DATETIME_PRECISION AS SIGNED), IS_NULLABLE = 'YES', COLUMN_DEFAULT IS NOT NULL, EXTRA, COLLATION_NAME, \
    COALESCE(GENERATION_EXPRESSION, '') <> '' FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";

/// One row for each column of each unique index. One without a name is an expression; a part of a column is not the column.
const KEYS: &str = "SELECT INDEX_NAME, CASE WHEN SUB_PART IS NULL THEN COLUMN_NAME END FROM information_schema.STATISTICS \
    WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0 ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX";

const TRIGGERS: &str = "SELECT count(*) FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ?";

/// MariaDB's JSON is a text with this check, named like its column.
const JSON_CHECKS: &str = "SELECT CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS \
    WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ? AND CHECK_CLAUSE LIKE 'json_valid(%'";

struct Relation {
    schema: String,
    name: String,
    kind: String,
    engine: String,
}

struct FoundColumn {
    column: TableColumn,
    collation: Option<String>,
}

pub(super) async fn describe(session: &mut MySqlSession, name: &TableName) -> Result<Table, Fault> {
    let query = sqlx::query(RELATION).bind(name.schema.as_ref().map(Identifier::as_str)).bind(name.name.as_str());
    let relation = session.fetch(query, During::Catalogue, read_relation).await?.into_iter().next();
    let relation = relation.ok_or_else(|| {
        let (address, user) = (session.options.address(), session.options.connect.get_username());
        Fault::new(FaultClass::Halt, "missing-table", format!("there is no table {name} in {address}, or none that {user} may see"))
            .with_mend(format!("create table {name}, correct `table` in the route, or grant SELECT, INSERT, UPDATE, DELETE on it"))
    })?;
    let is_elsewhere = relation.schema != session.options.bookkeeping;
    // As it was named where it was not qualified: names stay short, and a restored copy under another name is the same.
    let name = TableName { schema: name.schema.as_ref().map(|_| Identifier::new(&relation.schema)), name: Identifier::new(&relation.name) };
    refuse(&relation, &name)?;

    let of_table = |sql: &'static str| sqlx::query(sql).bind(relation.schema.clone()).bind(relation.name.clone());
    let mut columns = session.fetch(of_table(COLUMNS), During::Catalogue, read_column).await?;
    if session.flavour == Flavour::MariaDb {
        let checked = session.fetch(of_table(JSON_CHECKS), During::Catalogue, |row| row.try_get::<String, _>(0)).await?;
        for found in columns.iter_mut().filter(|found| checked.iter().any(|name| name == found.column.name.as_str())) {
            found.column.kind = Kind::Json;
        }
    }
    let parts = session.fetch(of_table(KEYS), During::Catalogue, |row| Ok((row.try_get::<String, _>(0)?, row.try_get::<Option<String>, _>(1)?))).await?;
    let triggers = session.fetch(of_table(TRIGGERS), During::Catalogue, |row| row.try_get::<i64, _>(0)).await?;

    let mut warnings = Vec::new();
    let (mut keys, mut other_unique) = (Vec::new(), Vec::new());
    for index in parts.chunk_by(|left, right| left.0 == right.0) {
        match usable(index, &columns, &mut warnings) {
            Some(key) => keys.push(key),
            None => other_unique.extend(index.first().map(|(name, _)| name.clone())),
        }
    }
    let several: Vec<&str> = keys.iter().map(|key| key.name.as_str()).chain(other_unique.iter().map(String::as_str)).collect();
    if several.len() > 1 {
        warnings.push(format!(
            "{name} has several unique keys ({}): a row that meets another one of them is a bad record, and rows are written one by one, which is slower",
            several.join(", ")
        ));
    }
    if triggers.first().is_some_and(|triggers| *triggers > 0) {
        warnings.push(format!("{name} has triggers: they run once for each row that is written, and may change or refuse it"));
    }
    if is_elsewhere {
        warnings.push(format!(
            "{name} is in database {}, its checkpoint in {}: what restores one must restore the other",
            relation.schema, session.options.bookkeeping
        ));
    }
    Ok(Table { name, columns: columns.into_iter().map(|found| found.column).collect(), keys, other_unique, warnings })
}

/// Only tables whose rows commit and survive a crash with their checkpoint may be targets.
fn refuse(relation: &Relation, name: &TableName) -> Result<(), Fault> {
    let (reason, what, mend) = match (relation.kind.as_str(), relation.engine.as_str()) {
        ("BASE TABLE" | "SYSTEM VERSIONED", "InnoDB") => return Ok(()),
        ("BASE TABLE" | "SYSTEM VERSIONED", engine) => (
            "not-transactional",
            format!("is kept by {engine}, which has no transactions: a crash would leave half of a batch"),
            format!("ALTER TABLE {} ENGINE = InnoDB;", qualified(name)),
        ),
        ("TEMPORARY", _) => ("temporary-table", "is temporary".to_owned(), "name a permanent table".to_owned()),
        _ => ("not-a-table", "is a view".to_owned(), "name the table below it".to_owned()),
    };
    Err(Fault::new(FaultClass::Halt, reason, format!("{name} {what}")).with_mend(mend))
}

/// A key that covers whole rows.
fn usable(index: &[(String, Option<String>)], columns: &[FoundColumn], warnings: &mut Vec<String>) -> Option<UniqueKey> {
    let name = &index.first()?.0;
    let positions: Option<Vec<usize>> =
        index.iter().map(|(_, column)| columns.iter().position(|found| Some(found.column.name.as_str()) == column.as_deref())).collect();
    let positions = positions?;
    let of_key = || positions.iter().filter_map(|position| columns.get(*position));
    if let Some(found) = of_key().find(|found| found.column.nullable) {
        warnings.push(format!("unique key {name} is left out: its column {} may be NULL, and NULLs are never equal", found.column.name));
        return None;
    }
    let is_exact = of_key().all(|found| is_equal_by_bytes(&found.column, found.collation.as_deref()));
    let equality = if is_exact { KeyEquality::Bytes } else { KeyEquality::Database };
    Some(UniqueKey { name: name.clone(), primary: name == "PRIMARY", columns: positions, equality })
}

fn read_relation(row: &MySqlRow) -> Result<Relation, sqlx::Error> {
    Ok(Relation { schema: row.try_get(0)?, name: row.try_get(1)?, kind: row.try_get(2)?, engine: row.try_get::<Option<String>, _>(3)?.unwrap_or_default() })
}

fn read_column(row: &MySqlRow) -> Result<FoundColumn, sqlx::Error> {
    let (name, whole): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let declared =
        DeclaredType { name: &name, whole: &whole, max_chars: row.try_get(3)?, precision: row.try_get(4)?, scale: row.try_get(5)?, digits: row.try_get(6)? };
    let kind = kind(declared);
    let extra: String = row.try_get(9)?;
    let generated = match row.try_get::<bool, _>(11)? {
        true => Generated::Always,
        false if extra.contains("auto_increment") => Generated::ByDefault,
        false => Generated::No,
    };
    let column = TableColumn {
        name: Identifier::new(&row.try_get::<String, _>(0)?),
        kind,
        nullable: row.try_get(7)?,
        has_default: row.try_get::<bool, _>(8)? || generated != Generated::No,
        generated,
        declared: whole,
    };
    Ok(FoundColumn { column, collation: row.try_get(10)? })
}
