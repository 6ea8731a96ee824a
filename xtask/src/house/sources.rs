//! What every tracked file looks like.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result, command};

/// The longest source file, in lines.
pub const MAX_FILE_LINES: usize = 800;
/// The most that `aion-types/src` may have, in lines.
pub const MAX_TYPES_LINES: usize = 3000;

/// A tracked text file.
#[derive(Debug, Clone)]
pub struct Tracked {
    /// Its path from the root, with `/`.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// Every tracked text file that is there; binary files are left out.
///
/// # Errors
/// When git fails or a file cannot be read.
pub fn tracked(root: &Path) -> Result<Vec<Tracked>> {
    let listed = command::output(Command::new("git").args(["ls-files", "-z"]).current_dir(root))?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let full: PathBuf = root.join(path);
        if !full.is_file() {
            continue; // deleted in the work tree, or a link
        }
        let bytes = std::fs::read(&full).map_err(|source| Error::File { path: full, source })?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(Tracked {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(files)
}

/// Rules over the tracked files.
pub fn violations(files: &[Tracked]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        if file.path.ends_with(".rs") {
            found.extend(opening_violation(&file.path, &file.text));
            found.extend(length_violation(&file.path, &file.text));
            found.extend(test_binary_violation(&file.path));
        }
        found.extend(machine_path_violation(&file.path, &file.text));
    }
    found.extend(types_length_violation(files));
    found
}

/// A Rust file opens with `//!`: what it is.
pub fn opening_violation(path: &str, text: &str) -> Option<String> {
    (!text.starts_with("//!")).then(|| format!("{path} does not open with //! and what it is"))
}

fn length_violation(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > MAX_FILE_LINES).then(|| format!("{path} has {lines} lines; {MAX_FILE_LINES} is the limit"))
}

/// A crate has one integration binary, `tests/it/main.rs`: each further one is linked on its own.
fn test_binary_violation(path: &str) -> Option<String> {
    let (_, inside) = path.split_once("/tests/")?;
    let binary = !inside.contains('/') || (inside.ends_with("/main.rs") && inside != "it/main.rs");
    binary.then(|| format!("{path} is a second integration binary; put it into tests/it"))
}

/// Paths of one machine say nothing on another. (Written in pieces, so that this file passes.)
fn machine_path_violation(path: &str, text: &str) -> Option<String> {
    let places = [
        concat!("/wo", "rk/main"),
        concat!("/wo", "rk/shared"),
        concat!("/ro", "ot/.cache"),
        concat!("/ro", "ot/.cargo"),
        concat!("/tmp/", "aion/"),
    ];
    let place = places.iter().find(|place| text.contains(**place))?;
    Some(format!("{path} names a path of one machine: {place}"))
}

fn types_length_violation(files: &[Tracked]) -> Option<String> {
    let of_types = |file: &&Tracked| file.path.starts_with("aion-types/src/") && file.path.ends_with(".rs");
    let lines: usize = files
        .iter()
        .filter(of_types)
        .map(|file| file.text.lines().count())
        .sum();
    (lines > MAX_TYPES_LINES).then(|| format!("aion-types has {lines} lines; {MAX_TYPES_LINES} is the limit"))
}
