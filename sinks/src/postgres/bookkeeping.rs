//! The bookkeeping tables: how they are found, and made under a lock.

use oncesink_migrations::POSTGRES;
use sqlx::Row;

use super::{PostgresOptions, session::PostgresSession};
use crate::{
    bookkeeping::{BookkeepingTables, History},
    execute::{self, quoted_text},
    fault::{During, Fault, FaultClass, reason},
    generation::Generation,
    model::TableName,
    session::Bookkeeping,
};

/// Serialises migrations of one schema: `oncesink` in ASCII, and the schema's hash beside it.
const LOCK: &str = "SELECT 1 FROM (SELECT pg_advisory_xact_lock(1869505381, hashtext($1))) locked";

/// What the database holds.
#[derive(Debug)]
struct Found {
    tables: BookkeepingTables,
    may_create: bool,
}

async fn find(session: &mut PostgresSession) -> Result<Found, Fault> {
    let schema = session.options.bookkeeping.clone();
    // By the catalogue: asking for the table itself needs rights that a first run may not have.
    let query = sqlx::query(
        "SELECT n.oid IS NOT NULL, c.oid IS NOT NULL, \
         CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE') ELSE has_schema_privilege(n.oid, 'CREATE') END \
         FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1 \
         LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'oncesink_schema'",
    )
    .bind(schema.clone());
    let rows = session.fetch(query, During::Bookkeeping, |row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).await?;
    let (in_place, table, may_create): (bool, bool, bool) = rows.into_iter().next().unwrap_or_default();
    let schema = quoted_text(&schema);
    let mut history = None;
    if table {
        let query = sqlx::query(execute::once(History::query(Some(&schema))));
        history = session.fetch(query, During::Bookkeeping, History::read).await?.into_iter().next().flatten();
    }
    let create_schema = (!in_place).then(|| format!("CREATE SCHEMA {schema}"));
    Ok(Found { tables: BookkeepingTables { migrations: POSTGRES, schema: Some(schema), create_schema, history }, may_create })
}

pub(super) async fn bookkeeping(session: &mut PostgresSession) -> Result<Bookkeeping, Fault> {
    let found = find(session).await?;
    Ok(found.tables.bookkeeping(found.may_create))
}

/// Nothing where the tables are current, so that a role without CREATE starts.
pub(super) async fn migrate(session: &mut PostgresSession) -> Result<(), Fault> {
    if find(session).await?.tables.is_current()? {
        return Ok(());
    }
    let schema = session.options.bookkeeping.clone();
    session.fetch(sqlx::query(LOCK).bind(schema.clone()), During::Bookkeeping, |_| Ok(())).await?;
    // Another worker may have done it while this one waited.
    let found = find(session).await?;
    if found.tables.is_current()? {
        return Ok(());
    }
    if !found.may_create {
        let role = session.options.connect.get_username();
        return Err(Fault::new(FaultClass::Halt, reason::PERMISSION, format!("role {role} may not make the bookkeeping tables in schema {schema}"))
            .with_mend("let a role that may create tables run `oncesink migrate` once, and grant this one what `oncesink migrate --grants` prints"));
    }
    for statement in found.tables.statements() {
        session.run(statement, During::Bookkeeping).await?;
    }
    tracing::info!(schema, "bookkeeping tables are up to date");
    Ok(())
}

pub(super) async fn database_id(session: &mut PostgresSession) -> Result<String, Fault> {
    let place = format!("schema {}", session.options.bookkeeping);
    find(session).await?.tables.database_id(&place)
}

pub(super) fn grants(options: &PostgresOptions, role: &str, targets: &[TableName]) -> Vec<String> {
    let (role, schema) = (quoted_text(role), quoted_text(&options.bookkeeping));
    let mut grants = vec![
        format!("GRANT USAGE ON SCHEMA {schema} TO {role};"),
        format!("GRANT SELECT ON {schema}.oncesink_schema TO {role};"),
        format!("GRANT SELECT, INSERT, UPDATE ON {schema}.oncesink_checkpoint TO {role};"),
        format!("GRANT INSERT ON {schema}.oncesink_audit TO {role};"),
        format!("GRANT SELECT, UPDATE ON {schema}.oncesink_processed_event_generation TO {role};"),
        format!("GRANT SELECT, INSERT, UPDATE ON {schema}.oncesink_processed_event_retention, {schema}.oncesink_committed TO {role};"),
        format!("GRANT SELECT, INSERT, DELETE ON {schema}.oncesink_processed_event_end TO {role};"),
    ];
    grants.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.oncesink_tombstone TO {role};"));
    let tables: Vec<String> = (0..Generation::TABLES).map(|table| format!("{schema}.oncesink_processed_event_{table}")).collect();
    grants.push(format!("GRANT SELECT, INSERT, TRUNCATE ON {} TO {role};", tables.join(", ")));
    for target in targets {
        if let Some(schema) = &target.schema {
            let grant = format!("GRANT USAGE ON SCHEMA {} TO {role};", execute::quoted(schema));
            if !grants.contains(&grant) {
                grants.push(grant);
            }
        }
        grants.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {role};", execute::qualified(target)));
    }
    grants
}
