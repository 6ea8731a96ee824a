//! Tracing to standard error, as text or as JSON lines.

use std::io::IsTerminal;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::ServeError;

/// How a program writes its log to standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the process. The filter is `AION_LOG`, then `RUST_LOG`, then `info`, without the greetings of
/// every client of a protocol.
/// A second call does nothing, so that tests and embedders may call it freely.
///
/// # Errors
/// [`ServeError::LogFilter`] when the filter does not parse.
pub fn init_tracing(format: LogFormat) -> Result<(), ServeError> {
    let text = std::env::var("AION_LOG").or_else(|_| std::env::var("RUST_LOG"));
    let text = text.unwrap_or_else(|_| "info,rmcp=warn".to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|_| ServeError::LogFilter(text))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let already_set = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    drop(already_set);
    Ok(())
}
