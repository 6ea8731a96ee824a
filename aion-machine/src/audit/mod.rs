//! What was asked of a machine, what came of it, and under what: rows that cannot be changed unseen.
//!
//! [`Audited`] puts a workspace behind an [`AuditSink`]: nothing happens that could not be recorded before.
//! A row has names, sizes, codes and times; it has no contents, no values of variables, and in command lines
//! what looks like a secret is blotted out. [`AuditLog`] keeps rows in files, each row chained to the one
//! before by a hash.

mod log;
mod redact;
mod row;
mod verify;
mod workspace;

pub use self::log::{AuditLog, AuditOptions, AuditPage};
pub use self::redact::redacted;
pub use self::row::{AuditEvent, AuditRow, Outcome};
pub use self::verify::{AuditBreak, Verified, verify};
pub use self::workspace::Audited;

/// Where rows go.
pub trait AuditSink: std::fmt::Debug + Send + Sync + 'static {
    /// Records that something was asked for or came to an end. Returns the number of the row.
    ///
    /// # Errors
    /// If it cannot be recorded; then what was asked for must not happen.
    fn record(&self, event: &AuditEvent) -> std::io::Result<u64>;
}
