//! `oncesink demo`: the whole thing on this machine, with no server. It proves itself, or exits with 1.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use indicatif::{ProgressBar, ProgressStyle};
use oncesink_sinks::plain_sql::{PlainSql, PlainSqlError};
use tokio::task::{JoinHandle, spawn_blocking};

use self::{
    check::Verdict,
    cluster::{Cluster, ClusterError, Produced},
    events::{EVENTS, Events},
    workers::Worker,
};
use super::{exit::Exit, output};

mod check;
mod cluster;
mod events;
mod workers;

const KILLS: usize = 3;

/// A worker must have applied this much since its start before it is killed: else a kill would only meet its start.
const APPLIED_BEFORE_KILL: u64 = 2_000;

/// Events that are produced before the workers start. The others follow while they run, or the second worker would be done before the third kill.
const HEAD_START: usize = 60_000;

/// The others, in pieces.
const PIECE: usize = 1_500;

#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sql(#[from] PlainSqlError),
    #[error("{worker} ended by itself ({status}); its log: {log}")]
    Ended { worker: &'static str, status: String, log: String },
    #[error("the workers did not get through all events in {seconds} s: {done} of {EVENTS}")]
    TooSlow { seconds: u64, done: i64 },
}

pub async fn demo() -> Exit {
    match play().await {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Failed,
        Err(error) => {
            output::error(&error.to_string());
            Exit::Failed
        }
    }
}

struct Stage {
    directory: PathBuf,
    tables: PathBuf,
    produced: PathBuf,
    settings: PathBuf,
}

impl Stage {
    fn build() -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let directory = std::env::temp_dir().join(format!("oncesink-demo-{now}-{}", std::process::id()));
        std::fs::create_dir(&directory)?;
        Ok(Self { tables: directory.join("orders.db"), produced: directory.join("produced.db"), settings: directory.join("demo.yaml"), directory })
    }

    fn settings(&self, brokers: &str) -> String {
        format!(
            "\
name: demo
kafka:
  brokers: {brokers}
  properties: {{ session.timeout.ms: 2000, heartbeat.interval.ms: 100 }}   # so that a killed worker is missed soon
database: sqlite://{}
routes:
  - {{ topic: orders, table: orders, version: version }}
  - {{ name: order_log, topic: orders, table: order_log, write: append, columns: {{ topic: topic, partition: partition, offset: offset }} }}
",
            self.tables.display()
        )
    }
}

async fn play() -> Result<bool, DemoError> {
    let began = Instant::now();
    let stage = Stage::build()?;
    check::prepare(&stage.tables).await?;
    let cluster = Arc::new(Cluster::start()?);
    let settings = stage.settings(&cluster.brokers);
    std::fs::write(&stage.settings, &settings)?;
    println!(
        "Two processes of `oncesink run` share a Kafka topic and one SQLite file. One of them is killed by SIGKILL {KILLS} times, each time with a batch open.\n"
    );
    println!("{}\n{settings}", stage.settings.display());

    let acts = perform(&stage, &cluster).await?;
    check::note(&stage.produced, &acts.produced).await?;
    let verdict = check::judge(&stage.tables, &stage.produced).await?;
    let right = verdict.is_right() && acts.kills == KILLS && acts.clean_end;
    println!("{}", table(&acts, &verdict));
    if acts.kills < KILLS {
        output::error(&format!("only {} of {KILLS} kills met an open batch, so this run proves less than it should", acts.kills));
    }
    println!("\n{}", look_further(&stage.directory));
    println!("{} in {:.1} s", if right { "All right" } else { "NOT right" }, began.elapsed().as_secs_f64());
    Ok(right)
}

/// What happened on the stage.
struct Acts {
    produced: Vec<Produced>,
    kills: usize,
    kills_that_met_nothing: usize,
    /// Bytes that the killed ones had read and not committed.
    held: u64,
    redelivered: u64,
    clean_end: bool,
}

async fn perform(stage: &Stage, cluster: &Arc<Cluster>) -> Result<Acts, DemoError> {
    let limit = Duration::from_secs(120);
    let began = Instant::now();
    let mut sql = PlainSql::open(&stage.tables).await?;
    let events = produced(produce(cluster, Events::new(), HEAD_START)).await?;
    // Nothing yet: it has ended when it is looked at.
    let mut producing = produce(cluster, events, 0);
    let mut victim = Worker::start("worker-1", &stage.settings, &stage.directory)?;
    let mut other = Worker::start("worker-2", &stage.settings, &stage.directory)?;
    let bar = progress_bar();
    let (mut kills, mut missed, mut held) = (0, 0, 0);
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            () = victim.changed() => {}
            _ = clock.tick() => {}
        }
        let view = victim.view();
        if kills < KILLS && view.applied >= APPLIED_BEFORE_KILL && view.held_bytes > 0 {
            let lost = victim.kill_and_restart().await?.held_bytes;
            *(if lost > 0 { &mut kills } else { &mut missed }) += 1;
            held += lost;
            bar.set_message(format!("{kills} kills"));
        }
        // While the victim is away nothing is added, so that enough is left for its next life.
        if producing.is_finished() && (kills == KILLS || victim.view().running_partitions > 0) {
            producing = produce(cluster, produced(producing).await?, PIECE);
        }
        // Until the first worker has made the bookkeeping there is no checkpoint to read.
        let done = check::progress(&mut sql).await.unwrap_or(0);
        bar.set_position(u64::try_from(done).unwrap_or(0));
        if usize::try_from(done) == Ok(EVENTS) {
            break;
        }
        for worker in [&mut victim, &mut other] {
            if let Some(status) = worker.ended()? {
                return Err(DemoError::Ended { worker: worker.name(), status: status.to_string(), log: worker.log().display().to_string() });
            }
        }
        if began.elapsed() > limit {
            return Err(DemoError::TooSlow { seconds: limit.as_secs(), done });
        }
    }
    bar.finish_and_clear();
    produced(producing).await?;
    let clean_end = victim.stop().await?.success() & other.stop().await?.success();
    let redelivered = victim.redelivered() + other.redelivered();
    let produced = cluster.all_produced()?;
    Ok(Acts { produced, kills, kills_that_met_nothing: missed, held, redelivered, clean_end })
}

/// Goes on beside the watching: on a busy machine the workers apply a piece while it is produced, and whoever looks only after it never sees a
/// batch open.
type Producing = JoinHandle<Result<Events, ClusterError>>;

fn produce(cluster: &Arc<Cluster>, mut events: Events, count: usize) -> Producing {
    let cluster = cluster.clone();
    spawn_blocking(move || cluster.produce(events.by_ref().take(count)).map(|()| events))
}

async fn produced(producing: Producing) -> Result<Events, DemoError> {
    Ok(producing.await.map_err(io::Error::other)??)
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(EVENTS as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} records, {msg}") {
        bar.set_style(style);
    }
    bar.set_message("0 kills");
    bar
}

fn table(acts: &Acts, verdict: &Verdict) -> String {
    let mut kills = format!("by SIGKILL, with {} kB read and not yet committed", output::count(acts.held / 1024));
    if acts.kills_that_met_nothing > 0 {
        let _ = write!(kills, "; {} more met no open batch and do not count", acts.kills_that_met_nothing);
    }
    let mut rows = vec![
        ("records produced".to_owned(), output::count(acts.produced.len() as u64), String::new()),
        ("rows of order_log".to_owned(), output::count(verdict.log_rows.unsigned_abs()), "one for each record".to_owned()),
        ("rows of orders".to_owned(), output::count(verdict.order_rows.unsigned_abs()), "one for each order, its newest version".to_owned()),
        ("kills".to_owned(), acts.kills.to_string(), kills),
        ("redeliveries stopped".to_owned(), output::count(acts.redelivered), "repeats by Kafka's offsets, which the checkpoint knew".to_owned()),
    ];
    for (name, count) in &verdict.faults {
        let what = match *name {
            "missing" => "records without their row in order_log",
            "duplicated" => "coordinates that order_log holds more than once",
            "stale" => "orders without their newest version",
            _ => "rows that nobody produced",
        };
        rows.push(((*name).to_owned(), output::count(count.unsigned_abs()), what.to_owned()));
    }
    output::table(&[], rows.into_iter().map(|(name, count, what)| vec![name, count, what]).collect())
}

fn look_further(directory: &Path) -> String {
    let mut text = format!("Look further: all files are in {}\n", directory.display());
    let commands = [
        "sqlite3 orders.db 'SELECT topic, partition, next_offset, epoch, owner FROM oncesink_checkpoint'",
        "sqlite3 orders.db 'SELECT partition, count(*), count(DISTINCT \"offset\") FROM order_log GROUP BY partition'",
        "less worker-1.log",
    ];
    for command in commands {
        let _ = writeln!(text, "  {command}");
    }
    text
}
