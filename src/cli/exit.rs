use std::process::ExitCode;

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

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Exit {
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
