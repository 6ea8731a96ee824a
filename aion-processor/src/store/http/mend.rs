//! What JSON does not tell.

use crate::wire::mend;
use crate::{Done, Lease, Page};

/// What came over the wire, as the store meant it.
pub(super) trait Mend {
    /// Every task by [`mend`].
    fn mend(&mut self);
}

impl Mend for Done {
    fn mend(&mut self) {
        if let Self::Record(task) = self {
            mend(task);
        }
    }
}

impl Mend for Vec<Lease> {
    /// A task that is held has no result.
    fn mend(&mut self) {}
}

impl Mend for Page {
    fn mend(&mut self) {
        match self {
            Self::Task(Some(task)) => mend(task),
            Self::Tasks(page) => page.tasks.iter_mut().for_each(mend),
            Self::Copy(Some(copy)) => mend(&mut copy.task),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use aion_types::Json;

    use super::*;

    #[test]
    fn a_result_of_null_is_a_result() {
        let page = r#"{"task": {"id": "01893d0e-7c00-7abc-8def-0123456789ab", "root_id": "01893d0e-7c00-7abc-8def-0123456789ab",
            "depth": 0, "kind": "k", "queue": "q", "title": "", "spec": "", "status": "COMPLETED", "priority": 0,
            "lease_epoch": 1, "attempt": 1, "max_attempts": 1, "crash_count": 0, "open_children": 0, "waiting_on": 0,
            "result": null, "version": 1, "created_at": 0, "updated_at": 0}}"#;
        let mut page: Page = serde_json::from_str(page).unwrap();
        page.mend();
        assert!(matches!(page, Page::Task(Some(task)) if task.result == Some(Json::Null)));
    }
}
