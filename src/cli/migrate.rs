//! `oncesink migrate`: oncesink's own tables. It never touches those of the user.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use clap::Args;
use oncesink_sinks::{
    model::TableName,
    session::{Bookkeeping, Database},
};

use super::{
    connect::{KAFKA_LIMIT, Obstacle, blocking, catalogue, probe},
    exit::Exit,
    files::{self, Overrides},
    output,
};
use crate::{route::Routes, settings::Pipeline};

#[derive(Debug, Args)]
pub struct Migrate {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Prints the SQL and changes nothing
    #[arg(long)]
    dry_run: bool,
    /// Prints the grants that ROLE needs to run this pipeline, and changes nothing
    #[arg(long, value_name = "ROLE", conflicts_with = "dry_run")]
    grants: Option<String>,
    #[command(flatten)]
    overrides: Overrides,
}

pub async fn migrate(arguments: &Migrate) -> Result<Exit, Exit> {
    let pipeline = arguments.overrides.load_one(&arguments.file)?;
    let database = files::database(&pipeline.database)?;
    let done = match &arguments.grants {
        Some(role) => print_grants(&pipeline, &database, role).await,
        None => make(database.as_ref(), arguments.dry_run).await,
    };
    done.map(|()| Exit::Done).map_err(|obstacle| output::obstacle(&obstacle))
}

async fn make(database: &dyn Database, dry_run: bool) -> Result<(), Obstacle> {
    match database.bookkeeping().await? {
        Bookkeeping::Current => eprintln!("The bookkeeping tables are current; nothing was changed."),
        Bookkeeping::Newer { found, known } => {
            let what = format!("the bookkeeping tables are of version {found}, made by a newer oncesink; this one knows version {known}");
            return Err(Obstacle::world(what, "use the newer oncesink; nothing was changed"));
        }
        Bookkeeping::Needed { statements, allowed } => {
            if dry_run {
                for statement in &statements {
                    println!("{};", statement.trim().trim_end_matches(';'));
                }
                eprintln!("Nothing was changed{}.", if allowed { "" } else { "; this role may not make these tables" });
            } else {
                database.migrate().await?;
                eprintln!("The bookkeeping tables are current now.");
            }
        }
    }
    Ok(())
}

async fn print_grants(pipeline: &Pipeline, database: &Arc<dyn Database>, role: &str) -> Result<(), Obstacle> {
    let tables = tables(pipeline, database).await?;
    for statement in database.grants(role, &tables) {
        println!("{};", statement.trim().trim_end_matches(';'));
    }
    eprintln!("Nothing was changed.");
    Ok(())
}

/// The tables of all routes. Kafka is asked only where a table's name depends on its topic.
async fn tables(pipeline: &Pipeline, database: &Arc<dyn Database>) -> Result<Vec<TableName>, Obstacle> {
    let written: BTreeSet<TableName> = pipeline.routes.iter().filter(|route| !route.table.contains('{')).map(|route| TableName::parse(&route.table)).collect();
    if pipeline.routes.iter().all(|route| !route.table.contains('{')) {
        return Ok(written.into_iter().collect());
    }
    let probe = probe(&pipeline.kafka).await?;
    let topics = blocking(move || probe.topics(KAFKA_LIMIT)).await?;
    let routes = Routes::new(pipeline.routes.clone(), catalogue(database));
    let mut tables = written;
    for topic in topics.keys() {
        tables.extend(routes.tables_of(topic)?);
    }
    Ok(tables.into_iter().collect())
}
