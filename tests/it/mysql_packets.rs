//! MySQL's packets, which MariaDB speaks too, as far as the wire reads them: who is connected, and which COMMIT is that of a batch.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use crate::database_wire::{Answer, Part, Protocol, Question};

const QUERY: u8 = 0x03;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const OK: u8 = 0x00;

/// One connection, on which packets are neither encrypted nor compressed.
#[derive(Debug)]
pub struct MySqlPackets {
    table: String,
    is_greeted: AtomicBool,
    /// What the server's `CONNECTION_ID()` says.
    connection: AtomicI64,
    asked: Mutex<Asked>,
}

/// What the worker has asked for. It asks for one thing at a time, so the next answer is to the last one.
#[derive(Debug, Default)]
struct Asked {
    /// Prepared statements by the server's numbers: whether they write a batch's rows.
    statements: BTreeMap<u32, bool>,
    /// Whether the open transaction has written them.
    writes: bool,
    open: Open,
}

/// What has no answer yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    Prepare {
        writes: bool,
    },
    Commit,
}

impl MySqlPackets {
    pub fn of_batches_into(table: &str) -> Self {
        Self { table: table.to_owned(), is_greeted: AtomicBool::new(false), connection: AtomicI64::new(0), asked: Mutex::default() }
    }
}

impl Protocol for MySqlPackets {
    fn read_question(&self, from: &mut dyn Read) -> io::Result<Question> {
        let packet = Packet::read(from)?;
        let whole = |packet: Packet| Ok(Question { bytes: packet.bytes, part: Part::End });
        // A command is the first packet of an exchange. What comes before all commands, the login, answers the server's greeting.
        if packet.sequence() > 0 {
            assert!(packet.sequence() > 1 || packet.number(0) & 0x800 == 0, "the wire reads plain packets only: ssl-mode=disabled");
            return whole(packet);
        }
        let mut asked = self.asked.lock().expect("nobody panics with it");
        match packet.body().first().copied() {
            Some(PREPARE) => {
                let sql = packet.text();
                asked.open = Open::Prepare { writes: sql.starts_with("INSERT INTO") && sql.contains(&self.table) };
            }
            Some(EXECUTE) => asked.writes |= asked.statements.get(&packet.number(1)).copied().unwrap_or(false),
            Some(QUERY) => {
                let (is_commit, writes) = (packet.text() == "COMMIT", std::mem::take(&mut asked.writes));
                if is_commit {
                    asked.open = Open::Commit;
                }
                if is_commit && writes {
                    return Ok(Question { bytes: packet.bytes, part: Part::CommitOfBatch });
                }
            }
            // Some have no answer, such as the one that closes a statement.
            _ => {}
        }
        whole(packet)
    }

    fn read_answer(&self, from: &mut dyn Read) -> io::Result<Answer> {
        let packet = Packet::read(from)?;
        let mut is_committed = false;
        if !self.is_greeted.swap(true, Ordering::SeqCst) {
            self.connection.store(packet.greets().into(), Ordering::SeqCst);
        } else if packet.sequence() == 1 {
            let mut asked = self.asked.lock().expect("nobody panics with it");
            let is_ok = packet.body().first() == Some(&OK);
            match std::mem::take(&mut asked.open) {
                Open::Prepare { writes } if is_ok => {
                    asked.statements.insert(packet.number(1), writes);
                }
                open => is_committed = is_ok && open == Open::Commit,
            }
        }
        Ok(Answer { bytes: packet.bytes, is_committed })
    }

    fn session(&self) -> i64 {
        self.connection.load(Ordering::SeqCst)
    }
}

/// A packet as it stands on the wire: the length of the body in three bytes, its number in the exchange, the body.
struct Packet {
    bytes: Vec<u8>,
}

impl Packet {
    const HEAD: usize = 4;

    fn read(from: &mut dyn Read) -> io::Result<Self> {
        let mut bytes = vec![0; Self::HEAD];
        from.read_exact(&mut bytes)?;
        let length = usize::try_from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0])).expect("a length");
        bytes.resize(Self::HEAD + length, 0);
        from.read_exact(&mut bytes[Self::HEAD..])?;
        Ok(Self { bytes })
    }

    fn sequence(&self) -> u8 {
        self.bytes[3]
    }

    fn body(&self) -> &[u8] {
        &self.bytes[Self::HEAD..]
    }

    /// What stands behind the command.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body()[1..]).into_owned()
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.body()[at..at + 4].try_into().expect("four bytes"))
    }

    /// The server's first packet: the version of the protocol, its own as a text that ends with a NUL, the number of the connection.
    fn greets(&self) -> u32 {
        assert_eq!(self.body().first(), Some(&10), "the server greets");
        let version = self.body().iter().position(|byte| *byte == 0).expect("the version ends");
        self.number(version + 1)
    }
}
