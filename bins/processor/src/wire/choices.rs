//! More words that stand for a choice: of primitives, objects, schedules and trees.

use aion_processor::{CallMode, ClaimOrder, Overlap, PrimitiveKind, Return};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which of the ready tasks a claim takes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimOrderName {
    /// The highest priority, whatever the queue; among equals the one that became ready first.
    #[default]
    Priority,
    /// The queue that got the least for its weight; within the queue as above.
    Fair,
}

impl From<ClaimOrderName> for ClaimOrder {
    fn from(name: ClaimOrderName) -> Self {
        match name {
            ClaimOrderName::Priority => Self::Priority,
            ClaimOrderName::Fair => Self::Fair,
        }
    }
}

/// How far a cancellation reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelScope {
    /// The task; its children go on.
    #[default]
    Task,
    /// The task and everything below it.
    Tree,
}

/// What a primitive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrimitiveName {
    /// So many units, held by as many tasks as fit.
    Semaphore,
    /// One holder at a time.
    Mutex,
    /// A gate that is opened and shut by hand; new ones are shut.
    Event,
    /// A gate that is shut until a moment; new ones are open.
    TimestampLock,
    /// Items, each for one task, in the order in which they were put.
    Queue,
}

impl From<PrimitiveKind> for PrimitiveName {
    fn from(kind: PrimitiveKind) -> Self {
        match kind {
            PrimitiveKind::Semaphore { .. } => Self::Semaphore,
            PrimitiveKind::Event => Self::Event,
            PrimitiveKind::TimestampLock => Self::TimestampLock,
            PrimitiveKind::Queue { .. } => Self::Queue,
            _ => Self::Mutex,
        }
    }
}

/// What a primitive is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalName {
    /// Opens an event; everybody passes until it is reset.
    Set,
    /// Shuts an event.
    Reset,
    /// Lets everybody through who waits at an event now.
    Pulse,
    /// Shuts a timestamp lock until `until`; a moment that has passed opens it.
    ShutUntil,
    /// Adds `item` to a queue.
    Put,
}

/// What becomes of a grant that is given back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReturnChoice {
    /// The holder is done with it: an item of a queue is gone.
    #[default]
    Done,
    /// The holder did nothing with it: an item goes back to its place.
    Undone,
}

impl From<ReturnChoice> for Return {
    fn from(choice: ReturnChoice) -> Self {
        match choice {
            ReturnChoice::Done => Self::Done,
            ReturnChoice::Undone => Self::Undone,
        }
    }
}

/// What became of a wish for something of a primitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcquireOutcome {
    /// The task has it, and is still held.
    Granted,
    /// The task waits; its lease has ended. Whoever claims it next asks again and has it.
    Waits,
    /// It is not there, and the task does not want to wait any longer. It is still held.
    Missed,
}

/// Whether calls of an object run beside each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallChoice {
    /// Beside any other call.
    #[default]
    Shared,
    /// One exclusive call of the object at a time; the others stay ready until it is their turn.
    Exclusive,
}

impl From<CallChoice> for CallMode {
    fn from(choice: CallChoice) -> Self {
        match choice {
            CallChoice::Shared => Self::Shared,
            CallChoice::Exclusive => Self::Exclusive,
        }
    }
}

/// What if the task of the last time has not ended when the next is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverlapChoice {
    /// The next is made all the same.
    #[default]
    Allow,
    /// This time is left out.
    Skip,
}

impl From<OverlapChoice> for Overlap {
    fn from(choice: OverlapChoice) -> Self {
        match choice {
            OverlapChoice::Allow => Self::Allow,
            OverlapChoice::Skip => Self::Skip,
        }
    }
}

impl From<Overlap> for OverlapChoice {
    fn from(overlap: Overlap) -> Self {
        match overlap {
            Overlap::Allow => Self::Allow,
            Overlap::Skip => Self::Skip,
        }
    }
}

/// What is kept of a tree that is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepChoice {
    /// Nothing.
    #[default]
    Nothing,
    /// Its export, in the folder of the server for that.
    Archive,
}
