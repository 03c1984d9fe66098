use std::io::Write;

/// How a command ends; scripts and service managers rely on these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Also after skipped records, and for `plan` with bookkeeping still to be made.
    Done,
    /// A partition was halted at the stop, a drain was cut, or `plan` found what the world must mend.
    Failed,
    /// The command line is wrong; clap ends with it itself.
    Usage,
    /// Kafka or the database cannot be reached (`EX_TEMPFAIL`).
    Unreachable,
    /// The file must be edited (`EX_CONFIG`): restarting does not help.
    Settings,
}

impl Exit {
    /// Ends the process. What it printed is out.
    pub fn end(self) -> ! {
        at_once(self.code())
    }

    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 75,
            Self::Settings => 78,
        }
    }
}

/// Ends the process here and now, whatever its other threads do.
///
/// The C library's own exit takes OpenSSL and the heap away under the feet of a Kafka client that still runs: a crash, or a wait without end.
pub fn at_once(code: u8) -> ! {
    let _ = std::io::stdout().flush();
    #[allow(unsafe_code, reason = "the standard library has no exit that leaves the rest of the process alone")]
    // SAFETY: it takes a number, touches nothing of ours, and does not come back.
    unsafe {
        libc::_exit(i32::from(code))
    }
}
