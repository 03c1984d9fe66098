//! Whether statements may have names. A connection pooler may give each transaction another session of the server, where a name can stand
//! for another client's statement: the values of a row would go into whatever that is.
//!
//! So a session marks the server's session that it is given, and each of its transactions begins with a look at the mark. Who finds
//! another one has met a pooler, and nothing has run yet; from then on no statement has a name.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::options::NamedStatements;

/// How the statements of all sessions are named.
#[derive(Debug)]
pub(super) struct StatementNames {
    written: NamedStatements,
    pooler: AtomicBool,
}

/// How those of one session are named.
#[derive(Clone, Debug)]
pub(super) enum SessionNames {
    Named,
    Unnamed,
    /// Named as long as the mark is found.
    Marked(Mark),
}

#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// Marks the server's session.
    pub set: Arc<str>,
    /// Begins a transaction, or fails with [`is_missing`].
    pub begin: Arc<str>,
}

/// Never set: to ask for it is an error.
const NOBODY: &str = "oncesink.nobody";

impl StatementNames {
    pub fn new(written: NamedStatements) -> Self {
        Self { written, pooler: AtomicBool::new(false) }
    }

    /// `begin`: what a transaction begins with anyway.
    pub fn of_session(&self, begin: &str) -> SessionNames {
        match self.written {
            NamedStatements::Always => SessionNames::Named,
            NamedStatements::Auto if !self.pooler.load(Ordering::Relaxed) => SessionNames::Marked(Mark::new(begin)),
            NamedStatements::Auto | NamedStatements::Never => SessionNames::Unnamed,
        }
    }

    pub fn met_pooler(&self) {
        if !self.pooler.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "a connection pooler gives each transaction another session of PostgreSQL: statements are not prepared by name any more. \
                 Where the pooler knows them (PgBouncer 1.21 and newer, max_prepared_statements), database.named_statements: always is faster"
            );
        }
    }
}

impl SessionNames {
    pub fn are_used(&self) -> bool {
        !matches!(self, Self::Unnamed)
    }
}

impl Mark {
    fn new(begin: &str) -> Self {
        let mark = format!("{:032x}", rand::random::<u128>());
        // One variable for all: whoever gets the same session of the server later overwrites it, and is found out by that.
        let look = format!("SELECT CASE WHEN current_setting('oncesink.session', true) = '{mark}' THEN '' ELSE current_setting('{NOBODY}') END");
        Self { set: format!("SET oncesink.session = '{mark}'").into(), begin: format!("{begin}; {look}").into() }
    }
}

/// Whether a transaction could not begin because the mark is not there.
pub(super) fn is_missing(error: &sqlx::Error) -> bool {
    // The name of a variable stands in the message in every language.
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42704") && error.message().contains(NOBODY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pooler_that_was_met_is_known_to_later_sessions() {
        let names = StatementNames::new(NamedStatements::Auto);
        assert!(names.of_session("BEGIN").are_used());
        names.met_pooler();
        assert!(!names.of_session("BEGIN").are_used());
        assert!(matches!(StatementNames::new(NamedStatements::Always).of_session("BEGIN"), SessionNames::Named));
        assert!(!StatementNames::new(NamedStatements::Never).of_session("BEGIN").are_used());
    }
}
