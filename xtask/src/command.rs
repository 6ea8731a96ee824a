//! Running programs: quietly for their output, or in the open for people.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Error, Result};

/// The root of the workspace: that of the cargo that runs us, else the one that we were built in. They differ where two
/// copies of the workspace share a target directory.
pub fn workspace_root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    here.parent().unwrap_or(&here).to_owned()
}

/// An empty directory for the files of a run, removed when the value goes.
///
/// # Errors
/// When it cannot be made.
pub fn scratch() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("aion-")
        .tempdir()
        .map_err(|source| Error::File {
            path: std::env::temp_dir(),
            source,
        })
}

/// The cargo that runs us, or the one on the path.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    as_by_hand(command.current_dir(root));
    command
}

/// A script of the repository.
pub fn script(root: &Path, name: &str) -> Command {
    let mut command = Command::new("bash");
    as_by_hand(command.arg(root.join(name)).current_dir(root));
    command
}

/// Takes out what `cargo run` says of this program. Build scripts that look for it would run anew, with all that depends
/// on them, whenever a command by hand came between.
fn as_by_hand(command: &mut Command) {
    let said = |name: &str| {
        ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(said) {
            command.env_remove(name);
        }
    }
}

/// The command line as a person would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a command and returns what it wrote to standard output.
///
/// # Errors
/// When it cannot be started, or fails; then with the end of its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| not_started(command, source))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&done.stderr);
    let lines: Vec<_> = stderr.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n");
    Err(Error::Failed {
        command: shown(command),
        status: done.status.to_string(),
        stderr: format!("\n{tail}"),
    })
}

/// Runs a command in the open.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|source| not_started(command, source))?;
    succeeded(command, status)
}

/// Runs a command and reads its standard output as JSON.
///
/// # Errors
/// As [`output`], and when the text is not the JSON that is wanted.
pub fn json<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let text = output(command)?;
    serde_json::from_str(&text).map_err(|source| Error::Json {
        command: shown(command),
        source,
    })
}

/// Runs a `cargo build` with JSON messages and returns the programs that it made, in its order.
///
/// # Errors
/// As [`output`].
pub fn executables(cargo: &mut Command) -> Result<Vec<PathBuf>> {
    let messages = output(cargo)?;
    let programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    Ok(programs.collect())
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn succeeded(command: &Command, status: std::process::ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed {
        command: shown(command),
        status: status.to_string(),
        stderr: String::new(),
    })
}

pub(crate) fn not_started(command: &Command, source: std::io::Error) -> Error {
    Error::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    }
}
