//! Copies of tasks that go from one store to another, and what is removed.

use aion_types::{MessageRecord, Status, TaskRecord};
use serde::{Deserialize, Serialize};

use super::{Concurrency, StepRecord};

/// A task with everything that its record does not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskCopy {
    /// The task.
    pub task: TaskRecord,
    /// The idempotency key that it was created with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many like it may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
}

impl TaskCopy {
    /// Whether it is ready once all of it has come: it was, it ran or it waited.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(
            self.task.status,
            Status::Ready | Status::Running | Status::Blocked
        )
    }

    /// The epoch that it comes with: above that of a holder over there.
    pub(crate) fn epoch_here(&self) -> u64 {
        self.task.lease_epoch + u64::from(self.task.status == Status::Running)
    }
}

/// A piece of an export: a task, or messages or steps of one that came before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// A task; parents come before their children.
    Task(Box<TaskCopy>),
    /// The next messages of a task.
    Messages(Vec<MessageRecord>),
    /// The next steps of a task.
    Steps(Vec<StepRecord>),
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Purged {
    /// Tasks that are gone.
    pub removed: u32,
    /// Whether some of the tree are left.
    pub more: bool,
}
