//! Real Redis servers for one test, by `tests/servers/redis`: they live as long as its standard input is open.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use ::redis::{Client, FromRedisValue, aio::MultiplexedConnection};
use oncesink_sinks::redis::{self, RedisDedup, RedisOptions};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Single,
    Sentinel,
    Cluster,
}

#[derive(Debug)]
pub struct Server {
    pub kind: Kind,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    ready: BTreeMap<String, String>,
    // Dropped after `commands`: the script stops the servers when its input ends, and is waited for.
    script: Child,
    directory: PathBuf,
}

impl Server {
    pub fn start(kind: Kind, settings: &[&str]) -> Self {
        let name = match kind {
            Kind::Single => "single",
            Kind::Sentinel => "sentinel",
            Kind::Cluster => "cluster",
        };
        let root = std::env::var_os("ONCESINK_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let directory = root.join(format!("oncesink-redis-{name}-{:016x}", rand::random::<u64>()));
        fs::create_dir_all(&directory).unwrap();
        let mut script = Command::new(scripts().join("redis"));
        script.arg(name).arg(&directory);
        if kind == Kind::Single {
            let certificates = directory.join("certificates");
            assert!(Command::new(scripts().join("certificates")).arg(&certificates).status().unwrap().success());
            script.arg(&certificates);
        }
        let mut script = script.args(settings).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (script.stdin.take().unwrap(), BufReader::new(script.stdout.take().unwrap()));
        let mut server = Self { kind, commands, answers, ready: BTreeMap::new(), script, directory };
        let answer = server.answer();
        let facts = answer.strip_prefix("ready ").unwrap_or_else(|| panic!("Redis did not start: {answer}; see {}", server.directory.display()));
        server.ready = facts.split(' ').filter_map(|fact| fact.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        server
    }

    pub fn get(&self, name: &str) -> &str {
        self.ready.get(name).unwrap_or_else(|| panic!("the server did not say its {name}: {:?}", self.ready))
    }

    fn urls(&self) -> Vec<String> {
        let name = match self.kind {
            Kind::Single => "url",
            Kind::Sentinel => "sentinels",
            Kind::Cluster => "cluster",
        };
        self.get(name).split(',').map(str::to_owned).collect()
    }

    pub fn options(&self) -> RedisOptions {
        match self.kind {
            Kind::Single => RedisOptions::single(self.get("url")),
            Kind::Sentinel => RedisOptions::sentinel(self.urls(), "oncesink"),
            Kind::Cluster => RedisOptions::cluster(self.urls()),
        }
    }

    pub fn dedup(&self) -> RedisDedup {
        redis::open("shop", &self.options()).unwrap()
    }

    /// A connection of the test's own to each server that holds data of its own.
    pub async fn primaries(&self) -> Vec<MultiplexedConnection> {
        let urls = match self.kind {
            Kind::Single | Kind::Cluster => self.urls(),
            Kind::Sentinel => vec![self.get("primary").to_owned()],
        };
        let mut connections = Vec::new();
        for url in urls {
            connections.push(connection(&url).await);
        }
        connections
    }

    /// Asks each of them the same.
    pub async fn ask<T: FromRedisValue>(&self, command: &str) -> Vec<T> {
        let mut answers = Vec::new();
        for mut connection in self.primaries().await {
            answers.push(ask(&mut connection, command).await);
        }
        answers
    }

    /// `kill -9` of one of several, by its name.
    pub fn kill(&mut self, node: &str) {
        writeln!(self.commands, "kill {node}").unwrap();
        assert_eq!(self.answer(), "stopped");
    }

    pub fn start_again(&mut self, node: &str) {
        writeln!(self.commands, "start {node}").unwrap();
        assert!(self.answer().starts_with("ready "));
    }

    /// A server that hangs, until it is told to go on.
    pub fn signal(&self, signal: &str) {
        let pid = self.get("pid").split(',').next().unwrap();
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    }

    pub fn certificate(&self, name: &str) -> PathBuf {
        self.directory.join("certificates").join(name)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = writeln!(self.commands, "stop");
        let _ = self.answer();
        let _ = self.script.kill();
        let _ = self.script.wait();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

async fn connection(url: &str) -> MultiplexedConnection {
    Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

pub async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut question = ::redis::cmd(words.next().unwrap());
    for word in words {
        question.arg(word);
    }
    question.query_async(connection).await.unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// How many keys a server holds, by a connection of its own: one that changes its part cuts everybody off.
pub async fn size(url: &str) -> Result<usize, ::redis::RedisError> {
    let mut connection = Client::open(url)?.get_multiplexed_async_connection().await?;
    ::redis::cmd("DBSIZE").query_async(&mut connection).await
}

/// Waits until something holds, and panics with what was seen last if it does not in time.
pub async fn until<T, E: std::fmt::Debug>(limit: Duration, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() > deadline => panic!("not within {limit:?}: {seen:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/servers")
}
