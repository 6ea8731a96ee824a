//! What was asked of a machine, what came of it, and under what: rows that cannot be changed unseen.
//!
//! [`Audited`] puts a workspace behind an [`AuditSink`]: nothing happens that could not be recorded before.
//! A row has names, sizes, codes and times; it has no contents, no values of variables, and in command lines
//! what looks like a secret is blotted out. [`AuditLog`] keeps rows in files, each row chained to the one
//! before by a hash, written by a thread of its own.

mod asked;
mod log;
mod queue;
mod redact;
mod row;
mod verify;
mod workspace;
mod writer;

use async_trait::async_trait;

pub use self::asked::Asked;
pub use self::log::{AuditLog, AuditOptions, AuditPage};
pub use self::queue::Receipt;
pub use self::redact::redacted;
pub use self::row::{AuditEvent, AuditRow, Outcome};
pub use self::verify::{AuditBreak, Verified, verify};
pub use self::workspace::Audited;

/// Where rows go.
#[async_trait]
pub trait AuditSink: std::fmt::Debug + Send + Sync + 'static {
    /// Records that something is asked for, was looked at or was refused, and comes back once that is written.
    ///
    /// # Errors
    /// If it cannot be recorded; then what was asked for must not happen.
    async fn record(&self, event: AuditEvent) -> std::io::Result<Receipt>;

    /// Takes what came of something that was recorded as [`Outcome::Asked`]; the row is [of](AuditEvent::of) that of
    /// the receipt. It happened and cannot be refused any more, so this neither waits nor fails.
    fn conclude(&self, receipt: Receipt, event: AuditEvent);
}
