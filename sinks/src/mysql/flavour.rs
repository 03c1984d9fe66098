//! Which of the two servers answers, and what that changes. The URL's scheme says nothing: MariaDB is often reached by `mysql://`.

use std::fmt;

use crate::fault::{Fault, FaultClass};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    MySql,
    MariaDb,
}

impl Flavour {
    /// From `SELECT VERSION()`: `8.0.31`, `11.4.5-MariaDB-log`.
    pub fn of(version: &str) -> Self {
        if version.to_ascii_lowercase().contains("mariadb") { Self::MariaDb } else { Self::MySql }
    }

    /// The oldest version that has everything: row aliases in an upsert (MySQL), `SKIP LOCKED` (MariaDB).
    const fn oldest(self) -> [u32; 3] {
        match self {
            Self::MySql => [8, 0, 19],
            Self::MariaDb => [10, 6, 0],
        }
    }

    pub fn ensure_supported(self, version: &str) -> Result<(), Fault> {
        let mut numbers = version.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        let found: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
        if found >= self.oldest() {
            return Ok(());
        }
        let [major, minor, patch] = self.oldest();
        Err(Fault::new(FaultClass::Halt, "old-server", format!("{self} {version} is older than {major}.{minor}.{patch}, which oncesink needs")))
    }

    /// Strict, so that no value is changed to fit; a 0 in a numbered column stays 0; digits beyond a column's are rounded by both alike.
    pub const fn sql_mode(self) -> &'static str {
        match self {
            Self::MySql => {
                "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,\
                 NO_AUTO_VALUE_ON_ZERO"
            }
            Self::MariaDb => {
                "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,\
                 NO_AUTO_VALUE_ON_ZERO,TIME_ROUND_FRACTIONAL"
            }
        }
    }

    /// The server's own limits, so that a stopped process cannot hold its rows for ever: neither while the server waits for a statement, nor
    /// while it waits for its answer to be read. `statement_timeout` in milliseconds.
    pub fn limits(self, statement_timeout: u128) -> String {
        match self {
            // MySQL ends a connection that is idle in a transaction only by the limit of every idle connection, and only a SELECT that runs
            // too long; for the others it is the client that stops waiting.
            Self::MySql => format!(
                "wait_timeout = 10, net_write_timeout = 10, lock_wait_timeout = 10, innodb_lock_wait_timeout = 10, max_execution_time = {statement_timeout}"
            ),
            Self::MariaDb => {
                let (seconds, milliseconds) = (statement_timeout / 1000, statement_timeout % 1000);
                format!(
                    "idle_transaction_timeout = 10, net_write_timeout = 10, lock_wait_timeout = 10, innodb_lock_wait_timeout = 10, max_statement_time = {seconds}.{milliseconds:03}"
                )
            }
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_what_it_is() {
        for (version, flavour) in [("8.0.31", Flavour::MySql), ("8.4.0-cloud", Flavour::MySql), ("11.4.5-MariaDB", Flavour::MariaDb)] {
            assert_eq!(Flavour::of(version), flavour);
            assert!(flavour.ensure_supported(version).is_ok(), "{version}");
        }
        for version in ["5.7.44", "8.0.18", "10.5.28-MariaDB-1:10.5.28+maria~ubu2004"] {
            assert_eq!(Flavour::of(version).ensure_supported(version).unwrap_err().reason, "old-server", "{version}");
        }
    }
}
