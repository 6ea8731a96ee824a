//! Which events a webhook tells of.

use aion_types::{EventKind, EventRecord, TaskId};
use serde::{Deserialize, Serialize};

/// Which events are wanted; an empty filter wants all of them.
///
/// ```
/// use aion_processor::WebhookFilter;
/// use aion_types::EventKind;
///
/// let ends = WebhookFilter::default().with_events([EventKind::Completed, EventKind::Failed]);
/// assert!(!ends.asks_for_kinds());
/// assert!(ends.with_task_kinds(["agent.run"]).wants_kind(Some("agent.run")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookFilter {
    /// Kinds of events; all if empty.
    pub events: Vec<EventKind>,
    /// Kinds of tasks; all if empty.
    pub task_kinds: Vec<String>,
    /// Tasks of the tree below this root only, the root included.
    pub root: Option<TaskId>,
}

impl WebhookFilter {
    /// Only these kinds of events.
    #[must_use]
    pub fn with_events(mut self, events: impl Into<Vec<EventKind>>) -> Self {
        self.events = events.into();
        self
    }

    /// Only tasks of these kinds.
    #[must_use]
    pub fn with_task_kinds<T: Into<String>>(mut self, kinds: impl IntoIterator<Item = T>) -> Self {
        self.task_kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// Only tasks of one tree.
    #[must_use]
    pub fn with_root(mut self, root: TaskId) -> Self {
        self.root = Some(root);
        self
    }

    /// Whether the event is wanted, as far as the event itself tells.
    pub fn wants(&self, event: &EventRecord) -> bool {
        (self.events.is_empty() || self.events.contains(&event.kind))
            && self.root.is_none_or(|root| event.root_id == root)
    }

    /// Whether the kind of the task must be known as well.
    pub fn asks_for_kinds(&self) -> bool {
        !self.task_kinds.is_empty()
    }

    /// Whether events of a task of this kind are wanted; none stands for a task that is gone.
    pub fn wants_kind(&self, kind: Option<&str>) -> bool {
        self.task_kinds.is_empty()
            || kind.is_some_and(|kind| self.task_kinds.iter().any(|known| known == kind))
    }
}
