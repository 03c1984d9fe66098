//! `oncesink run`: the pipelines of one process, from start to summary.

use std::{io::Write, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};

use clap::{Args, ValueEnum};
use tokio::task::JoinSet;

use self::{
    board::{Board, Tile},
    pipeline::{Carried, carry},
};
use super::{exit::Exit, files::Overrides, output, signals};
use crate::{
    settings::{self, LogLevel},
    telemetry::{
        http::{self, Server},
        logs::{self, LogFormat},
    },
};

mod board;
mod pipeline;
mod summary;

#[derive(Debug, Args)]
pub struct Run {
    /// One file a pipeline; several run in this one process
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Ends with 0 once everything is applied that is in the topics now
    #[arg(long)]
    until_end: bool,
    #[command(flatten)]
    overrides: Overrides,
    /// Where /metrics, /live, /ready and /status answer, instead of observe.listen
    #[arg(long, value_name = "ADDRESS:PORT", env = "ONCESINK_LISTEN")]
    listen: Option<SocketAddr>,
    /// error, warn, info, debug, trace, or directives such as oncesink::engine=debug; instead of log.level
    #[arg(long, value_name = "LEVEL", env = "ONCESINK_LOG")]
    log_level: Option<String>,
    /// Instead of log.format
    #[arg(long, value_name = "FORMAT", env = "ONCESINK_LOG_FORMAT")]
    log_format: Option<Format>,
    /// For a parent process: tells its status on standard output, and ends when its standard input does
    #[arg(long, hide = true)]
    supervised: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub async fn run(arguments: Run) -> Result<Exit, Exit> {
    // First of all: until then a signal ends the process by itself.
    let shutdown = signals::listen().map_err(|error| {
        output::error(&format!("signals cannot be received: {error}"));
        Exit::Failed
    })?;
    let pipelines = arguments.overrides.load(&arguments.files)?;
    let Some(process) = pipelines.first().map(|pipeline| pipeline.process) else { return Err(Exit::Settings) };
    let format = match (arguments.log_format, process.log_format) {
        (Some(Format::Json), _) | (None, settings::LogFormat::Json) => LogFormat::Json,
        (Some(Format::Text), _) | (None, settings::LogFormat::Text) => LogFormat::Text,
    };
    let level = arguments.log_level.clone().unwrap_or_else(|| level_of(process.log_level).to_owned());
    logs::start(&level, format).map_err(|error| {
        output::error(&error.to_string());
        Exit::Usage
    })?;
    for pipeline in &pipelines {
        for warning in &pipeline.warnings {
            tracing::warn!(pipeline = %pipeline.name, "{warning}");
        }
    }
    let board = Board { tiles: pipelines.iter().map(|pipeline| Tile::new(pipeline.name.clone())).collect() };
    let listen = arguments.listen.unwrap_or(process.observe.listen);
    serve(&board, listen, arguments.listen.is_some() || process.observe.written).await?;
    if arguments.supervised {
        supervise(board.clone());
    }

    let mut running = JoinSet::new();
    for (pipeline, tile) in pipelines.into_iter().zip(board.tiles) {
        running.spawn(carry(pipeline, tile, shutdown.clone(), arguments.until_end));
    }
    let mut exit = Exit::Done;
    while let Some(carried) = running.join_next().await {
        let Ok(Carried { exit: one, said }) = carried else {
            output::error("a pipeline broke down; this is a bug");
            exit = exit.max(Exit::Failed);
            continue;
        };
        eprint!("{said}");
        exit = exit.max(one);
    }
    Ok(exit)
}

/// A taken default port is a warning, since two pipelines on one machine are nothing unusual; a chosen one is an error.
async fn serve(board: &Board, listen: SocketAddr, chosen: bool) -> Result<(), Exit> {
    let recorder = match http::record() {
        Ok(recorder) => recorder,
        Err(error) => {
            tracing::warn!(%error, "there are no metrics");
            return Ok(());
        }
    };
    match Server::bind(listen).await {
        Ok(server) => {
            let address = server.address().map_or_else(|_| listen.to_string(), |address| address.to_string());
            tracing::info!("metrics and health at http://{address}: /metrics /live /ready /status");
            let board = board.clone();
            tokio::spawn(server.serve(recorder, Arc::new(move || board.view())));
            Ok(())
        }
        Err(error) if chosen => {
            output::error(&format!("{listen} cannot be listened at: {error}; choose another address with --listen or observe.listen"));
            Err(Exit::Failed)
        }
        Err(error) => {
            tracing::warn!(%error, "{listen} cannot be listened at, so there is no /metrics and no /ready; choose another with --listen");
            Ok(())
        }
    }
}

/// Tells the status on standard output, and ends with standard input: a parent that dies, however it does, leaves no orphan.
///
/// Threads of their own: reading standard input cannot be given up, and must not hold the runtime at its end.
fn supervise(board: Board) {
    thread::spawn(move || {
        let mut output = std::io::stdout();
        while writeln!(output, "{}", board.status()).and_then(|()| output.flush()).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        Exit::Failed.end();
    });
}

const fn level_of(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}
