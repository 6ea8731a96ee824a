//! The rows of tasks that were claimed lately, as they stand in the file: most are asked for once more when their tasks end.

use std::collections::HashMap;

use aion_types::{Status, TaskId};

use crate::engine::row::Row;

/// Rows that are kept at most; then all are forgotten.
const MOST: usize = 4_096;

/// Rows of running tasks. Whatever changes a row in another way than by [`keep`](Self::keep) must
/// [`forget`](Self::forget) it.
#[derive(Debug, Default)]
pub(super) struct Leased(HashMap<TaskId, Row>);

impl Leased {
    pub(super) fn get(&self, id: TaskId) -> Option<&Row> {
        self.0.get(&id)
    }

    /// Keeps the row of a running task as it was just written; forgets that of any other.
    pub(super) fn keep(&mut self, row: &Row) {
        if row.status != Status::Running {
            return self.forget(row.id);
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(row.id, row.clone());
    }

    pub(super) fn forget(&mut self, id: TaskId) {
        self.0.remove(&id);
    }

    /// After changes that were not made here, or not made after all.
    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }
}
