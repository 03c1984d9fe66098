//! PostgreSQL's messages, as far as the wire reads them: who is connected, and which COMMIT is that of a batch.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use crate::database_wire::{Answer, Part, Protocol, Question};

/// One connection, on which messages are not encrypted.
#[derive(Debug)]
pub struct PostgresMessages {
    table: String,
    has_begun: AtomicBool,
    /// The process of the server behind the connection.
    backend: AtomicI64,
    asked: Mutex<Asked>,
}

/// What the worker has asked for.
#[derive(Debug, Default)]
struct Asked {
    /// Prepared statements by their names: whether they write a batch's rows.
    statements: BTreeMap<String, bool>,
    /// Whether the open transaction has written them.
    writes: bool,
}

impl PostgresMessages {
    pub fn of_batches_into(table: &str) -> Self {
        Self { table: table.to_owned(), has_begun: AtomicBool::new(false), backend: AtomicI64::new(0), asked: Mutex::default() }
    }

    fn commits_batch(&self, message: &Message) -> bool {
        let mut asked = self.asked.lock().expect("nobody panics with it");
        match message.kind() {
            b'P' => {
                let (name, sql) = (message.text(0), message.text(1));
                let writes = sql.starts_with("INSERT INTO") && sql.contains(&self.table);
                asked.statements.insert(name, writes);
            }
            b'B' => asked.writes |= asked.statements.get(&message.text(1)).copied().unwrap_or(false),
            b'Q' => {
                let is_commit = message.text(0) == "COMMIT";
                return std::mem::take(&mut asked.writes) && is_commit;
            }
            _ => {}
        }
        false
    }
}

impl Protocol for PostgresMessages {
    fn read_question(&self, from: &mut dyn Read) -> io::Result<Question> {
        if !self.has_begun.swap(true, Ordering::SeqCst) {
            return Ok(Question { bytes: Message::read_start(from)?.bytes, part: Part::End });
        }
        let message = Message::read(from)?;
        let part = match self.commits_batch(&message) {
            true => Part::CommitOfBatch,
            false if message.is_continued() => Part::Begin,
            false => Part::End,
        };
        Ok(Question { bytes: message.bytes, part })
    }

    fn read_answer(&self, from: &mut dyn Read) -> io::Result<Answer> {
        let message = Message::read(from)?;
        if message.kind() == b'K' {
            self.backend.store(message.number().into(), Ordering::SeqCst);
        }
        let is_committed = message.kind() == b'C' && message.text(0) == "COMMIT";
        Ok(Answer { bytes: message.bytes, is_committed })
    }

    fn session(&self) -> i64 {
        self.backend.load(Ordering::SeqCst)
    }
}

/// A message as it stands on the wire: kind, length, body. Only a client's first one has no kind.
struct Message {
    bytes: Vec<u8>,
    body: usize,
}

impl Message {
    fn read_start(from: &mut dyn Read) -> io::Result<Self> {
        let start = Self::read_after(Vec::new(), from)?;
        assert_ne!(start.number(), 80_877_103, "the wire reads plain messages only: sslmode=disable");
        Ok(start)
    }

    fn read(from: &mut dyn Read) -> io::Result<Self> {
        let mut kind = vec![0];
        from.read_exact(&mut kind)?;
        Self::read_after(kind, from)
    }

    fn read_after(mut bytes: Vec<u8>, from: &mut dyn Read) -> io::Result<Self> {
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
