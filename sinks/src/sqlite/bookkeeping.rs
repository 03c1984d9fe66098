//! The bookkeeping tables: how they are found, and made.

use oncesink_migrations::SQLITE;

use super::session::SqliteSession;
use crate::{
    bookkeeping::{BookkeepingTables, History},
    execute,
    fault::{During, Fault},
    session::Bookkeeping,
};

async fn find(session: &mut SqliteSession) -> Result<BookkeepingTables, Fault> {
    let tables = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'oncesink_schema'");
    let mut history = None;
    if !session.fetch(tables, During::Bookkeeping, |_| Ok(())).await?.is_empty() {
        let query = sqlx::query(execute::once(History::query(None)));
        history = session.fetch(query, During::Bookkeeping, History::read).await?.into_iter().next().flatten();
    }
    Ok(BookkeepingTables { migrations: SQLITE, schema: None, create_schema: None, history })
}

pub(super) async fn bookkeeping(session: &mut SqliteSession) -> Result<Bookkeeping, Fault> {
    // Who may write the file may do anything in it.
    Ok(find(session).await?.bookkeeping(true))
}

/// Whether there is nothing to do.
pub(super) async fn is_current(session: &mut SqliteSession) -> Result<bool, Fault> {
    find(session).await?.is_current()
}

/// Applies what is missing, in a transaction that holds the file.
pub(super) async fn migrate(session: &mut SqliteSession) -> Result<(), Fault> {
    // Another worker may have done it while this one waited.
    let tables = find(session).await?;
    if tables.is_current()? {
        return Ok(());
    }
    for statement in tables.statements() {
        session.execute(sqlx::query(execute::once(statement)), During::Bookkeeping).await?;
    }
    tracing::info!("bookkeeping tables are up to date");
    Ok(())
}

pub(super) async fn database_id(session: &mut SqliteSession) -> Result<String, Fault> {
    find(session).await?.database_id("the file")
}
