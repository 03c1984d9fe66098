//! The command line: a verb, then files. One file a command.

use clap::{Parser, Subcommand};

pub use exit::Exit;

mod check;
mod completions;
mod config_schema;
mod connect;
mod demo;
mod example;
mod exit;
mod files;
pub mod memory;
mod migrate;
mod output;
mod plan;
mod retention;
mod run;
mod signals;
mod skip;
mod status;

/// Carries records from Kafka into SQL databases so that each takes effect once.
#[derive(Debug, Parser)]
#[command(name = "oncesink", version, arg_required_else_help = true, max_term_width = 110, after_help = EXIT_CODES)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 a partition is halted, a drain was cut, or plan found what the world must mend · 2 usage
            75 Kafka or the database cannot be reached · 78 the file must be edited · 128+n at the second signal n";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one or more pipelines until SIGTERM or SIGINT
    Run(run::Run),
    /// Checks files without connecting anywhere: every problem at once
    Check(check::Check),
    /// Connects and tells what `run` would do: columns, starts, guarantees, what is missing; changes nothing
    Plan(plan::Plan),
    /// Makes or updates oncesink's own tables
    Migrate(migrate::Migrate),
    /// Where each partition stands; ends with 1 if one is halted
    Status(status::Status),
    /// Leaves out one record at which its partition is halted
    Skip(skip::Skip),
    /// Shows it at work on this machine: no Kafka and no database server needed, half a minute
    Demo,
    /// Prints the JSON Schema of a pipeline's file
    ConfigSchema,
    /// Prints what a shell needs to complete commands
    Completions(completions::Completions),
    /// Prints a file with every key, explained
    Example,
}

impl CommandLine {
    /// Runs the command; whatever went wrong is printed already.
    pub async fn execute(self) -> Exit {
        if !matches!(self.command, Command::Run(_))
            && let Err(error) = signals::end_at_the_first()
        {
            output::warning(&format!("signals are not listened to: {error}"));
        }
        let ended = match self.command {
            Command::Run(arguments) => run::run(arguments).await,
            Command::Check(arguments) => check::check(&arguments),
            Command::Plan(arguments) => plan::plan(&arguments).await,
            Command::Migrate(arguments) => migrate::migrate(&arguments).await,
            Command::Status(arguments) => status::status(&arguments).await,
            Command::Skip(arguments) => skip::skip(&arguments).await,
            Command::Demo => Ok(demo::demo().await),
            Command::ConfigSchema => Ok(config_schema::config_schema()),
            Command::Completions(arguments) => Ok(completions::completions(&arguments)),
            Command::Example => Ok(example::example()),
        };
        ended.unwrap_or_else(|exit| exit)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradiction() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_coordinate_is_read_by_the_command_line() {
        assert!(CommandLine::try_parse_from(["oncesink", "skip", "orders.yaml", "orders:3@88211"]).is_ok());
        let error = CommandLine::try_parse_from(["oncesink", "skip", "orders.yaml", "orders"]).unwrap_err();
        assert!(error.to_string().contains("orders:3@88211") && error.exit_code() == i32::from(Exit::Usage.code()), "{error}");
    }

    #[test]
    fn every_command_that_acts_wants_a_file() {
        for command in ["run", "check", "plan", "migrate", "status", "skip"] {
            assert!(CommandLine::try_parse_from(["oncesink", command]).is_err(), "{command}");
        }
    }
}
