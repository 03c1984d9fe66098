//! Servers by the scripts in `tests/servers`: each lives as long as its standard input is open, so none outlives the tests.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// A server of its own, for tests that stop it. The others use [`shared_kafka`] and [`shared_postgres`].
#[derive(Debug)]
pub struct Server {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    ready: BTreeMap<String, String>,
    // Dropped after `commands`: the script stops the server when its input ends, and is waited for.
    script: Child,
    directory: PathBuf,
}

impl Server {
    pub fn kafka() -> Self {
        Self::serve("kafka", &[&text(certificates())])
    }

    /// A broker that is as fast as it can be: it starts later, and is not what a figure measures.
    pub fn kafka_for_figures() -> Self {
        let (mut script, directory) = serving("kafka", &[&text(certificates())]);
        script.env("ONCESINK_KAFKA_COMPILER", "whole");
        Self::run(script, directory)
    }

    pub fn postgres() -> Self {
        Self::postgres_with(&[])
    }

    /// With lines of its own in `postgresql.conf`.
    pub fn postgres_with(settings: &[&str]) -> Self {
        Self::of_database_with("postgres", settings)
    }

    /// `postgres`, `mysql` or `mariadb`, as its script has it.
    pub fn of_database(kind: &str) -> Self {
        Self::of_database_with(kind, &[])
    }

    /// With settings of its own, in the way of its kind.
    pub fn of_database_with(kind: &str, settings: &[&str]) -> Self {
        Self::serve(kind, &[&[text(certificates()).as_str()], settings].concat())
    }

    /// PgBouncer in transaction mode before the PostgreSQL of this port.
    pub fn pgbouncer(port: &str) -> Self {
        Self::serve("pgbouncer", &[port])
    }

    /// `single`, `sentinel` or `cluster`, with lines of its own in `redis.conf`.
    pub fn redis(kind: &str, settings: &[&str]) -> Self {
        let directory = fresh_directory(&format!("redis-{kind}"));
        let mut script = Command::new(scripts().join("redis"));
        script.arg(kind).arg(&directory);
        if kind == "single" {
            script.arg(certificates());
        }
        script.args(settings);
        Self::run(script, directory)
    }

    /// A file system of that size at `path`, which is gone with this value. Only root can have one.
    pub fn small_disk(size: &str) -> Self {
        Self::serve("small-disk", &[size])
    }

    /// Three brokers. Their listener `wire` sends clients to these addresses, the other one to themselves.
    pub fn kafka_cluster(advertised: &[&str; 3]) -> Self {
        let directory = fresh_directory("kafka-cluster");
        let mut script = Command::new(scripts().join("kafka"));
        script.arg("cluster").arg(&directory).args(advertised);
        Self::run(script, directory)
    }

    fn serve(kind: &str, arguments: &[&str]) -> Self {
        let (script, directory) = serving(kind, arguments);
        Self::run(script, directory)
    }

    fn run(mut script: Command, directory: PathBuf) -> Self {
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server's script starts");
        let commands = script.stdin.take().expect("its input is a pipe");
        let answers = BufReader::new(script.stdout.take().expect("its output is a pipe"));
        let mut server = Self { commands, answers, ready: BTreeMap::new(), script, directory };
        server.read_ready();
        server
    }

    /// What it said when it was ready: `plaintext`, `scram`, `sasl`, `url`, `port`, `pid`.
    pub fn get(&self, name: &str) -> &str {
        self.ready.get(name).unwrap_or_else(|| panic!("the server did not say its {name}: {:?}", self.ready))
    }

    /// Stopped in order; its clients are cut off.
    pub fn stop(&mut self) {
        assert_eq!(self.ask("stop"), "stopped");
    }

    /// A crash of a database's server, after which it recovers from its log: PostgreSQL's immediate shutdown, `kill -9` of the others.
    pub fn crash(&mut self) {
        assert_eq!(self.ask("immediate"), "stopped");
    }

    /// Stops a database's server for as long as it takes to copy all its data.
    pub fn copy(&mut self, name: &str) {
        self.stop();
        assert_eq!(self.ask(&format!("copy {name}")), "copied");
        self.start();
    }

    /// Puts a copy in the place of its data. What was written since then is gone.
    pub fn restore(&mut self, name: &str) {
        self.crash();
        assert_eq!(self.ask(&format!("restore {name}")), "restored");
        self.start();
    }

    /// Its process stands still, as a machine that hangs, until it is thawed or stopped.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.get("pid").split(',').next().unwrap_or_default();
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("a shell");
        assert!(status.success(), "the server does not run");
    }

    /// The same data on the same ports again.
    pub fn start(&mut self) {
        writeln!(self.commands, "start").expect("the server's script reads");
        self.read_ready();
    }

    /// `kill -9` of one server of several, by its number or name.
    pub fn kill_node(&mut self, node: impl std::fmt::Display) {
        assert_eq!(self.ask(&format!("kill {node}")), "stopped");
    }

    /// The killed one comes back with its data.
    pub fn start_node(&mut self, node: impl std::fmt::Display) {
        writeln!(self.commands, "start {node}").expect("the server's script reads");
        self.read_ready();
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").expect("the server's script reads");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the server's script answers");
        line.trim().to_owned()
    }

    fn read_ready(&mut self) {
        let answer = self.answer();
        let facts = answer.strip_prefix("ready ").unwrap_or_else(|| panic!("the server did not start: {answer}; see {}", self.directory.display()));
        self.ready = facts.split(' ').filter_map(|fact| fact.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    }
}

/// The script of a server that serves from a directory of its own.
fn serving(kind: &str, arguments: &[&str]) -> (Command, PathBuf) {
    let directory = fresh_directory(kind);
    let mut script = Command::new(scripts().join(kind));
    script.arg("serve").arg(&directory).args(arguments);
    (script, directory)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.ask("stop");
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// One of Kafka's own tools, by the name of its script; what it printed.
pub fn kafka_tool(name: &str, brokers: &str, arguments: &[&str]) -> String {
    let tool = Command::new(scripts().join("kafka")).args(["tool", name, "--bootstrap-server", brokers]).args(arguments).output().expect("the script starts");
    format!("{}{}", String::from_utf8_lossy(&tool.stdout), String::from_utf8_lossy(&tool.stderr))
}

/// The broker that most tests share; its plaintext address.
pub fn shared_kafka() -> &'static str {
    shared_kafka_at("plaintext")
}

pub fn shared_kafka_at(listener: &str) -> &'static str {
    // Never dropped: its script stops it when this process ends and the pipe closes.
    static KAFKA: OnceLock<Server> = OnceLock::new();
    KAFKA.get_or_init(Server::kafka).get(listener)
}

/// The superuser's URL of the PostgreSQL that most tests share.
pub fn shared_postgres() -> &'static str {
    static POSTGRES: OnceLock<Server> = OnceLock::new();
    POSTGRES.get_or_init(Server::postgres).get("url")
}

pub fn shared_mysql() -> &'static str {
    static MYSQL: OnceLock<Server> = OnceLock::new();
    MYSQL.get_or_init(|| Server::of_database("mysql")).get("url")
}

pub fn shared_mariadb() -> &'static str {
    static MARIADB: OnceLock<Server> = OnceLock::new();
    MARIADB.get_or_init(|| Server::of_database("mariadb")).get("url")
}

/// The Redis that tests share which do not harm it.
pub fn shared_redis() -> &'static str {
    static REDIS: OnceLock<Server> = OnceLock::new();
    REDIS.get_or_init(|| Server::redis("single", &[])).get("url")
}

/// What a Redis answers, by its own tool.
pub fn ask_redis(url: &str, command: &str) -> String {
    let answer = Command::new("redis-cli").args(["-u", url]).args(command.split(' ')).output().expect("redis-cli is installed");
    String::from_utf8_lossy(&answer.stdout).trim().to_owned()
}

/// `ca.pem` signed what the servers show, `other-ca.pem` did not.
pub fn certificates() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let directory = fresh_directory("certificates");
        let status = Command::new(scripts().join("certificates")).arg(&directory).status().expect("the script starts");
        assert!(status.success(), "no certificates were made");
        directory
    })
}

/// A new directory below the one of this run. It is kept when a test fails.
pub fn fresh_directory(label: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let root = env::var_os("ONCESINK_TEST_DIR").map_or_else(env::temp_dir, PathBuf::from).join(format!("oncesink-it-{}", std::process::id()));
    let directory = root.join(format!("{label}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&directory).expect("a directory for the test");
    directory
}

/// A name that no other test and no other run uses.
pub fn unique(label: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{label}_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of text").to_owned()
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}
