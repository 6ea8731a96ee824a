//! A task as it was at an event: the feed gives it as it is now, which may be after its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aion_types::{EventKind, EventRecord, Json, Status, TaskId, TaskRecord};

/// How many running tasks are remembered; the oldest go first.
const MAX_TASKS: usize = 100_000;

/// What the events said of the attempts of tasks that have not ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts(Arc<Mutex<BTreeMap<TaskId, u32>>>);

impl Attempts {
    /// Notes what an event says.
    pub(super) fn note(&self, event: &EventRecord) {
        let mut known = self.lock();
        match event.kind {
            EventKind::Created => {
                known.insert(event.task_id, 0);
            }
            EventKind::Claimed => {
                let told = event.body.get("attempt").and_then(Json::as_f64);
                let before = known.get(&event.task_id).copied().unwrap_or_default();
                known.insert(event.task_id, told.map_or(before + 1, |attempt| attempt as u32));
            }
            kind if kind.is_terminal() => {
                known.remove(&event.task_id);
            }
            _ => {}
        }
        if known.len() > MAX_TASKS {
            known.pop_first();
        }
    }

    fn of(&self, task: TaskId) -> Option<u32> {
        self.lock().get(&task).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, u32>> {
        // One number a task, each put whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record without what was not known at the event: how it ended, who held it when, what its
    /// children did since.
    pub(super) fn as_of(&self, mut task: TaskRecord, event: &EventRecord) -> TaskRecord {
        let ended = task.status.is_terminal();
        let attempt = self.of(task.id).unwrap_or(if ended { 1 } else { task.attempt });
        task.attempt = attempt;
        task.status = if event.kind == EventKind::Created {
            Status::Ready
        } else {
            Status::Running
        };
        task.updated_at = event.at;
        (task.result, task.error) = (None, None);
        (task.crash_count, task.open_children, task.waiting_on) = (0, 0, 0);
        (task.cancel_requested, task.lease_until) = (false, None);
        task
    }
}
