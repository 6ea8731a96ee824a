//! What can be asked without changing anything: pages by keyset cursor.

mod cursor;
mod page;
mod waits;

use aion_types::{HandlerId, Status, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::WebhookQuery;

pub use cursor::Cursor;
pub use page::{ChildCounts, EventPage, MessagePage, Page, StatusCounts, StepPage, TaskPage};
pub(crate) use page::{is_overdue, retries};
pub use waits::{Circle, Gather, Link, Metrics, Waits};

/// From which end a list is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Oldest first.
    #[default]
    Oldest,
    /// Newest first.
    Newest,
}

/// Which tasks, and which page of them; the order is that of creation in the store.
///
/// A search by text or time looks at a bounded number of tasks, so its pages may be short, and even
/// empty, before the last one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskQuery {
    /// Children of this task.
    pub parent: Option<TaskId>,
    /// Tasks of the tree below this root, the root included.
    pub root: Option<TaskId>,
    /// In one of these statuses; any if empty.
    pub statuses: Vec<Status>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this queue.
    pub queue: Option<String>,
    /// Held by this handler.
    pub handler: Option<HandlerId>,
    /// With this text in the title or the spec, the letters A to Z in either case.
    pub text: Option<String>,
    /// Created at this moment or later.
    pub created_from: Option<Timestamp>,
    /// Created before this moment.
    pub created_to: Option<Timestamp>,
    /// From which end.
    pub order: Order,
    /// Where to go on.
    pub cursor: Option<Cursor>,
    /// How many at most; 0 stands for 100.
    pub limit: u32,
}

impl TaskQuery {
    /// All tasks, oldest first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Children of `parent` only.
    #[must_use]
    pub fn with_parent(mut self, parent: TaskId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Tasks of one tree only.
    #[must_use]
    pub fn with_root(mut self, root: TaskId) -> Self {
        self.root = Some(root);
        self
    }

    /// Tasks in one of these statuses only.
    #[must_use]
    pub fn with_statuses(mut self, statuses: impl Into<Vec<Status>>) -> Self {
        self.statuses = statuses.into();
        self
    }

    /// Tasks of this kind only.
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Tasks in this queue only.
    #[must_use]
    pub fn with_queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Tasks held by this handler only.
    #[must_use]
    pub fn with_handler(mut self, handler: HandlerId) -> Self {
        self.handler = Some(handler);
        self
    }

    /// Tasks with this text in the title or the spec only.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Tasks created at `from` or later and before `to` only.
    #[must_use]
    pub fn with_created(mut self, from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        self.created_from = from;
        self.created_to = to;
        self
    }

    /// Whether tasks must be looked at one by one.
    pub(crate) fn sifts(&self) -> bool {
        self.text.is_some() || self.created_from.is_some() || self.created_to.is_some()
    }

    /// Reads from this end.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Goes on here.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Option<Cursor>) -> Self {
        self.cursor = cursor;
        self
    }

    /// Takes so many at most.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }
}

/// Which page of a task's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageQuery {
    /// From which end.
    pub order: Order,
    /// The `seq` to go on from, not included; 0 begins at the end that `order` names.
    pub from: u64,
    /// How many at most; 0 stands for 100.
    pub limit: u32,
}

impl MessageQuery {
    /// From the first message on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads from this end.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Goes on after this `seq` (before it, newest first).
    #[must_use]
    pub fn with_from(mut self, seq: u64) -> Self {
        self.from = seq;
        self
    }

    /// Takes so many at most.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }
}

/// Which page of a task's steps, in the order in which they were recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepQuery {
    /// The `seq` to go on from, not included; 0 begins at the first step.
    pub after: u64,
    /// How many at most; 0 stands for 100.
    pub limit: u32,
}

/// Which page of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventQuery {
    /// The `seq` to go on from, not included; 0 begins at the first event.
    pub after: u64,
    /// Events of this task only.
    pub task: Option<TaskId>,
    /// How many at most; 0 stands for 100.
    pub limit: u32,
}

/// Which page of a list by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NameQuery {
    /// The name to go on from, not included; none begins at the first.
    pub after: Option<String>,
    /// How many at most; 0 stands for 100.
    pub limit: u32,
}

/// Which roots that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedQuery {
    /// Ended before this moment.
    pub before: Timestamp,
    /// The end and the id of the root to go on from, not included.
    #[serde(default)]
    pub after: Option<(Timestamp, TaskId)>,
    /// How many at most; 0 stands for 100.
    #[serde(default)]
    pub limit: u32,
}

/// A question to a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Query {
    /// One task; gives [`Page::Task`].
    Task(TaskId),
    /// A page of tasks; gives [`Page::Tasks`].
    Tasks(TaskQuery),
    /// Tasks that ended last, newest first, so many at most; gives [`Page::Tasks`].
    Ended(u32),
    /// A page of messages; gives [`Page::Messages`].
    Messages(TaskId, MessageQuery),
    /// A page of a task's steps; gives [`Page::Steps`].
    Steps(TaskId, StepQuery),
    /// A page of the log; gives [`Page::Events`].
    Events(EventQuery),
    /// How many tasks are in each status; gives [`Page::Counts`].
    Counts,
    /// How the children of a task stand; gives [`Page::Children`].
    Children(TaskId),
    /// A task with what its record does not tell, for an export; gives [`Page::Copy`].
    Copy(TaskId),
    /// Roots that ended before a moment, the longest ago first; gives [`Page::Tasks`].
    EndedRoots(EndedQuery),
    /// How a primitive stands; gives [`Page::Primitives`] with one or none.
    Primitive(String),
    /// A page of primitives by name; gives [`Page::Primitives`].
    Primitives(NameQuery),
    /// What a task holds; gives [`Page::Waits`] with nothing else.
    Holds(TaskId),
    /// Who holds and who waits, of one primitive or of all; gives [`Page::Waits`].
    Waits(Option<String>),
    /// An object, at a version or at the newest; gives [`Page::Object`].
    Object(String, Option<u64>),
    /// A page of objects by name; gives [`Page::Objects`].
    Objects(NameQuery),
    /// One schedule; gives [`Page::Schedules`] with one or none.
    Schedule(String),
    /// A page of schedules by name; gives [`Page::Schedules`].
    Schedules(NameQuery),
    /// Something about webhooks; gives [`Page::Webhooks`] or [`Page::Deliveries`].
    Webhooks(WebhookQuery),
    /// How large and how old the store is; gives [`Page::Metrics`].
    Metrics,
}
