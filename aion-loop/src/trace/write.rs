//! The files of an export: written beside and renamed, so that a reader sees the old or the new.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use aion_types::{TraceLine, TraceRecord};

use super::Export;

/// Where an export was written, and how many lines each file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceFiles {
    /// `train.jsonl`
    pub train: (PathBuf, usize),
    /// `val.jsonl`
    pub val: (PathBuf, usize),
    /// `replay.jsonl`
    pub replay: (PathBuf, usize),
}

impl Export {
    /// Writes the three files into `dir`, which is made if it is not there. Blocks.
    ///
    /// # Errors
    /// Those of the file system; the old files are whole then.
    pub fn write(&self, dir: &Path) -> io::Result<TraceFiles> {
        fs::create_dir_all(dir)?;
        Ok(TraceFiles {
            train: write_file(dir, "train.jsonl", &self.train)?,
            val: write_file(dir, "val.jsonl", &self.val)?,
            replay: write_file(dir, "replay.jsonl", &self.replay)?,
        })
    }
}

fn write_file(dir: &Path, name: &str, records: &[TraceRecord]) -> io::Result<(PathBuf, usize)> {
    let (path, beside) = (
        dir.join(name),
        dir.join(format!(".{name}.{}", std::process::id())),
    );
    let written = write_lines(&beside, records).and_then(|()| fs::rename(&beside, &path));
    if let Err(error) = written {
        // What is half written must not stay; the first error is the one to report.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    Ok((path, records.len()))
}

fn write_lines(path: &Path, records: &[TraceRecord]) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for record in records {
        serde_json::to_writer(&mut out, record)?;
        out.write_all(b"\n")?;
    }
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

/// Reads a file of traces: records, or bare lists of messages.
///
/// # Errors
/// Those of the file system, or of the first line that is no trace, with its number.
pub fn read_lines(path: &Path) -> io::Result<Vec<TraceLine>> {
    let text = fs::read_to_string(path)?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(i, line)| {
        serde_json::from_str(line).map_err(|error| io::Error::other(format!("line {}: {error}", i + 1)))
    });
    parsed.collect()
}
