//! The contract of a sink, kept by every database: for its owner, and for a role that has exactly what `migrate --grants` prints.

use std::sync::Arc;

use async_trait::async_trait;
use oncesink_sinks::{
    model::TableName,
    session::Database,
    testing::{Feature, Fixture, FixtureError, Place, Process, TableLayout, Value, run},
    transaction::Transactional,
};

use crate::world::{Kind, World, create, remove};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_it() {
    keeps(Kind::Postgres, Access::Owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_keeps_it() {
    keeps(Kind::MySql, Access::Owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_keeps_it() {
    keeps(Kind::MariaDb, Access::Owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_it() {
    keeps(Kind::Sqlite, Access::Owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_it_with_the_least_privileges() {
    keeps(Kind::Postgres, Access::Granted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_keeps_it_with_the_least_privileges() {
    keeps(Kind::MySql, Access::Granted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_keeps_it_with_the_least_privileges() {
    keeps(Kind::MariaDb, Access::Granted).await;
}

async fn keeps(kind: Kind, access: Access) {
    let report = run(&Databases { kind, access }).await;
    println!("{report}");
    assert!(report.is_kept(), "{kind:?}, {access:?}:\n{report}");
    assert_eq!(report.left_out().count(), 0, "a database of oncesink has every feature");
}

/// As whom the sink comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Who makes the tables.
    Owner,
    /// Who has been granted what is printed, and nothing else; its tables were made by their owner.
    Granted,
}

/// Makes databases of one kind.
#[derive(Debug)]
struct Databases {
    kind: Kind,
    access: Access,
}

#[async_trait]
impl Fixture for Databases {
    fn features(&self) -> Vec<Feature> {
        Feature::ALL.to_vec()
    }

    async fn fresh(&self, layout: &TableLayout) -> Result<Box<dyn Place>, FixtureError> {
        let world = create(self.kind).await;
        world.run(&layout.create_table()).await;
        let mut role = None;
        let mut database = world.database.clone();
        if self.access == Access::Granted {
            world.database.migrate().await?;
            let granted = world.create_role().await;
            let grants = world.database.grants(&granted, &[TableName::parse(layout.name)]);
            world.run(&grants.join("\n")).await;
            database = world.seen_by(&granted).database;
            role = Some(granted);
        }
        Ok(Box::new(DatabasePlace { world, database, role, layout: layout.clone() }))
    }
}

#[derive(Debug)]
struct DatabasePlace {
    /// Its owner's.
    world: World,
    /// The sink's.
    database: Arc<dyn Database>,
    role: Option<String>,
    layout: TableLayout,
}

#[async_trait]
impl Place for DatabasePlace {
    async fn open(&self) -> Result<Process, FixtureError> {
        self.database.migrate().await?;
        let id = self.database.database_id().await?;
        Ok(Process::of(Transactional::new(self.database.clone(), id, rand::random())))
    }

    async fn rows(&self) -> Result<Vec<Vec<Value>>, FixtureError> {
        let columns: Vec<&str> = self.layout.columns.iter().map(|column| column.name).collect();
        let value = |(text, position): (Option<String>, usize)| {
            let column = self.layout.columns[position];
            Value::parse(text.as_deref(), column.column_type).ok_or_else(|| format!("column {} holds {text:?}", column.name).into())
        };
        let rows = self.world.cells(&columns, self.layout.name).await;
        rows.into_iter().map(|row| row.into_iter().zip(0..).map(value).collect()).collect()
    }

    async fn close(self: Box<Self>) -> Result<(), FixtureError> {
        if let Some(role) = &self.role {
            self.world.drop_role(role).await;
        }
        remove(&self.world).await;
        Ok(())
    }
}
