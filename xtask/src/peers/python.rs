//! A Python environment of its own for each suite, in the cache directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result, command};

/// The directory for what can be made again: `AION_CACHE`, else `~/.cache/aion`.
///
/// # Errors
/// When neither `AION_CACHE` nor `HOME` is set.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(cache) = std::env::var_os("AION_CACHE") {
        return Ok(cache.into());
    }
    let home = std::env::var_os("HOME").ok_or_else(|| Error::Missing("HOME or AION_CACHE".to_owned()))?;
    Ok(Path::new(&home).join(".cache/aion"))
}

/// The interpreter of the environment `name` with exactly these packages (`name==version`).
/// The environment is made on the first call, and again when the list changes.
///
/// # Errors
/// When Python or a package cannot be had.
pub fn interpreter(name: &str, packages: &[&str]) -> Result<PathBuf> {
    compiled(name, packages, &[])
}

/// The same for packages that are compiled on the way, which these variables tell how.
///
/// # Errors
/// When Python or a package cannot be had.
pub fn compiled(name: &str, packages: &[&str], variables: &[(&str, &str)]) -> Result<PathBuf> {
    let dir = cache_dir()?.join("peers").join(name);
    let python = dir.join("bin/python");
    let told = variables.iter().map(|(name, value)| format!("{name}={value}"));
    let wanted: Vec<String> = packages.iter().map(ToString::to_string).chain(told).collect();
    let (marker, wanted) = (dir.join("packages.txt"), wanted.join("\n"));
    if python.is_file() && std::fs::read_to_string(&marker).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    eprintln!("setting up {} with {}", dir.display(), packages.join(" "));
    command::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(packages)
        .envs(variables.iter().copied());
    if !variables.is_empty() {
        pip.arg("--no-cache-dir"); // what was compiled otherwise is kept under the same name
    }
    command::output(&mut pip)?;
    std::fs::write(&marker, wanted).map_err(|source| Error::File { path: marker, source })?;
    Ok(python)
}
