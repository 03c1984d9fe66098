//! The judge: plain SQL over what was produced and what the tables hold. It asks nothing of the workers.

use std::path::Path;

use oncesink_sinks::plain_sql::{PlainSql, PlainSqlError};

use super::cluster::Produced;

/// What the judge keeps of the topic, beside the tables that the workers write.
const PRODUCED: &str = "CREATE TABLE produced (partition INTEGER NOT NULL, \"offset\" INTEGER NOT NULL, id INTEGER NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (partition, \"offset\")) WITHOUT ROWID";

/// The tables that the workers write. `order_log` has no key: nothing in it would stop a repeat.
const TARGETS: &str = r#"
CREATE TABLE orders (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, customer TEXT NOT NULL, status TEXT NOT NULL, total_cents INTEGER NOT NULL);
CREATE TABLE order_log (topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL, id INTEGER NOT NULL, version INTEGER NOT NULL);
"#;

/// What must be 0, and the query that counts it.
pub const FAULTS: [(&str, &str); 4] = [
    (
        "missing",
        r#"SELECT count(*) FROM produced p WHERE NOT EXISTS (SELECT 1 FROM by_coordinate l WHERE l.partition = p.partition AND l."offset" = p."offset" AND l.id = p.id AND l.version = p.version)"#,
    ),
    ("duplicated", r#"SELECT (SELECT count(*) FROM order_log) - (SELECT count(*) FROM (SELECT DISTINCT topic, partition, "offset" FROM order_log))"#),
    (
        "stale",
        "SELECT count(*) FROM (SELECT id, max(version) AS newest FROM produced GROUP BY id) p LEFT JOIN orders o USING (id) WHERE o.version IS NOT p.newest",
    ),
    (
        "invented",
        r#"SELECT (SELECT count(*) FROM orders WHERE id NOT IN (SELECT id FROM produced))
             + (SELECT count(*) FROM order_log l WHERE NOT EXISTS (SELECT 1 FROM produced p WHERE p.partition = l.partition AND p."offset" = l."offset"))"#,
    ),
];

/// What the tables hold in the end.
#[derive(Debug)]
pub struct Verdict {
    pub log_rows: i64,
    pub order_rows: i64,
    pub faults: Vec<(&'static str, i64)>,
}

impl Verdict {
    pub fn is_right(&self) -> bool {
        self.faults.iter().all(|(_, count)| *count == 0)
    }
}

/// Makes the tables, before any worker opens the file: two processes that switch a new file to write-ahead logging at once would fail.
pub async fn prepare(file: &Path) -> Result<(), PlainSqlError> {
    PlainSql::open(file).await?.execute(TARGETS).await
}

/// Notes what the cluster acknowledged, in a file of its own that no worker knows.
pub async fn note(file: &Path, produced: &[Produced]) -> Result<(), PlainSqlError> {
    let mut sql = PlainSql::open(file).await?;
    sql.execute(PRODUCED).await?;
    let rows: Vec<[i64; 4]> = produced.iter().map(|one| [i64::from(one.partition), one.offset, one.event.order, one.event.version]).collect();
    let rows = serde_json::to_string(&rows).unwrap_or_default();
    sql.execute_with("INSERT INTO produced SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?)", &rows).await
}

/// How many records the checkpoints have passed: how far the workers are.
pub async fn progress(sql: &mut PlainSql) -> Result<i64, PlainSqlError> {
    sql.number("SELECT sum(next_offset) FROM oncesink_checkpoint").await
}

pub async fn judge(tables: &Path, produced: &Path) -> Result<Verdict, PlainSqlError> {
    let mut sql = PlainSql::open(tables).await?;
    sql.execute_with("ATTACH ? AS judge", &produced.to_string_lossy()).await?;
    sql.execute(r#"CREATE TEMP TABLE by_coordinate AS SELECT * FROM order_log; CREATE INDEX temp.coordinate ON by_coordinate (partition, "offset");"#).await?;
    let mut faults = Vec::new();
    for (name, query) in FAULTS {
        faults.push((name, sql.number(query).await?));
    }
    let order_rows = sql.number("SELECT count(*) FROM orders").await?;
    let log_rows = sql.number("SELECT count(*) FROM order_log").await?;
    Ok(Verdict { log_rows, order_rows, faults })
}
