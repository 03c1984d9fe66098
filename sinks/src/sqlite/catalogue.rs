//! What SQLite's schema says of a table.

use sqlx::{Row, sqlite::SqliteRow};

use super::{
    kind::{is_equal_by_bytes, is_numeric_by_surprise, kind},
    session::SqliteSession,
};
use crate::{
    fault::{During, Fault, FaultClass},
    model::{Generated, Identifier, KeyEquality, Kind, Table, TableColumn, TableName, UniqueKey},
};

struct Found {
    name: String,
    kind: String,
    strict: bool,
    without_rowid: bool,
}

struct FoundColumn {
    column: TableColumn,
    /// 1-based place in the primary key, 0 outside.
    key: usize,
}

struct Index {
    name: String,
    primary: bool,
    partial: bool,
}

/// A column of an index.
struct Part {
    /// None: an expression.
    name: Option<String>,
    collation: String,
}

pub(super) async fn describe(session: &mut SqliteSession, name: &TableName) -> Result<Table, Fault> {
    let missing = || {
        Fault::new(FaultClass::Halt, "missing-table", format!("there is no table {name} in the database"))
            .with_mend(format!("create table {name}, or correct `table` in the route"))
    };
    if name.schema.as_ref().is_some_and(|schema| !schema.as_str().eq_ignore_ascii_case("main")) {
        return Err(missing().with_mend("SQLite has no schemas here: leave out what precedes the dot, or write main"));
    }
    let query = sqlx::query("SELECT name, type, strict, wr FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE").bind(name.name.as_str());
    let found = session.fetch(query, During::Catalogue, read_found).await?.into_iter().next().ok_or_else(missing)?;
    if found.kind != "table" {
        let detail = format!("{name} is a {}, whose rows are elsewhere", found.kind);
        return Err(Fault::new(FaultClass::Halt, "not-a-table", detail).with_mend("name the table below it"));
    }

    let query =
        sqlx::query("SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid").bind(found.name.as_str());
    let mut columns = session.fetch(query, During::Catalogue, |row| read_column(row, found.strict)).await?;
    let query =
        sqlx::query("SELECT name, origin = 'pk', partial FROM pragma_index_list(?) WHERE \"unique\" ORDER BY origin <> 'pk', name").bind(found.name.as_str());
    let indexes = session.fetch(query, During::Catalogue, read_index).await?;

    let mut warnings = Vec::new();
    let mut keys = Vec::new();
    let mut primary: Vec<(usize, usize)> = columns.iter().enumerate().filter(|(_, found)| found.key > 0).map(|(index, found)| (found.key, index)).collect();
    primary.sort_unstable();
    let primary: Vec<usize> = primary.into_iter().map(|(_, index)| index).collect();
    let is_alias = primary.len() == 1 && !found.without_rowid && !indexes.iter().any(|index| index.primary);
    for index in &primary {
        if let Some(found) = columns.get_mut(*index) {
            // SQLite lets NULL into a primary key for old times' sake; a row without its key is never written.
            found.column.nullable = false;
            if is_alias && found.column.declared.eq_ignore_ascii_case("INTEGER") {
                found.column.generated = Generated::ByDefault;
                found.column.has_default = true;
            }
        }
    }
    // A rowid alias has no index, and a number has no collation.
    let of_primary = indexes.iter().find(|index| index.primary);
    let folds = match of_primary {
        Some(index) => folding(&parts(session, index).await?, "primary key", &mut warnings),
        None => false,
    };
    if !primary.is_empty() && !folds {
        let equality = equality(&primary, &columns);
        keys.push(UniqueKey { name: "PRIMARY KEY".to_owned(), primary: true, columns: primary, equality });
    }
    for index in indexes.iter().filter(|index| !index.primary && !index.partial) {
        if let Some(key) = unique_key(session, index, &columns, &mut warnings).await? {
            keys.push(key);
        }
    }
    let has_primary = keys.iter().any(|key| key.primary);
    let is_key = |index: &Index| if index.primary { has_primary } else { keys.iter().any(|key| key.name == index.name) };
    let other_unique = indexes.iter().filter(|index| !is_key(index)).map(|index| index.name.clone()).collect();
    if keys.len() > 1 {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        warnings.push(format!("{} has several unique keys ({}): a row that meets another one of them is a bad record", found.name, names.join(", ")));
    }
    let query = sqlx::query("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE").bind(found.name.as_str());
    if !session.fetch(query, During::Catalogue, |row| row.try_get::<String, _>(0)).await?.is_empty() {
        warnings.push(format!("{} has triggers: they run once for each row that is written, and may change or refuse it", found.name));
    }
    warnings.extend(columns.iter().filter_map(|column| inexact(&column.column, found.strict)));
    Ok(Table {
        name: TableName { schema: None, name: Identifier::new(&found.name) },
        columns: columns.into_iter().map(|found| found.column).collect(),
        keys,
        other_unique,
        warnings,
    })
}

async fn unique_key(session: &mut SqliteSession, index: &Index, columns: &[FoundColumn], warnings: &mut Vec<String>) -> Result<Option<UniqueKey>, Fault> {
    let parts = parts(session, index).await?;
    // An expression has no name.
    let positions: Option<Vec<usize>> =
        parts.iter().map(|part| part.name.as_ref().and_then(|name| columns.iter().position(|found| found.column.name.as_str() == name))).collect();
    let Some(positions) = positions else { return Ok(None) };
    if let Some(found) = positions.iter().filter_map(|position| columns.get(*position)).find(|found| found.column.nullable) {
        warnings.push(format!("unique key {} is left out: its column {} may be NULL, and NULLs are never equal", index.name, found.column.name));
        return Ok(None);
    }
    if folding(&parts, &format!("unique key {}", index.name), warnings) {
        return Ok(None);
    }
    let equality = equality(&positions, columns);
    Ok(Some(UniqueKey { name: index.name.clone(), primary: false, columns: positions, equality }))
}

async fn parts(session: &mut SqliteSession, index: &Index) -> Result<Vec<Part>, Fault> {
    let query = sqlx::query("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno").bind(index.name.as_str());
    session.fetch(query, During::Catalogue, |row| Ok(Part { name: row.try_get(0)?, collation: row.try_get(1)? })).await
}

/// Whether a key has a collation that holds different texts equal: two records would mean one row that a batch takes for two.
fn folding(parts: &[Part], key: &str, warnings: &mut Vec<String>) -> bool {
    let Some(part) = parts.iter().find(|part| !part.collation.eq_ignore_ascii_case("BINARY")) else { return false };
    let column = part.name.as_deref().unwrap_or("an expression");
    warnings.push(format!(
        "{key} is left out: its column {column} is compared by {}, which holds different texts equal; declare it without a collation to use the key",
        part.collation
    ));
    true
}

fn equality(positions: &[usize], columns: &[FoundColumn]) -> KeyEquality {
    let is_exact = positions.iter().filter_map(|position| columns.get(*position)).all(|found| is_equal_by_bytes(&found.column));
    if is_exact { KeyEquality::Bytes } else { KeyEquality::Database }
}

fn inexact(column: &TableColumn, strict: bool) -> Option<String> {
    let Kind::Decimal { exact: false, .. } = column.kind else { return None };
    Some(if is_numeric_by_surprise(&column.declared, strict) {
        format!("column {} is declared {}, which SQLite takes for a number; declare it TEXT", column.name, column.declared)
    } else {
        format!("column {} ({}) keeps no more than 15 digits of a decimal; declare it TEXT to keep all", column.name, column.declared)
    })
}

fn read_found(row: &SqliteRow) -> Result<Found, sqlx::Error> {
    Ok(Found { name: row.try_get(0)?, kind: row.try_get(1)?, strict: row.try_get(2)?, without_rowid: row.try_get(3)? })
}

fn read_column(row: &SqliteRow, strict: bool) -> Result<FoundColumn, sqlx::Error> {
    let declared: String = row.try_get(1)?;
    let generated = match row.try_get::<i64, _>(5)? {
        0 => Generated::No,
        _ => Generated::Always,
    };
    let column = TableColumn {
        name: Identifier::new(&row.try_get::<String, _>(0)?),
        kind: kind(&declared, strict),
        declared,
        nullable: !row.try_get::<bool, _>(2)?,
        has_default: row.try_get::<bool, _>(3)? || generated == Generated::Always,
        generated,
    };
    Ok(FoundColumn { column, key: usize::try_from(row.try_get::<i64, _>(4)?).unwrap_or(0) })
}

fn read_index(row: &SqliteRow) -> Result<Index, sqlx::Error> {
    Ok(Index { name: row.try_get(0)?, primary: row.try_get(1)?, partial: row.try_get(2)? })
}
