//! Steps: what a handler has done already, so that it does not do it again.

use aion_types::{Json, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

/// A step as it is stored: what the holder of a task did under a name, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The task.
    pub task_id: TaskId,
    /// Place among the steps of the task, from 1.
    pub seq: u64,
    /// Its name, unique among the steps of the task.
    pub name: String,
    /// What it gave.
    pub result: Json,
    /// When it was recorded.
    pub at: Timestamp,
}
