//! The files of a command, read and checked, and what is made of them without a connection.

use std::{io::IsTerminal, path::PathBuf, sync::Arc};

use clap::Args;
use oncesink_sinks::{
    open::open,
    options::{self, DatabaseOptions},
    session::Database,
};

use super::{exit::Exit, output};
use crate::settings::{self, DatabaseSettings, NamedStatements, Pipeline, Tls};

/// Settings that a command line changes.
#[derive(Clone, Debug, Default, Args)]
pub struct Overrides {
    /// Sets a key of the file: kafka.group=x, or orders:kafka.group=x for one of several pipelines
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

impl Overrides {
    /// Reads the files; what is wrong with them is printed, all of it.
    pub fn load(&self, files: &[PathBuf]) -> Result<Vec<Pipeline>, Exit> {
        settings::load(files, std::env::vars(), &self.sets).map_err(|problems| {
            eprint!("{}", problems.render(std::io::stderr().is_terminal() && !output::is_plain()));
            Exit::Settings
        })
    }

    /// As [`Self::load`], for a command of one file.
    pub fn load_one(&self, file: &PathBuf) -> Result<Pipeline, Exit> {
        self.load(std::slice::from_ref(file))?.pop().ok_or(Exit::Settings)
    }
}

/// The database of a pipeline, not yet connected.
pub fn database(settings: &DatabaseSettings) -> Result<Arc<dyn Database>, Exit> {
    let mut options = DatabaseOptions::new("");
    options.url = settings.url.clone();
    options.username.clone_from(&settings.username);
    options.password.clone_from(&settings.password);
    options.tls = settings.tls.map(protection);
    options.ca.clone_from(&settings.ca);
    options.statement_timeout = settings.statement_timeout;
    options.named_statements = match settings.named_statements {
        NamedStatements::Auto => options::NamedStatements::Auto,
        NamedStatements::Always => options::NamedStatements::Always,
        NamedStatements::Never => options::NamedStatements::Never,
    };
    options.bookkeeping.clone_from(&settings.bookkeeping);
    open(&options).map_err(|error| {
        output::error(&error.to_string());
        Exit::Settings
    })
}

fn protection(tls: Tls) -> options::Tls {
    match tls {
        Tls::Disable => options::Tls::Disable,
        Tls::Prefer => options::Tls::Prefer,
        Tls::Require => options::Tls::Require,
        Tls::VerifyCa => options::Tls::VerifyCa,
        Tls::VerifyFull => options::Tls::VerifyFull,
    }
}
