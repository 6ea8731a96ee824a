//! What questions give.

use aion_types::{EventRecord, MessageRecord, Status, TaskEvidence, TaskRecord, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Cursor, Metrics, Waits};
use crate::{Delivery, ObjectHead, ObjectRecord, Primitive, Schedule, StepRecord, TaskCopy, Webhook};

/// The answer to a [`Query`](crate::Query).
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
    /// Steps.
    Steps(StepPage),
    /// Events.
    Events(EventPage),
    /// Tasks in each status.
    Counts(StatusCounts),
    /// How the children stand.
    Children(ChildCounts),
    /// One task, if it is there.
    Copy(Option<Box<TaskCopy>>),
    /// Primitives.
    Primitives(Vec<Primitive>),
    /// Who holds and who waits.
    Waits(Waits),
    /// One object, if it is there.
    Object(Option<Box<ObjectRecord>>),
    /// Objects.
    Objects(Vec<ObjectHead>),
    /// Schedules.
    Schedules(Vec<Schedule>),
    /// Webhooks.
    Webhooks(Vec<Webhook>),
    /// What webhooks could not deliver.
    Deliveries(Vec<Delivery>),
    /// How large and how old the store is.
    Metrics(Metrics),
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

/// A page of a task's steps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepPage {
    /// The steps.
    pub steps: Vec<StepRecord>,
    /// The `after` of the next page; none if this is the last.
    pub next: Option<u64>,
}

impl StepPage {
    /// Cuts the page out of what was found, which is one item longer if there is more.
    pub(crate) fn cut(mut found: Vec<StepRecord>, limit: u32) -> Self {
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        Self {
            next: found.last().filter(|_| more).map(|step| step.seq),
            steps: found,
        }
    }
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
