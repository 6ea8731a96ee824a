//! What can go wrong, with a stable code for each case.

use crate::{PathError, RelPath};

/// The result of every operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation was refused or failed. Nothing is left half-written by any of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a relative path that this crate accepts.
    #[error("the path is not acceptable")]
    Path(#[from] PathError),
    /// The path, or a symbolic link on the way, leads outside the workspace.
    #[error("`{path}` leads outside the workspace")]
    Escapes {
        /// The path that was asked for.
        path: RelPath,
    },
    /// There is nothing at that path.
    #[error("`{path}` does not exist")]
    NotFound {
        /// The path that was asked for.
        path: RelPath,
    },
    /// There is something at that path, and the request said that there must not be.
    #[error("`{path}` already exists")]
    Exists {
        /// The path that was asked for.
        path: RelPath,
    },
    /// The entry is of another kind than the operation needs.
    #[error("`{path}` is a {found}, and a {needed} is needed")]
    WrongKind {
        /// The path that was asked for.
        path: RelPath,
        /// What is there.
        found: &'static str,
        /// What the operation works on.
        needed: &'static str,
    },
    /// The operating system refused access.
    #[error("access to `{path}` is denied")]
    Denied {
        /// The path that was asked for.
        path: RelPath,
    },
    /// The content is above a limit.
    #[error("`{path}` would be {size_bytes} bytes; the limit is {limit_bytes}")]
    TooLarge {
        /// The path that was asked for.
        path: RelPath,
        /// The size seen or asked for.
        size_bytes: u64,
        /// The limit in force.
        limit_bytes: u64,
    },
    /// An edit works on UTF-8 text, and the file is not.
    #[error("`{path}` is not UTF-8 text")]
    NotText {
        /// The path that was asked for.
        path: RelPath,
    },
    /// The file is not in the state that the request was made for.
    #[error("`{path}` has changed: expected {expected}, found {found}")]
    Conflict {
        /// The path that was asked for.
        path: RelPath,
        /// The etag of the request.
        expected: String,
        /// The etag of the file, or `nothing`.
        found: String,
    },
    /// The text to be replaced does not occur.
    #[error("edit {index}: the old text does not occur in `{path}`")]
    EditNotFound {
        /// The path that was asked for.
        path: RelPath,
        /// Which edit of the request, from 0.
        index: usize,
    },
    /// The text to be replaced occurs more than once, so it is not clear which one is meant.
    #[error("edit {index}: the old text occurs more than once in `{path}`; quote more of its surroundings")]
    EditAmbiguous {
        /// The path that was asked for.
        path: RelPath,
        /// Which edit of the request, from 0.
        index: usize,
    },
    /// The text is not a unified diff of one file.
    #[error("the patch is not valid, line {line}: {reason}")]
    PatchInvalid {
        /// The line of the patch, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A hunk does not apply; the file is as it was.
    #[error("hunk {hunk} of the patch does not apply to `{path}`: {reason}")]
    PatchRejected {
        /// The path that was asked for.
        path: RelPath,
        /// Which hunk of the patch, from 1.
        hunk: usize,
        /// Which line differs and how.
        reason: String,
    },
    /// The file has other names, which a write would cut off or, worse, write through.
    #[error("`{path}` has {links} hard links; it is not written to")]
    HardLinked {
        /// The path that was asked for.
        path: RelPath,
        /// The link count of the file.
        links: u64,
    },
    /// The disk, a quota, or the file-size limit of the process is exhausted.
    #[error("no space is left to write `{path}`")]
    NoSpace {
        /// The path that was asked for.
        path: RelPath,
    },
    /// A glob or a regular expression that cannot be used.
    #[error("the pattern `{pattern}` is not valid: {reason}")]
    Pattern {
        /// The pattern as given, shortened.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A field of a request has a value that makes no sense.
    #[error("the request is not valid: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The program to execute is not there, or may not be executed.
    #[error("`{program}` cannot be executed: {reason}")]
    Program {
        /// The first element of argv.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// This environment variable may not be set by a request.
    #[error("the environment variable `{name}` may not be set")]
    EnvDenied {
        /// The name of the variable; its value is not repeated.
        name: String,
    },
    /// The confinement that the operator requires cannot be had here; nothing was executed.
    #[error("the required confinement is not available: {}", gaps.join("; "))]
    ConfinementUnavailable {
        /// What is missing.
        gaps: Vec<String>,
    },
    /// No supervisor program is known.
    #[error(
        "no supervisor: call aion_machine::supervisor::run_if_requested() first in main, \
         or name one with LocalOptions::with_supervisor"
    )]
    NoSupervisor,
    /// The supervisor failed or spoke nonsense.
    #[error("the supervisor failed: {reason}")]
    Supervisor {
        /// What happened.
        reason: String,
    },
    /// As many processes run as the machine allows.
    #[error("{limit} executions are running already")]
    Busy {
        /// The limit in force.
        limit: usize,
    },
    /// There are as many watches, or directories in one, as the machine or its system allows.
    #[error("this many changes cannot be watched: the limit of {limit} {what} is reached")]
    TooManyWatches {
        /// What there are too many of.
        what: &'static str,
        /// The limit in force.
        limit: usize,
    },
    /// The snapshot was never taken, or was forgotten.
    #[error("the snapshot {id} is not known")]
    UnknownSnapshot {
        /// The number of the snapshot.
        id: u64,
    },
    /// This backend cannot do that.
    #[error("this machine cannot {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// What is about to happen cannot be recorded, so it does not happen.
    #[error("the audit log cannot be written, so nothing was done")]
    Audit(#[source] std::io::Error),
    /// A machine elsewhere did not answer, or not as a machine does. What was asked may have happened.
    #[error("the remote machine cannot be reached: {reason}")]
    Unreachable {
        /// What happened.
        reason: String,
    },
    /// A machine elsewhere refused for a reason that is not known here.
    #[error("the remote machine refused ({code}): {detail}")]
    Refused {
        /// The code that it gave.
        code: String,
        /// What it said.
        detail: String,
    },
    /// Any other failure of the operating system.
    #[error("{op} failed on `{path}`")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: RelPath,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Whether something of this size may be.
    pub(crate) fn check_size(path: &RelPath, size_bytes: u64, limit_bytes: u64) -> Result<()> {
        if size_bytes <= limit_bytes {
            return Ok(());
        }
        Err(Self::TooLarge {
            path: path.clone(),
            size_bytes,
            limit_bytes,
        })
    }

    /// A stable, short code: the `code` of a problem document.
    ///
    /// ```
    /// use aion_machine::{Error, RelPath};
    /// let path = RelPath::parse("a.txt")?;
    /// assert_eq!(Error::NotFound { path }.code(), "not_found");
    /// # Ok::<(), aion_machine::PathError>(())
    /// ```
    pub fn code(&self) -> &'static str {
        match self {
            Self::Path(_) => "invalid_path",
            Self::Escapes { .. } => "path_escapes",
            Self::NotFound { .. } => "not_found",
            Self::Exists { .. } => "already_exists",
            Self::WrongKind { .. } => "wrong_kind",
            Self::Denied { .. } => "access_denied",
            Self::TooLarge { .. } => "too_large",
            Self::NotText { .. } => "not_text",
            Self::Conflict { .. } => "conflict",
            Self::EditNotFound { .. } => "edit_not_found",
            Self::EditAmbiguous { .. } => "edit_ambiguous",
            Self::PatchInvalid { .. } => "invalid_patch",
            Self::PatchRejected { .. } => "patch_rejected",
            Self::HardLinked { .. } => "hard_linked",
            Self::NoSpace { .. } => "no_space",
            Self::Pattern { .. } => "invalid_pattern",
            Self::Invalid { .. } => "invalid_request",
            Self::Program { .. } => "program_not_found",
            Self::EnvDenied { .. } => "env_denied",
            Self::ConfinementUnavailable { .. } => "confinement_unavailable",
            Self::NoSupervisor => "no_supervisor",
            Self::Supervisor { .. } => "supervisor_failed",
            Self::Busy { .. } => "busy",
            Self::TooManyWatches { .. } => "too_many_watches",
            Self::UnknownSnapshot { .. } => "unknown_snapshot",
            Self::Unsupported { .. } => "unsupported",
            Self::Audit(source) if is_full(source) => "audit_no_space",
            Self::Audit(_) => "audit_unavailable",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Io { .. } => "io",
        }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid {
            reason: reason.into(),
        }
    }

    pub(crate) fn supervisor(reason: impl Into<String>) -> Self {
        Self::Supervisor {
            reason: reason.into(),
        }
    }

    /// Sorts a failure of the system into the cases above.
    pub(crate) fn from_io(op: &'static str, path: &RelPath, source: std::io::Error) -> Self {
        let path = path.clone();
        match source.raw_os_error() {
            Some(libc::ENOENT) => Self::NotFound { path },
            Some(libc::EEXIST) => Self::Exists { path },
            Some(libc::EXDEV | libc::ELOOP) => Self::Escapes { path },
            Some(libc::ENOTDIR) => Self::WrongKind {
                path,
                found: "file",
                needed: "directory",
            },
            Some(libc::EISDIR) => Self::WrongKind {
                path,
                found: "directory",
                needed: "file",
            },
            Some(libc::ENXIO) => Self::WrongKind {
                path,
                found: "device or pipe",
                needed: "file",
            },
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => Self::Denied { path },
            Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => Self::NoSpace { path },
            _ => Self::Io { op, path, source },
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
