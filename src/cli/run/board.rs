//! What the pipelines of this process say of themselves, gathered for `/ready`, `/live`, `/status` and the end of `run`.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    engine::{PartitionReport, PartitionState, Report},
    source::Buffer,
    telemetry::http::View,
};
use oncesink_sinks::model::Partition;

/// An engine publishes twice a second; one that has not for this long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// All pipelines of the process.
#[derive(Clone, Debug)]
pub struct Board {
    pub tiles: Vec<Arc<Tile>>,
}

/// One pipeline.
#[derive(Debug)]
pub struct Tile {
    pub name: Arc<str>,
    report: watch::Receiver<Report>,
    publish: watch::Sender<Report>,
    buffer: OnceLock<Arc<Buffer>>,
    progress: Mutex<Progress>,
}

#[derive(Clone, Debug)]
enum Progress {
    /// Not yet begun: what is waited for, if it is not just the first attempt.
    Waiting(Option<String>),
    Running {
        heard: Instant,
    },
    Ended,
}

impl Tile {
    pub fn new(name: Arc<str>) -> Arc<Self> {
        let (publish, report) = watch::channel(Report::default());
        Arc::new(Self { name, report, publish, buffer: OnceLock::new(), progress: Mutex::new(Progress::Waiting(None)) })
    }

    /// Where the engine publishes its snapshots.
    pub fn sender(&self) -> watch::Sender<Report> {
        self.publish.clone()
    }

    pub fn waits_for(&self, what: String) {
        self.set(Progress::Waiting(Some(what)));
    }

    /// The engine begins. Its snapshots are its heartbeat from here on.
    pub fn runs(self: &Arc<Self>, buffer: Arc<Buffer>) {
        let _ = self.buffer.set(buffer);
        self.set(Progress::Running { heard: Instant::now() });
        let (tile, mut report) = (self.clone(), self.report.clone());
        tokio::spawn(async move {
            while report.changed().await.is_ok() {
                if !tile.beats() {
                    break;
                }
            }
        });
    }

    pub fn ended(&self) {
        self.set(Progress::Ended);
    }

    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    fn beats(&self) -> bool {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Progress::Running { heard } = &mut *progress {
            *heard = Instant::now();
            return true;
        }
        false
    }

    fn set(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the pipeline is not at work, if it is not.
    fn missing(&self, report: &Report) -> Option<String> {
        match self.progress() {
            Progress::Waiting(what) => Some(what.map_or_else(|| "starting".to_owned(), |what| format!("waiting for {what}"))),
            Progress::Ended => Some("ended".to_owned()),
            Progress::Running { .. } if !report.joined => Some("joining the group".to_owned()),
            Progress::Running { .. } => {
                report.unreachable.as_ref().map(|why| format!("Kafka: {why}")).or_else(|| report.failing.as_ref().map(|why| format!("database: {why}")))
            }
        }
    }

    fn status(&self) -> Value {
        let report = self.report();
        let state = match self.progress() {
            Progress::Waiting(_) => "waiting",
            Progress::Running { .. } if report.stopping => "stopping",
            Progress::Running { .. } => "running",
            Progress::Ended => "ended",
        };
        let routes: Vec<Value> = report
            .routes
            .iter()
            .map(|(route, counts)| {
                json!({
                    "route": &**route, "applied": counts.applied, "deduplicated": counts.deduplicated,
                    "filtered": counts.filtered, "stale": counts.stale, "skipped": counts.skipped(), "lost": counts.lost,
                })
            })
            .collect();
        json!({
            "pipeline": &*self.name,
            "state": state,
            "missing": self.missing(&report),
            // Asked at this moment: snapshots may be half a second old.
            "buffer_bytes": self.buffer.get().map_or(0, |buffer| buffer.bytes()),
            "records_read": report.totals.records_read,
            "redelivered": report.totals.redelivered,
            "rebalances": report.totals.rebalances,
            "retries": report.totals.retries.values().sum::<u64>(),
            "fenced": report.totals.fenced,
            "rewinds": report.totals.rewinds,
            "routes": routes,
            "partitions": report.partitions.iter().map(|(partition, report)| partition_status(partition, report)).collect::<Vec<_>>(),
        })
    }
}

impl Board {
    pub fn view(&self) -> View {
        let (mut notes, mut all_reached, mut assigned, mut halted) = (Vec::new(), true, 0, 0);
        for tile in &self.tiles {
            let report = tile.report();
            if let Some(missing) = tile.missing(&report) {
                all_reached &= matches!(tile.progress(), Progress::Ended) && self.tiles.len() > 1;
                notes.push(format!("{}: {missing}", tile.name));
            }
            for (partition, state) in &report.partitions {
                assigned += 1;
                if let PartitionState::Halted(halt) = &state.state {
                    halted += 1;
                    notes.push(format!("{}: {partition} halted, {halt}", tile.name));
                }
            }
        }
        View { live: self.is_live(), ready: all_reached && (assigned == 0 || halted < assigned), notes, status: self.status() }
    }

    pub fn status(&self) -> Value {
        json!({ "version": env!("CARGO_PKG_VERSION"), "pipelines": self.tiles.iter().map(|tile| tile.status()).collect::<Vec<_>>() })
    }

    fn is_live(&self) -> bool {
        self.tiles.iter().all(|tile| !matches!(tile.progress(), Progress::Running { heard } if heard.elapsed() > STUCK))
    }
}

fn state_word(state: &PartitionState) -> &'static str {
    match state {
        PartitionState::Claiming => "claiming",
        PartitionState::Running => "running",
        PartitionState::Draining => "draining",
        PartitionState::Halted(_) => "halted",
    }
}

fn partition_status(partition: &Partition, report: &PartitionReport) -> Value {
    let mut value = json!({
        "topic": &*partition.topic,
        "partition": partition.index,
        "state": state_word(&report.state),
        "checkpoint": report.checkpoint.get(),
        "committed": report.committed.map(|next| next.get()),
        "end": report.end.map(|next| next.get()),
        "lag": report.lag(),
        "epoch": report.claim.epoch.0,
    });
    if let (PartitionState::Halted(halt), Some(fields)) = (&report.state, value.as_object_mut()) {
        fields.insert(
            "halt".to_owned(),
            json!({ "reason": halt.reason, "detail": halt.detail, "offset": halt.offset, "mend": halt.mend, "seconds": halt.since.elapsed().as_secs() }),
        );
    }
    value
}

#[cfg(test)]
mod tests {
    use oncesink_sinks::model::{Claim, NextOffset};

    use super::*;
    use crate::engine::Halt;

    fn board_of(states: &[PartitionState]) -> Board {
        let tile = Tile::new(Arc::from("orders"));
        let mut report = Report { joined: true, ..Report::default() };
        for (index, state) in (0..).zip(states) {
            let partition = PartitionReport { state: state.clone(), claim: Claim::default(), checkpoint: NextOffset::ZERO, committed: None, end: None };
            report.partitions.insert(Partition::new("orders", index), partition);
        }
        tile.sender().send_replace(report);
        tile.runs(Arc::new(Buffer::new(1)));
        Board { tiles: vec![tile] }
    }

    fn halted() -> PartitionState {
        PartitionState::Halted(Halt::new("permission", "not allowed", 7))
    }

    #[tokio::test]
    async fn one_halt_leaves_it_ready_and_is_named_all_halts_do_not() {
        assert!(board_of(&[]).view().ready, "a member without partitions stands by");
        let one = board_of(&[PartitionState::Running, halted()]).view();
        assert!(one.ready && one.notes == ["orders: orders:1 halted, permission at 7: not allowed"], "{one:?}");
        assert!(!board_of(&[halted(), halted()]).view().ready);
    }

    #[tokio::test]
    async fn what_waits_is_live_but_not_ready_and_says_for_what() {
        let tile = Tile::new(Arc::from("orders"));
        let board = Board { tiles: vec![tile.clone()] };
        assert!(!board.view().ready);
        tile.waits_for("the topic orders".to_owned());
        let view = board.view();
        assert!(view.live && !view.ready && view.notes == ["orders: waiting for the topic orders"], "{view:?}");
    }
}
