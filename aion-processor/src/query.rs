//! What can be asked without changing anything: pages by keyset cursor.

use std::fmt;
use std::str::FromStr;

use aion_types::{
    EventRecord, HandlerId, MessageRecord, Status, TaskEvidence, TaskId, TaskRecord, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

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

/// Where the next page of a list of tasks begins: an opaque token that stays good while the list
/// grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    order: Order,
    position: u64,
}

impl Cursor {
    /// For stores: the place after the item at `position` in a list read in `order`.
    pub const fn new(order: Order, position: u64) -> Self {
        Self { order, position }
    }

    /// For stores: the position, if the cursor belongs to a list in `order`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it belongs to a list in the other order.
    pub fn position_in(&self, order: Order) -> Result<u64> {
        if self.order != order {
            return Err(Error::invalid(
                "cursor",
                "it belongs to a list in the other order",
            ));
        }
        Ok(self.position)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Oldest => 'o',
            Order::Newest => 'n',
        };
        write!(f, "{order}{:x}", self.position)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid("cursor", "it was not given out by this list");
        let order = match text.as_bytes().first() {
            Some(b'o') => Order::Oldest,
            Some(b'n') => Order::Newest,
            _ => return Err(bad()),
        };
        let digits = &text[1..];
        if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let position = u64::from_str_radix(digits, 16).map_err(|_| bad())?;
        Ok(Self { order, position })
    }
}

impl TryFrom<String> for Cursor {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

/// Which tasks, and which page of them; the order is that of creation in the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
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
#[serde(default)]
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

/// Which page of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    /// The `seq` to go on from, not included; 0 begins at the first event.
    pub after: u64,
    /// Events of this task only.
    pub task: Option<TaskId>,
    /// How many at most; 0 stands for 100.
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
    /// A page of the log; gives [`Page::Events`].
    Events(EventQuery),
    /// How many tasks are in each status; gives [`Page::Counts`].
    Counts,
    /// How the children of a task stand; gives [`Page::Children`].
    Children(TaskId),
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Page {
    /// One task, if it is there.
    Task(Option<Box<TaskRecord>>),
    /// Tasks.
    Tasks(TaskPage),
    /// Messages.
    Messages(MessagePage),
    /// Events.
    Events(EventPage),
    /// Tasks in each status.
    Counts(StatusCounts),
    /// How the children stand.
    Children(ChildCounts),
}

/// A page of tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// Where the next page begins; none if this is the last.
    pub next: Option<Cursor>,
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<MessageRecord>,
    /// The `from` of the next page; none if this is the last.
    pub next: Option<u64>,
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EventPage {
    /// The events, in order.
    pub events: Vec<EventRecord>,
    /// The `after` of the next page, also when there is nothing yet.
    pub next: u64,
}

/// How many tasks are in each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatusCounts(pub [u64; Status::ALL.len()]);

impl StatusCounts {
    /// How many tasks are in this status.
    pub fn of(&self, status: Status) -> u64 {
        self.0[status as usize]
    }

    /// How many have not ended.
    pub fn open(&self) -> u64 {
        Status::ALL
            .iter()
            .filter(|s| !s.is_terminal())
            .map(|s| self.of(*s))
            .sum()
    }
}

/// How the children of a task stand, and how often it was tried itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChildCounts {
    /// Children in each status.
    pub statuses: StatusCounts,
    /// Children that have not ended and are past their deadline.
    pub overdue: u64,
    /// Attempts of the task itself after the first, crashes included.
    pub retries: u64,
}

impl ChildCounts {
    /// Writes the counts into the evidence of the task.
    pub fn fill(&self, evidence: &mut TaskEvidence) {
        evidence.blocked_children = self.statuses.of(Status::Blocked);
        evidence.failed_children = self.statuses.of(Status::Failed);
        evidence.completed_children = self.statuses.of(Status::Completed);
        evidence.overdue_children = self.overdue;
        evidence.retries = self.retries;
    }
}

/// Whether a task that has not ended is past its deadline.
pub(crate) fn is_overdue(status: Status, deadline: Option<Timestamp>, now: Timestamp) -> bool {
    !status.is_terminal() && deadline.is_some_and(|deadline| deadline < now)
}

/// Attempts after the first, crashes included.
pub(crate) fn retries(attempt: u32, crash_count: u32) -> u64 {
    (u64::from(attempt) + u64::from(crash_count)).saturating_sub(1)
}
