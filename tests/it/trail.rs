//! What happened to the checkpoints, written down by the server itself: a trigger records every change of a row, in the transaction
//! that makes it. So what was rolled back leaves no trace, and what a zombie had written would stand there under its claim.

use std::collections::BTreeMap;

use crate::{
    database::{Database, Kind},
    file::PipelineFile,
    kafka::Record,
    worker::{Worker, oncesink, path},
};

/// Lays the trail below a pipeline that has not run yet.
pub fn lay(database: &Database, file: &PipelineFile) {
    oncesink(&["migrate", path(file)]).expect_code(0);
    match database.kind() {
        Kind::Postgres => database.execute(
            "CREATE TABLE trail (
                 number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction bigint NOT NULL, owner text NOT NULL, kafka_partition integer NOT NULL,
                 old_epoch bigint, old_claim bigint, old_next bigint, epoch bigint NOT NULL, claim bigint NOT NULL, next bigint NOT NULL, batch bigint NOT NULL);
             CREATE FUNCTION leave_trail() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO trail (transaction, owner, kafka_partition, old_epoch, old_claim, old_next, epoch, claim, next, batch)
                 VALUES (pg_current_xact_id()::text::bigint, NEW.owner, NEW.partition, OLD.epoch, OLD.claim_id, OLD.next_offset,
                         NEW.epoch, NEW.claim_id, NEW.next_offset, NEW.batch_id);
                 RETURN NULL;
             END $$;
             CREATE TRIGGER leave_trail AFTER INSERT OR UPDATE ON oncesink.oncesink_checkpoint FOR EACH ROW EXECUTE FUNCTION leave_trail()",
        ),
        Kind::MySql | Kind::MariaDb => {
            database.execute(
                "CREATE TABLE trail (
                     number bigint AUTO_INCREMENT PRIMARY KEY, session bigint NOT NULL, owner text NOT NULL, kafka_partition int NOT NULL,
                     old_epoch bigint, old_claim bigint, old_next bigint, epoch bigint NOT NULL, claim bigint NOT NULL, next bigint NOT NULL, batch bigint NOT NULL,
                     INDEX (session))",
            );
            for (event, old) in [("INSERT", "NULL, NULL, NULL"), ("UPDATE", "OLD.epoch, OLD.claim_id, OLD.next_offset")] {
                database.execute(&format!(
                    "CREATE TRIGGER leave_trail_at_{event} AFTER {event} ON oncesink_checkpoint FOR EACH ROW
                     INSERT INTO trail (session, owner, kafka_partition, old_epoch, old_claim, old_next, epoch, claim, next, batch)
                     VALUES (CONNECTION_ID(), NEW.owner, NEW.partition, {old}, NEW.epoch, NEW.claim_id, NEW.next_offset, NEW.batch_id)"
                ));
            }
        }
        Kind::Sqlite => panic!("a trail on SQLite is not written yet"),
    }
}

/// Where the trail ends now.
pub fn end(database: &Database) -> i64 {
    database.number("SELECT coalesce(max(number), 0) FROM trail")
}

/// How many partitions have moved since then, whoever moved them.
pub fn moving(database: &Database, after: i64) -> i64 {
    database.number(&format!("SELECT count(DISTINCT kafka_partition) FROM trail WHERE number > {after} AND next > old_next"))
}

/// Entries of a worker with a number in `(after, until]`: how often it claimed a partition there, and how often it moved one
/// under a claim that was made there or before.
pub fn steps(database: &Database, worker: &Worker, after: i64, until: i64) -> Steps {
    let entries = format!("FROM trail WHERE owner LIKE '%:{}' AND number > {after} AND number <= {until}", worker.id());
    let earlier = format!("SELECT claim FROM trail WHERE epoch > old_epoch AND number <= {after}");
    Steps {
        claims: database.number(&format!("SELECT count(*) {entries} AND epoch > old_epoch")),
        moves: database.number(&format!("SELECT count(*) {entries} AND next > old_next")),
        under_earlier_claims: database.number(&format!("SELECT count(*) {entries} AND claim IN ({earlier})")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub claims: i64,
    pub moves: i64,
    /// Changes of any kind by claims from before the stretch.
    pub under_earlier_claims: i64,
}

/// The whole trail of a pipeline into the tables of `checker`, from an empty database to the end of the log.
#[track_caller]
pub fn assert_orderly(database: &Database, records: &[Record]) {
    if let Err(disorder) = judge(database, records) {
        panic!("{disorder}");
    }
}

fn judge(database: &Database, records: &[Record]) -> Result<(), String> {
    let mut never = vec![
        ("epochs fall, or an epoch has two claims", "SELECT * FROM trail WHERE epoch < old_epoch OR (epoch = old_epoch AND claim <> old_claim)"),
        ("a claim moves a checkpoint", "SELECT * FROM trail WHERE epoch > old_epoch AND next <> old_next"),
        (
            "spans overlap or leave a hole",
            "SELECT * FROM (SELECT trail.*, lag(next) OVER (PARTITION BY kafka_partition ORDER BY number) AS previous FROM trail) entries
             WHERE coalesce(previous, -1) <> coalesce(old_next, -1) OR next < old_next OR (old_next IS NULL AND next <> 0)",
        ),
    ];
    match database.kind() {
        // Each row knows its transaction.
        Kind::Postgres => never.extend([
            ("a batch takes effect twice", "SELECT batch FROM trail WHERE next > old_next GROUP BY batch HAVING count(DISTINCT transaction) > 1"),
            (
                "a record is written by another transaction than the one that moves the checkpoint over it",
                "SELECT kafka_partition, kafka_offset, xmin FROM order_log written WHERE NOT EXISTS (SELECT FROM trail
                 WHERE trail.kafka_partition = written.kafka_partition AND transaction = written.xmin::text::bigint
                 AND kafka_offset >= old_next AND kafka_offset < next)",
            ),
            (
                "a key is written by a transaction that moves no checkpoint",
                "SELECT id, xmin FROM orders written WHERE NOT EXISTS (SELECT FROM trail WHERE transaction = written.xmin::text::bigint AND next > old_next)",
            ),
        ]),
        // A batch moves each of its partitions once, in one session.
        _ => never.extend([
            ("a batch takes effect twice", "SELECT batch FROM trail WHERE next > old_next GROUP BY batch HAVING count(DISTINCT session) > 1"),
            ("a batch takes effect twice", "SELECT batch FROM trail WHERE next > old_next GROUP BY batch, kafka_partition HAVING count(*) > 1"),
        ]),
    }
    for (what, offenders) in never {
        let found = database.rows(&format!("SELECT * FROM ({offenders}) offenders LIMIT 5"));
        if !found.is_empty() {
            return Err(format!("{what}: {found:?}"));
        }
    }
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for record in records {
        expected.insert(record.partition.to_string(), (record.offset + 1).to_string());
    }
    let ends = database.rows("SELECT kafka_partition, max(next) FROM trail WHERE next > 0 GROUP BY kafka_partition");
    let ends: BTreeMap<String, String> = ends
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default))
        .map(|mut row| (row.next().unwrap_or_default(), row.next().unwrap_or_default()))
        .collect();
    if ends == expected { Ok(()) } else { Err(format!("the spans of the partitions end at {ends:?}, not at {expected:?}")) }
}

/// The judge is judged: each disorder must be seen.
mod tests {
    use super::*;
    use crate::{checker::create_order_tables, topic::Topic};

    /// A trail over one partition: a claim, a batch of two records, another claim, a batch of one.
    fn trail(kind: Kind, disorder: &str) -> (Database, Vec<Record>) {
        let database = Database::create(kind, "trail");
        create_order_tables(&database);
        // Nothing is read: only the bookkeeping tables are made.
        let topic = Topic { brokers: "127.0.0.1:1".to_owned(), name: "orders".to_owned(), partitions: 1 };
        lay(&database, &PipelineFile::new("trail", &topic, &database, &crate::checker::order_routes("orders")));
        let checkpoints = database.checkpoints();
        let change = |set: &str| format!("UPDATE {checkpoints} SET {set}");
        let log = |offset: i64| format!("INSERT INTO order_log VALUES (0, {offset}, 1, 1, 'n')");
        let partition = if kind == Kind::Postgres { "partition" } else { "`partition`" };
        let steps = [
            format!(
                "INSERT INTO {checkpoints} (pipeline, topic, {partition}, epoch, claim_id, next_offset, durable, delivery, cluster_id, group_id, \
                 owner, batch_id) VALUES ('p', 'orders', 0, 0, 0, 0, 0, 'exactly-once', 'c', 'g', 'o:1', 0)"
            ),
            change("epoch = 1, claim_id = 11"),
            format!("{}; {}; {}", change("next_offset = 2, batch_id = 5"), log(0), log(1)),
            change("epoch = 2, claim_id = 22"),
            format!("{}; {}", change("next_offset = 3, batch_id = 6"), log(2)),
        ];
        for step in steps {
            database.execute(&format!("BEGIN; {step}; COMMIT"));
        }
        database.execute(&disorder.replace("checkpoints", &checkpoints));
        let record = |offset| Record { partition: 0, offset, key: None, value: None };
        (database, (0..3).map(record).collect())
    }

    fn each_disorder_is_seen(kind: Kind) {
        let (database, records) = trail(kind, "SELECT 1");
        assert_eq!(judge(&database, &records), Ok(()));
        let mut disorders = vec![
            ("UPDATE checkpoints SET epoch = 1, claim_id = 11", "epochs fall"),
            ("UPDATE checkpoints SET claim_id = 11", "epochs fall"),
            ("UPDATE checkpoints SET epoch = 3, claim_id = 33, next_offset = 4", "a claim moves"),
            ("UPDATE checkpoints SET next_offset = 1", "spans overlap"),
            ("DELETE FROM trail WHERE next = 2 AND old_next = 0", "spans overlap"),
            ("UPDATE checkpoints SET next_offset = 4", "a batch takes effect twice"),
            ("UPDATE checkpoints SET next_offset = 4, batch_id = 7", "the spans of the partitions end"),
        ];
        match kind {
            Kind::Postgres => disorders.extend([
                ("INSERT INTO order_log VALUES (0, 1, 1, 1, 'n')", "another transaction"),
                ("INSERT INTO orders VALUES (1, 1, 'n')", "moves no checkpoint"),
            ]),
            // In one session, as a blind retry would.
            _ => disorders.push(("UPDATE checkpoints SET next_offset = 4, batch_id = 9; UPDATE checkpoints SET next_offset = 5", "a batch takes effect twice")),
        }
        for (disorder, seen) in disorders {
            let (database, records) = trail(kind, disorder);
            let judged = judge(&database, &records).expect_err(disorder);
            assert!(judged.contains(seen), "{disorder}: {judged}");
        }
    }

    #[test]
    fn each_disorder_is_seen_on_postgres() {
        each_disorder_is_seen(Kind::Postgres);
    }

    #[test]
    fn each_disorder_is_seen_on_mysql() {
        each_disorder_is_seen(Kind::MySql);
    }

    #[test]
    fn each_disorder_is_seen_on_mariadb() {
        each_disorder_is_seen(Kind::MariaDb);
    }
}
