//! Query strings of lists.

use aion_types::{HandlerId, TaskId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{OrderName, StatusName};

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
    /// Tasks with this text in the title or the spec only, the letters A to Z in either case.
    pub text: Option<String>,
    /// Tasks created at this moment or later only, in milliseconds since 1970.
    #[param(minimum = 0)]
    pub created_from: Option<i64>,
    /// Tasks created before this moment only, in milliseconds since 1970.
    #[param(minimum = 0)]
    pub created_to: Option<i64>,
    /// From which end.
    #[serde(default)]
    #[param(inline)]
    pub order: OrderName,
    /// `next` of the page before. A page of a search by text or time may be short, and even empty, before the last.
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

/// Which page of a list by name.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListNames {
    /// `next` of the page before: the name to go on from.
    pub after: Option<String>,
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
