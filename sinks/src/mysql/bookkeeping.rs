//! The bookkeeping tables: how they are found, and made under a lock.

use oncesink_migrations::MYSQL;
use sqlx::Row;

use super::{MySqlOptions, session::MySqlSession, statement::qualified};
use crate::{
    bookkeeping::{BookkeepingTables, History},
    execute::{self, backticked_text},
    fault::{During, Fault, FaultClass, reason},
    generation::Generation,
    model::TableName,
    session::Bookkeeping,
};

/// How long a migration waits for another one.
const LOCK_SECONDS: u32 = 20;

async fn find(session: &mut MySqlSession) -> Result<BookkeepingTables, Fault> {
    let schema = session.options.bookkeeping.clone();
    let query = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?), \
         EXISTS (SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = 'oncesink_schema')",
    )
    .bind(schema.clone())
    .bind(schema);
    let rows = session.fetch(query, During::Bookkeeping, |row| Ok((row.try_get::<bool, _>(0)?, row.try_get::<bool, _>(1)?))).await?;
    let (in_place, table) = rows.into_iter().next().unwrap_or_default();
    let schema = session.options.schema();
    let mut history = None;
    if table {
        let query = sqlx::query(execute::once(History::query(Some(&schema))));
        history = session.fetch(query, During::Bookkeeping, History::read).await?.into_iter().next().flatten();
    }
    let create_schema = (!in_place).then(|| format!("CREATE DATABASE IF NOT EXISTS {schema}"));
    Ok(BookkeepingTables { migrations: MYSQL, schema: Some(schema), create_schema, history })
}

/// Whether this user may make tables, only trying it would tell: it is taken to be allowed until it is refused.
pub(super) async fn bookkeeping(session: &mut MySqlSession) -> Result<Bookkeeping, Fault> {
    Ok(find(session).await?.bookkeeping(true))
}

/// Applies what is missing. Each statement takes effect by itself here, so the lock is the session's, and a crash between two leaves what
/// the next migration goes on with.
pub(super) async fn migrate(session: &mut MySqlSession) -> Result<(), Fault> {
    // So that a user who may not make tables starts where they are there.
    if find(session).await?.is_current()? {
        return Ok(());
    }
    let lock = format!("oncesink.{}", session.options.bookkeeping);
    // The name of a lock has 64 characters at most.
    let lock: String = lock.chars().take(64).collect();
    let query = sqlx::query("SELECT GET_LOCK(?, ?)").bind(lock.clone()).bind(LOCK_SECONDS);
    let got = session.fetch(query, During::Bookkeeping, |row| row.try_get::<Option<i64>, _>(0)).await?;
    if got.first() != Some(&Some(1)) {
        return Err(Fault::new(FaultClass::Retry, "migration-locked", format!("another migration has held the lock for {LOCK_SECONDS} s")));
    }
    // Another worker may have done it while this one waited.
    let tables = find(session).await?;
    if !tables.is_current()? {
        for statement in tables.statements() {
            session.run(statement, During::Bookkeeping).await.map_err(|fault| refused(fault, session))?;
        }
        tracing::info!(database = session.options.bookkeeping, "bookkeeping tables are up to date");
    }
    session.fetch(sqlx::query("SELECT RELEASE_LOCK(?)").bind(lock), During::Bookkeeping, |_| Ok(())).await.map(|_| ())
}

fn refused(fault: Fault, session: &MySqlSession) -> Fault {
    if fault.reason != reason::PERMISSION {
        return fault;
    }
    let (user, database) = (session.options.connect.get_username(), &session.options.bookkeeping);
    Fault::new(FaultClass::Halt, reason::PERMISSION, format!("user {user} may not make the bookkeeping tables in database {database}"))
        .with_mend("let a user who may create tables run `oncesink migrate` once, and grant this one what `oncesink migrate --grants` prints")
}

pub(super) async fn database_id(session: &mut MySqlSession) -> Result<String, Fault> {
    let place = format!("database {}", session.options.bookkeeping);
    find(session).await?.database_id(&place)
}

/// `user` is `app` (from anywhere) or `app@10.0.0.%`.
pub(super) fn grants(options: &MySqlOptions, user: &str, targets: &[TableName]) -> Vec<String> {
    let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
    let user = format!("{}@{}", literal(name), literal(host));
    let schema = options.schema();
    let mut grants = vec![
        format!("GRANT SELECT ON {schema}.`oncesink_schema` TO {user};"),
        format!("GRANT SELECT, INSERT, UPDATE ON {schema}.`oncesink_checkpoint` TO {user};"),
        format!("GRANT INSERT ON {schema}.`oncesink_audit` TO {user};"),
        format!("GRANT SELECT, UPDATE ON {schema}.`oncesink_processed_event_generation` TO {user};"),
        format!("GRANT SELECT, INSERT, UPDATE ON {schema}.`oncesink_processed_event_retention` TO {user};"),
        format!("GRANT SELECT, INSERT, UPDATE ON {schema}.`oncesink_committed` TO {user};"),
        format!("GRANT SELECT, INSERT, DELETE ON {schema}.`oncesink_processed_event_end` TO {user};"),
    ];
    grants.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.`oncesink_tombstone` TO {user};"));
    // MySQL locks a row only for those who may change it.
    grants.push(format!("GRANT SELECT, UPDATE ON {schema}.`oncesink_tombstone_lock` TO {user};"));
    // DROP is the right to empty a table by TRUNCATE.
    grants.extend((0..Generation::TABLES).map(|table| format!("GRANT SELECT, INSERT, UPDATE, DROP ON {schema}.`oncesink_processed_event_{table}` TO {user};")));
    for target in targets {
        let table = match &target.schema {
            Some(_) => qualified(target),
            None => format!("{}.{}", backticked_text(options.database()), qualified(target)),
        };
        grants.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {user};"));
    }
    grants
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
