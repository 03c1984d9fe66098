//! A fresh database for one test, and rows to put into it.

use std::{path::PathBuf, sync::Arc};

use oncesink_sinks::{
    checkpoint::Checkpoint,
    claim::{ClaimRequest, Claimed, Committed, Wanted},
    model::{
        Batch, BatchId, Content, Delivery, EventIdKind, Generated, KeyEquality, LastRecord, NextOffset, Operation, Partition, Presence, RecordMark, Rows, Rule,
        Span, TableName, Target, Values, WriteMode,
    },
    open::open,
    options::DatabaseOptions,
    session::Database,
    sink::{Applied, ApplyError, Sink, Writer},
    transaction::Transactional,
};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, Row, SqliteConnection};

pub const PIPELINE: &str = "shop";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MySql,
    MariaDb,
    Sqlite,
}

/// One database of its own.
#[derive(Clone, Debug)]
pub struct World {
    pub url: String,
    pub database: Arc<dyn Database>,
}

/// What a test asks beside oncesink, on a connection of its own.
macro_rules! on_connection {
    ($world:expr, $connection:ident => $body:expr) => {
        match $world.kind() {
            Kind::Postgres => {
                let mut $connection = PgConnection::connect(&$world.url).await.unwrap();
                $body
            }
            Kind::MySql | Kind::MariaDb => {
                let mut $connection = MySqlConnection::connect(&$world.url).await.unwrap();
                $body
            }
            Kind::Sqlite => {
                let mut $connection = SqliteConnection::connect(&$world.url).await.unwrap();
                $body
            }
        }
    };
}

impl World {
    pub fn kind(&self) -> Kind {
        match self.url.split(':').next().unwrap() {
            "postgres" => Kind::Postgres,
            "mysql" => Kind::MySql,
            "mariadb" => Kind::MariaDb,
            _ => Kind::Sqlite,
        }
    }

    pub fn is_postgres(&self) -> bool {
        self.kind() == Kind::Postgres
    }

    pub fn is_mysql_or_mariadb(&self) -> bool {
        matches!(self.kind(), Kind::MySql | Kind::MariaDb)
    }

    /// Runs statements as the database's owner, beside oncesink.
    pub async fn run(&self, sql: &str) {
        on_connection!(self, connection => {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        });
    }

    /// One text for each row of a query with one column of text.
    pub async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        on_connection!(self, connection => {
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            rows.iter().map(|row| row.get(0)).collect()
        })
    }

    /// The rows of a query as `a|b|c`, NULL as `-`.
    pub async fn rows(&self, columns: &[&str], rest: &str) -> Vec<String> {
        let text = if self.is_mysql_or_mariadb() { "char" } else { "text" };
        let columns: Vec<String> = columns.iter().map(|column| format!("coalesce(cast({column} as {text}), '-')")).collect();
        let whole = if self.is_mysql_or_mariadb() { format!("concat_ws('|', {})", columns.join(", ")) } else { columns.join(" || '|' || ") };
        let texts = self.texts(&format!("SELECT {whole} {rest}")).await;
        texts.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// The rows of a table, each column as a text.
    pub async fn cells(&self, columns: &[&str], table: &str) -> Vec<Vec<Option<String>>> {
        let text = if self.is_mysql_or_mariadb() { "char" } else { "text" };
        let casts: Vec<String> = columns.iter().map(|column| format!("cast({column} as {text})")).collect();
        let sql = format!("SELECT {} FROM {table}", casts.join(", "));
        on_connection!(self, connection => {
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
            rows.iter().map(|row| (0..columns.len()).map(|column| row.get(column)).collect()).collect()
        })
    }

    /// Makes a user, or a role that may log in, who may do nothing; gives its name. It is not dropped with the database.
    pub async fn create_role(&self) -> String {
        let role = format!("u{:016x}", rand::random::<u64>());
        self.run(&match self.kind() {
            Kind::Postgres => format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"),
            Kind::MySql | Kind::MariaDb => format!("CREATE USER {role} IDENTIFIED BY 'secret'"),
            Kind::Sqlite => unreachable!("a file knows no roles"),
        })
        .await;
        role
    }

    pub async fn drop_role(&self, role: &str) {
        let sql = if self.is_postgres() { format!("DROP OWNED BY {role}; DROP ROLE {role}") } else { format!("DROP USER {role}") };
        self.run(&sql).await;
    }

    /// The same database, as this role sees it.
    pub fn seen_by(&self, role: &str) -> Self {
        let mut options = DatabaseOptions::new(self.url.clone());
        options.username = Some(role.to_owned());
        options.password = Some("secret".into());
        Self { url: self.url.clone(), database: open(&options).unwrap() }
    }

    /// Of SQLite.
    pub fn file(&self) -> PathBuf {
        PathBuf::from(self.url.trim_start_matches("sqlite://").split('?').next().unwrap())
    }

    /// A name as it is quoted here.
    pub fn quoted(&self, name: &str) -> String {
        if self.is_mysql_or_mariadb() { format!("`{name}`") } else { format!("\"{name}\"") }
    }

    /// The bookkeeping tables as they are named here.
    pub fn bookkeeping(&self, table: &str) -> String {
        if self.is_postgres() { format!("oncesink.{table}") } else { table.to_owned() }
    }

    pub async fn worker(&self, table: &str, write: WriteMode, version: Option<&str>) -> Worker {
        self.worker_of(target(self, table, write, version).await).await
    }

    pub async fn worker_of(&self, target: Arc<Target>) -> Worker {
        self.database.migrate().await.unwrap();
        let id = self.database.database_id().await.unwrap();
        let sink = Arc::new(Transactional::new(self.database.clone(), id, rand::random()));
        let writer = sink.writer();
        let mut worker = Worker { sink, writer, target, claimed: None, next: NextOffset::ZERO };
        worker.claim().await;
        worker
    }
}

pub async fn target(world: &World, table: &str, write: WriteMode, version: Option<&str>) -> Arc<Target> {
    let table = Arc::new(world.database.describe(&TableName::parse(table)).await.unwrap());
    let columns: Vec<usize> = (0..table.columns.len()).filter(|index| table.columns[*index].generated != Generated::Always).collect();
    let position = |index: usize| columns.iter().position(|column| *column == index).unwrap();
    let key = if write == WriteMode::Append { Vec::new() } else { table.keys[0].columns.iter().map(|index| position(*index)).collect() };
    let key_equality = table.keys.first().map(|key| key.equality).unwrap_or_default();
    let version = version.map(|name| position(table.columns.iter().position(|column| column.name.as_str() == name).unwrap()));
    Arc::new(Target {
        route: "route".into(),
        columns,
        key,
        key_equality,
        version,
        write,
        table,
        accumulate: Vec::new(),
        dedup: Vec::new(),
        event_id: EventIdKind::default(),
    })
}

/// Rows that these columns tell apart, whether they are unique or not.
pub async fn insert_if_new(world: &World, table: &str, key: &[&str]) -> Arc<Target> {
    let appended = target(world, table, WriteMode::Append, None).await;
    let position = |name: &&str| (0..appended.columns.len()).find(|position| appended.column(*position).name.as_str() == *name).unwrap();
    let mut target = Target { key: key.iter().map(position).collect(), write: WriteMode::InsertIfNew, ..Target::clone(&appended) };
    target.key_equality = if target.key_is_unique() { KeyEquality::Bytes } else { KeyEquality::Database };
    Arc::new(target)
}

/// Rows that take each record into account; columns that are not named are replaced.
pub async fn accumulate(world: &World, table: &str, rules: &[(&str, Rule)]) -> Arc<Target> {
    let target = target(world, table, WriteMode::Accumulate, None).await;
    let rule = |position: usize| rules.iter().find(|(name, _)| target.column(position).name.as_str() == *name).map_or(Rule::Replace, |(_, rule)| *rule);
    let accumulate = (0..target.columns.len()).map(rule).collect();
    Arc::new(Target { accumulate, ..Target::clone(&target) })
}

/// One worker that holds partition `orders:0`.
pub struct Worker {
    pub sink: Arc<Transactional>,
    pub writer: Box<dyn Writer>,
    pub target: Arc<Target>,
    pub claimed: Option<Claimed>,
    pub next: NextOffset,
}

pub fn partition() -> Partition {
    Partition::new("orders", 0)
}

pub fn request() -> ClaimRequest {
    let wanted = Wanted {
        partition: partition(),
        delivery: Delivery::ExactlyOnce,
        held: None,
        committed: Committed::Nothing,
        start: Some(NextOffset::ZERO),
        beginning: Some(NextOffset::ZERO),
    };
    ClaimRequest {
        pipeline: PIPELINE.into(),
        cluster: "cluster".into(),
        group: "group".into(),
        owner: "host/1".into(),
        adopts_commits: false,
        wanted: vec![wanted],
        siblings: vec![(Partition::new("orders", 1), NextOffset::new(7))],
    }
}

impl Worker {
    pub async fn claim(&mut self) {
        let answers = self.sink.claim(&request()).await.unwrap();
        let claimed = answers.into_iter().next().unwrap().result.unwrap();
        self.next = claimed.next;
        self.claimed = Some(claimed);
    }

    /// A batch of one record a row, from where the worker stands.
    pub fn batch(&self, rows: &[(Operation, Vec<V>)]) -> Batch {
        let mut content = Rows::new(self.target.clone());
        let mut records = Vec::new();
        for (number, (operation, cells)) in rows.iter().enumerate() {
            for (column, cell) in content.columns.iter_mut().zip(cells) {
                match (cell, &mut column.values) {
                    (V::A, values) => {
                        values.push_nothing();
                        column.presence.push(Presence::Absent);
                        continue;
                    }
                    (V::N, values) => {
                        values.push_nothing();
                        column.presence.push(Presence::Null);
                        continue;
                    }
                    (V::B(value), Values::Bool(values)) => values.push(*value),
                    (V::I(value), Values::Int(values)) => values.push(*value),
                    (V::F(value), Values::Float(values)) => values.push(*value),
                    (V::T(value), Values::Text(values)) => values.push(value.as_bytes()),
                    (V::Y(value), Values::Bytes(values)) => values.push(value),
                    (V::U(value), Values::Uuid(values)) => values.push(*value),
                    (cell, values) => panic!("{cell:?} is not for {values:?}"),
                }
                column.presence.push(Presence::Value);
            }
            content.finish_row(u32::try_from(number).unwrap(), *operation);
            let offset = self.next.get() + i64::try_from(number).unwrap();
            records.push(RecordMark { offset, timestamp: 5, hash: 6, partition: 0 });
        }
        let to = NextOffset::new(self.next.get() + i64::try_from(rows.len()).unwrap());
        let last = Some(LastRecord { offset: to.get() - 1, timestamp: 5, hash: 6 });
        Batch {
            id: BatchId(rand::random()),
            pipeline: PIPELINE.into(),
            delivery: Delivery::ExactlyOnce,
            spans: vec![Span { partition: partition(), claim: self.claimed.as_ref().unwrap().claim, from: self.next, to, durable: self.next, last }],
            content: Arc::new(Content { partitions: vec![partition()], records, rows: vec![content], left_out: Vec::new() }),
            known: Vec::new(),
        }
    }

    pub async fn apply(&mut self, rows: &[(Operation, Vec<V>)]) -> Result<Applied, ApplyError> {
        let batch = self.batch(rows);
        let applied = self.writer.apply(&batch).await;
        if applied.is_ok() {
            self.next = batch.spans[0].to;
        }
        applied
    }

    /// Writes rows, and returns how many of them were stale.
    pub async fn write(&mut self, rows: Vec<Vec<V>>) -> u64 {
        let rows: Vec<(Operation, Vec<V>)> = rows.into_iter().map(|row| (Operation::Write, row)).collect();
        self.apply(&rows).await.unwrap().stale[0]
    }

    /// Writes rows, which must fail.
    pub async fn fails(&mut self, rows: Vec<Vec<V>>) -> oncesink_sinks::fault::Fault {
        let rows: Vec<(Operation, Vec<V>)> = rows.into_iter().map(|row| (Operation::Write, row)).collect();
        match self.apply(&rows).await {
            Err(ApplyError::Failed(fault)) => fault,
            other => panic!("expected a failure: {other:?}"),
        }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub enum V {
    A,
    N,
    B(bool),
    I(i64),
    F(f64),
    T(String),
    Y(Vec<u8>),
    U([u8; 16]),
}

pub fn t(text: &str) -> V {
    V::T(text.to_owned())
}

/// An empty database that nobody else has. Who makes it removes it.
pub async fn create(kind: Kind) -> World {
    let name = format!("oncesink_test_{:016x}", rand::random::<u64>());
    let url = match kind {
        Kind::Postgres => {
            let mut admin = PgConnection::connect(&server(kind)).await.expect("PostgreSQL cannot be reached");
            sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
            let server = server(kind);
            let (start, query) = server.split_once('?').map_or((server.as_str(), String::new()), |(start, query)| (start, format!("?{query}")));
            let authority = start.find("//").map_or(0, |index| index + 2);
            let root = start[authority..].find('/').map_or(start, |slash| &start[..authority + slash]);
            format!("{root}/{name}{query}")
        }
        Kind::MySql | Kind::MariaDb => {
            let server = server(kind);
            let mut admin = MySqlConnection::connect(&server).await.unwrap_or_else(|error| panic!("{kind:?} cannot be reached: {error}"));
            sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"))).execute(&mut admin).await.unwrap();
            format!("{}/{name}", server.rsplit_once('/').unwrap().0)
        }
        Kind::Sqlite => {
            let directory = std::env::temp_dir().join(name);
            std::fs::create_dir(&directory).unwrap();
            format!("sqlite://{}?mode=rwc", directory.join("shop.db").display())
        }
    };
    World { database: open(&DatabaseOptions::new(url.clone())).unwrap(), url }
}

pub async fn remove(world: &World) {
    let name = world.url.split('?').next().unwrap().rsplit('/').next().unwrap();
    match world.kind() {
        Kind::Postgres => {
            let mut admin = PgConnection::connect(&server(Kind::Postgres)).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut admin).await.unwrap();
        }
        kind @ (Kind::MySql | Kind::MariaDb) => {
            let mut admin = MySqlConnection::connect(&server(kind)).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name}"))).execute(&mut admin).await.unwrap();
        }
        Kind::Sqlite => std::fs::remove_dir_all(world.file().parent().unwrap()).unwrap(),
    }
}

/// The URL of the server's superuser.
fn server(kind: Kind) -> String {
    let variable = match kind {
        Kind::Postgres => "ONCESINK_TEST_POSTGRES",
        Kind::MySql => "ONCESINK_TEST_MYSQL",
        Kind::MariaDb => "ONCESINK_TEST_MARIADB",
        Kind::Sqlite => unreachable!("a file has no server"),
    };
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} must be the URL of a superuser"))
}

pub async fn on_postgres<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(World) -> F) {
    on(Kind::Postgres, test).await;
}

pub async fn on_mysql<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(World) -> F) {
    on(Kind::MySql, test).await;
}

pub async fn on_mariadb<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(World) -> F) {
    on(Kind::MariaDb, test).await;
}

pub async fn on_sqlite<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(World) -> F) {
    on(Kind::Sqlite, test).await;
}

async fn on<F: Future<Output = ()> + Send + 'static>(kind: Kind, test: impl FnOnce(World) -> F) {
    let world = create(kind).await;
    // In a task of its own, so that the database is dropped after a panic too.
    let result = tokio::spawn(test(world.clone())).await;
    remove(&world).await;
    if let Err(error) = result {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Runs each test on each of the databases, or on those that are named.
#[macro_export]
macro_rules! on_each {
    ($($test:ident),+ $(,)?) => {
        $crate::on_each!(on_postgres, on_mysql, on_mariadb, on_sqlite: [$($test),+]);
    };
    ($($database:ident),+: $tests:tt) => {
        $($crate::on_each!(@ $database $tests);)+
    };
    (@ $database:ident [$($test:ident),+]) => {
        mod $database {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { $crate::world::$database(super::$test).await; })+
        }
    };
}
