//! `oncesink plan`: connects to both sides, tells what `run` would do, and changes nothing.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use clap::Args;
use oncesink_sinks::{
    checkpoint::CheckpointRow,
    dedup::DedupFacts,
    fault::Fault,
    model::Delivery,
    session::{Bookkeeping, Database, DatabaseFacts},
};

use self::{
    report::print,
    starts::{TopicStarts, starts},
};
use super::{
    connect::{self, KAFKA_LIMIT, MendedBy, Obstacle, blocking, catalogue, partitions, probe, read_by_others},
    exit::Exit,
    files::{self, Overrides},
    retention::outlives_topics,
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
    redis: Option<DedupFacts>,
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
    /// None: this role may not look at it.
    bookkeeping: Option<Bookkeeping>,
}

struct TopicFindings {
    topic: Arc<str>,
    delivery: Delivery,
    mappings: Vec<Mapping>,
    has_record: bool,
    starts: Option<TopicStarts>,
}

pub async fn plan(arguments: &Plan) -> Result<Exit, Exit> {
    let pipeline = arguments.overrides.load_one(&arguments.file)?;
    let database = files::database(&pipeline.database)?;
    let mut findings =
        Findings { warnings: pipeline.warnings.clone(), pipeline, kafka: None, database: None, redis: None, topics: Vec::new(), obstacles: Vec::new() };
    // Both sides are looked at even if one fails: everything that is wrong is said at once.
    match database.facts().await {
        Ok(facts) => findings.take_database(facts, database.bookkeeping().await),
        Err(fault) => findings.add(Obstacle::from(fault)),
    }
    match kafka_side(&findings.pipeline).await {
        Ok((side, missing)) => {
            findings.kafka = Some(side);
            missing.into_iter().for_each(|obstacle| findings.add(obstacle));
        }
        Err(obstacle) => findings.add(obstacle),
    }
    findings.look_at_redis().await;
    findings.look_at_retention().await;
    findings.look_at_topics(&database).await;
    print(&findings);
    Ok(findings.exit())
}

async fn rows_of(database: &dyn Database, pipeline: &str) -> Result<(Vec<CheckpointRow>, Arc<str>), Fault> {
    Ok((database.checkpoints(pipeline).await?, database.database_id().await?))
}

/// A cluster that is reached may still lack a topic, or not show it.
async fn kafka_side(pipeline: &Pipeline) -> Result<(KafkaSide, Option<Obstacle>), Obstacle> {
    let probe = probe(&pipeline.kafka).await?;
    // Who is in the group is good to know, and no reason to fail.
    let (topics, members) = {
        let probe = probe.clone();
        blocking(move || Ok((probe.topics(KAFKA_LIMIT), probe.members(KAFKA_LIMIT).unwrap_or_default()))).await?
    };
    let (topics, missing) = match topics {
        Ok(topics) => (topics, None),
        Err(error) => (BTreeMap::new(), Some(Obstacle::from(error))),
    };
    Ok((KafkaSide { probe, members, topics }, missing))
}

impl Findings {
    fn take_database(&mut self, facts: DatabaseFacts, bookkeeping: Result<Bookkeeping, Fault>) {
        let file = self.pipeline.file.display();
        self.warnings.extend(facts.warnings.iter().cloned());
        match &bookkeeping {
            Err(fault) => self.obstacles.push(Obstacle::from(fault)),
            Ok(Bookkeeping::Current) => {}
            Ok(Bookkeeping::Newer { found, known }) => self.obstacles.push(Obstacle::world(
                format!("the bookkeeping tables are of version {found}, made by a newer oncesink; this one knows version {known}"),
                "use the newer oncesink",
            )),
            Ok(Bookkeeping::Needed { allowed: false, .. }) => self.obstacles.push(Obstacle::world(
                "the bookkeeping tables are still to be made, and this role may not make them",
                format!("have a role that may run: oncesink migrate {file} --dry-run prints the SQL, --grants ROLE what ROLE then needs"),
            )),
            Ok(Bookkeeping::Needed { .. }) if self.pipeline.database.migrate == Migrate::Never => self.obstacles.push(Obstacle::world(
                "the bookkeeping tables are still to be made, and database.migrate is never",
                format!("make them: oncesink migrate {file}"),
            )),
            Ok(Bookkeeping::Needed { .. }) => {}
        }
        self.database = Some(DatabaseSide { facts, bookkeeping: bookkeeping.ok() });
    }

    async fn look_at_redis(&mut self) {
        let Some(options) = &self.pipeline.redis else { return };
        match connect::remembered_events(&self.pipeline.name, options).await {
            Ok((_, facts)) => {
                self.warnings.extend(facts.warnings.iter().cloned());
                self.redis = Some(facts);
            }
            Err(obstacle) => self.add(obstacle),
        }
    }

    async fn look_at_retention(&mut self) {
        let Some(kafka) = &self.kafka else { return };
        let short = outlives_topics(&self.pipeline, &kafka.topics).await;
        self.warnings.extend(short.warnings);
        short.obstacles.into_iter().for_each(|obstacle| self.add(obstacle));
    }

    /// Per topic: columns, and where each partition would start. Without Kafka the topics that are written out are still mapped.
    async fn look_at_topics(&mut self, database: &Arc<dyn Database>) {
        if self.database.is_none() {
            return;
        }
        let routes = Routes::new(self.pipeline.routes.clone(), catalogue(database));
        let topics: Vec<Arc<str>> = match &self.kafka {
            Some(kafka) if !kafka.topics.is_empty() => kafka.topics.keys().cloned().collect(),
            Some(_) | None => {
                let names = self.pipeline.routes.iter().flat_map(|route| route.topics.names.iter());
                let mut names: Vec<Arc<str>> = names.map(|name| Arc::from(name.as_str())).collect();
                names.sort_unstable();
                names.dedup();
                names
            }
        };
        for topic in topics {
            let delivery = match routes.bind(&topic).await {
                Ok(plan) => plan.delivery,
                Err(fault) => {
                    self.add(Obstacle::from(fault));
                    continue;
                }
            };
            let latest = self.latest(&topic).await;
            let record = latest.as_ref().and_then(|records| records.iter().next());
            match routes.describe_mapping(&topic, record.as_ref()).await {
                Ok(mappings) => self.topics.push(TopicFindings { topic, delivery, mappings, has_record: record.is_some(), starts: None }),
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
        let has_checkpoints = matches!(side.bookkeeping, Some(Bookkeeping::Current));
        let rows = match &side.bookkeeping {
            None => return,
            Some(Bookkeeping::Needed { .. }) => Ok((Vec::new(), Arc::from(""))),
            Some(Bookkeeping::Current | Bookkeeping::Newer { .. }) => rows_of(database, &self.pipeline.name).await,
        };
        match rows {
            Err(fault) => self.add(Obstacle::from(fault)),
            Ok((rows, id)) => {
                let deliveries = self.topics.iter().map(|topic| (topic.topic.clone(), topic.delivery)).collect();
                let mut all = starts(&self.pipeline, &kafka.probe.cluster(), &id, &rows, &found, &deliveries);
                for obstacle in all.values_mut().flat_map(|topic| std::mem::take(&mut topic.obstacles)).collect::<Vec<_>>() {
                    self.add(obstacle);
                }
                for topic in &mut self.topics {
                    topic.starts = all.remove(&topic.topic);
                }
                if has_checkpoints {
                    let topics: Vec<Arc<str>> = self.topics.iter().map(|topic| topic.topic.clone()).collect();
                    match read_by_others(database, &self.pipeline, &topics, &rows).await {
                        Ok(warnings) => self.warnings.extend(warnings),
                        Err(fault) => self.add(Obstacle::from(fault)),
                    }
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
