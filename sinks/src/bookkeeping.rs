//! The bookkeeping tables of a database as they were found: whether they are current, and what is still to be run.

use oncesink_migrations::{Migration, Standing, standing};
use sqlx::{ColumnIndex, Decode, Row, Type};

use crate::{
    fault::{Fault, FaultClass, reason},
    session::Bookkeeping,
};

/// The tables, and all that follows from their history. Finding it, and keeping others out meanwhile, is the database's.
#[derive(Debug)]
pub(crate) struct BookkeepingTables {
    pub migrations: &'static [Migration],
    /// Quoted. None: the database has no schemas.
    pub schema: Option<String>,
    /// The statement that makes the schema, where it is not there.
    pub create_schema: Option<String>,
    /// None: there are no tables yet.
    pub history: Option<History>,
}

/// What the tables say of themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// The highest that was applied.
    pub version: i64,
    /// The oldest version that a binary must know.
    pub needs: i64,
    pub database_id: String,
}

impl BookkeepingTables {
    fn standing(&self) -> Standing {
        let history = self.history.as_ref();
        standing(self.migrations, history.map(|history| history.version), history.map_or(0, |history| history.needs))
    }

    pub fn is_current(&self) -> Result<bool, Fault> {
        match self.standing() {
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

    /// For people; `allowed`: this role may run what is needed.
    pub fn bookkeeping(&self, allowed: bool) -> Bookkeeping {
        match self.standing() {
            Standing::Current => Bookkeeping::Current,
            Standing::TooNew { found, known } => Bookkeeping::Newer { found, known },
            Standing::Behind(_) => Bookkeeping::Needed { statements: self.statements(), allowed },
        }
    }

    /// What brings the tables up to date, complete: somebody else may run it by hand.
    pub fn statements(&self) -> Vec<String> {
        let Standing::Behind(missing) = self.standing() else { return Vec::new() };
        let id = self.history.as_ref().map_or_else(|| format!("{:032x}", rand::random::<u128>()), |history| history.database_id.clone());
        let table = schema_table(self.schema.as_deref());
        let mut statements: Vec<String> = self.create_schema.iter().cloned().collect();
        for migration in missing {
            statements.extend(migration.statements(self.schema.as_deref().unwrap_or_default()));
            statements.push(format!(
                "INSERT INTO {table} (version, description, needs, database_id) VALUES ({}, '{}', {}, '{}')",
                migration.version,
                migration.description.replace('\'', "''"),
                migration.needs,
                id.replace('\'', "''")
            ));
        }
        statements
    }

    /// The random id of the database. `place` is where its tables would be.
    pub fn database_id(self, place: &str) -> Result<String, Fault> {
        self.is_current()?;
        self.history.map(|history| history.database_id).ok_or_else(|| {
            Fault::new(FaultClass::Halt, reason::MISSING_BOOKKEEPING, format!("there are no bookkeeping tables in {place}"))
                .with_mend("oncesink migrate makes them")
        })
    }
}

impl History {
    /// One row, which [`History::read`] reads.
    pub fn query(schema: Option<&str>) -> String {
        format!("SELECT max(version), max(needs), min(database_id) FROM {}", schema_table(schema))
    }

    /// None: the table is empty.
    pub fn read<R>(row: &R) -> Result<Option<Self>, sqlx::Error>
    where
        R: Row,
        usize: ColumnIndex<R>,
        String: for<'r> Decode<'r, R::Database> + Type<R::Database>,
        i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
    {
        let columns: (Option<i64>, Option<i64>, Option<String>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (Some(version), Some(needs), Some(database_id)) = columns else { return Ok(None) };
        Ok(Some(Self { version, needs, database_id }))
    }
}

/// The table of the applied migrations; its schema as quoted.
fn schema_table(schema: Option<&str>) -> String {
    schema.map_or_else(|| "oncesink_schema".to_owned(), |schema| format!("{schema}.oncesink_schema"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIGRATIONS: &[Migration] = &[
        Migration { version: 1, description: "first", needs: 1, sql: "CREATE TABLE {schema}.a (b int);" },
        Migration { version: 2, description: "it's new", needs: 1, sql: "CREATE TABLE {schema}.c (d int);" },
    ];

    fn tables(version: Option<i64>, needs: i64) -> BookkeepingTables {
        let history = version.map(|version| History { version, needs, database_id: "id".to_owned() });
        let create_schema = history.is_none().then(|| "CREATE SCHEMA \"s\"".to_owned());
        BookkeepingTables { migrations: MIGRATIONS, schema: Some("\"s\"".to_owned()), create_schema, history }
    }

    #[test]
    fn what_is_missing_is_made_under_the_id_that_is_there() {
        assert_eq!(
            tables(Some(1), 1).statements(),
            ["CREATE TABLE \"s\".c (d int)", "INSERT INTO \"s\".oncesink_schema (version, description, needs, database_id) VALUES (2, 'it''s new', 1, 'id')"]
        );
        let all = tables(None, 0).statements();
        assert_eq!((all.len(), all[0].as_str()), (5, "CREATE SCHEMA \"s\""));
        assert!(tables(Some(2), 1).statements().is_empty());
    }

    #[test]
    fn an_id_needs_tables_that_this_version_may_use() {
        assert_eq!(tables(Some(1), 1).database_id("the file").unwrap(), "id");
        assert_eq!(tables(None, 0).database_id("the file").unwrap_err().reason, reason::MISSING_BOOKKEEPING);
        assert_eq!(tables(Some(3), 3).database_id("the file").unwrap_err().reason, "newer-bookkeeping");
    }
}
