//! Why a task of the repository failed.

use std::io;
use std::path::PathBuf;

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a task of the repository failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program is not there.
    #[error("{program} cannot be started")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error("{command} failed ({status}){stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it said, after a newline; empty when it went to the terminal.
        stderr: String,
    },
    /// A program answered with something else than the expected JSON.
    #[error("{command} did not answer with the expected JSON")]
    Json {
        /// The command line.
        command: String,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// House rules are broken; they have been listed.
    #[error("{0} house rules are broken")]
    House(usize),
    /// Stages failed; they have been listed.
    #[error("failed: {0}")]
    Stages(String),
    /// Ours and the peer did not compute the same.
    #[error("ours and {peer} disagree: {what}")]
    Disagree {
        /// The other program.
        peer: String,
        /// What differs.
        what: String,
    },
    /// Something that the task needs is missing.
    #[error("missing: {0}")]
    Missing(String),
}
