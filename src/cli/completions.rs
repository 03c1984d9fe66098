//! `oncesink completions`: for the shell's own loader.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CommandLine, exit::Exit};

#[derive(Debug, Args)]
pub struct Completions {
    shell: Shell,
}

pub fn completions(arguments: &Completions) -> Exit {
    clap_complete::generate(arguments.shell, &mut CommandLine::command(), "oncesink", &mut std::io::stdout());
    Exit::Done
}
