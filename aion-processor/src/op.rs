//! What can be asked of a store: a closed set of operations, each atomic.

use aion_types::{HandlerId, Json, MessageRecord, Role, Status, TaskId, TaskRecord, Timestamp, ToolCall};
use serde::{Deserialize, Serialize};

/// How much of a crash an acknowledged write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The end of the process, however sudden. A loss of power may undo the last writes.
    Process,
    /// A loss of power as well.
    Power,
}

/// When a new task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At once.
    #[default]
    Now,
    /// Not before this moment.
    At(Timestamp),
    /// When [`Op::Start`] says so: the creator is still setting it up.
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
pub struct NewTask {
    /// Its id, chosen by the creator.
    pub id: TaskId,
    /// The task above it; none for a root.
    pub parent: Option<TaskId>,
    /// What kind of work it is, such as `agent.run`.
    pub kind: String,
    /// The queue that it waits in.
    pub queue: String,
    /// One line for people.
    pub title: String,
    /// What is to be done, in words.
    pub spec: String,
    /// Input for the handler.
    pub payload: Json,
    /// Larger is claimed earlier.
    pub priority: i32,
    /// When it may start.
    pub start: Start,
    /// Latest end. A task past it is overdue, which counts as fatigue of its parent; it is not
    /// ended for it.
    pub deadline: Option<Timestamp>,
    /// How many attempts it may take, at least 1.
    pub max_attempts: u32,
    /// Idempotency key, unique among the children of the parent (or among the roots).
    pub key: Option<String>,
}

impl NewTask {
    /// A root task in the queue `default`, ready at once, with three attempts.
    pub fn new(id: TaskId, kind: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            id,
            parent: None,
            kind: kind.into(),
            queue: "default".to_owned(),
            title: title.into(),
            spec: String::new(),
            payload: Json::Null,
            priority: 0,
            start: Start::Now,
            deadline: None,
            max_attempts: 3,
            key: None,
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
}

/// A message to append.
///
/// Appending it again with the same key gives the message that was written first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Calls that the model asked for.
    pub tool_calls: Vec<ToolCall>,
    /// Which call this answers.
    pub tool_call_id: Option<String>,
    /// What the model server reported of its tokens, kept as it came.
    pub persistence: Option<Json>,
    /// Idempotency key, unique among the messages of the task.
    pub key: Option<String>,
}

impl NewMessage {
    /// A message of text alone.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            persistence: None,
            key: None,
        }
    }

    /// Adds the calls that the model asked for.
    #[must_use]
    pub fn with_tool_calls(mut self, calls: Vec<ToolCall>) -> Self {
        self.tool_calls = calls;
        self
    }

    /// Says which call this answers.
    #[must_use]
    pub fn with_tool_call_id(mut self, id: impl Into<String>) -> Self {
        self.tool_call_id = Some(id.into());
        self
    }

    /// Adds what the model server reported of its tokens.
    #[must_use]
    pub fn with_persistence(mut self, persistence: Json) -> Self {
        self.persistence = Some(persistence);
        self
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// Proof of holding a task: every write of a holder carries it, and an old one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// The task.
    pub task: TaskId,
    /// The epoch of the claim.
    pub epoch: u64,
}

/// A claim that was granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The task as it was handed out.
    pub task: TaskRecord,
    /// Fencing token of this claim.
    pub epoch: u64,
    /// When the lease ends unless a heartbeat extends it.
    pub until: Timestamp,
}

impl Lease {
    /// What the holder's writes must carry.
    pub const fn fence(&self) -> Fence {
        Fence {
            task: self.task.id,
            epoch: self.epoch,
        }
    }
}

/// A wish for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimReq {
    /// Who asks.
    pub handler: HandlerId,
    /// Queues to look in; all of them if empty.
    pub queues: Vec<String>,
    /// Kinds to take; all of them if empty. A handler of one kind finds it fastest in a queue of
    /// its own, or without naming queues.
    pub kinds: Vec<String>,
    /// Only this task.
    pub task: Option<TaskId>,
    /// How many tasks at most.
    pub max: u32,
    /// How long the lease lasts.
    pub lease_ms: u64,
    /// What the claim must survive; a lost claim is made again, so the process is enough.
    pub durability: Durability,
}

impl ClaimReq {
    /// One task of any queue and kind, for 60 seconds.
    pub fn new(handler: HandlerId) -> Self {
        Self {
            handler,
            queues: Vec::new(),
            kinds: Vec::new(),
            task: None,
            max: 1,
            lease_ms: 60_000,
            durability: Durability::Process,
        }
    }

    /// Looks in these queues only.
    #[must_use]
    pub fn with_queues(mut self, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// Takes these kinds only.
    #[must_use]
    pub fn with_kinds(mut self, kinds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// Takes this task only.
    #[must_use]
    pub fn with_task(mut self, task: TaskId) -> Self {
        self.task = Some(task);
        self
    }

    /// Takes up to `max` tasks.
    #[must_use]
    pub fn with_max(mut self, max: u32) -> Self {
        self.max = max;
        self
    }

    /// Sets how long the lease lasts.
    #[must_use]
    pub fn with_lease_ms(mut self, lease_ms: u64) -> Self {
        self.lease_ms = lease_ms;
        self
    }

    /// Sets what the claim must survive.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

/// Whether a failed attempt is followed by another, while attempts are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Never: the task fails now.
    Never,
    /// After the store's [`Backoff`](crate::Backoff).
    Backoff,
    /// After so many milliseconds.
    AfterMs(u64),
}

/// How firmly a running task is cancelled. A task that nobody holds ends at once either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelMode {
    /// The holder is asked: it learns of it by its next heartbeat and answers with
    /// [`Op::Stop`].
    Ask,
    /// The task is taken from its holder, whose later writes are refused.
    Force,
}

/// What becomes of a task that waits for others, when one of them does not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatherPolicy {
    /// It fails once all have ended.
    All,
    /// It fails at once.
    FailFast,
    /// It goes on once all have ended, however they did.
    Settle,
}

/// One change of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Op {
    /// Creates a task; gives [`Done::Record`].
    Create(Box<NewTask>),
    /// Makes a held or delayed task ready now.
    Start(TaskId),
    /// Extends a lease; gives [`Done::Heartbeat`].
    Heartbeat {
        /// The holder's proof.
        fence: Fence,
        /// How long from now.
        lease_ms: u64,
    },
    /// Appends a message; gives [`Done::Message`].
    Append {
        /// The task, which must not have ended.
        task: TaskId,
        /// The holder's epoch; none when somebody else speaks, such as the user.
        epoch: Option<u64>,
        /// What to append.
        message: Box<NewMessage>,
    },
    /// Ends a task well.
    Complete {
        /// The holder's proof.
        fence: Fence,
        /// What it gave.
        result: Json,
    },
    /// Ends an attempt badly, and the task with it unless another attempt follows.
    Fail {
        /// The holder's proof.
        fence: Fence,
        /// Why.
        error: String,
        /// Whether to try again.
        retry: Retry,
    },
    /// Gives a task back without counting the attempt.
    Release {
        /// The holder's proof.
        fence: Fence,
        /// How long it rests before it may be claimed again.
        delay_ms: u64,
    },
    /// Asks for the end of a task.
    Cancel {
        /// The task.
        task: TaskId,
        /// How firmly.
        mode: CancelMode,
    },
    /// The holder stops a task whose cancellation was asked for.
    Stop(Fence),
    /// The holder waits for descendants; its lease ends unless all of them have ended already.
    Gather {
        /// The holder's proof.
        fence: Fence,
        /// Which descendants.
        tasks: Vec<TaskId>,
        /// What if one does not complete.
        policy: GatherPolicy,
    },
}

impl Op {
    /// What the operation must survive unless the writer says otherwise: a lost heartbeat is made
    /// good by the next one, everything else must survive a loss of power.
    pub const fn durability(&self) -> Durability {
        match self {
            Self::Heartbeat { .. } => Durability::Process,
            _ => Durability::Power,
        }
    }
}

/// An operation and what it must survive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// The operation.
    pub op: Op,
    /// What it must survive.
    pub durability: Durability,
}

impl Write {
    /// Sets what it must survive.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

impl From<Op> for Write {
    fn from(op: Op) -> Self {
        Self {
            durability: op.durability(),
            op,
        }
    }
}

/// Where a task stands after a change, without its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskHead {
    /// The task.
    pub id: TaskId,
    /// Where it stands.
    pub status: Status,
    /// Its fencing token.
    pub lease_epoch: u64,
    /// How many times it has been claimed and not given back.
    pub attempt: u32,
    /// How many times a holder vanished.
    pub crash_count: u32,
    /// Tasks that it waits for.
    pub waiting_on: u32,
    /// Earliest start.
    pub run_after: Option<Timestamp>,
    /// Grows with every change.
    pub version: u64,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When the lease ends now.
    pub until: Timestamp,
    /// Whether somebody asked for the task to stop.
    pub cancel_requested: bool,
}

/// What an operation gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Done {
    /// The task of a create, new or already there.
    Record(Box<TaskRecord>),
    /// The lease after a heartbeat.
    Heartbeat(Heartbeat),
    /// The message of an append, new or already there.
    Message(Box<MessageRecord>),
    /// Where the task stands now.
    Head(TaskHead),
}
