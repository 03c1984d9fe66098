//! The real binary: run to its end, or as a worker that is stopped, frozen and killed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    file::PipelineFile,
    servers::fresh_directory,
    wait::{seconds, wait_for, wait_until},
};

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Everything that it printed.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code; it printed:\n{}", self.text());
        self
    }

    #[track_caller]
    pub fn expect_text(self, parts: &[&str]) -> Self {
        let text = self.text();
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
        self
    }
}

/// Runs the binary to its end.
pub fn oncesink(arguments: &[&str]) -> Finished {
    oncesink_within(seconds(120), arguments)
}

#[track_caller]
pub fn oncesink_within(limit: Duration, arguments: &[&str]) -> Finished {
    let directory = fresh_directory("command");
    let mut child = OwnChild(spawn(&directory, arguments, &[]));
    let what = format!("oncesink {} ends; see {}", arguments.join(" "), directory.display());
    let status = wait_child(&mut child.0, limit, &what);
    Finished { code: status.code(), stdout: read(&directory, "stdout"), stderr: read(&directory, "stderr") }
}

/// A process that does not outlive its test.
struct OwnChild(Child);

impl Drop for OwnChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `run FILE --until-end`, to its end.
pub fn run_until_end(file: &PipelineFile) -> Finished {
    oncesink(&["run", path(file), "--until-end", "--listen", &free_address()])
}

/// A `run` in the background. Killed when it is dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    directory: PathBuf,
    listen: String,
}

impl Worker {
    pub fn start(file: &PipelineFile) -> Self {
        Self::start_with(file, &[])
    }

    pub fn start_with(file: &PipelineFile, arguments: &[&str]) -> Self {
        let directory = fresh_directory("worker");
        let listen = free_address();
        let child = spawn(&directory, &[&["run", path(file), "--listen", &listen], arguments].concat(), &[]);
        Self { child, directory, listen }
    }

    /// Another command than `run`, in the background.
    pub fn command(arguments: &[&str]) -> Self {
        let directory = fresh_directory("command");
        let child = spawn(&directory, arguments, &[]);
        Self { child, directory, listen: free_address() }
    }

    pub fn log(&self) -> String {
        format!("{}{}", read(&self.directory, "stdout"), read(&self.directory, "stderr"))
    }

    /// Of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("the worker runs");
        self.child.wait().expect("the worker ends");
    }

    /// Its threads stand still, as in a long pause of the machine.
    pub fn freeze(&self) {
        self.signal("STOP");
        wait_until(seconds(10), "the worker is frozen", || self.process_fact("State").is_some_and(|state| state.starts_with('T')));
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn interrupt(&self) {
        self.signal("INT");
    }

    /// Its own handling of this signal is in place.
    pub fn catches(&self, number: u32) -> bool {
        let mask = self.process_fact("SigCgt").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
        mask.is_some_and(|mask| mask >> (number - 1) & 1 == 1)
    }

    /// The processes that it has started.
    pub fn children(&self) -> Vec<u32> {
        // Each thread has its own.
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let children = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
        children.flat_map(|children| children.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>()).collect()
    }

    /// SIGTERM, then its exit code.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.terminate();
        self.wait(seconds(40))
    }

    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let what = format!("the worker ends; see {}", self.directory.display());
        wait_child(&mut self.child, limit, &what).code()
    }

    #[track_caller]
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().expect("the worker is ours") {
            panic!("the worker ended with {status}; it printed:\n{}", self.log());
        }
    }

    /// Waits until its log holds all of these, in any order.
    #[track_caller]
    pub fn wait_for_log(&mut self, limit: Duration, parts: &[&str]) {
        let mut missing = parts.to_vec();
        let deadline = std::time::Instant::now() + limit;
        while !missing.is_empty() {
            let log = self.log();
            missing.retain(|part| !log.contains(part));
            assert!(missing.is_empty() || std::time::Instant::now() < deadline, "the worker did not say {missing:?} within {limit:?}:\n{log}");
            self.assert_runs();
            crate::wait::pause(Duration::from_millis(50));
        }
    }

    /// Status and body of one of its pages; `None` while it does not listen.
    pub fn page(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.listen).ok()?;
        stream.set_read_timeout(Some(seconds(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// The sum of a metric over the series that carry all of these labels (`outcome="applied"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, body) = self.page("/metrics")?;
        let values: Vec<f64> = body
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// `/status` of its one pipeline.
    pub fn status(&self) -> Option<Value> {
        let (_, body) = self.page("/status")?;
        serde_json::from_str::<Value>(&body).ok()?.get_mut("pipelines")?.get_mut(0).map(Value::take)
    }

    /// The states of its partitions, as `/status` says them.
    pub fn states(&self) -> Vec<String> {
        let status = self.status().unwrap_or_default();
        let partitions = status["partitions"].as_array().cloned().unwrap_or_default();
        partitions.iter().map(|partition| partition["state"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The bytes that it has read and not applied, at this moment.
    pub fn held(&self) -> u64 {
        self.status().and_then(|status| status["buffer_bytes"].as_u64()).unwrap_or(0)
    }

    /// Whether it holds about as much as `limit` (`max_buffer`) allows. Records pass the limit, and then reading stops; decoded they
    /// may take less than as they came, so what it settles at can be a little below.
    pub fn holds_its_limit(&self, limit: u64) -> bool {
        self.held() >= limit / 10 * 9
    }

    pub fn applied_by(&self, route: &str) -> f64 {
        self.metric("oncesink_records_total", &[r#"outcome="applied""#, &format!(r#"route="{route}""#)]).unwrap_or(0.0)
    }

    pub fn applied(&self) -> f64 {
        self.metric("oncesink_records_total", &[r#"outcome="applied""#]).unwrap_or(0.0)
    }

    /// The most memory that it ever held, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let peak = self.process_fact("VmHWM").expect("the worker runs");
        peak.trim_end_matches(" kB").trim().parse::<u64>().expect("a number of kB") * 1024
    }

    fn process_fact(&self, name: &str) -> Option<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|value| value.trim().to_owned()))
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().expect("a shell");
        assert!(status.success(), "the worker does not run; it printed:\n{}", self.log());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // How it stood when the test failed.
        let status = std::thread::panicking().then(|| self.page("/status")).flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            if let Some((_, status)) = status {
                eprintln!("--- the worker's status:\n{status}");
            }
            eprintln!("--- the worker printed ({}):\n{}", self.directory.display(), last_lines(&self.log(), 60));
        }
    }
}

pub fn path(file: &PipelineFile) -> &str {
    file.path.to_str().expect("a path of text")
}

/// A loopback port that nobody holds now. Each is given out once, as who asked for it may not listen there yet, and they lie below those
/// of the servers and those that the kernel gives to outgoing connections.
pub fn free_address() -> String {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: &u32| TcpListener::bind(format!("127.0.0.1:{port}")).is_ok();
    let mut ports = (0..10_000).map(|_| 2_000 + (std::process::id() * 97 + GIVEN.fetch_add(1, Ordering::Relaxed)) % 10_000);
    format!("127.0.0.1:{}", ports.find(is_free).expect("a free port"))
}

fn spawn(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
    let file = |name: &str| File::create(directory.join(name)).expect("a file for its output");
    let mut command = Command::new(env!("CARGO_BIN_EXE_oncesink"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
    // What somebody's shell holds must not reach the settings.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ONCESINK")) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied().collect::<BTreeMap<_, _>>()).spawn().expect("the binary starts")
}

#[track_caller]
fn wait_child(child: &mut Child, limit: Duration, what: &str) -> ExitStatus {
    wait_for(limit, what, || child.try_wait().expect("the process is ours"))
}

fn read(directory: &Path, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(directory.join(name)).unwrap_or_default()).into_owned()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
