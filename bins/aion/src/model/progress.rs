//! What a download shows: a bar on a terminal, nothing elsewhere.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Whether and where progress is shown.
#[derive(Debug, Clone)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// On standard error if that is a terminal.
    pub fn on_terminal() -> Self {
        Self {
            shown: std::io::stderr().is_terminal(),
        }
    }

    /// Nowhere.
    pub fn quiet() -> Self {
        Self { shown: false }
    }

    /// A line for the person who waits.
    pub(super) fn note(&self, line: &str) {
        if self.shown {
            eprintln!("{line}");
        }
    }

    /// A bar that counts to `bytes`.
    pub(super) fn bar(&self, bytes: u64, what: &str) -> ProgressBar {
        let target = if self.shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(bytes), target).with_message(what.to_owned());
        match ProgressStyle::with_template("{msg:>11} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(_) => bar,
        }
    }
}

/// The bytes of every file below a directory; what cannot be read counts as nothing.
pub(super) fn bytes_under(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_under(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |m| m.len()),
            _ => 0,
        })
        .sum()
}
