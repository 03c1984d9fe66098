//! One pipeline of a process: it waits for what it needs, then the engine has it, then it tells how it ended.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use oncesink_sinks::{
    checkpoint::Checkpoint,
    model::{NextOffset, Partition},
    remembering::Remembering,
    session::Database,
    sink::Sink,
    transaction::Transactional,
};

use super::{
    board::Tile,
    summary::{summary, verdict},
};
use crate::{
    cli::{
        connect::{self, KAFKA_LIMIT, MendedBy, Obstacle, blocking, database_id, probe},
        exit::Exit,
        files,
        retention::outlives_topics,
        signals::Shutdown,
    },
    engine::{self, EngineSettings, Parts},
    route::{RouteConfig, Router, Routes},
    settings::{Migrate, Pipeline},
    source::{Buffer, kafka},
};

/// How often a start is tried, and how often it is said that it failed.
const TRY_EVERY: Duration = Duration::from_secs(2);
const SAY_EVERY: Duration = Duration::from_secs(60);

/// How a pipeline ended, and what is said of it.
#[derive(Debug)]
pub struct Carried {
    pub exit: Exit,
    pub said: String,
}

/// Runs a pipeline to its end. A settings error ends it at once; whatever the world must mend is waited for.
pub async fn carry(pipeline: Pipeline, tile: Arc<Tile>, shutdown: Shutdown, until_end: bool) -> Carried {
    let began = Instant::now();
    let name = pipeline.name.clone();
    let file = pipeline.file.display().to_string();
    let carried = match start(&pipeline, &tile, shutdown.clone(), until_end).await {
        Ok(parts) => {
            let ended = engine::run(parts, asked(shutdown)).await;
            let (exit, line) = verdict(&name, &file, &ended);
            Carried { exit, said: format!("\n{}exit {}: {line}\n", summary(&name, began.elapsed(), &ended), exit.code()) }
        }
        Err(NotStarted::Asked) => Carried { exit: Exit::Done, said: format!("{name}: stopped before it had begun\n") },
        Err(NotStarted::Obstacle(obstacle)) => Carried { exit: obstacle.mended_by.exit(), said: format!("error: {name}: {obstacle}\n") },
    };
    tile.ended();
    carried
}

async fn asked(mut shutdown: Shutdown) {
    shutdown.asked().await;
}

/// Why a pipeline never began.
enum NotStarted {
    /// A stop was asked for while it waited.
    Asked,
    Obstacle(Obstacle),
}

async fn start(pipeline: &Pipeline, tile: &Arc<Tile>, mut shutdown: Shutdown, until_end: bool) -> Result<Parts, NotStarted> {
    let database = files::database(&pipeline.database)
        .map_err(|_| NotStarted::Obstacle(Obstacle { mended_by: MendedBy::File, what: "the database's settings cannot be used".to_owned(), mend: None }))?;
    let began = Instant::now();
    let mut said: Option<(String, Instant)> = None;
    loop {
        let attempt = tokio::select! {
            attempt = attempt(pipeline, tile, &database, until_end) => attempt,
            () = shutdown.asked() => return Err(NotStarted::Asked),
        };
        let obstacle = match attempt {
            Ok(parts) => {
                if said.is_some() {
                    tracing::info!(pipeline = %pipeline.name, "goes on");
                }
                return Ok(parts);
            }
            Err(obstacle) => obstacle,
        };
        let gives_up = pipeline.retry.give_up_after.is_some_and(|limit| began.elapsed() >= limit);
        if gives_up && obstacle.mended_by != MendedBy::File {
            return Err(NotStarted::Obstacle(Obstacle { mended_by: MendedBy::Time, ..obstacle }));
        }
        if obstacle.mended_by == MendedBy::File {
            return Err(NotStarted::Obstacle(obstacle));
        }
        let text = obstacle.to_string();
        tile.waits_for(obstacle.what);
        if said.as_ref().is_none_or(|(before, at)| *before != text || at.elapsed() >= SAY_EVERY) {
            tracing::warn!(pipeline = %pipeline.name, "waiting: {text}");
            said = Some((text, Instant::now()));
        }
        tokio::select! {
            () = tokio::time::sleep(TRY_EVERY) => {}
            () = shutdown.asked() => return Err(NotStarted::Asked),
        }
    }
}

/// Everything that the engine is made of, or the first thing that is missing.
async fn attempt(pipeline: &Pipeline, tile: &Arc<Tile>, database: &Arc<dyn Database>, until_end: bool) -> Result<Parts, Obstacle> {
    let file = pipeline.file.display().to_string();
    let id = database_id(database.as_ref(), pipeline.database.migrate == Migrate::Auto, &file).await?;
    let transactional = Arc::new(Transactional::new(database.clone(), id, rand::random()));
    let router = Arc::new(Routes::new(pipeline.routes.clone(), transactional.clone()));
    let probe = probe(&pipeline.kafka).await?;
    let topics = {
        let probe = probe.clone();
        blocking(move || probe.topics(KAFKA_LIMIT)).await?
    };
    for topic in topics.keys() {
        router.bind(topic).await?;
    }
    let read: Vec<Arc<str>> = topics.keys().cloned().collect();
    let rows = database.checkpoints(&pipeline.name).await?;
    for warning in connect::read_by_others(database.as_ref(), pipeline, &read, &rows).await? {
        tracing::warn!(pipeline = %pipeline.name, "{warning}");
    }
    let (sink, checkpoint): (Arc<dyn Sink>, Arc<dyn Checkpoint>) = match &pipeline.redis {
        Some(options) => {
            let (store, facts) = connect::remembered_events(&pipeline.name, options).await?;
            for warning in facts.warnings {
                tracing::warn!(pipeline = %pipeline.name, redis = %facts.address, "{warning}");
            }
            let remembering = Arc::new(Remembering::new(transactional.clone(), transactional.clone(), store));
            (remembering.clone(), remembering)
        }
        None => (transactional.clone(), transactional.clone()),
    };
    let short = outlives_topics(pipeline, &topics).await;
    for warning in short.warnings {
        tracing::warn!(pipeline = %pipeline.name, "{warning}");
    }
    if let Some(obstacle) = short.obstacles.into_iter().next() {
        return Err(obstacle);
    }
    let until_end = match until_end {
        true => Some(ends(&probe, &topics).await?),
        false => None,
    };

    let buffer = Arc::new(Buffer::new(pipeline.process.max_buffer));
    let (source, channels) = {
        let (config, buffer) = (pipeline.kafka.clone(), buffer.clone());
        blocking(move || kafka::connect(config, buffer, KAFKA_LIMIT)).await?
    };
    tile.runs(buffer);
    Ok(Parts {
        settings: settings(pipeline, until_end),
        source: Box::new(source),
        channels,
        sink,
        checkpoint,
        router,
        seed: rand::random(),
        report: tile.sender(),
    })
}

/// Where the logs end now: `--until-end` reads up to there.
async fn ends(probe: &Arc<kafka::Probe>, topics: &BTreeMap<Arc<str>, usize>) -> Result<BTreeMap<Partition, NextOffset>, Obstacle> {
    let partitions = connect::partitions(topics);
    let (found, _) = {
        let (probe, partitions) = (probe.clone(), partitions.clone());
        blocking(move || Ok(probe.look_up(&partitions, KAFKA_LIMIT))).await?
    };
    let ends: BTreeMap<Partition, NextOffset> = found.into_iter().filter_map(|found| Some((found.partition, found.ends?.high))).collect();
    match partitions.iter().find(|partition| !ends.contains_key(*partition)) {
        None => Ok(ends),
        Some(partition) => Err(Obstacle { mended_by: MendedBy::Time, what: format!("Kafka does not tell where {partition} ends"), mend: None }),
    }
}

fn settings(pipeline: &Pipeline, until_end: Option<BTreeMap<Partition, NextOffset>>) -> EngineSettings {
    let defaults = EngineSettings::default();
    // A writer has a batch in flight and one open, and the statement of the first is another copy of it: with larger ones a small
    // `max_buffer` would bound the records, and not the memory.
    let bytes = pipeline.batch.bytes.min(pipeline.process.max_buffer / (2 * pipeline.database.writers.max(1)));
    EngineSettings {
        pipeline: pipeline.name.clone(),
        owner: Arc::from(connect::owner()),
        brokers: Arc::from(pipeline.kafka.brokers.as_str()),
        file: Arc::from(pipeline.file.display().to_string()),
        adopts_commits: pipeline.group_written,
        writers: pipeline.database.writers,
        batch: engine::BatchLimits { rows: pipeline.batch.rows, bytes, linger: pipeline.batch.linger },
        retry: engine::RetrySettings {
            initial_delay: pipeline.retry.initial_delay,
            max_delay: pipeline.retry.max_delay,
            give_up_after: pipeline.retry.give_up_after,
        },
        records_per_second: pipeline.rate_limit,
        shutdown_timeout: pipeline.process.shutdown_timeout,
        // The reply must reach the group before the client stops waiting for it.
        drain_timeout: defaults.drain_timeout.min(pipeline.kafka.callback_budget.mul_f32(0.8)),
        until_end,
        processed_event_retention: pipeline.routes.iter().any(RouteConfig::marks_events).then_some(pipeline.processed_event_retention),
        tombstone_retention: pipeline.routes.iter().any(RouteConfig::looks_at_tombstones).then_some(pipeline.tombstone_retention),
        ..defaults
    }
}
