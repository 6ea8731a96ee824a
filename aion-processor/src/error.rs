//! What can go wrong, and whether anything was written when it did.

use std::path::PathBuf;
use std::sync::Arc;

use aion_types::{Status, TaskId};

/// A cause that several callers of one commit can share.
pub type Cause = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// What a store or the [`Processor`](crate::Processor) refused, or failed to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The id or the key is taken by something else.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The writer does not hold the task any more: its epoch is old, or the task is not running.
    #[error("the lease on task {task} is lost: epoch {given} does not hold it")]
    LeaseLost {
        /// The task.
        task: TaskId,
        /// The epoch that the writer gave.
        given: u64,
    },
    /// There is no such task.
    #[error("there is no task {0}")]
    NotFound(TaskId),
    /// There is nothing of this name.
    #[error("there is no {what} called {name}")]
    Unknown {
        /// What was looked for: `primitive`, `object` or `object version`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The task is in a status that does not allow this.
    #[error("a task that is {from} cannot {input}")]
    IllegalTransition {
        /// Where the task stands.
        from: Status,
        /// What was asked of it.
        input: &'static str,
    },
    /// A value is malformed.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// Which field, as it is named on the wire.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A value is larger than a limit allows.
    #[error("{what} is {got}, over the limit of {limit}")]
    Limit {
        /// Which field, as it is named on the wire.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What was given.
        got: u64,
    },
    /// The storage has no room; nothing was written.
    #[error("the storage is full")]
    Full,
    /// Too much is waiting; nothing was written.
    #[error("busy: try again after {retry_after_ms} ms")]
    Busy {
        /// How long to wait before the next try.
        retry_after_ms: u64,
    },
    /// The storage did not answer; whether a write took effect is not known.
    #[error("the storage is not available")]
    Unavailable(#[source] Cause),
    /// What was read makes no sense.
    #[error("the storage is damaged: {0}")]
    Corrupt(String),
    /// A newer program wrote the database.
    #[error("the database has schema {found}, newer than the newest known here, {newest}")]
    NewerDatabase {
        /// The version in the file.
        found: u32,
        /// The newest version that this program reads.
        newest: u32,
    },
    /// Another process, or another store in this one, has the database open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// A server does not let the caller in, or does not offer what was asked for; nothing was done.
    #[error("the server refused: {0}")]
    Denied(String),
}

impl Error {
    /// Whether the operation was looked at and refused: nothing was written, and the same
    /// operation would be refused again.
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Conflict(_)
                | Self::LeaseLost { .. }
                | Self::NotFound(_)
                | Self::Unknown { .. }
                | Self::IllegalTransition { .. }
                | Self::Invalid { .. }
                | Self::Limit { .. }
                | Self::Denied(_)
        )
    }

    /// Whether the operation may have taken effect although it failed. Creates and appends with a
    /// key, and ends of a task, may then simply be repeated.
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// A stable name for programs, such as `lease_lost`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "conflict",
            Self::LeaseLost { .. } => "lease_lost",
            Self::NotFound(_) => "task_not_found",
            Self::Unknown { .. } => "not_found",
            Self::IllegalTransition { .. } => "illegal_transition",
            Self::Invalid { .. } => "invalid",
            Self::Limit { .. } => "over_limit",
            Self::Full => "storage_full",
            Self::Busy { .. } => "busy",
            Self::Unavailable(_) => "storage_unavailable",
            Self::Corrupt(_) => "storage_corrupt",
            Self::NewerDatabase { .. } => "newer_database",
            Self::InUse(_) => "database_in_use",
            Self::Denied(_) => "denied",
        }
    }

    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid {
            what,
            why: why.into(),
        }
    }

    /// The writer has ended.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn gone() -> Self {
        Self::Unavailable(Arc::new(std::io::Error::other("the store is closed")))
    }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
