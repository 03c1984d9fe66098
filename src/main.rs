use std::process::ExitCode;

use clap::Parser;
use oncesink::cli::{CommandLine, memory};

fn main() -> ExitCode {
    memory::keep_little();
    let command_line = CommandLine::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(command_line.execute());
    // A consumer that does not close must not hold the process: the checkpoint is the truth.
    runtime.shutdown_background();
    exit.end()
}
