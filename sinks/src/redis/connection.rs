//! One connection to Redis, made when it is first needed and anew after whatever broke it, with a limit of time round every step.
//!
//! The driver would connect again by itself, with waits and limits of its own that differ between one server and a Cluster; which
//! primary it then speaks to, and how long that takes, is decided here instead.

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    iter,
    pin::pin,
    slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};
use tokio::{sync::Mutex, task::JoinSet, time::timeout};

use super::{
    fault::{fault, late, of_server, unknown, unreachable},
    options::{RedisOptions, RedisOptionsError, Sentinels, Target},
    script::Stored,
};
use crate::fault::{Fault, FaultClass};

/// How many commands, or keys of one, are answered together: a healthy server takes some milliseconds for so many, and one that takes longer than
/// the limit of time is slow.
pub const AT_ONCE: usize = 1000;

/// How many times so many are under way to one server: a batch of the usual size is one way there and back, not five.
const PARTS_AT_ONCE: usize = 5;

/// The way to Redis. Shared by all calls, which do not wait for each other but for a connection that is being made.
pub(super) struct Link {
    target: Target,
    connect_limit: Duration,
    answer_limit: Duration,
    current: Mutex<Current>,
    /// How many connections were tried to be made.
    tries: AtomicU64,
}

#[derive(Default)]
struct Current {
    connection: Option<(u64, Connection)>,
    /// Why the last try failed: the answer to all who waited for it, so that one hanging server costs each of them one limit of time.
    failed: Option<(u64, Fault)>,
}

#[derive(Clone)]
struct Connection {
    way: Way,
    /// How many answers have come, to whomever.
    answered: Arc<AtomicU64>,
}

#[derive(Clone)]
enum Way {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, RedisOptionsError> {
        Ok(Self {
            target: Target::read(options)?,
            connect_limit: options.connect_limit,
            answer_limit: options.answer_limit,
            current: Mutex::default(),
            tries: AtomicU64::new(0),
        })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The answers to commands that do not depend on each other, in their order. After an error any of them may have taken effect.
    pub(super) async fn all(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, Fault> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.on_connection(async |connection| connection.all(commands).await).await
    }

    /// The values of keys, in their order; nil for one that is not there.
    pub(super) async fn values(&self, keys: &[String]) -> Result<Vec<Value>, Fault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.on_connection(async |connection| connection.values(keys).await).await?;
        // Fewer would be read as those of other keys.
        if values.len() == keys.len() { Ok(values) } else { Err(unknown()) }
    }

    pub(super) async fn one<T: FromRedisValue>(&self, command: Cmd) -> Result<T, Fault> {
        let answer = self.on_connection(async |connection| connection.one(command).await).await?;
        T::from_redis_value(answer).map_err(|_| unknown())
    }

    /// Runs a script. One that a server does not know yet has changed nothing, and is sent whole.
    pub(super) async fn script<T: FromRedisValue>(&self, script: &Stored, key: &str, arguments: &[String]) -> Result<T, Fault> {
        match self.one(script.by_name(key, arguments)).await {
            Err(fault) if fault.reason == "redis-script" => self.one(script.by_text(key, arguments)).await,
            answer => answer,
        }
    }

    /// One answer of each primary.
    pub(super) async fn every_primary<T: FromRedisValue>(&self, command: Cmd) -> Result<Vec<T>, Fault> {
        let answers = self.on_connection(async |connection| connection.every_primary(command).await).await?;
        answers.into_iter().map(|answer| T::from_redis_value(answer).map_err(|_| unknown())).collect()
    }

    async fn on_connection<T: Answers>(&self, work: impl AsyncFnOnce(&mut Connection) -> Result<T, RedisError>) -> Result<T, Fault> {
        let (number, mut connection) = self.connection().await?;
        let answered = connection.answered.clone();
        let result = match self.while_answers_come(&answered, work(&mut connection)).await {
            Some(Ok(answers)) => answers.refusal().map_or(Ok(answers), Err),
            Some(Err(error)) => Err(fault(&error)),
            None => Err(late("answer", self.answer_limit)),
        };
        // A server without memory is the right one all the same. After everything else the next call may find another.
        if result.as_ref().is_err_and(|fault| fault.class != FaultClass::Pause && fault.reason != "redis-script") {
            let mut current = self.current.lock().await;
            current.connection.take_if(|(current, _)| *current == number);
        }
        result
    }

    /// Nothing, if the server was silent for the limit of time. One that answers others is at work on what they asked for first, and a slow line carries
    /// that first: to begin anew then would never end.
    async fn while_answers_come<T>(&self, answered: &AtomicU64, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let before = answered.load(Ordering::Relaxed);
            if let Ok(answers) = timeout(self.answer_limit, &mut work).await {
                answered.fetch_add(1, Ordering::Relaxed);
                return Some(answers);
            }
            if answered.load(Ordering::Relaxed) == before {
                return None;
            }
        }
    }

    async fn connection(&self) -> Result<(u64, Connection), Fault> {
        let seen = self.tries.load(Ordering::Acquire);
        let mut current = self.current.lock().await;
        if let Some((number, connection)) = &current.connection {
            return Ok((*number, connection.clone()));
        }
        if let Some((_, fault)) = current.failed.as_ref().filter(|(number, _)| *number > seen) {
            return Err(fault.clone());
        }
        let number = self.tries.fetch_add(1, Ordering::AcqRel) + 1;
        match timeout(self.connect_limit, self.connect()).await.unwrap_or_else(|_| Err(late("connection", self.connect_limit))) {
            Ok(connection) => {
                current.failed = None;
                current.connection = Some((number, connection.clone()));
                Ok((number, connection))
            }
            Err(fault) => {
                current.failed = Some((number, fault.clone()));
                Err(fault)
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        Ok(Connection { way: self.way().await?, answered: Arc::default() })
    }

    async fn way(&self) -> Result<Way, Fault> {
        let config = self.config();
        match &self.target {
            Target::Single(client) => Ok(Way::One(connect(client, &config).await?)),
            Target::Sentinel(sentinels) => Ok(Way::One(self.primary(sentinels).await?)),
            Target::Cluster { client, seeds } => {
                // A seed that answers, or says why it does not. The cluster's client takes every refusal for a broken connection.
                first(seeds.iter().map(|seed| {
                    let (seed, config) = (seed.clone(), config.clone());
                    async move { as_node(&seed, &config).await }
                }))
                .await?;
                let connection = client.get_async_connection().await.map_err(|error| fault(&error))?;
                Ok(Way::Cluster(connection))
            }
        }
    }

    /// Without the driver's own limit of an answer, which knows nothing of what was asked for before it: all that waits has ours.
    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new().set_connection_timeout(Some(self.connect_limit)).set_response_timeout(None)
    }

    /// Whom the sentinels name, if it says of itself that it is the primary: a sentinel may not have heard of a failover yet.
    async fn primary(&self, sentinels: &Sentinels) -> Result<MultiplexedConnection, Fault> {
        let mut asked = JoinSet::new();
        for sentinel in &sentinels.sentinels {
            let (sentinel, name, config) = (sentinel.clone(), sentinels.primary.clone(), self.config());
            asked.spawn(async move { named_primary(&sentinel, &name, &config).await });
        }
        // One answer after the other, so that a sentinel or an old primary that hangs keeps nobody from the right one.
        let mut seen = BTreeSet::new();
        let mut tried = JoinSet::new();
        let mut failed = None;
        loop {
            tokio::select! {
                Some(address) = asked.join_next() => match address {
                    Ok(Ok(address)) => {
                        if seen.insert(address.clone()) {
                            let client = sentinels.client(address.0, address.1).map_err(|error| fault(&error))?;
                            let config = self.config();
                            tried.spawn(async move { as_primary(&client, &config).await });
                        }
                    }
                    Ok(Err(problem)) => worse(&mut failed, problem),
                    Err(_) => {}
                },
                Some(connection) = tried.join_next() => match connection {
                    Ok(Ok(connection)) => return Ok(connection),
                    Ok(Err(problem)) => worse(&mut failed, problem),
                    Err(_) => {}
                },
                else => return Err(failed.unwrap_or_else(|| unreachable("no sentinel can be reached"))),
            }
        }
    }
}

/// Of two reasons the one that a person must mend is told.
fn worse(failed: &mut Option<Fault>, problem: Fault) {
    if failed.as_ref().is_none_or(|failed| failed.class < problem.class) {
        *failed = Some(problem);
    }
}

async fn connect(client: &Client, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, Fault> {
    client.get_multiplexed_async_connection_with_config(config).await.map_err(|error| fault(&error))
}

/// The first that succeeds; else the worst reason.
async fn first<T: Send + 'static>(works: impl Iterator<Item = impl Future<Output = Result<T, Fault>> + Send + 'static>) -> Result<T, Fault> {
    let mut works: JoinSet<Result<T, Fault>> = works.collect();
    let mut failed = None;
    while let Some(result) = works.join_next().await {
        match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(problem)) => worse(&mut failed, problem),
            Err(_) => {}
        }
    }
    Err(failed.unwrap_or_else(|| unreachable("no server can be reached")))
}

async fn named_primary(sentinel: &Client, name: &str, config: &AsyncConnectionConfig) -> Result<(String, u16), Fault> {
    let mut connection = connect(sentinel, config).await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(name);
    let address: Option<(String, u16)> = question.query_async(&mut connection).await.map_err(|error| fault(&error))?;
    address.ok_or_else(|| {
        // It may have been restarted, and hear of the name again from the others.
        unreachable("a sentinel does not know the primary's name").with_mend("correct redis.master, or the sentinels' settings")
    })
}

async fn as_primary(client: &Client, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, Fault> {
    let mut connection = connect(client, config).await?;
    let mut question = redis::cmd("INFO");
    question.arg("replication");
    let answer: String = question.query_async(&mut connection).await.map_err(|error| fault(&error))?;
    if answer.lines().any(|line| line.trim_end() == "role:master") {
        Ok(connection)
    } else {
        Err(unreachable("the server that a sentinel named is not the primary"))
    }
}

/// Asks all that the cluster's client will ask.
async fn as_node(client: &Client, config: &AsyncConnectionConfig) -> Result<(), Fault> {
    let mut connection = connect(client, config).await?;
    for question in [redis::cmd("PING"), redis::cmd("CLUSTER").arg("SLOTS").take()] {
        question.query_async::<Value>(&mut connection).await.map_err(|error| fault(&error))?;
    }
    Ok(())
}

impl Connection {
    /// The answers to commands that do not depend on each other, in their order.
    async fn all(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, RedisError> {
        match &self.way {
            Way::One(connection) => {
                let mut rest = commands.into_iter();
                let pipelines = iter::from_fn(|| {
                    let mut pipeline = Pipeline::with_capacity(AT_ONCE.min(rest.len()));
                    for command in rest.by_ref().take(AT_ONCE) {
                        pipeline.add_command(command);
                    }
                    (!pipeline.is_empty()).then_some(pipeline)
                });
                let send = |pipeline: Pipeline| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_commands(&pipeline, 0, pipeline.len()).await }
                };
                Ok(self.in_order(pipelines.map(send), PARTS_AT_ONCE).await?.into_iter().flatten().collect())
            }
            Way::Cluster(connection) => {
                // Each by itself: hardly two keys of a batch share a slot, and the driver follows each that has moved. Its commands to one
                // node go out together all the same.
                let send = |command: Cmd| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_command(&command).await }
                };
                self.in_order(commands.into_iter().map(send), AT_ONCE).await
            }
        }
    }

    async fn values(&self, keys: &[String]) -> Result<Vec<Value>, RedisError> {
        let Way::One(connection) = &self.way else {
            return self.all(keys.iter().map(|key| of_keys("GET", slice::from_ref(key))).collect()).await;
        };
        // One command for many: half of what as many would cost the server.
        let parts = keys.chunks(AT_ONCE);
        let ask = |part: &[String]| {
            let (mut connection, command) = (connection.clone(), of_keys("MGET", part));
            async move { connection.req_packed_command(&command).await }
        };
        let answers = self.in_order(parts.clone().map(ask), PARTS_AT_ONCE).await?;
        let mut values = Vec::with_capacity(keys.len());
        for (answer, part) in answers.into_iter().zip(parts) {
            match answer {
                Value::Array(mut of_part) if of_part.len() == part.len() => values.append(&mut of_part),
                refusal @ Value::ServerError(_) => return Ok(vec![refusal]),
                _ => return Ok(Vec::new()),
            }
        }
        Ok(values)
    }

    /// The answers in the order of the questions, of which so many are under way.
    async fn in_order<T>(&self, questions: impl Iterator<Item = impl Future<Output = Result<T, RedisError>>>, at_once: usize) -> Result<Vec<T>, RedisError> {
        let count = |_: &_| {
            self.answered.fetch_add(1, Ordering::Relaxed);
        };
        stream::iter(questions).buffered(at_once).inspect(count).try_collect().await
    }

    async fn one(&mut self, command: Cmd) -> Result<Value, RedisError> {
        match &mut self.way {
            Way::One(connection) => connection.req_packed_command(&command).await,
            Way::Cluster(connection) => connection.req_packed_command(&command).await,
        }
    }

    async fn every_primary(&mut self, command: Cmd) -> Result<Vec<Value>, RedisError> {
        match &mut self.way {
            Way::One(connection) => Ok(vec![connection.req_packed_command(&command).await?]),
            Way::Cluster(connection) => {
                let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                match connection.route_command(command, everywhere).await? {
                    Value::Map(answers) => Ok(answers.into_iter().map(|(_, answer)| answer).collect()),
                    answer => Ok(vec![answer]),
                }
            }
        }
    }
}

/// Made at once as long as it gets.
fn of_keys(name: &str, keys: &[String]) -> Cmd {
    let mut command = Cmd::with_capacity(1 + keys.len(), name.len() + keys.iter().map(String::len).sum::<usize>());
    command.arg(name).arg(keys);
    command
}

/// What a server answered, which may be a refusal.
trait Answers {
    fn refusal(&self) -> Option<Fault>;
}

impl Answers for Value {
    fn refusal(&self) -> Option<Fault> {
        match self {
            Self::ServerError(error) => Some(of_server(error)),
            _ => None,
        }
    }
}

impl Answers for Vec<Value> {
    fn refusal(&self) -> Option<Fault> {
        // Of many the worst: what is tried again is tried again as a whole.
        self.iter().filter_map(Answers::refusal).max_by_key(|fault| fault.class)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.target.address()).finish_non_exhaustive()
    }
}
