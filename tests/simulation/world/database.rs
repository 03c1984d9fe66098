//! The simulated database server: tables, transactions, row locks. READ COMMITTED, as the real ones are used.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use oncesink_sinks::{
    checkpoint::CheckpointRow,
    generation::Generation,
    model::{Cell, NextOffset, Operation, Partition},
    session::Step,
    tombstone_table::{LockMode, StoredTombstone, TableLock},
};
use tokio::time::Instant;

use super::{
    World,
    person::Decision,
    worker::{State, WorkerId},
};

/// A row of a table, by column; NULL is none.
pub type Row = Vec<Option<i64>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    Checkpoint(Partition),
    Row(Arc<str>, i64),
    /// A new event id of a route: another transaction with the same waits.
    Event(Arc<str>, String),
}

/// What is committed.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pub checkpoints: BTreeMap<Partition, CheckpointRow>,
    /// Tables without a key: rows as they came.
    pub appended: BTreeMap<Arc<str>, Vec<Row>>,
    /// Tables with a key in their first column.
    pub keyed: BTreeMap<Arc<str>, BTreeMap<i64, Row>>,
    /// What a person did to checkpoints.
    pub audit: Vec<Decision>,
    /// Versions of deletes, by table and key.
    pub tombstones: BTreeMap<(String, String), StoredTombstone>,
    pub events: EventTables,
}

/// Processed events, as the real databases keep them.
#[derive(Clone, Debug)]
pub struct EventTables {
    pub tables: [BTreeSet<(Arc<str>, String)>; 4],
    pub newest: Generation,
    pub opened_at: Instant,
    pub previous_opened_at: Instant,
    pub emptied: Generation,
    pub retention: i64,
    pub ends: BTreeMap<(Generation, Partition), NextOffset>,
    pub committed: BTreeMap<Partition, NextOffset>,
}

impl Default for EventTables {
    fn default() -> Self {
        Self {
            tables: Default::default(),
            newest: Generation(3),
            opened_at: Instant::now(),
            previous_opened_at: Instant::now(),
            emptied: Generation(4),
            retention: 0,
            ends: BTreeMap::new(),
            committed: BTreeMap::new(),
        }
    }
}

/// What one transaction would change.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub checkpoints: BTreeMap<Partition, CheckpointRow>,
    pub appended: Vec<(Arc<str>, Row)>,
    pub keyed: BTreeMap<(Arc<str>, i64), Option<Row>>,
    /// New event ids, by their table.
    pub events: Vec<(usize, Arc<str>, String)>,
    /// What is written in the table of tombstones, and what is removed.
    pub tombstones: BTreeMap<(String, String), Option<StoredTombstone>>,
    /// A statement failed: only ROLLBACK is taken from now on.
    pub failed: bool,
}

#[derive(Debug)]
pub struct Connection {
    pub worker: WorkerId,
    pub transaction: Option<Transaction>,
    waits_for: Option<Lock>,
    /// COMMIT was received: a client that goes away does not change that.
    pub committing: bool,
    /// The client took it for lost, whatever the server still thinks of it.
    pub given_up: bool,
    /// It leads to a server that takes no writes any more.
    pub is_read_only: bool,
    /// When the server notices that its client is gone.
    dies_at: Option<Instant>,
}

#[derive(Debug)]
pub struct ServerState {
    pub id: Arc<str>,
    pub tables: Tables,
    pub connections: BTreeMap<ConnectionId, Connection>,
    locks: BTreeMap<Lock, ConnectionId>,
    table_locks: BTreeMap<u32, BTreeMap<ConnectionId, LockMode>>,
    /// Who holds the generation of processed events, and who waits to roll it over or does.
    holding: BTreeSet<ConnectionId>,
    rolling: Option<ConnectionId>,
    /// Who empties tables and rolls over.
    house: Option<ConnectionId>,
    next_connection: u64,
    /// A copy that may be restored, and which partitions there were.
    pub backup: Option<Tables>,
    /// Payloads that the tables refuse until somebody alters them, and those that they refused at some time.
    pub refused_payloads: BTreeSet<i64>,
    pub once_refused: BTreeSet<i64>,
    /// Payloads that no table has a column for, until somebody adds it: they do not even become rows.
    pub undecodable: BTreeSet<i64>,
}

impl Default for ServerState {
    fn default() -> Self {
        Self {
            id: Arc::from("simulated-database"),
            tables: Tables::default(),
            connections: BTreeMap::new(),
            locks: BTreeMap::new(),
            table_locks: BTreeMap::new(),
            holding: BTreeSet::new(),
            rolling: None,
            house: None,
            next_connection: 0,
            backup: None,
            refused_payloads: BTreeSet::new(),
            once_refused: BTreeSet::new(),
            undecodable: BTreeSet::new(),
        }
    }
}

/// What asking for a lock came to.
pub enum Asked {
    Granted,
    Held,
    /// Waiting would close a circle.
    Deadlock,
}

impl ServerState {
    pub fn connect(&mut self, worker: WorkerId, is_read_only: bool) -> ConnectionId {
        self.next_connection += 1;
        let id = ConnectionId(self.next_connection);
        let connection = Connection { worker, transaction: None, waits_for: None, committing: false, given_up: false, is_read_only, dies_at: None };
        self.connections.insert(id, connection);
        id
    }

    /// Another server takes over: connections stay with the old one, which lets nobody write any more.
    pub fn fail_over(&mut self) {
        for connection in self.connections.values_mut() {
            connection.is_read_only = true;
            if let Some(transaction) = &mut connection.transaction {
                transaction.failed = true;
            }
        }
        self.locks.clear();
        self.table_locks.clear();
        self.holding.clear();
        (self.rolling, self.house) = (None, None);
    }

    /// Asks for the lock of a table.
    pub fn ask_table(&mut self, id: ConnectionId, lock: TableLock) -> Asked {
        let holders = self.table_locks.entry(lock.number).or_default();
        let is_free = holders.iter().all(|(holder, held)| *holder == id || (lock.mode == LockMode::Shared && *held == LockMode::Shared));
        if !is_free {
            return Asked::Held;
        }
        holders.insert(id, lock.mode);
        Asked::Granted
    }

    /// How this connection holds the lock of a table.
    pub fn table_lock(&self, id: ConnectionId, number: u32) -> Option<LockMode> {
        self.table_locks.get(&number)?.get(&id).copied()
    }

    /// Asks to hold the generation still: whoever waits to roll it over comes first.
    pub fn hold_generation(&mut self, id: ConnectionId) -> Asked {
        if self.rolling.is_some_and(|rolling| rolling != id) && !self.holding.contains(&id) {
            return Asked::Held;
        }
        self.holding.insert(id);
        Asked::Granted
    }

    /// Asks to roll the generation over, which nobody else may hold. From now on nobody new does.
    pub fn take_generation(&mut self, id: ConnectionId) -> Asked {
        self.rolling.get_or_insert(id);
        if self.rolling == Some(id) && self.holding.iter().all(|holder| *holder == id) { Asked::Granted } else { Asked::Held }
    }

    /// Whether nobody can roll over from this generation before the transaction of this connection ends.
    pub fn holds_generation(&self, id: ConnectionId, generation: Generation) -> bool {
        self.holding.contains(&id) && self.tables.events.newest == generation
    }

    pub fn free_generation(&mut self, id: ConnectionId) {
        self.rolling.take_if(|rolling| *rolling == id);
    }

    pub fn keep_house(&mut self, id: ConnectionId) -> bool {
        *self.house.get_or_insert(id) == id
    }

    /// Whether this connection sees an id in a table: its own, or one that is committed.
    pub fn knows_event(&self, id: ConnectionId, table: usize, route: &Arc<str>, event: &str) -> bool {
        let own = self.connections.get(&id).and_then(|connection| connection.transaction.as_ref());
        let is_own = own.is_some_and(|own| own.events.iter().any(|(other, of, known)| *other == table && of == route && known == event));
        is_own || self.tables.events.tables[table].contains(&(route.clone(), event.to_owned()))
    }

    pub fn refuse(&mut self, payload: i64) {
        self.refused_payloads.insert(payload);
        self.once_refused.insert(payload);
    }

    /// The record does not fit the tables as they are described.
    pub fn misfit(&mut self, payload: i64) {
        self.undecodable.insert(payload);
        self.once_refused.insert(payload);
    }

    /// The tables are altered: they take this record.
    pub fn accept(&mut self, payload: i64) {
        self.refused_payloads.remove(&payload);
        self.undecodable.remove(&payload);
    }

    pub fn is_locked(&self, lock: &Lock) -> bool {
        self.locks.contains_key(lock)
    }

    /// Ends a connection and, with it, what it had not committed.
    pub fn disconnect(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
        self.free_locks(id);
    }

    pub fn disconnect_all(&mut self) {
        self.holding.clear();
        (self.rolling, self.house) = (None, None);
        self.connections.clear();
        self.locks.clear();
        self.table_locks.clear();
    }

    /// The server notices only then that nobody is there any more.
    pub fn disconnect_later(&mut self, id: ConnectionId, at: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.dies_at = Some(connection.dies_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// The client's side is gone now, the server's later.
    pub fn half_open(&mut self, id: ConnectionId, until: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.given_up = true;
        }
        self.disconnect_later(id, until);
    }

    pub fn free_locks(&mut self, id: ConnectionId) {
        self.holding.remove(&id);
        self.rolling.take_if(|rolling| *rolling == id);
        self.house.take_if(|keeper| *keeper == id);
        self.locks.retain(|_, holder| *holder != id);
        self.table_locks.values_mut().for_each(|holders| holders.retain(|holder, _| *holder != id));
    }

    pub fn ask(&mut self, id: ConnectionId, lock: &Lock) -> Asked {
        match self.locks.get(lock) {
            Some(holder) if *holder == id => Asked::Granted,
            Some(holder) => {
                let mut next = Some(*holder);
                while let Some(waiting) = next {
                    if waiting == id {
                        return Asked::Deadlock;
                    }
                    next = self.connections.get(&waiting).and_then(|other| other.waits_for.as_ref()).and_then(|lock| self.locks.get(lock)).copied();
                }
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.waits_for = Some(lock.clone());
                }
                Asked::Held
            }
            None => {
                self.locks.insert(lock.clone(), id);
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.waits_for = None;
                }
                Asked::Granted
            }
        }
    }

    pub fn stop_waiting(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.waits_for = None;
        }
    }

    pub fn holds(&self, id: ConnectionId, lock: &Lock) -> bool {
        self.locks.get(lock) == Some(&id)
    }

    pub fn is_held_by_another(&self, id: ConnectionId, lock: &Lock) -> bool {
        self.locks.get(lock).is_some_and(|holder| *holder != id)
    }

    pub fn transaction(&mut self, id: ConnectionId) -> Option<&mut Transaction> {
        self.connections.get_mut(&id)?.transaction.as_mut()
    }

    /// The checkpoint row as this transaction sees it.
    pub fn checkpoint(&self, id: ConnectionId, partition: &Partition) -> Option<CheckpointRow> {
        let own = self.connections.get(&id).and_then(|connection| connection.transaction.as_ref()).and_then(|own| own.checkpoints.get(partition));
        own.or_else(|| self.tables.checkpoints.get(partition)).cloned()
    }

    /// The row of a key as this transaction sees it.
    pub fn row(&self, id: ConnectionId, table: &Arc<str>, key: i64) -> Option<Row> {
        let own = self.connections.get(&id).and_then(|connection| connection.transaction.as_ref());
        match own.and_then(|own| own.keyed.get(&(table.clone(), key))) {
            Some(own) => own.clone(),
            None => self.tables.keyed.get(table).and_then(|rows| rows.get(&key)).cloned(),
        }
    }

    /// The tombstone of a key as this transaction sees it.
    pub fn tombstone(&self, id: ConnectionId, place: &(String, String)) -> Option<StoredTombstone> {
        let own = self.connections.get(&id).and_then(|connection| connection.transaction.as_ref());
        match own.and_then(|own| own.tombstones.get(place)) {
            Some(own) => own.clone(),
            None => self.tables.tombstones.get(place).cloned(),
        }
    }

    /// Writes one row that is locked, or has no key. `true`: it lost against a newer version.
    pub fn write(&mut self, id: ConnectionId, step: &Step<'_>, row: u32) -> bool {
        let target = &step.rows.target;
        let table = target.table.name.name.0.clone();
        let cells: Row = (0..target.table.columns.len())
            .map(|column| {
                let position = target.columns.iter().position(|known| *known == column)?;
                number(step.rows.columns[position].cell(row as usize))
            })
            .collect();
        let current = key(step, row).and_then(|key| self.row(id, &table, key));
        let Some(transaction) = self.transaction(id) else { return false };
        let Some(key) = key(step, row) else {
            transaction.appended.push((table, cells));
            return false;
        };
        let place = (table, key);
        if let (Some(guard), Some(current)) = (step.guard, &current) {
            let guard = target.columns[guard];
            // None, which is NULL, comes before every value.
            if current[guard] > cells[guard] {
                return true;
            }
        }
        let new = match step.operation {
            Operation::Delete => None,
            // A mark makes no row.
            Operation::Mark if current.is_none() => None,
            Operation::Write | Operation::Mark => {
                let mut new = current.unwrap_or_else(|| vec![None; target.table.columns.len()]);
                for position in step.shape.positions() {
                    let column = target.columns[position];
                    new[column] = cells[column];
                }
                Some(new)
            }
        };
        transaction.keyed.insert(place, new);
        false
    }

    /// Makes a transaction's changes everybody's.
    pub fn apply(&mut self, transaction: Transaction) {
        self.tables.checkpoints.extend(transaction.checkpoints);
        for (table, route, event) in transaction.events {
            self.tables.events.tables[table].insert((route, event));
        }
        for (place, tombstone) in transaction.tombstones {
            match tombstone {
                Some(version) => self.tables.tombstones.insert(place, version),
                None => self.tables.tombstones.remove(&place),
            };
        }
        for (table, row) in transaction.appended {
            self.tables.appended.entry(table).or_default().push(row);
        }
        for ((table, key), row) in transaction.keyed {
            let rows = self.tables.keyed.entry(table).or_default();
            match row {
                Some(row) => rows.insert(key, row),
                None => rows.remove(&key),
            };
        }
    }
}

impl World {
    /// Connections whose client is gone, stopped, or forgotten end when the server's limits say so. Whether any did.
    pub fn reap_connections(&mut self) -> bool {
        let now = Instant::now();
        let dead: Vec<ConnectionId> = self
            .server
            .connections
            .iter()
            .filter(|(_, connection)| !connection.committing && connection.dies_at.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in &dead {
            self.server.disconnect(*id);
        }
        !dead.is_empty()
    }

    /// What the server's time limits do to the connections of a worker that stands still: not at once.
    pub fn let_connections_die(&mut self, worker: WorkerId) {
        let ids: Vec<ConnectionId> = self.server.connections.iter().filter(|(_, connection)| connection.worker == worker).map(|(id, _)| *id).collect();
        for id in ids {
            let at = Instant::now() + self.milliseconds(worker, 0, 5000);
            self.server.disconnect_later(id, at);
        }
    }

    pub fn is_dead(&self, worker: WorkerId) -> bool {
        self.life(worker).is_none_or(|life| life.state == State::Dead)
    }
}

/// The key of a row of a step; none where the table has none.
pub fn key(step: &Step<'_>, row: u32) -> Option<i64> {
    let position = *step.rows.target.key.first()?;
    number(step.rows.columns[position].cell(row as usize))
}

fn number(cell: Cell<'_>) -> Option<i64> {
    match cell {
        Cell::Int(value) => Some(value),
        _ => None,
    }
}
