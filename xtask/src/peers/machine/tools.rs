//! The programs that stand beside ours: ripgrep, GNU grep, diffy; and how long a program takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::peers::python::cache_dir;
use crate::{Result, command};

const RIPGREP: &str = "15.2.0";

/// ripgrep of one version, built from its package on the first call.
pub(super) fn ripgrep() -> Result<PathBuf> {
    let dir = cache_dir()?.join("peers/ripgrep");
    let program = dir.join("bin/rg");
    let version = |program: &Path| command::output(Command::new(program).arg("--version"));
    if program.is_file() && version(&program).is_ok_and(|text| text.contains(RIPGREP)) {
        return Ok(program);
    }
    eprintln!("setting up {} with ripgrep {RIPGREP}", dir.display());
    let mut cargo = command::cargo(Path::new("."));
    cargo.args([
        "install",
        "ripgrep",
        "--quiet",
        "--locked",
        "--force",
        "--version",
        RIPGREP,
        "--root",
    ]);
    command::run(cargo.arg(&dir))?;
    Ok(program)
}

/// The first line that a program says of its version, without what stands in parentheses.
pub(super) fn version(program: &Path) -> Result<String> {
    let text = command::output(Command::new(program).arg("--version"))?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line.split(" (").next().unwrap_or(line).to_owned())
}

/// Whether a program is on the path.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}

/// What a program that prints lines did.
pub(super) struct Ran {
    pub(super) wall_s: f64,
    pub(super) lines: usize,
}

/// Runs a program to its end, from its start on the clock.
pub(super) fn run(command: &mut Command) -> Result<Ran> {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let done = command
        .output()
        .map_err(|source| command::not_started(command, source))?;
    let wall_s = started.elapsed().as_secs_f64();
    // 1 says that nothing was found, 2 that some files could not be read.
    if done.status.code().is_none_or(|code| code > 2) {
        command::succeeded(command, done.status)?;
    }
    let lines = done.stdout.iter().filter(|b| **b == b'\n').count();
    Ok(Ran { wall_s, lines })
}
