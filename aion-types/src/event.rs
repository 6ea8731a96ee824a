//! What happened to a task: the outbox that markets, routers and traces read.

use serde::{Deserialize, Serialize};

use crate::{Format, Json, TaskId, Timestamp};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A task came into being.
    Created,
    /// It became ready to be claimed.
    Ready,
    /// A handler took it under a lease.
    Claimed,
    /// Its handler gave it back.
    Released,
    /// Its lease ended without a word from the handler.
    LeaseExpired,
    /// It waits for other tasks.
    Blocked,
    /// A message was appended.
    Message,
    /// Its handler recorded what a step gave.
    Step,
    /// Somebody asked for it to stop.
    CancelRequested,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// An attempt failed and another will follow.
    Retried,
    /// It ended by request.
    Cancelled,
    /// It got something of a primitive.
    Acquired,
    /// It gave something of a primitive back, or lost it with its lease.
    Returned,
    /// Its whole tree was removed.
    Purged,
}

impl EventKind {
    /// Whether the task never changes after it.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Ready => "ready",
            Self::Claimed => "claimed",
            Self::Released => "released",
            Self::LeaseExpired => "lease_expired",
            Self::Blocked => "blocked",
            Self::Message => "message",
            Self::Step => "step",
            Self::CancelRequested => "cancel_requested",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Retried => "retried",
            Self::Cancelled => "cancelled",
            Self::Acquired => "acquired",
            Self::Returned => "returned",
            Self::Purged => "purged",
        }
    }
}

/// An event as it is stored and exchanged; `seq` is the order in which changes took effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Version of this record.
    #[serde(default)]
    pub format: Format,
    /// Place in the log of the store, from 1, without holes that readers could miss.
    pub seq: u64,
    /// The task that it happened to.
    pub task_id: TaskId,
    /// The root of that task's tree.
    pub root_id: TaskId,
    /// What happened.
    pub kind: EventKind,
    /// Details, by kind.
    #[serde(default)]
    pub body: Json,
    /// When.
    pub at: Timestamp,
}
