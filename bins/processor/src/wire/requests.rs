//! Bodies of requests.

use aion_processor::{ClaimReq, Fence, NewMessage, NewTask, Retry, Start};
use aion_service::whole;
use aion_types::{HandlerId, Json, TaskId, Timestamp};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    CancelChoice, CancelScope, ClaimOrderName, ConcurrencyBody, FenceBody, GatherChoice, Held, RetryChoice,
    RoleName, WireToolCall,
};

/// A task to create.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTask {
    /// Id of the task, a UUID version 7 of your own making; creating it again is harmless. Made here if absent.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub id: Option<TaskId>,
    /// The task above it; absent for the root of a new tree.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub parent_id: Option<TaskId>,
    /// What kind of work it is, such as `agent.run`.
    #[schema(min_length = 1, max_length = 128)]
    pub kind: String,
    /// The queue that it waits in.
    #[serde(default = "default_queue")]
    #[schema(min_length = 1, max_length = 128, default = "default")]
    pub queue: String,
    /// One line for people.
    #[schema(max_length = 1024)]
    pub title: String,
    /// What is to be done, in words.
    #[serde(default)]
    pub spec: String,
    /// Input for the handler: any JSON.
    #[serde(default)]
    #[schema(value_type = Value)]
    pub payload: Json,
    /// Larger is claimed earlier.
    #[serde(default, deserialize_with = "whole::one")]
    pub priority: i32,
    /// Earliest start, in milliseconds since 1970.
    #[serde(default, deserialize_with = "whole::maybe")]
    #[schema(minimum = 0)]
    pub run_after: Option<i64>,
    /// Whether it waits for `start_task` before it is ready.
    #[serde(default)]
    pub held: Held,
    /// Latest end, in milliseconds since 1970; a task that has not ended then fails, also while somebody holds it.
    #[serde(default, deserialize_with = "whole::maybe")]
    #[schema(minimum = 0)]
    pub deadline: Option<i64>,
    /// How many attempts it may take.
    #[serde(default = "default_attempts", deserialize_with = "whole::one")]
    #[schema(minimum = 1, maximum = 100, default = 3)]
    pub max_attempts: u32,
    /// How many like it may run at once; no bound if absent.
    pub concurrency: Option<ConcurrencyBody>,
    /// Unique below the parent: creating under it again gives the task that is there, whatever else is asked for.
    /// The header `Idempotency-Key` does the same, but refuses another body.
    #[schema(min_length = 1, max_length = 128)]
    pub key: Option<String>,
    /// Proof of the task that makes it, refused once that lease is lost; absent if somebody else does.
    pub fence: Option<FenceBody>,
}

pub(super) fn default_queue() -> String {
    "default".to_owned()
}

pub(super) const fn default_attempts() -> u32 {
    3
}

impl CreateTask {
    /// The task for the library; `id` and `key` are used if the body names none.
    pub fn into_new_task(self, id: TaskId, key: Option<String>) -> NewTask {
        let start = match (self.held, self.run_after) {
            (Held::Yes, _) => Start::Held,
            (Held::No, Some(at)) => Start::At(Timestamp::from_ms(at)),
            (Held::No, None) => Start::Now,
        };
        NewTask {
            parent: self.parent_id,
            queue: self.queue,
            spec: self.spec,
            payload: self.payload,
            priority: self.priority,
            start,
            deadline: self.deadline.map(Timestamp::from_ms),
            max_attempts: self.max_attempts,
            concurrency: self.concurrency.map(Into::into),
            key: self.key.or(key),
            fence: self.fence.map(Into::into),
            ..NewTask::new(self.id.unwrap_or(id), self.kind, self.title)
        }
    }
}

/// A wish for work.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimTasks {
    /// Who asks: the name of the worker.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub handler_id: HandlerId,
    /// Queues to look in; all if empty.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub queues: Vec<String>,
    /// Kinds to take; all if empty.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub kinds: Vec<String>,
    /// Which of them first.
    #[serde(default)]
    pub order: ClaimOrderName,
    /// Take only this task.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub task_id: Option<TaskId>,
    /// How many tasks at most.
    #[serde(default = "one", deserialize_with = "whole::one")]
    #[schema(minimum = 1, maximum = 256, default = 1)]
    pub max: u32,
    /// How long the lease lasts without a heartbeat, in milliseconds.
    #[serde(default = "default_lease", deserialize_with = "whole::one")]
    #[schema(minimum = 1, maximum = 86_400_000, default = 60_000)]
    pub lease_ms: u64,
    /// How long to wait for a task if none is ready, in milliseconds.
    #[serde(default, deserialize_with = "whole::one")]
    #[schema(maximum = 20_000, default = 0)]
    pub wait_ms: u64,
}

impl ClaimTasks {
    /// The wish for the library, without the wait.
    pub fn into_claim(self) -> ClaimReq {
        let claim = ClaimReq::new(self.handler_id)
            .with_queues(self.queues)
            .with_kinds(self.kinds)
            .with_order(self.order.into())
            .with_max(self.max)
            .with_lease_ms(self.lease_ms);
        ClaimReq {
            task: self.task_id,
            ..claim
        }
    }
}

const fn one() -> u32 {
    1
}

const fn default_lease() -> u64 {
    60_000
}

/// A sign of life of the holder.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatTask {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
    /// How long the lease lasts from now, in milliseconds.
    #[serde(default = "default_lease", deserialize_with = "whole::one")]
    #[schema(minimum = 1, maximum = 86_400_000, default = 60_000)]
    pub lease_ms: u64,
}

/// The end of a task.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteTask {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
    /// What the task gave: any JSON.
    #[serde(default)]
    #[schema(value_type = Value)]
    pub result: Json,
}

/// The end of a task, and a wish for more work.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteAndClaim {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
    /// What the task gave: any JSON.
    #[serde(default)]
    #[schema(value_type = Value)]
    pub result: Json,
    /// What to take; its `wait_ms` must be 0.
    pub claim: ClaimTasks,
}

/// The failure of an attempt.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailTask {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
    /// Why.
    pub error: String,
    /// Whether another attempt follows, while there are some left.
    #[serde(default)]
    pub retry: RetryChoice,
    /// With `retry` = `after`: how long to wait, in milliseconds.
    #[serde(default, deserialize_with = "whole::one")]
    pub after_ms: u64,
}

impl FailTask {
    /// The choice for the library.
    pub const fn retry(&self) -> Retry {
        match self.retry {
            RetryChoice::Backoff => Retry::Backoff,
            RetryChoice::After => Retry::AfterMs(self.after_ms),
            RetryChoice::Never => Retry::Never,
        }
    }
}

/// A task given back.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseTask {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
    /// How long the task rests before it is ready again, in milliseconds.
    #[serde(default, deserialize_with = "whole::one")]
    pub delay_ms: u64,
}

/// The holder stops a task whose cancellation was asked for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopTask {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
}

/// The wish that a task ends.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelTask {
    /// How firmly, if somebody holds it.
    #[serde(default)]
    pub mode: CancelChoice,
    /// How far it reaches.
    #[serde(default)]
    pub scope: CancelScope,
}

/// Tasks to wait for.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GatherTasks {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
    /// Tasks below this one.
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub tasks: Vec<TaskId>,
    /// What if one of them does not complete.
    #[serde(default)]
    pub policy: GatherChoice,
}

/// A message to append.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppendMessage {
    /// Fencing token of the claim; absent if somebody other than the holder speaks.
    #[serde(default, deserialize_with = "whole::maybe")]
    pub epoch: Option<u64>,
    /// Who speaks.
    pub role: RoleName,
    /// What is said.
    #[serde(default)]
    pub content: String,
    /// Calls of tools that the model asked for.
    #[serde(default)]
    pub tool_calls: Vec<WireToolCall>,
    /// Which call this answers.
    pub tool_call_id: Option<String>,
    /// What the model server reported of its tokens; kept as it came.
    #[schema(value_type = Option<Object>)]
    pub persistence: Option<Json>,
    /// Unique within the task: appending under it again gives the message that is there, whatever else is said. The
    /// header `Idempotency-Key` does the same, but refuses another body.
    #[schema(min_length = 1, max_length = 128)]
    pub key: Option<String>,
}

impl AppendMessage {
    /// The message for the library; `key` is used if the body names none.
    pub fn into_new_message(self, key: Option<String>) -> NewMessage {
        NewMessage {
            role: self.role.into(),
            content: self.content,
            tool_calls: self.tool_calls.into_iter().map(Into::into).collect(),
            tool_call_id: self.tool_call_id,
            persistence: self.persistence,
            key: self.key.or(key),
        }
    }
}

/// The proof of a holder.
pub(crate) const fn fence(task: TaskId, epoch: u64) -> Fence {
    Fence { task, epoch }
}
