//! Kinds of tasks, for webhooks that tell of some kinds only.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aion_processor::{Processor, Result};
use aion_types::TaskId;

/// Tasks whose kind is remembered.
const MAX_KNOWN: usize = 10_000;

/// Remembers kinds, for a task has many events and its kind never changes.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<HashMap<TaskId, String>>);

impl Kinds {
    /// The kind of a task; none if it is gone.
    pub(super) async fn of(&self, processor: &Processor, task: TaskId) -> Result<Option<String>> {
        if let Some(kind) = self.known(task) {
            return Ok(Some(kind));
        }
        let Some(record) = processor.find(task).await? else {
            return Ok(None);
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(task, record.kind.clone());
        Ok(Some(record.kind))
    }

    fn known(&self, task: TaskId) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&task).cloned()
    }
}
