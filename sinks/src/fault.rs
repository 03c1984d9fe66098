//! Every failure has a class, once, beside the driver that raised it. What is not known is `Halt`.

use std::{borrow::Cow, fmt};

use crate::model::TableName;

/// What the engine does about a failure. No class moves an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultClass {
    /// It passes by itself: deadlock, serialization, connection, read-only after a failover. The same batch again, with backoff.
    Retry,
    /// The world is short of something: disk full, too many connections, statement timeout. Again, later.
    Pause,
    /// The data is at fault: the batch is split until the record is found.
    Poison,
    /// The table is not what its description says (column or table gone, type changed): described again, once, then `Halt`.
    Changed,
    /// A person must mend it: permission, missing table, unknown. The partition halts and is tried again.
    Halt,
}

impl FaultClass {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Pause => "pause",
            Self::Poison => "poison",
            Self::Changed => "changed",
            Self::Halt => "halt",
        }
    }
}

/// The reasons by which something is decided, so that whoever gives one and whoever asks for it cannot drift apart. All others are only told.
pub mod reason {
    /// The bookkeeping tables are not there, or not as they were made.
    pub const MISSING_BOOKKEEPING: &str = "missing-bookkeeping";
    pub const NOT_NULL: &str = "not-null";
    pub const PERMISSION: &str = "permission";
    pub const READ_ONLY: &str = "read-only";
    pub const STATEMENT_TIMEOUT: &str = "statement-timeout";
}

/// What was being done when an error came: a missing table means something else each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During<'a> {
    Connect,
    Bookkeeping,
    Catalogue,
    Write {
        table: &'a TableName,
    },
    /// A deferred constraint is the data's fault as any other.
    Commit,
}

/// A failure as a person may read it: never a value of a record, never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub class: FaultClass,
    /// A short name of the reason, also the label of a metric: `permission`, `missing-table`, `out-of-range`, …
    pub reason: Cow<'static, str>,
    /// What happened, with the database's code, and the table, column or constraint that it names.
    pub detail: String,
    /// The table column at fault, where the database names it.
    pub column: Option<String>,
    /// What a person can do, as text or as SQL.
    pub mend: Option<String>,
}

impl Fault {
    #[must_use]
    pub fn new(class: FaultClass, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { class, reason: Cow::Borrowed(reason), detail: detail.into(), column: None, mend: None }
    }

    #[must_use]
    pub fn with_column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }

    #[must_use]
    pub fn with_mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// Only what is written can be at fault for its data, or meet a table of the user that has changed.
    #[must_use]
    pub(crate) fn met(mut self, during: During<'_>) -> Self {
        match (during, self.class) {
            (During::Write { .. } | During::Commit, _) => {}
            (During::Bookkeeping, FaultClass::Changed) => {
                self.class = FaultClass::Halt;
                self.reason = Cow::Borrowed(reason::MISSING_BOOKKEEPING);
            }
            (_, FaultClass::Changed | FaultClass::Poison) => self.class = FaultClass::Halt,
            (_, FaultClass::Retry | FaultClass::Pause | FaultClass::Halt) => {}
        }
        self
    }
}

/// The server could not prove who it is, or the connection could not be protected.
pub(crate) fn untrusted(problem: &str) -> Fault {
    Fault::new(FaultClass::Halt, "tls", format!("no trusted connection: {problem}"))
        .with_mend("name the authority in database.ca, or set database.tls (verify-full, verify-ca, require, disable)")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Fault {}
