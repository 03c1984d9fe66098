//! A wire to PostgreSQL that knows its messages: it sees the COMMIT of a batch, and can cut the line there, before the server
//! hears of it or before the worker hears that it is done, or let nothing pass any more without telling either side.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use crate::database::Database;

/// What becomes of a line at the COMMIT of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// Cut while the server has not got it.
    CutBefore,
    /// Cut once the server has answered that it is done; the worker does not get the answer.
    CutAfter,
    /// Cut as soon as it is sent: only the server knows.
    CutBetween,
    /// From here on nothing passes on any line, in either direction, and no side is told.
    BlackHole,
    /// The same, in the middle of the message.
    BlackHoleInMessage,
}

/// A fault that has happened, and the transaction that it hit.
#[derive(Clone, Debug)]
pub struct Hit {
    pub fault: LineFault,
    pub at: Instant,
    /// The server's process and transaction behind the line.
    pub backend: i32,
    transaction: String,
}

impl Hit {
    /// What the server says of the transaction: `committed`, `aborted` or `in progress`.
    pub fn status(&self, database: &Database) -> String {
        transaction_status(database, &self.transaction).expect("the server knows the transaction")
    }
}

/// What the server says of a transaction; nothing where it cannot be asked, or does not know it.
pub fn transaction_status(database: &Database, transaction: &str) -> Option<String> {
    let rows = database.try_rows(&format!("SELECT pg_xact_status('{transaction}'::xid8)")).ok()?;
    rows.into_iter().next()?.into_iter().next()?
}

#[derive(Debug)]
pub struct PostgresWire {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    /// Only a batch inserts into it.
    table: String,
    /// The faults to come, and how many batches pass between two of them.
    planned: Mutex<VecDeque<LineFault>>,
    passing: AtomicU64,
    seen: AtomicU64,
    hits: Mutex<Vec<Hit>>,
    is_hole: AtomicBool,
    lines: Mutex<Vec<Arc<Line>>>,
}

/// One connection.
#[derive(Debug)]
struct Line {
    client: TcpStream,
    server: TcpStream,
    backend: AtomicI32,
    /// The hit that is complete with the server's answer.
    awaits_answer: Mutex<Option<Hit>>,
    is_black: AtomicBool,
}

impl PostgresWire {
    /// Whoever connects here is connected to the database's server. A transaction that inserts into `table` is a batch.
    pub fn to(database: &Database, table: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            database: database.clone(),
            table: table.to_owned(),
            planned: Mutex::default(),
            passing: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            hits: Mutex::default(),
            is_hole: AtomicBool::new(false),
            lines: Mutex::default(),
        });
        let accepting = shared.clone();
        // Ends with the tests' process; each connection ends with either of its sides.
        thread::spawn(move || listener.incoming().flatten().for_each(|client| accepting.accept(client)));
        Self { address, shared }
    }

    /// The database's URL through this wire, on which messages are not encrypted.
    pub fn url(&self) -> String {
        let (server, _) = self.shared.database.server_and_name();
        format!("{}?sslmode=disable", self.shared.database.url().replacen(&server, &self.address, 1))
    }

    /// These faults from now on, in this order; `passing` batches commit in peace before each of them.
    pub fn plan(&self, faults: &[LineFault], passing: u64) {
        self.shared.passing.store(passing, Ordering::SeqCst);
        self.shared.seen.store(0, Ordering::SeqCst);
        self.shared.planned.lock().expect("nobody panics with it").extend(faults);
    }

    pub fn hits(&self) -> Vec<Hit> {
        self.shared.hits.lock().expect("nobody panics with it").clone()
    }

    /// New lines are good again. Those from before stay as they are: dead, without anybody being told.
    pub fn end_hole(&self) {
        self.shared.is_hole.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, client: TcpStream) {
        // A server that is down refuses: so does the wire.
        let Ok(server) = TcpStream::connect(self.database.server_and_name().0) else { return };
        for socket in [&client, &server] {
            socket.set_nodelay(true).expect("a socket");
        }
        let line = Arc::new(Line { client, server, backend: AtomicI32::new(0), awaits_answer: Mutex::default(), is_black: AtomicBool::new(false) });
        {
            let mut lines = self.lines.lock().expect("nobody panics with it");
            line.is_black.store(self.is_hole.load(Ordering::SeqCst), Ordering::SeqCst);
            lines.push(line.clone());
        }
        let (shared, speaking) = (self.clone(), line.clone());
        thread::spawn(move || {
            let _ = shared.carry_questions(&speaking);
            speaking.close();
        });
        let shared = self.clone();
        thread::spawn(move || {
            let _ = shared.carry_answers(&line);
            line.close();
        });
    }

    fn carry_questions(&self, line: &Line) -> io::Result<()> {
        let mut from = BufReader::new(line.client.try_clone()?);
        let mut to = line.server.try_clone()?;
        let start = Message::read_start(&mut from)?;
        line.stay_if_black();
        to.write_all(&start.bytes)?;
        let mut transaction = Transaction::default();
        // Parse to Sync are one write of the client's, so they are one here: a server that has executed and waits for Sync counts
        // no time, and nothing but the keepalive of a line that is really dead would end it.
        let mut begun = Vec::new();
        loop {
            let message = Message::read(&mut from)?;
            let fault = if transaction.commits_batch(&message, &self.table) { self.next_fault() } else { None };
            let Some(fault) = fault else {
                begun.extend_from_slice(&message.bytes);
                if !message.is_continued() {
                    line.stay_if_black();
                    to.write_all(&begun)?;
                    begun.clear();
                }
                continue;
            };
            line.stay_if_black();
            let hit = self.hit(fault, line);
            match fault {
                LineFault::CutBefore => {
                    line.cut();
                    self.note(hit);
                }
                LineFault::CutBetween => {
                    // The worker first, or the answer could still reach it.
                    let _ = line.client.shutdown(Shutdown::Both);
                    to.write_all(&message.bytes)?;
                    line.cut();
                    self.note(hit);
                }
                LineFault::CutAfter => {
                    *line.awaits_answer.lock().expect("nobody panics with it") = Some(hit);
                    to.write_all(&message.bytes)?;
                }
                LineFault::BlackHole | LineFault::BlackHoleInMessage => {
                    {
                        let lines = self.lines.lock().expect("nobody panics with it");
                        self.is_hole.store(true, Ordering::SeqCst);
                        lines.iter().for_each(|line| line.is_black.store(true, Ordering::SeqCst));
                    }
                    if fault == LineFault::BlackHoleInMessage {
                        to.write_all(&message.bytes[..message.bytes.len() / 2])?;
                    }
                    self.note(hit);
                    line.stay_if_black();
                }
            }
        }
    }

    fn carry_answers(&self, line: &Line) -> io::Result<()> {
        let mut from = BufReader::new(line.server.try_clone()?);
        let mut to = line.client.try_clone()?;
        loop {
            let message = Message::read(&mut from)?;
            line.stay_if_black();
            match message.kind() {
                b'K' => line.backend.store(message.number(), Ordering::SeqCst),
                b'C' if message.text(0) == "COMMIT" => {
                    if let Some(hit) = line.awaits_answer.lock().expect("nobody panics with it").take() {
                        line.cut();
                        self.note(hit);
                        return Ok(());
                    }
                }
                _ => {}
            }
            to.write_all(&message.bytes)?;
        }
    }

    fn next_fault(&self) -> Option<LineFault> {
        let mut planned = self.planned.lock().expect("nobody panics with it");
        let turn = self.seen.fetch_add(1, Ordering::SeqCst) % (self.passing.load(Ordering::SeqCst) + 1);
        if turn == self.passing.load(Ordering::SeqCst) { planned.pop_front() } else { None }
    }

    /// The transaction is open and has written, so the server tells its number.
    fn hit(&self, fault: LineFault, line: &Line) -> Hit {
        let backend = line.backend.load(Ordering::SeqCst);
        let transaction = self.database.number(&format!("SELECT backend_xid FROM pg_stat_activity WHERE pid = {backend}"));
        Hit { fault, at: Instant::now(), backend, transaction: transaction.to_string() }
    }

    fn note(&self, hit: Hit) {
        self.hits.lock().expect("nobody panics with it").push(hit);
    }
}

impl Line {
    /// Both sides are told at once.
    fn cut(&self) {
        let _ = self.server.shutdown(Shutdown::Both);
        let _ = self.client.shutdown(Shutdown::Both);
    }

    /// One side has ended, so the other one does: but not through a hole.
    fn close(&self) {
        self.stay_if_black();
        self.cut();
    }

    /// Holds the thread, and with it the sockets, for ever.
    fn stay_if_black(&self) {
        while self.is_black.load(Ordering::SeqCst) {
            thread::park();
        }
    }
}

/// Whether the open transaction of a line is that of a batch.
#[derive(Default)]
struct Transaction {
    /// Prepared statements by their names: whether they write a batch's rows.
    statements: BTreeMap<String, bool>,
    writes: bool,
}

impl Transaction {
    fn commits_batch(&mut self, message: &Message, table: &str) -> bool {
        match message.kind() {
            b'P' => {
                let (name, sql) = (message.text(0), message.text(1));
                let writes = sql.starts_with("INSERT INTO") && sql.contains(table);
                self.statements.insert(name, writes);
            }
            b'B' => self.writes |= self.statements.get(&message.text(1)).copied().unwrap_or(false),
            b'Q' => {
                let is_commit = message.text(0) == "COMMIT";
                return std::mem::take(&mut self.writes) && is_commit;
            }
            _ => {}
        }
        false
    }
}

/// A message as it stands on the wire: kind, length, body. Only a client's first one has no kind.
struct Message {
    bytes: Vec<u8>,
    body: usize,
}

impl Message {
    fn read_start(from: &mut impl Read) -> io::Result<Self> {
        let start = Self::read_after(Vec::new(), from)?;
        assert_ne!(start.number(), 80_877_103, "the wire reads plain messages only: sslmode=disable");
        Ok(start)
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut kind = vec![0];
        from.read_exact(&mut kind)?;
        Self::read_after(kind, from)
    }

    fn read_after(mut bytes: Vec<u8>, from: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        bytes.extend(length);
        let body = bytes.len();
        // The length counts itself.
        let rest = usize::try_from(u32::from_be_bytes(length)).expect("a length").checked_sub(4).expect("a message of PostgreSQL");
        bytes.resize(body + rest, 0);
        from.read_exact(&mut bytes[body..])?;
        Ok(Self { bytes, body })
    }

    fn kind(&self) -> u8 {
        self.bytes[0]
    }

    /// Parse, Bind, Describe, Execute, Close: a Sync or a Flush is still to come.
    fn is_continued(&self) -> bool {
        matches!(self.kind(), b'P' | b'B' | b'D' | b'E' | b'C')
    }

    /// The nth text of the body; each ends with a NUL.
    fn text(&self, index: usize) -> String {
        self.bytes[self.body..].split(|byte| *byte == 0).nth(index).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    }

    /// The number at the beginning of the body.
    fn number(&self) -> i32 {
        i32::from_be_bytes(self.bytes[self.body..self.body + 4].try_into().expect("four bytes"))
    }
}
