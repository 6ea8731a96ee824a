//! Claims and what holders say about them.

use aion_types::{HandlerId, Status, TaskId, TaskRecord, Timestamp};
use serde::{Deserialize, Serialize};

use super::Durability;

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

/// Which of the ready tasks a claim takes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimOrder {
    /// The highest priority, whatever the queue; among equals the one that became ready first.
    #[default]
    Priority,
    /// The queue that got the least for its weight ([`Op::Weigh`](crate::Op::Weigh)); within the
    /// queue as above. It holds for any number of queues: one that has become ready is seen after one
    /// claim for each 64 queues or so, at once if there are no more than 128, and then waits for two tasks of each
    /// other queue of its weight at most.
    Fair,
}

/// A wish for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimReq {
    /// Who asks.
    pub handler: HandlerId,
    /// Queues to look in; all of them if empty.
    #[serde(default)]
    pub queues: Vec<String>,
    /// Kinds to take; all of them if empty. A handler of one kind finds it fastest in a queue of
    /// its own, or without naming queues.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Only this task.
    pub task: Option<TaskId>,
    /// Which of them first.
    #[serde(default)]
    pub order: ClaimOrder,
    /// How many tasks at most.
    #[serde(default = "one")]
    pub max: u32,
    /// How long the lease lasts.
    #[serde(default = "default_lease_ms")]
    pub lease_ms: u64,
    /// What the claim must survive; a lost claim is made again, so the process is enough.
    #[serde(default = "process")]
    pub durability: Durability,
}

const fn one() -> u32 {
    1
}

const fn default_lease_ms() -> u64 {
    60_000
}

const fn process() -> Durability {
    Durability::Process
}

impl ClaimReq {
    /// One task of any queue and kind, for 60 seconds.
    pub fn new(handler: HandlerId) -> Self {
        Self {
            handler,
            queues: Vec::new(),
            kinds: Vec::new(),
            task: None,
            order: ClaimOrder::Priority,
            max: one(),
            lease_ms: default_lease_ms(),
            durability: process(),
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

    /// Says which tasks come first.
    #[must_use]
    pub fn with_order(mut self, order: ClaimOrder) -> Self {
        self.order = order;
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
    /// After so many milliseconds, ten years at most.
    AfterMs(u64),
}

/// How firmly a running task is cancelled. A task that nobody holds ends at once either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelMode {
    /// The holder is asked: it learns of it by its next heartbeat and answers with
    /// [`Op::Stop`](crate::Op::Stop).
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
    /// Holders that vanished since an attempt ended by itself.
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
