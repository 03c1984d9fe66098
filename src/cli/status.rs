//! `oncesink status`: where each partition stands, from the database's rows and Kafka's offsets.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use oncesink_sinks::{
    checkpoint::{CheckpointRow, StoredHalt},
    claim::Committed,
    model::{Epoch, NextOffset, Partition},
    refusal::Refusal,
    session::{Bookkeeping, Database},
    start::is_ours,
};
use serde_json::{Value, json};

use super::{
    connect::{self, KAFKA_LIMIT, Obstacle, blocking, probe},
    exit::Exit,
    files::{self, Overrides},
    output::{self, Colour},
};
use crate::{settings::Pipeline, source::Found};

const WATCH_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub struct Status {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Goes on, every two seconds
    #[arg(long)]
    watch: bool,
    /// For scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
}

/// One partition, from both sides.
struct Line {
    partition: Partition,
    row: Option<CheckpointRow>,
    found: Option<Found>,
}

/// All partitions, and why Kafka's side may be missing.
struct Standing {
    lines: Vec<Line>,
    note: Option<String>,
}

pub async fn status(arguments: &Status) -> Result<Exit, Exit> {
    let pipeline = arguments.overrides.load_one(&arguments.file)?;
    let database = files::database(&pipeline.database)?;
    loop {
        let standing = look(&pipeline, database.as_ref()).await.map_err(|obstacle| output::obstacle(&obstacle))?;
        if arguments.json {
            println!("{}", standing.json(&pipeline.name));
        } else {
            if arguments.watch && std::io::stdout().is_terminal() {
                print!("\x1b[H\x1b[2J");
            }
            standing.print(&pipeline);
        }
        if !arguments.watch {
            return Ok(if standing.lines.iter().any(Line::stands_still) { Exit::Failed } else { Exit::Done });
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Both sides. Only the database must answer: its rows tell the most.
async fn look(pipeline: &Pipeline, database: &dyn Database) -> Result<Standing, Obstacle> {
    // Without bookkeeping tables nothing was ever claimed.
    let rows = match database.bookkeeping().await? {
        Bookkeeping::Needed { .. } => database.checkpoints(&pipeline.name).await.unwrap_or_default(),
        Bookkeeping::Current | Bookkeeping::Newer { .. } => database.checkpoints(&pipeline.name).await?,
    };
    let (found, note) = match kafka(pipeline).await {
        Ok(found) => (found, None),
        Err(obstacle) => (Vec::new(), Some(format!("without Kafka's side: {}", obstacle.what))),
    };
    let mut rows: BTreeMap<Partition, CheckpointRow> = rows.into_iter().map(|row| (row.partition.clone(), row)).collect();
    let mut found: BTreeMap<Partition, Found> = found.into_iter().map(|found| (found.partition.clone(), found)).collect();
    let all: BTreeSet<Partition> = rows.keys().chain(found.keys()).cloned().collect();
    let lines = all.into_iter().map(|partition| Line { row: rows.remove(&partition), found: found.remove(&partition), partition }).collect();
    Ok(Standing { lines, note })
}

async fn kafka(pipeline: &Pipeline) -> Result<Vec<Found>, Obstacle> {
    let probe = probe(&pipeline.kafka).await?;
    let found = blocking(move || {
        let partitions = connect::partitions(&probe.topics(KAFKA_LIMIT)?);
        Ok(probe.look_up(&partitions, KAFKA_LIMIT).0)
    });
    Ok(found.await?)
}

impl Line {
    fn halt(&self) -> Option<&StoredHalt> {
        self.row.as_ref().and_then(|row| row.halt.as_ref())
    }

    /// Kafka's commits were made beside another database, or one that was not restored: no worker claims it here.
    fn refusal(&self) -> Option<Refusal> {
        match (&self.found.as_ref()?.committed, self.claimed()) {
            (Committed::At { next, metadata }, None) if is_ours(metadata) => Some(Refusal::CommittedButNeverClaimed { committed: *next }),
            _ => None,
        }
    }

    fn stands_still(&self) -> bool {
        self.halt().is_some() || self.refusal().is_some()
    }

    fn claimed(&self) -> Option<&CheckpointRow> {
        self.row.as_ref().filter(|row| row.claim.epoch > Epoch(0))
    }

    /// What is done of this partition: under at-least-once the row's next offset is only a floor.
    fn checkpoint(&self) -> Option<NextOffset> {
        self.row.as_ref().map(CheckpointRow::reached)
    }

    fn committed(&self) -> Option<NextOffset> {
        match self.found.as_ref()?.committed {
            Committed::At { next, .. } => Some(next),
            Committed::Nothing | Committed::Unknown => None,
        }
    }

    fn end(&self) -> Option<NextOffset> {
        self.found.as_ref()?.ends.map(|ends| ends.high)
    }

    fn lag(&self) -> Option<i64> {
        let from = self.checkpoint().or_else(|| self.found.as_ref()?.ends.map(|ends| ends.low))?;
        Some((self.end()?.get() - from.get()).max(0))
    }

    fn state(&self) -> &'static str {
        match (self.halt(), self.claimed()) {
            (Some(_), _) => "halted",
            (None, Some(_)) => "ok",
            (None, None) if self.refusal().is_some() => "refused",
            (None, None) => "never claimed",
        }
    }

    fn cells(&self) -> Vec<String> {
        let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| output::count(number.unsigned_abs()));
        let state = match (self.halt(), self.refusal()) {
            (Some(halt), _) => {
                let words = format!("HALTED {} at {}, {}", halt.reason, halt.offset, output::duration(seconds_since(halt.at)));
                output::coloured(Colour::Red, &words)
            }
            (None, Some(refusal)) => output::coloured(Colour::Red, &format!("REFUSED {}", refusal.reason())),
            (None, None) => self.state().to_owned(),
        };
        vec![
            self.partition.to_string(),
            number(self.lag()),
            number(self.checkpoint().map(NextOffset::get)),
            number(self.committed().map(NextOffset::get)),
            self.claimed().map_or_else(|| "-".to_owned(), |row| row.claim.epoch.0.to_string()),
            self.claimed().map_or_else(|| "-".to_owned(), |row| row.owner.to_string()),
            state,
        ]
    }

    fn json(&self) -> Value {
        json!({
            "topic": &*self.partition.topic,
            "partition": self.partition.index,
            "state": self.state(),
            "halt": self.halt().map(|halt| json!({ "reason": halt.reason, "detail": halt.detail, "offset": halt.offset, "at_ms": halt.at })),
            "lag": self.lag(),
            "checkpoint": self.checkpoint().map(NextOffset::get),
            "committed": self.committed().map(NextOffset::get),
            "end": self.end().map(NextOffset::get),
            "delivery": self.claimed().map(|row| row.delivery.as_str()),
            "epoch": self.claimed().map(|row| row.claim.epoch.0),
            "owner": self.claimed().map(|row| row.owner.to_string()),
        })
    }
}

impl Standing {
    fn json(&self, pipeline: &str) -> Value {
        json!({ "pipeline": pipeline, "note": self.note, "partitions": self.lines.iter().map(Line::json).collect::<Vec<_>>() })
    }

    fn print(&self, pipeline: &Pipeline) {
        if self.lines.is_empty() {
            println!("{}: no partition is known", pipeline.name);
        } else {
            let header = ["PARTITION", "LAG", "CHECKPOINT", "COMMITTED", "EPOCH", "OWNER", "STATE"];
            println!("{}", output::table(&header, self.lines.iter().map(Line::cells).collect()));
        }
        for line in &self.lines {
            if let Some(halt) = line.halt() {
                println!("{}: {}", line.partition.at(halt.offset), halt.detail);
            } else if let Some(refusal) = line.refusal() {
                println!("{}: {refusal}", line.partition);
            }
        }
        if let Some(note) = &self.note {
            output::warning(note);
        }
    }
}

fn seconds_since(milliseconds: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))).as_secs()
}
