//! Whole trees and the size of the store on the wire.

use std::fmt;
use std::str::FromStr;

use aion_processor::{Metrics, StatusCounts};
use aion_service::{Problem, whole};
use aion_types::{Status, TaskId, TaskRecord, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{KeepChoice, StatusName};

/// Which roots that have ended to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEndedRoots {
    /// Ended before this moment, in milliseconds since 1970; now if absent.
    #[param(minimum = 0)]
    pub before: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// How many at most.
    #[serde(default = "default_page")]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub limit: u32,
}

const fn default_page() -> u32 {
    100
}

/// The last root of a page: the next begins after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RootCursor(pub(crate) Timestamp, pub(crate) TaskId);

impl RootCursor {
    pub(crate) fn of(root: &TaskRecord) -> Option<Self> {
        root.finished_at.map(|at| Self(at, root.id))
    }
}

impl fmt::Display for RootCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}.{}", self.0.as_ms(), self.1)
    }
}

impl FromStr for RootCursor {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let parts = text.strip_prefix('e').and_then(|rest| rest.split_once('.'));
        let read = parts.and_then(|(at, id)| {
            let at: u64 = at.parse().ok().filter(|at| *at <= 1 << 52)?;
            Some(Self(
                Timestamp::from_ms(i64::try_from(at).ok()?),
                id.parse().ok()?,
            ))
        });
        read.ok_or_else(|| {
            Problem::unprocessable(
                "invalid",
                "cursor is not valid: it was not given out by this list",
            )
            .at("query:cursor")
        })
    }
}

/// Where an import goes.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportInto {
    /// The task that the first task of the import comes below; it becomes a root if absent.
    #[param(value_type = Option<String>, format = "uuid")]
    pub under: Option<TaskId>,
}

/// What an import took over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Imported {
    /// Tasks that were named, those that were there already included.
    pub tasks: u64,
}

/// What is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Removed {
    /// Tasks that are gone.
    pub tasks: u64,
}

/// Trees to remove.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetireTrees {
    /// Trees whose roots ended before this moment, in milliseconds since 1970.
    #[serde(deserialize_with = "whole::one")]
    #[schema(minimum = 0)]
    pub before: i64,
    /// What is kept of them.
    #[serde(default)]
    pub keep: KeepChoice,
    /// How many trees at most.
    #[serde(default = "default_page", deserialize_with = "whole::one")]
    #[schema(minimum = 1, maximum = 1_000, default = 100)]
    pub max: u32,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Retired {
    /// Trees that are gone.
    pub trees: u64,
    /// Whether `max` stopped it before the last of them.
    pub more: bool,
}

/// How large and how old the store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoreMetrics {
    /// Bytes that the database takes; 0 if it takes none of a disk.
    pub database_bytes: u64,
    /// Bytes within it that are free to be used again; null where the storage does not say.
    pub free_bytes: Option<u64>,
    /// Whether the storage has no room: nothing is claimed until it has.
    pub full: bool,
    /// The `seq` of the last event.
    pub last_seq: u64,
    /// When the oldest event that is kept happened, in milliseconds since 1970.
    pub oldest_event: Option<i64>,
    /// Tasks by status, in the order of a task's life.
    pub statuses: Vec<StatusMetrics>,
}

/// Tasks in one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct StatusMetrics {
    /// The status.
    pub status: StatusName,
    /// How many tasks.
    pub tasks: u64,
    /// When the first of them was created, in milliseconds since 1970.
    pub oldest: Option<i64>,
}

impl StoreMetrics {
    /// Size and age together with how many tasks are in each status.
    pub fn of(metrics: &Metrics, counts: &StatusCounts) -> Self {
        let status = |status: Status| StatusMetrics {
            status: status.into(),
            tasks: counts.of(status),
            oldest: metrics.oldest[status as usize].map(Timestamp::as_ms),
        };
        Self {
            database_bytes: metrics.bytes,
            free_bytes: metrics.free_bytes,
            full: metrics.full,
            last_seq: metrics.last_seq,
            oldest_event: metrics.oldest_event.map(Timestamp::as_ms),
            statuses: Status::ALL.into_iter().map(status).collect(),
        }
    }
}
