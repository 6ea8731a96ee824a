//! A task to create.

use aion_types::{Json, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Fence;

/// When a new task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At once.
    #[default]
    Now,
    /// Not before this moment.
    At(Timestamp),
    /// When [`Op::Start`](crate::Op::Start) says so: the creator is still setting it up.
    Held,
}

/// A task to create.
///
/// Creating it again with the same id, or with the same key under the same parent, gives the task
/// that is there.
///
/// ```
/// use aion_processor::NewTask;
/// use aion_types::{TaskId, Timestamp};
///
/// let id = TaskId::generate(Timestamp::from_ms(0));
/// let task = NewTask::new(id, "agent.run", "Summarise the notes").with_priority(5);
/// assert_eq!((task.queue.as_str(), task.max_attempts), ("default", 3));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// Its id, chosen by the creator.
    pub id: TaskId,
    /// The task above it; none for a root.
    pub parent: Option<TaskId>,
    /// What kind of work it is, such as `agent.run`.
    pub kind: String,
    /// The queue that it waits in.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// One line for people.
    pub title: String,
    /// What is to be done, in words.
    #[serde(default)]
    pub spec: String,
    /// Input for the handler.
    #[serde(default)]
    pub payload: Json,
    /// Larger is claimed earlier.
    #[serde(default)]
    pub priority: i32,
    /// When it may start.
    #[serde(default)]
    pub start: Start,
    /// Latest end by the store's clock. A task that has not ended then fails with the next look at the clock
    /// ([`due`](crate::TaskStore::due)), wherever it stands; its holder is refused from then on, its children go on. One that
    /// was asked to stop is CANCELLED.
    pub deadline: Option<Timestamp>,
    /// How many attempts it may take, at least 1.
    #[serde(default = "default_attempts")]
    pub max_attempts: u32,
    /// Idempotency key, unique among the children of the parent (or among the roots).
    pub key: Option<String>,
    /// How many like it may run at once; none for no bound.
    pub concurrency: Option<Concurrency>,
    /// The holder's proof, if a task makes it: refused once that lease is lost, even if the new task is there already. It
    /// need not be the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// Tasks with the same key share a number of places; whoever finds none stays READY until it is its
/// turn, by priority and age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// What they have in common, such as a tenant.
    pub key: String,
    /// How many of them may run at once. If they differ, the last to become ready says.
    pub max: u32,
}

fn default_queue() -> String {
    "default".to_owned()
}

const fn default_attempts() -> u32 {
    3
}

impl NewTask {
    /// A root task in the queue `default`, ready at once, with three attempts.
    pub fn new(id: TaskId, kind: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            id,
            parent: None,
            kind: kind.into(),
            queue: default_queue(),
            title: title.into(),
            spec: String::new(),
            payload: Json::Null,
            priority: 0,
            start: Start::Now,
            deadline: None,
            max_attempts: default_attempts(),
            key: None,
            concurrency: None,
            fence: None,
        }
    }

    /// Puts it below `parent`.
    #[must_use]
    pub fn with_parent(mut self, parent: TaskId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Names the queue.
    #[must_use]
    pub fn with_queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Says what is to be done.
    #[must_use]
    pub fn with_spec(mut self, spec: impl Into<String>) -> Self {
        self.spec = spec.into();
        self
    }

    /// Gives the handler its input.
    #[must_use]
    pub fn with_payload(mut self, payload: Json) -> Self {
        self.payload = payload;
        self
    }

    /// Sets the priority; larger is claimed earlier.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Says when it may start.
    #[must_use]
    pub fn with_start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Sets the latest end.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets how many attempts it may take.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Lets at most `max` tasks with this key run at once.
    #[must_use]
    pub fn with_concurrency(mut self, key: impl Into<String>, max: u32) -> Self {
        self.concurrency = Some(Concurrency { key: key.into(), max });
        self
    }

    /// Makes it as the holder of a task, whoever its parent is.
    #[must_use]
    pub fn with_fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }
}
