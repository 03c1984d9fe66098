use std::process::ExitCode;

use clap::Parser;
use oncesink::cli::CommandLine;

#[tokio::main]
async fn main() -> ExitCode {
    CommandLine::parse().execute().await.into()
}
