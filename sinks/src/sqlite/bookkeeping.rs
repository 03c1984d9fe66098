//! The bookkeeping tables: whether they are there, and how they are made.

use oncesink_migrations::{Migration, SQLITE, Standing, standing};
use sqlx::Row;

use super::{fault::During, session::SqliteSession};
use crate::{
    execute,
    fault::{Fault, FaultClass, reason},
    session::Bookkeeping,
};

/// Highest version, highest `needs`, database id.
type History = Option<(i64, i64, String)>;

async fn find(session: &mut SqliteSession) -> Result<History, Fault> {
    let tables = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'oncesink_schema'");
    if session.fetch(tables, During::Bookkeeping, |_| Ok(())).await?.is_empty() {
        return Ok(None);
    }
    let history = sqlx::query("SELECT max(version), max(needs), min(database_id) FROM oncesink_schema");
    let read = |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get::<Option<i64>, _>(0)?, row.try_get::<Option<i64>, _>(1)?, row.try_get::<Option<String>, _>(2)?));
    Ok(match session.fetch(history, During::Bookkeeping, read).await?.into_iter().next() {
        Some((Some(version), Some(needs), Some(id))) => Some((version, needs, id)),
        _ => None,
    })
}

fn judge(history: &History) -> Standing {
    standing(SQLITE, history.as_ref().map(|history| history.0), history.as_ref().map_or(0, |history| history.1))
}

fn statements(history: &History, missing: &[Migration]) -> Vec<String> {
    let id = history.as_ref().map_or_else(|| format!("{:032x}", rand::random::<u128>()), |history| history.2.clone());
    let mut statements = Vec::new();
    for migration in missing {
        statements.extend(migration.statements(""));
        statements.push(format!(
            "INSERT INTO oncesink_schema (version, description, needs, database_id) VALUES ({}, '{}', {}, '{}')",
            migration.version,
            migration.description.replace('\'', "''"),
            migration.needs,
            id.replace('\'', "''")
        ));
    }
    statements
}

pub(super) async fn bookkeeping(session: &mut SqliteSession) -> Result<Bookkeeping, Fault> {
    let history = find(session).await?;
    Ok(match judge(&history) {
        Standing::Current => Bookkeeping::Current,
        Standing::TooNew { found, known } => Bookkeeping::Newer { found, known },
        // Who may write the file may do anything in it.
        Standing::Behind(missing) => Bookkeeping::Needed { statements: statements(&history, &missing), allowed: true },
    })
}

/// Whether there is nothing to do.
pub(super) async fn is_current(session: &mut SqliteSession) -> Result<bool, Fault> {
    current(&find(session).await?)
}

/// Applies what is missing, in a transaction that holds the file.
pub(super) async fn migrate(session: &mut SqliteSession) -> Result<(), Fault> {
    // Another worker may have done it while this one waited.
    let history = find(session).await?;
    if current(&history)? {
        return Ok(());
    }
    if let Standing::Behind(missing) = judge(&history) {
        for statement in statements(&history, &missing) {
            session.execute(sqlx::query(execute::once(statement)), During::Bookkeeping).await?;
        }
        tracing::info!("bookkeeping tables are up to date");
    }
    Ok(())
}

fn current(history: &History) -> Result<bool, Fault> {
    match judge(history) {
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

pub(super) async fn database_id(session: &mut SqliteSession) -> Result<String, Fault> {
    let history = find(session).await?;
    current(&history)?;
    history.map(|history| history.2).ok_or_else(|| {
        Fault::new(FaultClass::Halt, reason::MISSING_BOOKKEEPING, "there are no bookkeeping tables in the file").with_mend("oncesink migrate makes them")
    })
}
