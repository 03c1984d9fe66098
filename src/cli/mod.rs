//! The command line: a verb, then files. One file a command.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use oncesink_sinks::model::Coordinate;

pub use exit::Exit;

mod demo;
mod exit;
mod output;

/// Carries records from Kafka into SQL databases so that each takes effect once.
#[derive(Debug, Parser)]
#[command(name = "oncesink", version, propagate_version = true, arg_required_else_help = true, max_term_width = 110)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows it at work on this machine: no Kafka and no database server needed, half a minute
    Demo,
}

impl CommandLine {
    pub async fn execute(self) -> Exit {
        match self.command {
            Command::Demo => demo::demo().await,
        }
    }
}
