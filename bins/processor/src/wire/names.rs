//! Words that stand for a choice, on the wire and in the library.

use aion_processor::{CancelMode, GatherPolicy, Order};
use aion_types::{Role, Status, ToolCall};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether a new task waits to be started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// It is ready at once, or at `run_after`.
    #[default]
    No,
    /// It waits for `start_task`.
    Yes,
}

/// Whether another attempt follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryChoice {
    /// After a wait that doubles with each attempt.
    #[default]
    Backoff,
    /// After `after_ms`.
    After,
    /// None: the task fails.
    Never,
}

/// How firmly a running task is cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelChoice {
    /// Its holder is asked, and learns of it by its next heartbeat.
    #[default]
    Ask,
    /// It is taken from its holder.
    Force,
}

impl From<CancelChoice> for CancelMode {
    fn from(choice: CancelChoice) -> Self {
        match choice {
            CancelChoice::Ask => Self::Ask,
            CancelChoice::Force => Self::Force,
        }
    }
}

/// What becomes of the waiting task if one of the others does not complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GatherChoice {
    /// It fails once all have ended.
    All,
    /// It fails at once.
    FailFast,
    /// It goes on once all have ended.
    #[default]
    Settle,
}

impl From<GatherChoice> for GatherPolicy {
    fn from(choice: GatherChoice) -> Self {
        match choice {
            GatherChoice::All => Self::All,
            GatherChoice::FailFast => Self::FailFast,
            GatherChoice::Settle => Self::Settle,
        }
    }
}

impl From<GatherPolicy> for GatherChoice {
    fn from(policy: GatherPolicy) -> Self {
        match policy {
            GatherPolicy::All => Self::All,
            GatherPolicy::FailFast => Self::FailFast,
            GatherPolicy::Settle => Self::Settle,
        }
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleName {
    /// Rules that hold for the whole conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
    /// The answer of a tool.
    Tool,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::System => Self::System,
            RoleName::User => Self::User,
            RoleName::Assistant => Self::Assistant,
            RoleName::Tool => Self::Tool,
        }
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::System => Self::System,
            Role::User => Self::User,
            Role::Assistant => Self::Assistant,
            Role::Tool => Self::Tool,
        }
    }
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ToolCall)]
pub struct WireToolCall {
    /// Ties the answer to the call.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
}

impl From<WireToolCall> for ToolCall {
    fn from(call: WireToolCall) -> Self {
        Self {
            id: call.id,
            name: call.name,
            arguments: call.arguments,
        }
    }
}

impl From<ToolCall> for WireToolCall {
    fn from(call: ToolCall) -> Self {
        Self {
            id: call.id,
            name: call.name,
            arguments: call.arguments,
        }
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StatusName {
    /// Being set up, or waiting for its start time.
    Preparing,
    /// Waiting for a handler.
    Ready,
    /// Held by a handler under a lease.
    Running,
    /// Waiting for other tasks.
    Blocked,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Ended by request.
    Cancelled,
}

impl From<Status> for StatusName {
    fn from(status: Status) -> Self {
        match status {
            Status::Preparing => Self::Preparing,
            Status::Ready => Self::Ready,
            Status::Running => Self::Running,
            Status::Blocked => Self::Blocked,
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

impl From<StatusName> for Status {
    fn from(name: StatusName) -> Self {
        match name {
            StatusName::Preparing => Self::Preparing,
            StatusName::Ready => Self::Ready,
            StatusName::Running => Self::Running,
            StatusName::Blocked => Self::Blocked,
            StatusName::Completed => Self::Completed,
            StatusName::Failed => Self::Failed,
            StatusName::Cancelled => Self::Cancelled,
        }
    }
}

/// From which end a list is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderName {
    /// Oldest first.
    #[default]
    Oldest,
    /// Newest first.
    Newest,
}

impl From<OrderName> for Order {
    fn from(name: OrderName) -> Self {
        match name {
            OrderName::Oldest => Self::Oldest,
            OrderName::Newest => Self::Newest,
        }
    }
}
