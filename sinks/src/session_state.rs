//! Where a session stands between two statements, once for every database.

use crate::fault::{Fault, FaultClass};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// Between two transactions.
    Idle,
    Open,
    /// A statement failed, with a fault of this class: only a rollback helps.
    Failed(FaultClass),
    /// The connection is not at a known point any more.
    Broken,
}

impl SessionState {
    pub fn ensure_idle(self) -> Result<(), Fault> {
        if self == Self::Idle { Ok(()) } else { Err(connection("the connection is not between two transactions")) }
    }

    /// Only an open transaction takes statements: the ones after a failure would run outside of it or be ignored.
    pub fn ensure_open(self) -> Result<(), Fault> {
        if self == Self::Open { Ok(()) } else { Err(connection("there is no open transaction on this connection")) }
    }

    /// Whether there is anything to roll back.
    pub fn needs_rollback(self) -> Result<bool, Fault> {
        match self {
            Self::Idle => Ok(false),
            Self::Open | Self::Failed(_) => Ok(true),
            Self::Broken => Err(connection("the connection is closed")),
        }
    }
}

fn connection(detail: &str) -> Fault {
    Fault::new(FaultClass::Retry, "connection", detail)
}
