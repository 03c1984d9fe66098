//! The bookkeeping tables: whether they are there, and how they are made.

use oncesink_migrations::{Migration, POSTGRES, Standing, standing};
use sqlx::Row;

use super::{PostgresOptions, fault::During, session::PostgresSession};
use crate::{
    execute::{self, quoted_text},
    fault::{Fault, FaultClass, reason},
    model::TableName,
    session::Bookkeeping,
};

/// Serialises migrations of one schema: `oncesink` in ASCII, and the schema's hash beside it.
const LOCK: &str = "SELECT 1 FROM (SELECT pg_advisory_xact_lock(1869505381, hashtext($1))) locked";

/// What the database holds.
#[derive(Debug)]
struct Found {
    schema: bool,
    /// Highest version, highest `needs`, database id.
    history: Option<(i64, i64, String)>,
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
    let mut history = None;
    if table {
        let sql = format!("SELECT max(version), max(needs), min(database_id) FROM {}.oncesink_schema", quoted_text(&schema));
        let query = sqlx::query(execute::once(sql));
        let read =
            |row: &sqlx::postgres::PgRow| Ok((row.try_get::<Option<i64>, _>(0)?, row.try_get::<Option<i64>, _>(1)?, row.try_get::<Option<String>, _>(2)?));
        if let Some((Some(version), Some(needs), Some(id))) = session.fetch(query, During::Bookkeeping, read).await?.into_iter().next() {
            history = Some((version, needs, id));
        }
    }
    Ok(Found { schema: in_place, history, may_create })
}

fn judge(found: &Found) -> Standing {
    let applied = found.history.as_ref();
    standing(POSTGRES, applied.map(|history| history.0), applied.map_or(0, |history| history.1))
}

/// The statements that bring the tables up to date, complete: somebody else may run them by hand.
fn statements(found: &Found, missing: &[Migration], schema: &str) -> Vec<String> {
    let quoted = quoted_text(schema);
    let id = found.history.as_ref().map_or_else(|| format!("{:032x}", rand::random::<u128>()), |history| history.2.clone());
    let mut statements = Vec::new();
    if !found.schema {
        statements.push(format!("CREATE SCHEMA {quoted}"));
    }
    for migration in missing {
        statements.extend(migration.statements(&quoted));
        statements.push(format!(
            "INSERT INTO {quoted}.oncesink_schema (version, description, needs, database_id) VALUES ({}, '{}', {}, '{}')",
            migration.version,
            migration.description.replace('\'', "''"),
            migration.needs,
            id.replace('\'', "''")
        ));
    }
    statements
}

pub(super) async fn bookkeeping(session: &mut PostgresSession) -> Result<Bookkeeping, Fault> {
    let found = find(session).await?;
    Ok(match judge(&found) {
        Standing::Current => Bookkeeping::Current,
        Standing::TooNew { found, known } => Bookkeeping::Newer { found, known },
        Standing::Behind(missing) => Bookkeeping::Needed { statements: statements(&found, &missing, &session.options.bookkeeping), allowed: found.may_create },
    })
}

/// Nothing where the tables are current, so that a role without CREATE starts.
pub(super) async fn migrate(session: &mut PostgresSession) -> Result<(), Fault> {
    let schema = session.options.bookkeeping.clone();
    if current(&find(session).await?)? {
        return Ok(());
    }
    session.fetch(sqlx::query(LOCK).bind(schema.clone()), During::Bookkeeping, |_| Ok(())).await?;
    // Another worker may have done it while this one waited.
    let found = find(session).await?;
    if let Standing::Behind(missing) = judge(&found) {
        if !found.may_create {
            let role = session.options.connect.get_username().to_owned();
            return Err(Fault::new(FaultClass::Halt, "permission", format!("role {role} may not make the bookkeeping tables in schema {schema}"))
                .with_mend("let a role that may create tables run `oncesink migrate` once"));
        }
        for statement in statements(&found, &missing, &schema) {
            session.run(statement, During::Bookkeeping).await?;
        }
        tracing::info!(schema, "bookkeeping tables are up to date");
    }
    Ok(())
}

fn current(found: &Found) -> Result<bool, Fault> {
    match judge(found) {
        Standing::Current => Ok(true),
        Standing::Behind(_) => Ok(false),
        Standing::TooNew { found, known } => Err(Fault::new(
            FaultClass::Halt,
            "newer-bookkeeping",
            format!("the bookkeeping tables are of version {found}, this oncesink knows {known} and must not run beside it"),
        )
        .with_mend("run the newer oncesink")),
    }
}

pub(super) async fn database_id(session: &mut PostgresSession) -> Result<String, Fault> {
    let found = find(session).await?;
    current(&found)?;
    found.history.map(|history| history.2).ok_or_else(|| {
        Fault::new(FaultClass::Halt, reason::MISSING_BOOKKEEPING, format!("there are no bookkeeping tables in schema {}", session.options.bookkeeping))
            .with_mend("oncesink migrate makes them")
    })
}

pub(super) fn grants(options: &PostgresOptions, role: &str, targets: &[TableName]) -> Vec<String> {
    let (role, schema) = (quoted_text(role), quoted_text(&options.bookkeeping));
    let mut grants = vec![
        format!("GRANT USAGE ON SCHEMA {schema} TO {role};"),
        format!("GRANT SELECT ON {schema}.oncesink_schema TO {role};"),
        format!("GRANT SELECT, INSERT, UPDATE ON {schema}.oncesink_checkpoint TO {role};"),
        format!("GRANT INSERT ON {schema}.oncesink_audit TO {role};"),
    ];
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
