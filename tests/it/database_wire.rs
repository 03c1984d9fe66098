//! A wire to a database's server that knows what is said on it: it sees the COMMIT of a batch, and can cut the line there, before the
//! server hears of it or before the worker hears that it is done, or let nothing pass any more without telling either side.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use crate::{
    database::{Database, Kind},
    fate::Transaction,
    mysql_packets::MySqlPackets,
    postgres_messages::PostgresMessages,
};

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
    pub transaction: Transaction,
}

#[derive(Debug)]
pub struct DatabaseWire {
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
    protocol: Box<dyn Protocol>,
    /// The hit that is complete with the server's answer.
    awaits_answer: Mutex<Option<Hit>>,
    is_black: AtomicBool,
}

/// How one connection is understood. Each direction is read by a thread of its own.
pub trait Protocol: fmt::Debug + Send + Sync {
    /// The next message of the worker.
    fn read_question(&self, from: &mut dyn Read) -> io::Result<Question>;

    /// The next message of the server.
    fn read_answer(&self, from: &mut dyn Read) -> io::Result<Answer>;

    /// By which the server knows the connection.
    fn session(&self) -> i64;
}

pub struct Question {
    pub bytes: Vec<u8>,
    pub part: Part,
}

/// What a message of the worker is in what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The rest comes in the same write.
    Begin,
    End,
    /// A COMMIT, which is one message, of a transaction that has written a batch's rows.
    CommitOfBatch,
}

pub struct Answer {
    pub bytes: Vec<u8>,
    /// A COMMIT has taken effect.
    pub is_committed: bool,
}

impl DatabaseWire {
    /// Whoever connects here is connected to the database's server. A transaction that inserts into `table` is a batch. On MySQL and
    /// MariaDB a trail must be laid before the first fault, by which transactions are known.
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
        let plain = match self.shared.database.kind() {
            Kind::MySql | Kind::MariaDb => "ssl-mode=disabled",
            Kind::Postgres | Kind::Sqlite => "sslmode=disable",
        };
        format!("{}?{plain}", self.shared.database.url().replacen(&server, &self.address, 1))
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
    fn protocol(&self) -> Box<dyn Protocol> {
        match self.database.kind() {
            Kind::Postgres => Box::new(PostgresMessages::of_batches_into(&self.table)),
            Kind::MySql | Kind::MariaDb => Box::new(MySqlPackets::of_batches_into(&self.table)),
            Kind::Sqlite => panic!("SQLite has no wire"),
        }
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        // A server that is down refuses: so does the wire.
        let Ok(server) = TcpStream::connect(self.database.server_and_name().0) else { return };
        for socket in [&client, &server] {
            socket.set_nodelay(true).expect("a socket");
        }
        let line = Arc::new(Line { client, server, protocol: self.protocol(), awaits_answer: Mutex::default(), is_black: AtomicBool::new(false) });
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
        // What is one write of the client's is one here: a server that has got a part and waits for the rest counts no time, and nothing
        // but the keepalive of a line that is really dead would end it.
        let mut begun = Vec::new();
        loop {
            let question = line.protocol.read_question(&mut from)?;
            let fault = if question.part == Part::CommitOfBatch { self.next_fault() } else { None };
            let Some(fault) = fault else {
                begun.extend_from_slice(&question.bytes);
                if question.part != Part::Begin {
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
                    to.write_all(&question.bytes)?;
                    line.cut();
                    self.note(hit);
                }
                LineFault::CutAfter => {
                    *line.awaits_answer.lock().expect("nobody panics with it") = Some(hit);
                    to.write_all(&question.bytes)?;
                }
                LineFault::BlackHole | LineFault::BlackHoleInMessage => {
                    {
                        let lines = self.lines.lock().expect("nobody panics with it");
                        self.is_hole.store(true, Ordering::SeqCst);
                        lines.iter().for_each(|line| line.is_black.store(true, Ordering::SeqCst));
                    }
                    if fault == LineFault::BlackHoleInMessage {
                        to.write_all(&question.bytes[..question.bytes.len() / 2])?;
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
            let answer = line.protocol.read_answer(&mut from)?;
            line.stay_if_black();
            if answer.is_committed
                && let Some(hit) = line.awaits_answer.lock().expect("nobody panics with it").take()
            {
                line.cut();
                self.note(hit);
                return Ok(());
            }
            to.write_all(&answer.bytes)?;
        }
    }

    fn next_fault(&self) -> Option<LineFault> {
        let mut planned = self.planned.lock().expect("nobody panics with it");
        let turn = self.seen.fetch_add(1, Ordering::SeqCst) % (self.passing.load(Ordering::SeqCst) + 1);
        if turn == self.passing.load(Ordering::SeqCst) { planned.pop_front() } else { None }
    }

    /// The transaction is open and has written, so the server can tell which one it is.
    fn hit(&self, fault: LineFault, line: &Line) -> Hit {
        Hit { fault, at: Instant::now(), transaction: Transaction::open_in(&self.database, line.protocol.session()) }
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
