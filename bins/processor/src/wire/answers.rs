//! Bodies of answers.

use aion_processor::{ChildCounts, Lease, TaskHead};
use aion_types::{EventRecord, Json, MessageRecord, Status, TaskRecord, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{RoleName, StatusName, WireToolCall};

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
    /// Holders that vanished since an attempt ended by itself: failed and was retried, was released, or gathered.
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
pub(super) fn to_value(json: &Json) -> Value {
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

/// The end of a task, and the claims that came with it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NextTasks {
    /// Where the ended task stands.
    pub task: HeadView,
    /// The claims; none if nothing was ready, or if the task had ended before.
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

/// One server-sent event of a stream.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
pub struct StreamedEvent {
    /// Its `seq`, for `Last-Event-ID`.
    pub id: String,
    /// Its kind.
    pub event: String,
    /// An `Event`, as JSON.
    #[schema(content_media_type = "application/json")]
    pub data: String,
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
