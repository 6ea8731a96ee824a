//! What goes over the wire: requests that are checked member by member, and answers.

use aion_processor::{
    CancelMode, ChildCounts, Fence, GatherPolicy, Lease, NewMessage, NewTask, Order, Retry, Start, TaskHead,
};
use aion_types::{
    EventRecord, HandlerId, Json, MessageRecord, Role, Status, TaskId, TaskRecord, Timestamp, ToolCall,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

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
    #[serde(default)]
    pub priority: i32,
    /// Earliest start, in milliseconds since 1970.
    #[schema(minimum = 0)]
    pub run_after: Option<i64>,
    /// Whether it waits for `start_task` before it is ready.
    #[serde(default)]
    pub held: Held,
    /// Latest end, in milliseconds since 1970; a task past it counts as overdue.
    #[schema(minimum = 0)]
    pub deadline: Option<i64>,
    /// How many attempts it may take.
    #[serde(default = "default_attempts")]
    #[schema(minimum = 1, maximum = 100, default = 3)]
    pub max_attempts: u32,
    /// Idempotency key, unique below the parent; the header `Idempotency-Key` does the same.
    #[schema(min_length = 1, max_length = 128)]
    pub key: Option<String>,
}

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

fn default_queue() -> String {
    "default".to_owned()
}

const fn default_attempts() -> u32 {
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
            key: self.key.or(key),
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
    /// Take only this task.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub task_id: Option<TaskId>,
    /// How many tasks at most.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 256, default = 1)]
    pub max: u32,
    /// How long the lease lasts without a heartbeat, in milliseconds.
    #[serde(default = "default_lease")]
    #[schema(minimum = 1, maximum = 86_400_000, default = 60_000)]
    pub lease_ms: u64,
    /// How long to wait for a task if none is ready, in milliseconds.
    #[serde(default)]
    #[schema(maximum = 20_000, default = 0)]
    pub wait_ms: u64,
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
    pub epoch: u64,
    /// How long the lease lasts from now, in milliseconds.
    #[serde(default = "default_lease")]
    #[schema(minimum = 1, maximum = 86_400_000, default = 60_000)]
    pub lease_ms: u64,
}

/// The end of a task.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteTask {
    /// Fencing token of the claim.
    pub epoch: u64,
    /// What the task gave: any JSON.
    #[serde(default)]
    #[schema(value_type = Value)]
    pub result: Json,
}

/// The failure of an attempt.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailTask {
    /// Fencing token of the claim.
    pub epoch: u64,
    /// Why.
    pub error: String,
    /// Whether another attempt follows, while there are some left.
    #[serde(default)]
    pub retry: RetryChoice,
    /// With `retry` = `after`: how long to wait, in milliseconds.
    #[serde(default)]
    pub after_ms: u64,
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
    pub epoch: u64,
    /// How long the task rests before it is ready again, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
}

/// The holder stops a task whose cancellation was asked for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopTask {
    /// Fencing token of the claim.
    pub epoch: u64,
}

/// The wish that a task ends.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelTask {
    /// How firmly, if somebody holds it.
    #[serde(default)]
    pub mode: CancelChoice,
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

/// Tasks to wait for.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GatherTasks {
    /// Fencing token of the claim.
    pub epoch: u64,
    /// Tasks below this one.
    #[schema(value_type = Vec<String>, max_items = 10_000)]
    pub tasks: Vec<TaskId>,
    /// What if one of them does not complete.
    #[serde(default)]
    pub policy: GatherChoice,
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

/// A message to append.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppendMessage {
    /// Fencing token of the claim; absent if somebody other than the holder speaks.
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
    /// Idempotency key, unique within the task; the header `Idempotency-Key` does the same.
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

/// Which tasks to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListTasks {
    /// Tasks of the tree below this root only.
    #[param(value_type = Option<String>, format = "uuid")]
    pub root_id: Option<TaskId>,
    /// Children of this task only.
    #[param(value_type = Option<String>, format = "uuid")]
    pub parent_id: Option<TaskId>,
    /// Tasks in this status only.
    pub status: Option<StatusName>,
    /// Tasks of this kind only.
    pub kind: Option<String>,
    /// Tasks in this queue only.
    pub queue: Option<String>,
    /// Tasks held by this handler only.
    #[param(value_type = Option<String>)]
    pub handler_id: Option<HandlerId>,
    /// From which end.
    #[serde(default)]
    #[param(inline)]
    pub order: OrderName,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many at most.
    #[serde(default = "default_page")]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub limit: u32,
}

/// Which children to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListChildren {
    /// Children in this status only.
    pub status: Option<StatusName>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many at most.
    #[serde(default = "default_page")]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub limit: u32,
}

/// Which messages to list.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListMessages {
    /// From which end.
    #[serde(default)]
    #[param(inline)]
    pub order: OrderName,
    /// `next` of the page before: the `seq` to go on from.
    #[serde(default)]
    pub from: u64,
    /// How many at most.
    #[serde(default = "default_page")]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub limit: u32,
}

/// Which events to list.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEvents {
    /// `next` of the page before: the `seq` to go on from.
    #[serde(default)]
    pub after: u64,
    /// Events of this task only.
    #[param(value_type = Option<String>, format = "uuid")]
    pub task_id: Option<TaskId>,
    /// How many at most.
    #[serde(default = "default_page")]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub limit: u32,
}

/// Which events to stream.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamEvents {
    /// The `seq` to go on from; the header `Last-Event-ID` wins.
    #[serde(default)]
    pub after: u64,
    /// Events of this task only.
    #[param(value_type = Option<String>, format = "uuid")]
    pub task_id: Option<TaskId>,
}

const fn default_page() -> u32 {
    100
}

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Task {
    /// Version of the format of this record.
    pub format: u32,
    /// Its id.
    #[schema(format = "uuid")]
    pub id: String,
    /// The root of its tree; its own id for a root.
    #[schema(format = "uuid")]
    pub root_id: String,
    /// The task above it.
    #[schema(format = "uuid")]
    pub parent_id: Option<String>,
    /// Steps to the root.
    pub depth: u32,
    /// What kind of work it is.
    pub kind: String,
    /// The queue that it waits in.
    pub queue: String,
    /// One line for people.
    pub title: String,
    /// What is to be done.
    pub spec: String,
    /// Input for the handler.
    pub payload: Value,
    /// Where it stands.
    pub status: StatusName,
    /// Larger is claimed earlier.
    pub priority: i32,
    /// Who holds it.
    pub handler_id: Option<String>,
    /// Fencing token of the last claim.
    pub lease_epoch: u64,
    /// When the lease ends, in milliseconds since 1970.
    pub lease_until: Option<i64>,
    /// How many times it has been claimed and not given back.
    pub attempt: u32,
    /// How many attempts it may take.
    pub max_attempts: u32,
    /// How many times a holder vanished.
    pub crash_count: u32,
    /// Earliest start, in milliseconds since 1970.
    pub run_after: Option<i64>,
    /// Latest end, in milliseconds since 1970.
    pub deadline: Option<i64>,
    /// Whether somebody asked for it to stop.
    pub cancel_requested: bool,
    /// Children that have not ended.
    pub open_children: u32,
    /// Tasks that it waits for.
    pub waiting_on: u32,
    /// What it gave.
    pub result: Option<Value>,
    /// Why it, or its last attempt, failed.
    pub error: Option<String>,
    /// Grows with every change.
    pub version: u64,
    /// When it was created, in milliseconds since 1970.
    pub created_at: i64,
    /// When it changed last, in milliseconds since 1970.
    pub updated_at: i64,
    /// When it ended, in milliseconds since 1970.
    pub finished_at: Option<i64>,
}

impl From<TaskRecord> for Task {
    fn from(task: TaskRecord) -> Self {
        Self {
            format: task.format.into(),
            id: task.id.to_string(),
            root_id: task.root_id.to_string(),
            parent_id: task.parent_id.map(|id| id.to_string()),
            depth: task.depth,
            kind: task.kind,
            queue: task.queue,
            title: task.title,
            spec: task.spec,
            payload: to_value(&task.payload),
            status: task.status.into(),
            priority: task.priority,
            handler_id: task.handler_id.map(Into::into),
            lease_epoch: task.lease_epoch,
            lease_until: task.lease_until.map(Timestamp::as_ms),
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            crash_count: task.crash_count,
            run_after: task.run_after.map(Timestamp::as_ms),
            deadline: task.deadline.map(Timestamp::as_ms),
            cancel_requested: task.cancel_requested,
            open_children: task.open_children,
            waiting_on: task.waiting_on,
            result: task.result.as_ref().map(to_value),
            error: task.error,
            version: task.version,
            created_at: task.created_at.as_ms(),
            updated_at: task.updated_at.as_ms(),
            finished_at: task.finished_at.map(Timestamp::as_ms),
        }
    }
}

/// A value of ours as a value of serde_json; both know the same JSON.
fn to_value(json: &Json) -> Value {
    serde_json::to_value(json).unwrap_or_default()
}

/// A page of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TaskList {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// `cursor` of the next page; null if this is the last.
    pub next: Option<String>,
}

/// A granted claim.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Lease)]
pub struct LeaseView {
    /// Fencing token: every write of the holder must carry it.
    pub epoch: u64,
    /// When the lease ends without a heartbeat, in milliseconds since 1970.
    pub until: i64,
    /// The task.
    pub task: Task,
}

impl From<Lease> for LeaseView {
    fn from(lease: Lease) -> Self {
        Self {
            epoch: lease.epoch,
            until: lease.until.as_ms(),
            task: lease.task.into(),
        }
    }
}

/// Granted claims; none if nothing was ready.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LeaseList {
    /// The claims.
    pub leases: Vec<LeaseView>,
}

/// The answer to a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Heartbeat)]
pub struct HeartbeatView {
    /// When the lease ends now, in milliseconds since 1970.
    pub until: i64,
    /// Whether the holder is asked to stop.
    pub cancel_requested: bool,
}

/// Where a task stands after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TaskHead)]
pub struct HeadView {
    /// The task.
    #[schema(format = "uuid")]
    pub id: String,
    /// Where it stands.
    pub status: StatusName,
    /// Fencing token of the last claim.
    pub lease_epoch: u64,
    /// How many times it has been claimed and not given back.
    pub attempt: u32,
    /// Tasks that it waits for.
    pub waiting_on: u32,
    /// Earliest start, in milliseconds since 1970.
    pub run_after: Option<i64>,
    /// Grows with every change.
    pub version: u64,
}

impl From<TaskHead> for HeadView {
    fn from(head: TaskHead) -> Self {
        Self {
            id: head.id.to_string(),
            status: head.status.into(),
            lease_epoch: head.lease_epoch,
            attempt: head.attempt,
            waiting_on: head.waiting_on,
            run_after: head.run_after.map(Timestamp::as_ms),
            version: head.version,
        }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Message {
    /// Version of the format of this record.
    pub format: u32,
    /// The task.
    #[schema(format = "uuid")]
    pub task_id: String,
    /// Its place in the history, from 1.
    pub seq: u64,
    /// Who speaks.
    pub role: RoleName,
    /// What is said.
    pub content: String,
    /// Calls that the model asked for.
    pub tool_calls: Vec<WireToolCall>,
    /// Which call this answers.
    pub tool_call_id: Option<String>,
    /// What the model server reported of its tokens, as it came.
    pub persistence: Option<Value>,
    /// When it was written, in milliseconds since 1970.
    pub created_at: i64,
}

impl From<MessageRecord> for Message {
    fn from(message: MessageRecord) -> Self {
        Self {
            format: message.format.into(),
            task_id: message.task_id.to_string(),
            seq: message.seq,
            role: message.role.into(),
            content: message.content,
            tool_calls: message.tool_calls.into_iter().map(Into::into).collect(),
            tool_call_id: message.tool_call_id,
            persistence: message.persistence.as_ref().map(to_value),
            created_at: message.created_at.as_ms(),
        }
    }
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MessageList {
    /// The messages.
    pub messages: Vec<Message>,
    /// `from` of the next page; null if this is the last.
    pub next: Option<u64>,
}

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// Version of the format of this record.
    pub format: u32,
    /// Place in the log, in the order in which changes took effect.
    pub seq: u64,
    /// The task.
    #[schema(format = "uuid")]
    pub task_id: String,
    /// The root of its tree.
    #[schema(format = "uuid")]
    pub root_id: String,
    /// What happened, such as `claimed`.
    pub kind: String,
    /// Details, by kind.
    pub body: Value,
    /// When, in milliseconds since 1970.
    pub at: i64,
}

impl From<EventRecord> for Event {
    fn from(event: EventRecord) -> Self {
        Self {
            format: event.format.into(),
            seq: event.seq,
            task_id: event.task_id.to_string(),
            root_id: event.root_id.to_string(),
            kind: event.kind.as_str().to_owned(),
            body: to_value(&event.body),
            at: event.at.as_ms(),
        }
    }
}

/// A page of the log.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventList {
    /// The events.
    pub events: Vec<Event>,
    /// `after` of the next page, also when there is nothing yet.
    pub next: u64,
}

/// What counts for the persistence of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Evidence {
    /// Children that wait.
    pub blocked_children: u64,
    /// Children that failed.
    pub failed_children: u64,
    /// Children that completed.
    pub completed_children: u64,
    /// Children past their deadline.
    pub overdue_children: u64,
    /// Attempts of the task itself after the first.
    pub retries: u64,
}

impl From<ChildCounts> for Evidence {
    fn from(counts: ChildCounts) -> Self {
        Self {
            blocked_children: counts.statuses.of(Status::Blocked),
            failed_children: counts.statuses.of(Status::Failed),
            completed_children: counts.statuses.of(Status::Completed),
            overdue_children: counts.overdue,
            retries: counts.retries,
        }
    }
}

/// The proof of a holder.
pub(crate) const fn fence(task: TaskId, epoch: u64) -> Fence {
    Fence { task, epoch }
}
