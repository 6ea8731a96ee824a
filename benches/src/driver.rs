//! The driver's side of `cargo xtask peers`: one JSON object a line, in and out.
#![allow(clippy::print_stdout)] // standard output is the protocol

use std::error::Error;
use std::io::{BufRead, Write};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Greets, then answers each request line until standard input ends. A failed answer becomes `{"error"}`.
///
/// # Errors
/// When standard input or output fails.
pub fn serve<T: DeserializeOwned>(
    name: &str,
    version: &str,
    mut answer: impl FnMut(T) -> Result<Value, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({ "name": name, "version": version }))?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let answered = serde_json::from_str(&line?)
            .map_err(Into::into)
            .and_then(&mut answer);
        let document = answered.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        writeln!(out, "{document}")?;
        out.flush()?;
    }
    Ok(())
}
