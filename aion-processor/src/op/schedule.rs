//! Schedules: tasks that are made again and again, and shares of queues.

use aion_types::{TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::NewTask;

/// What if the task of the last time has not ended when the next is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The next is made all the same.
    #[default]
    Allow,
    /// This time is left out.
    Skip,
}

/// A schedule to have. Putting it again replaces it; its next time is counted anew if the pattern or the zone is
/// another one, or if it stood still.
///
/// Times that passed while nobody kept the clock are made up for once, also when it is put again at the start of a
/// program. A time that a day does not have (when summer time begins) comes right after the gap, and one that it has
/// twice (when it ends) comes once; patterns that come every hour or more often follow the time that passes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewSchedule {
    /// Its name in the store.
    pub name: String,
    /// When, as a cron pattern of five fields, or of six with seconds first; `@daily` and the like
    /// as well.
    pub cron: String,
    /// Time zone by its IANA name, such as `Europe/Berlin`.
    #[serde(default = "default_zone")]
    pub zone: String,
    /// What if the last one has not ended.
    #[serde(default)]
    pub overlap: Overlap,
    /// The task that is made; every one of them gets an id and a key of its own.
    pub task: NewTask,
}

fn default_zone() -> String {
    "UTC".to_owned()
}

impl NewSchedule {
    /// By universal time, whether or not the last one has ended.
    pub fn new(name: impl Into<String>, cron: impl Into<String>, task: NewTask) -> Self {
        Self {
            name: name.into(),
            cron: cron.into(),
            zone: default_zone(),
            overlap: Overlap::Allow,
            task,
        }
    }

    /// By the clocks of this place.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// Says what if the last one has not ended.
    #[must_use]
    pub fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }
}

/// A schedule as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What was asked for.
    pub spec: NewSchedule,
    /// When the next task is made; none if that will never be, or failed.
    pub next_at: Option<Timestamp>,
    /// When the last was made.
    pub last_at: Option<Timestamp>,
    /// The last task.
    pub last_task: Option<TaskId>,
    /// Why it stands still.
    pub error: Option<String>,
}
