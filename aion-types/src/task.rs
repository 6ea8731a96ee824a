//! A task of the durable task tree.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Format, HandlerId, Json, TaskId, Timestamp};

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Being set up, or waiting for its start time.
    Preparing,
    /// Waiting for a handler.
    Ready,
    /// Held by a handler under a lease.
    Running,
    /// Waiting for other tasks or a primitive.
    Blocked,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Ended by request.
    Cancelled,
}

impl Status {
    /// Every status, in the order of a task's life.
    pub const ALL: [Self; 7] = [
        Self::Preparing,
        Self::Ready,
        Self::Running,
        Self::Blocked,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether a task in it never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "PREPARING",
            Self::Ready => "READY",
            Self::Running => "RUNNING",
            Self::Blocked => "BLOCKED",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A task as it is stored and exchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Version of this record.
    #[serde(default)]
    pub format: Format,
    /// Its id, chosen by whoever creates it, so that creating it twice is harmless.
    pub id: TaskId,
    /// The root of its tree; its own id for a root.
    pub root_id: TaskId,
    /// The task above it.
    #[serde(default)]
    pub parent_id: Option<TaskId>,
    /// Steps to the root.
    pub depth: u32,
    /// What kind of work it is, such as `agent.run`; base rates are kept by kind.
    pub kind: String,
    /// The queue that it waits in.
    pub queue: String,
    /// One line for people.
    pub title: String,
    /// What is to be done, in words.
    pub spec: String,
    /// Input for the handler.
    #[serde(default)]
    pub payload: Json,
    /// Where it stands.
    pub status: Status,
    /// Larger is claimed earlier.
    pub priority: i32,
    /// Who holds it.
    #[serde(default)]
    pub handler_id: Option<HandlerId>,
    /// Fencing token: grows with every claim, and every write of a holder must carry it.
    pub lease_epoch: u64,
    /// When the lease ends.
    #[serde(default)]
    pub lease_until: Option<Timestamp>,
    /// How many times it has been claimed and not given back.
    pub attempt: u32,
    /// How many attempts it may take.
    pub max_attempts: u32,
    /// Holders that vanished since an attempt ended by itself.
    pub crash_count: u32,
    /// Earliest start.
    #[serde(default)]
    pub run_after: Option<Timestamp>,
    /// Latest end.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// Whether somebody asked for it to stop.
    #[serde(default)]
    pub cancel_requested: bool,
    /// Children that have not ended.
    pub open_children: u32,
    /// Tasks that it waits for.
    pub waiting_on: u32,
    /// What it gave, once completed.
    #[serde(default)]
    pub result: Option<Json>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Grows with every change.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
}
