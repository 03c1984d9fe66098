//! `oncesink plan`: connects to both sides, tells what `run` would do, and changes nothing.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use clap::Args;
use oncesink_sinks::session::{Bookkeeping, Database, DatabaseFacts};

use self::{
    report::print,
    starts::{TopicStarts, starts},
};
use super::{
    connect::{KAFKA_LIMIT, MendedBy, Obstacle, blocking, catalogue, partitions, probe},
    exit::Exit,
    files::{self, Overrides},
};
use crate::{
    route::{Mapping, Router, Routes},
    settings::{Migrate, Pipeline},
    source::kafka::{Member, Probe},
};

mod report;
mod starts;

#[derive(Debug, Args)]
pub struct Plan {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

/// Everything that was found; what could not be is an obstacle.
struct Findings {
    pipeline: Pipeline,
    kafka: Option<KafkaSide>,
    database: Option<DatabaseSide>,
    topics: Vec<TopicFindings>,
    obstacles: Vec<Obstacle>,
    warnings: Vec<String>,
}

struct KafkaSide {
    probe: Arc<Probe>,
    members: Vec<Member>,
    topics: BTreeMap<Arc<str>, usize>,
}

struct DatabaseSide {
    facts: DatabaseFacts,
    bookkeeping: Bookkeeping,
}

struct TopicFindings {
    topic: Arc<str>,
    mappings: Vec<Mapping>,
    has_record: bool,
    starts: Option<TopicStarts>,
}

pub async fn plan(arguments: &Plan) -> Result<Exit, Exit> {
    let pipeline = arguments.overrides.load_one(&arguments.file)?;
    let database = files::database(&pipeline.database)?;
    let mut findings = Findings { warnings: pipeline.warnings.clone(), pipeline, kafka: None, database: None, topics: Vec::new(), obstacles: Vec::new() };
    // Both sides are looked at even if one fails: everything that is wrong is said at once.
    match database_side(database.as_ref()).await {
        Ok(side) => findings.take_database(side),
        Err(obstacle) => findings.obstacles.push(obstacle),
    }
    match kafka_side(&findings.pipeline).await {
        Ok(side) => findings.kafka = Some(side),
        Err(obstacle) => findings.obstacles.push(obstacle),
    }
    findings.look_at_topics(&database).await;
    print(&findings);
    Ok(findings.exit())
}

async fn database_side(database: &dyn Database) -> Result<DatabaseSide, Obstacle> {
    Ok(DatabaseSide { facts: database.facts().await?, bookkeeping: database.bookkeeping().await? })
}

async fn kafka_side(pipeline: &Pipeline) -> Result<KafkaSide, Obstacle> {
    let probe = probe(&pipeline.kafka).await?;
    let (topics, members) = {
        let probe = probe.clone();
        // Who is in the group is good to know, and no reason to fail.
        blocking(move || Ok((probe.topics(KAFKA_LIMIT)?, probe.members(KAFKA_LIMIT).unwrap_or_default()))).await?
    };
    Ok(KafkaSide { probe, members, topics })
}

impl Findings {
    fn take_database(&mut self, side: DatabaseSide) {
        let file = self.pipeline.file.display();
        self.warnings.extend(side.facts.warnings.iter().cloned());
        match &side.bookkeeping {
            Bookkeeping::Current => {}
            Bookkeeping::Newer { found, known } => self.obstacles.push(Obstacle::world(
                format!("the bookkeeping tables are of version {found}, made by a newer oncesink; this one knows version {known}"),
                "use the newer oncesink",
            )),
            Bookkeeping::Needed { allowed: false, .. } => self.obstacles.push(Obstacle::world(
                "the bookkeeping tables are still to be made, and this role may not make them",
                format!("have a role that may run: oncesink migrate {file} --dry-run prints the SQL, --grants ROLE what ROLE then needs"),
            )),
            Bookkeeping::Needed { .. } if self.pipeline.database.migrate == Migrate::Never => self.obstacles.push(Obstacle::world(
                "the bookkeeping tables are still to be made, and database.migrate is never",
                format!("make them: oncesink migrate {file}"),
            )),
            Bookkeeping::Needed { .. } => {}
        }
        self.database = Some(side);
    }

    /// Per topic: columns, and where each partition would start. Without Kafka the topics that are written out are still mapped.
    async fn look_at_topics(&mut self, database: &Arc<dyn Database>) {
        if self.database.is_none() {
            return;
        }
        let routes = Routes::new(self.pipeline.routes.clone(), catalogue(database));
        let topics: Vec<Arc<str>> = match &self.kafka {
            Some(kafka) => kafka.topics.keys().cloned().collect(),
            None => {
                let names = self.pipeline.routes.iter().flat_map(|route| route.topics.names.iter());
                let mut names: Vec<Arc<str>> = names.map(|name| Arc::from(name.as_str())).collect();
                names.sort_unstable();
                names.dedup();
                names
            }
        };
        for topic in topics {
            if let Err(fault) = routes.bind(&topic).await {
                self.add(Obstacle::from(fault));
                continue;
            }
            let latest = self.latest(&topic).await;
            let record = latest.as_ref().and_then(|records| records.iter().next());
            match routes.describe_mapping(&topic, record.as_ref()).await {
                Ok(mappings) => self.topics.push(TopicFindings { topic, mappings, has_record: record.is_some(), starts: None }),
                Err(fault) => self.add(Obstacle::from(fault)),
            }
        }
        self.look_at_starts(database.as_ref()).await;
    }

    /// Two topics of one table say the same; once is enough.
    fn add(&mut self, obstacle: Obstacle) {
        if !self.obstacles.contains(&obstacle) {
            self.obstacles.push(obstacle);
        }
    }

    async fn latest(&mut self, topic: &Arc<str>) -> Option<crate::source::Records> {
        let (probe, topic) = (self.kafka.as_ref()?.probe.clone(), topic.clone());
        match blocking(move || probe.latest_record(&topic, KAFKA_LIMIT)).await {
            Ok(latest) => latest,
            Err(error) => {
                self.warnings.push(error.to_string());
                None
            }
        }
    }

    async fn look_at_starts(&mut self, database: &dyn Database) {
        let (Some(kafka), Some(side)) = (&self.kafka, &self.database) else { return };
        let found = {
            let (probe, all) = (kafka.probe.clone(), partitions(&kafka.topics));
            match blocking(move || Ok(probe.look_up(&all, KAFKA_LIMIT))).await {
                Ok(found) => found,
                Err(error) => return self.add(Obstacle::from(error)),
            }
        };
        let rows = match &side.bookkeeping {
            Bookkeeping::Needed { .. } => Ok((Vec::new(), Arc::from(""))),
            Bookkeeping::Current | Bookkeeping::Newer { .. } => {
                async { Ok((database.checkpoints(&self.pipeline.name).await?, database.database_id().await?)) }.await
            }
        };
        match rows {
            Err(fault) => self.add(Obstacle::from(oncesink_sinks::fault::Fault::clone(&fault))),
            Ok((rows, id)) => {
                let mut all = starts(&self.pipeline, &kafka.probe.cluster(), &id, &rows, &found);
                for obstacle in all.values_mut().flat_map(|topic| std::mem::take(&mut topic.obstacles)).collect::<Vec<_>>() {
                    self.add(obstacle);
                }
                for topic in &mut self.topics {
                    topic.starts = all.remove(&topic.topic);
                }
            }
        }
    }

    /// What can't be reached comes first: the rest may be wrong only because of it.
    fn exit(&self) -> Exit {
        let mended_by = |who| self.obstacles.iter().any(|obstacle| obstacle.mended_by == who);
        match () {
            () if mended_by(MendedBy::File) => Exit::Settings,
            () if mended_by(MendedBy::Time) => Exit::Unreachable,
            () if mended_by(MendedBy::World) => Exit::Failed,
            () => Exit::Done,
        }
    }
}
