//! The two worker processes of the demo: `oncesink run` of this very binary, started, watched, killed and started again.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    task::JoinHandle,
};

/// One worker, through all its lives.
pub struct Worker {
    name: &'static str,
    settings: PathBuf,
    log: PathBuf,
    life: Life,
    /// What the lives that ended have counted.
    redelivered: u64,
}

/// From a start to an end of the process.
struct Life {
    process: Child,
    /// The worker ends when this does: no orphan outlives the demo, however it dies.
    _leash: ChildStdin,
    view: watch::Receiver<View>,
    reader: JoinHandle<()>,
}

/// What a worker says of itself, one line of JSON a change, on its standard output.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Records applied by this life.
    pub applied: u64,
    /// Records that it has read and not yet committed.
    pub held_bytes: u64,
    /// Records that Kafka delivered though the checkpoint had passed them.
    pub redelivered: u64,
    pub running_partitions: usize,
}

impl Worker {
    pub fn start(name: &'static str, settings: &Path, directory: &Path) -> io::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let life = Life::start(settings, &log)?;
        Ok(Self { name, settings: settings.to_owned(), log, life, redelivered: 0 })
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    pub fn view(&self) -> View {
        *self.life.view.borrow()
    }

    /// Waits for the next thing that the worker says of itself; for ever once it has ended.
    pub async fn changed(&mut self) {
        if self.life.view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Redeliveries that this worker stopped, in all its lives.
    pub fn redelivered(&self) -> u64 {
        self.redelivered + self.view().redelivered
    }

    /// SIGKILL, and what the worker held when it died. Then it is started again.
    pub async fn kill_and_restart(&mut self) -> io::Result<View> {
        self.life.process.kill().await?;
        // The pipe still holds what the worker said last.
        let _ = (&mut self.life.reader).await;
        let last = self.view();
        self.redelivered += last.redelivered;
        self.life = Life::start(&self.settings, &self.log)?;
        Ok(last)
    }

    /// Whether it has ended by itself, which it should not.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.life.process.try_wait()
    }

    /// Asks it to drain and end, as a terminal or a service manager does.
    pub async fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(process) = self.life.process.id() {
            Command::new("sh").args(["-c", &format!("kill -TERM {process}")]).status().await?;
        }
        let status = self.life.process.wait().await?;
        let _ = (&mut self.life.reader).await;
        Ok(status)
    }
}

impl Life {
    fn start(settings: &Path, log: &Path) -> io::Result<Self> {
        let log: File = OpenOptions::new().create(true).append(true).open(log)?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["run", "--supervised", "--listen", "127.0.0.1:0"])
            .arg(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(leash), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("the worker has no pipes"));
        };
        let (sender, view) = watch::channel(View::default());
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(view) = View::read(&line) {
                    sender.send_replace(view);
                }
            }
        });
        Ok(Self { process, _leash: leash, view, reader })
    }
}

impl View {
    fn read(line: &str) -> Option<Self> {
        let status: Status = serde_json::from_str(line).ok()?;
        let mut view = Self::default();
        for pipeline in status.pipelines {
            // Each record goes to both routes and counts once in each.
            view.applied += pipeline.routes.iter().map(|route| route.applied + route.stale).max().unwrap_or(0);
            view.held_bytes += pipeline.buffer_bytes;
            view.redelivered += pipeline.redelivered;
            view.running_partitions += pipeline.partitions.iter().filter(|partition| partition.state == "running").count();
        }
        Some(view)
    }
}

#[derive(Deserialize)]
struct Status {
    pipelines: Vec<PipelineStatus>,
}

#[derive(Deserialize)]
struct PipelineStatus {
    buffer_bytes: u64,
    redelivered: u64,
    routes: Vec<RouteStatus>,
    partitions: Vec<PartitionStatus>,
}

#[derive(Deserialize)]
struct RouteStatus {
    applied: u64,
    stale: u64,
}

#[derive(Deserialize)]
struct PartitionStatus {
    state: String,
}
