//! What PostgreSQL's catalogue says of a table.

use sqlx::{Row, postgres::PgRow};

use super::{
    kind::{array, is_equal_by_bytes, kind},
    session::PostgresSession,
};
use crate::{
    fault::{During, Fault, FaultClass},
    model::{Generated, Identifier, KeyEquality, Table, TableColumn, TableName, UniqueKey},
};

const RELATION: &str = "SELECT c.oid::int8, n.nspname::text, c.relkind::text, c.relpersistence::text, \
    (SELECT count(*) FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'), \
    c.relhasrules, c.relrowsecurity, \
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_any_column_privilege(c.oid, 'INSERT, UPDATE') \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relname = $1 AND CASE WHEN $2::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = $2 END \
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";

/// Domains are followed down to their base type: what they check, they check on assignment.
const COLUMNS: &str = "WITH RECURSIVE base AS ( \
        SELECT a.attnum, a.atttypid AS type, a.atttypmod AS modifier, false AS not_null, false AS has_default \
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped \
        UNION ALL \
        SELECT b.attnum, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE b.modifier END, \
               b.not_null OR t.typnotnull, b.has_default OR t.typdefault IS NOT NULL \
        FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd') \
    SELECT a.attnum::int4, a.attname::text, pg_catalog.format_type(b.type, b.modifier), t.typname::text, \
           t.typnamespace = 'pg_catalog'::regnamespace, t.typtype::text, b.modifier, \
           NOT (a.attnotnull OR b.not_null), (a.atthasdef AND a.attgenerated = '') OR b.has_default, \
           a.attidentity::text, a.attgenerated::text, \
           ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) \
    FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum JOIN pg_catalog.pg_type t ON t.oid = b.type \
    WHERE a.attrelid = $1::int8::oid AND t.typtype <> 'd' ORDER BY a.attnum";

const KEYS: &str = "SELECT c.relname::text, i.indisprimary, pg_catalog.string_to_array(i.indkey::text, ' ')::int2[], i.indnkeyatts::int4, \
           i.indpred IS NOT NULL, i.indexprs IS NOT NULL, i.indimmediate, i.indisvalid, \
           EXISTS (SELECT FROM pg_catalog.pg_collation o WHERE NOT o.collisdeterministic AND (o.oid = ANY (i.indcollation) OR EXISTS ( \
               SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND a.attcollation = o.oid))) \
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
    WHERE i.indrelid = $1::int8::oid AND i.indisunique ORDER BY i.indisprimary DESC, c.relname COLLATE \"C\"";

struct Relation {
    oid: i64,
    schema: String,
    kind: String,
    persistence: String,
    triggers: i64,
    rules: bool,
    row_security: bool,
    /// Some write at least; which of them a route needs, its first batch tells.
    may_write: bool,
}

struct Index {
    name: String,
    primary: bool,
    /// Numbers of attributes; the first `key_columns` are the key, the rest is only stored.
    attributes: Vec<i16>,
    key_columns: usize,
    partial: bool,
    expression: bool,
    immediate: bool,
    valid: bool,
    /// A collation that holds different texts equal, of the index or of a column.
    folds: bool,
}

pub(super) async fn describe(session: &mut PostgresSession, name: &TableName) -> Result<Table, Fault> {
    let query = sqlx::query(RELATION).bind(name.name.as_str()).bind(name.schema.as_ref().map(Identifier::as_str));
    let relation = session.fetch(query, During::Catalogue, read_relation).await?.into_iter().next();
    let relation = relation.ok_or_else(|| {
        Fault::new(FaultClass::Halt, "missing-table", format!("there is no table {name} in database {}", session.options.address()))
            .with_mend(format!("create table {name}, or correct `table` in the route (names are case-sensitive; without a schema the search_path decides)"))
    })?;
    let name = TableName { schema: Some(Identifier::new(&relation.schema)), name: name.name.clone() };
    refuse(&relation, &name)?;
    if !relation.may_write {
        let role = session.options.connect.get_username();
        let (table, role_quoted) = (crate::execute::qualified(&name), crate::execute::quoted(&Identifier::new(role)));
        return Err(Fault::new(FaultClass::Halt, "permission", format!("role {role} may not write to {name}"))
            .with_mend(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role_quoted};")));
    }

    let columns = session.fetch(sqlx::query(COLUMNS).bind(relation.oid), During::Catalogue, read_column).await?;
    let indexes = session.fetch(sqlx::query(KEYS).bind(relation.oid), During::Catalogue, read_index).await?;
    let mut warnings = Vec::new();
    let (mut keys, mut other_unique) = (Vec::new(), Vec::new());
    for index in &indexes {
        match usable(index, &columns, &mut warnings) {
            Some(key) => keys.push(key),
            None => other_unique.push(index.name.clone()),
        }
    }
    if keys.len() > 1 {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        warnings.push(format!("{name} has several unique keys ({}): a row that meets another one of them is a bad record", names.join(", ")));
    }
    if relation.triggers > 0 {
        warnings.push(format!("{name} has triggers: they run once for each row that is written, and may change or refuse it"));
    }
    if relation.rules {
        warnings.push(format!("{name} has rewrite rules: rows may go elsewhere"));
    }
    if relation.row_security {
        warnings.push(format!("{name} has row security: the role must see every row that it writes"));
    }
    Ok(Table { name, columns: columns.into_iter().map(|(_, column)| column).collect(), keys, other_unique, warnings })
}

/// Only tables that survive a crash with their checkpoint may be targets.
fn refuse(relation: &Relation, name: &TableName) -> Result<(), Fault> {
    let (reason, what, mend) = match (relation.kind.as_str(), relation.persistence.as_str()) {
        ("r" | "p", "p") => return Ok(()),
        ("r" | "p", "u") => (
            "unlogged-table",
            "is unlogged: a crash empties it while the checkpoint survives",
            format!("ALTER TABLE {} SET LOGGED;", crate::execute::qualified(name)),
        ),
        ("r" | "p", _) => ("temporary-table", "is temporary", "name a permanent table".to_owned()),
        ("f", _) => {
            ("foreign-table", "is a foreign table: its rows are in another transaction than the checkpoint", "name a table of this database".to_owned())
        }
        _ => ("not-a-table", "is a view", "name the table below it".to_owned()),
    };
    Err(Fault::new(FaultClass::Halt, reason, format!("{name} {what}")).with_mend(mend))
}

/// A key that ON CONFLICT can name.
fn usable(index: &Index, columns: &[(i32, TableColumn)], warnings: &mut Vec<String>) -> Option<UniqueKey> {
    if index.partial || index.expression || !index.valid || !index.immediate {
        if !index.immediate {
            warnings.push(format!("unique constraint {} is deferrable: it cannot be the key of a route", index.name));
        }
        return None;
    }
    let positions: Option<Vec<usize>> =
        index.attributes.iter().take(index.key_columns).map(|attribute| columns.iter().position(|(number, _)| *number == i32::from(*attribute))).collect();
    let positions = positions?;
    let nullable = positions.iter().filter_map(|position| columns.get(*position)).find(|(_, column)| column.nullable);
    if let Some((_, column)) = nullable {
        warnings.push(format!("unique key {} is left out: its column {} may be NULL, and NULLs are never equal", index.name, column.name));
        return None;
    }
    let is_exact = !index.folds && positions.iter().filter_map(|position| columns.get(*position)).all(|(_, column)| is_equal_by_bytes(column));
    let equality = if is_exact { KeyEquality::Bytes } else { KeyEquality::Database };
    Some(UniqueKey { name: index.name.clone(), primary: index.primary, columns: positions, equality })
}

fn read_relation(row: &PgRow) -> Result<Relation, sqlx::Error> {
    Ok(Relation {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        kind: row.try_get(2)?,
        persistence: row.try_get(3)?,
        triggers: row.try_get(4)?,
        rules: row.try_get(5)?,
        row_security: row.try_get(6)?,
        may_write: row.try_get(7)?,
    })
}

fn read_column(row: &PgRow) -> Result<(i32, TableColumn), sqlx::Error> {
    let (identity, generated): (String, String) = (row.try_get(9)?, row.try_get(10)?);
    let generated = match (identity.as_str(), generated.as_str()) {
        ("a", _) => Generated::Always,
        (_, generated) if !generated.is_empty() => Generated::Always,
        ("d", _) => Generated::ByDefault,
        _ => Generated::No,
    };
    let declared: String = row.try_get(2)?;
    let kind = match array(&declared) {
        Some(array) => array,
        None => kind(&row.try_get::<String, _>(3)?, row.try_get(4)?, &row.try_get::<String, _>(5)?, row.try_get(6)?, row.try_get(11)?),
    };
    let column = TableColumn {
        name: Identifier::new(&row.try_get::<String, _>(1)?),
        kind,
        declared,
        nullable: row.try_get(7)?,
        has_default: row.try_get::<bool, _>(8)? || generated != Generated::No,
        generated,
    };
    Ok((row.try_get(0)?, column))
}

fn read_index(row: &PgRow) -> Result<Index, sqlx::Error> {
    Ok(Index {
        name: row.try_get(0)?,
        primary: row.try_get(1)?,
        attributes: row.try_get(2)?,
        key_columns: usize::try_from(row.try_get::<i32, _>(3)?).unwrap_or(0),
        partial: row.try_get(4)?,
        expression: row.try_get(5)?,
        immediate: row.try_get(6)?,
        valid: row.try_get(7)?,
        folds: row.try_get(8)?,
    })
}
