//! Schedules and shares of queues on the wire.

use aion_processor::{Concurrency, NewSchedule, NewTask, Schedule};
use aion_service::whole;
use aion_types::{Json, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OverlapChoice;
use super::requests::{default_attempts, default_queue};

/// Tasks with the same key share a number of places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Concurrency)]
pub struct ConcurrencyBody {
    /// What they have in common, such as a tenant; must not begin with `object:`.
    #[schema(min_length = 1, max_length = 128)]
    pub key: String,
    /// How many of them may run at once.
    #[serde(deserialize_with = "whole::one")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max: u32,
}

impl From<ConcurrencyBody> for Concurrency {
    fn from(body: ConcurrencyBody) -> Self {
        Self {
            key: body.key,
            max: body.max,
        }
    }
}

impl From<Concurrency> for ConcurrencyBody {
    fn from(concurrency: Concurrency) -> Self {
        Self {
            key: concurrency.key,
            max: concurrency.max,
        }
    }
}

/// A task that a schedule makes again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedTask {
    /// The task above each of them; absent for roots.
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
    /// How many attempts it may take.
    #[serde(default = "default_attempts", deserialize_with = "whole::one")]
    #[schema(minimum = 1, maximum = 100, default = 3)]
    pub max_attempts: u32,
    /// How many like it may run at once; no bound if absent.
    pub concurrency: Option<ConcurrencyBody>,
}

impl PlannedTask {
    fn into_new_task(self) -> NewTask {
        // Every task of a schedule gets an id of its own; this one is nobody's.
        let nobody = TaskId::from_parts(Timestamp::from_ms(0), [0; 10]);
        NewTask {
            parent: self.parent_id,
            queue: self.queue,
            spec: self.spec,
            payload: self.payload,
            priority: self.priority,
            max_attempts: self.max_attempts,
            concurrency: self.concurrency.map(Into::into),
            ..NewTask::new(nobody, self.kind, self.title)
        }
    }
}

impl From<NewTask> for PlannedTask {
    fn from(task: NewTask) -> Self {
        Self {
            parent_id: task.parent,
            kind: task.kind,
            queue: task.queue,
            title: task.title,
            spec: task.spec,
            payload: task.payload,
            priority: task.priority,
            max_attempts: task.max_attempts,
            concurrency: task.concurrency.map(Into::into),
        }
    }
}

/// A schedule to have. Putting it again replaces it; its next time is counted anew then.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSchedule {
    /// When, as a cron pattern of five fields, or of six with seconds first; `@daily` and the like as well.
    #[schema(min_length = 1, max_length = 256)]
    pub cron: String,
    /// Time zone by its IANA name, such as `Europe/Berlin`.
    #[serde(default = "universal")]
    #[schema(default = "UTC")]
    pub zone: String,
    /// What if the last task has not ended when the next is due.
    #[serde(default)]
    pub overlap: OverlapChoice,
    /// The task that is made.
    pub task: PlannedTask,
}

fn universal() -> String {
    "UTC".to_owned()
}

impl PutSchedule {
    /// The schedule called `name`, for the library.
    pub fn into_schedule(self, name: String) -> NewSchedule {
        NewSchedule::new(name, self.cron, self.task.into_new_task())
            .with_zone(self.zone)
            .with_overlap(self.overlap.into())
    }
}

/// A schedule as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// When, as a cron pattern.
    pub cron: String,
    /// Time zone by its IANA name.
    pub zone: String,
    /// What if the last task has not ended when the next is due.
    pub overlap: OverlapChoice,
    /// The task that is made.
    pub task: PlannedTask,
    /// When the next task is made, in milliseconds since 1970; null if that will never be, or failed.
    pub next_at: Option<i64>,
    /// When the last was made, in milliseconds since 1970.
    pub last_at: Option<i64>,
    /// The last task.
    #[schema(format = "uuid")]
    pub last_task_id: Option<String>,
    /// Why it stands still.
    pub error: Option<String>,
}

impl From<Schedule> for ScheduleView {
    fn from(schedule: Schedule) -> Self {
        let spec = schedule.spec;
        Self {
            name: spec.name,
            cron: spec.cron,
            zone: spec.zone,
            overlap: spec.overlap.into(),
            task: spec.task.into(),
            next_at: schedule.next_at.map(Timestamp::as_ms),
            last_at: schedule.last_at.map(Timestamp::as_ms),
            last_task_id: schedule.last_task.map(|id| id.to_string()),
            error: schedule.error,
        }
    }
}

/// A page of schedules.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ScheduleList {
    /// The schedules, by name.
    pub schedules: Vec<ScheduleView>,
    /// `after` of the next page; null if this is the last.
    pub next: Option<String>,
}

/// How much of the work a queue gets when claims share fairly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueWeight {
    /// Tasks for each one of a queue of weight 1.
    #[serde(deserialize_with = "whole::one")]
    #[schema(minimum = 1, maximum = 1_000)]
    pub weight: u32,
}
