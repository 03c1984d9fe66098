//! Logs go to standard error, one line an event, as text or JSON.

use std::{fmt, io::IsTerminal};

use jiff::{Timestamp, Unit};
use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The level is no level and no directive.
#[derive(Debug, thiserror::Error)]
#[error("`{level}` is no log level (error, warn, info, debug, trace) and no directive such as oncesink::engine=debug: {cause}")]
pub struct LogLevelError {
    level: String,
    cause: String,
}

/// Starts logging. To be called once.
///
/// `level`: a level for oncesink itself (its dependencies stay at `warn`), or `tracing` directives.
///
/// # Errors
/// [`LogLevelError`], if `level` cannot be read.
pub fn start(level: &str, format: LogFormat) -> Result<(), LogLevelError> {
    let directives =
        if level.contains(['=', ',']) { level.to_owned() } else { format!("warn,oncesink={level},oncesink_sinks={level},oncesink_migrations={level}") };
    let filter = EnvFilter::try_new(directives).map_err(|cause| LogLevelError { level: level.to_owned(), cause: cause.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_timer(Seconds);
    // A second start (in tests) keeps the first one's.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).with_ansi(coloured()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    Ok(())
}

fn coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// UTC, to the millisecond.
struct Seconds;

impl FormatTime for Seconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = Timestamp::now().round(Unit::Millisecond).unwrap_or_else(|_| Timestamp::now());
        write!(writer, "{now:.3}")
    }
}
