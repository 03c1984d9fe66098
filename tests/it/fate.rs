//! What became of a transaction, as the server tells it, and not as a worker or a wire believes.

use crate::database::{Database, Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    Committed,
    Undone,
}

/// A transaction by a name that its server knows also when it is over.
#[derive(Clone, Debug)]
pub struct Transaction {
    database: Database,
    /// PostgreSQL's number of it. MySQL and MariaDB tell nobody what became of one, so there it is an entry in its trail.
    name: String,
}

impl Transaction {
    /// The one that is open in a session of the server, and has written.
    pub fn open_in(database: &Database, session: i64) -> Self {
        let name = match database.kind() {
            Kind::Postgres => database.number(&format!("SELECT backend_xid FROM pg_stat_activity WHERE pid = {session}")),
            Kind::MySql | Kind::MariaDb => database.number(&format!("{UNCOMMITTED}; SELECT max(number) FROM trail WHERE session = {session}")),
            Kind::Sqlite => panic!("SQLite has no sessions"),
        };
        Self::named(database, &name.to_string())
    }

    pub fn named(database: &Database, name: &str) -> Self {
        Self { database: database.clone(), name: name.to_owned() }
    }

    #[track_caller]
    pub fn fate(&self) -> Fate {
        self.known_fate().expect("the server knows the transaction")
    }

    /// Nothing where the server cannot be asked, or does not know it.
    pub fn known_fate(&self) -> Option<Fate> {
        match self.database.kind() {
            Kind::Postgres => match self.answer(&format!("SELECT pg_xact_status('{}'::xid8)", self.name))?.as_str() {
                "in progress" => Some(Fate::Open),
                "committed" => Some(Fate::Committed),
                "aborted" => Some(Fate::Undone),
                _ => None,
            },
            Kind::MySql | Kind::MariaDb => {
                let entry = format!("SELECT count(*) FROM trail WHERE number = {}", self.name);
                // In this order: what ends between the two looks was still open at the first.
                let is_written = self.answer(&format!("{UNCOMMITTED}; {entry}"))? == "1";
                let is_committed = self.answer(&entry)? == "1";
                Some(match (is_written, is_committed) {
                    (_, true) => Fate::Committed,
                    (true, false) => Fate::Open,
                    (false, false) => Fate::Undone,
                })
            }
            Kind::Sqlite => None,
        }
    }

    /// Whether it is open, and nobody else can lock the checkpoints that it has locked.
    pub fn holds_checkpoints(&self) -> bool {
        match self.database.kind() {
            Kind::Postgres => {
                let session = format!("SELECT pid FROM pg_stat_activity WHERE backend_xid = '{}'::xid", self.name);
                let locks = format!("SELECT count(*) FROM pg_locks WHERE pid = ({session}) AND relation = '{}'::regclass", self.database.checkpoints());
                self.database.number(&locks) > 0
            }
            // The entry was made by its change of a checkpoint.
            _ => self.fate() == Fate::Open,
        }
    }

    fn answer(&self, sql: &str) -> Option<String> {
        self.database.try_rows(sql).ok()?.into_iter().next()?.into_iter().next()?
    }
}

/// What others have written is seen before they commit it.
const UNCOMMITTED: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED";

mod tests {
    use super::*;
    use crate::{
        holder::Holder,
        wait::{seconds, wait_until},
    };

    fn each_fate_is_seen(kind: Kind, label: &str) {
        let database = Database::create(kind, label);
        database.execute("CREATE TABLE trail (number bigint, session bigint)");
        let (own, of_holder, returning) = match kind {
            Kind::Postgres => {
                let of_holder = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND backend_xid IS NOT NULL", database.name());
                ("pg_backend_pid()", of_holder, " RETURNING pg_current_xact_id()")
            }
            _ => ("CONNECTION_ID()", format!("{UNCOMMITTED}; SELECT session FROM trail"), "; SELECT 8"),
        };
        let holder = Holder::of(&database, &format!("INSERT INTO trail VALUES (7, {own})"));
        let undone = Transaction::open_in(&database, database.number(&of_holder));
        assert_eq!(undone.fate(), Fate::Open);
        drop(holder);
        wait_until(seconds(10), "it is undone", || undone.fate() == Fate::Undone);
        let committed = database.number(&format!("INSERT INTO trail VALUES (8, {own}){returning}"));
        assert_eq!(Transaction::named(&database, &committed.to_string()).fate(), Fate::Committed);
    }

    #[test]
    fn each_fate_is_seen_on_postgres() {
        each_fate_is_seen(Kind::Postgres, "fate");
    }

    #[test]
    fn each_fate_is_seen_on_mysql() {
        each_fate_is_seen(Kind::MySql, "fate_mysql");
    }

    #[test]
    fn each_fate_is_seen_on_mariadb() {
        each_fate_is_seen(Kind::MariaDb, "fate_mariadb");
    }
}
