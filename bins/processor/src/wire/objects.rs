//! Objects and their calls on the wire.

use aion_processor::{Fence, ObjectHead, ObjectRecord};
use aion_service::whole;
use aion_types::{Json, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::answers::to_value;
use super::{CallChoice, CreateTask};

/// The proof of a holder.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Fence)]
pub struct FenceBody {
    /// The task that is held.
    #[schema(value_type = String, format = "uuid")]
    pub task_id: TaskId,
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
}

impl From<FenceBody> for Fence {
    fn from(fence: FenceBody) -> Self {
        Self {
            task: fence.task_id,
            epoch: fence.epoch,
        }
    }
}

/// A new version of an object.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutObjectBody {
    /// What it holds: any JSON.
    #[schema(value_type = Value)]
    pub body: Json,
    /// Proof of the task that writes it; absent if somebody else does.
    pub fence: Option<FenceBody>,
}

/// Which version of an object.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GetObject {
    /// The version; the newest if absent.
    #[param(minimum = 1)]
    pub version: Option<u64>,
}

/// An object without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ObjectHead)]
pub struct ObjectHeadView {
    /// Its name.
    pub name: String,
    /// The newest version: one more with every write. A new object begins at 1, or above every version that an object had
    /// which was removed, so that none of a name comes twice.
    pub version: u64,
    /// The oldest version that is still kept.
    pub oldest: u64,
    /// Which task wrote the newest version.
    #[schema(format = "uuid")]
    pub by: Option<String>,
    /// When the object was made, in milliseconds since 1970.
    pub created_at: i64,
    /// When the newest version was written, in milliseconds since 1970.
    pub updated_at: i64,
}

impl From<ObjectHead> for ObjectHeadView {
    fn from(head: ObjectHead) -> Self {
        Self {
            name: head.name,
            version: head.version,
            oldest: head.oldest,
            by: head.by.map(|id| id.to_string()),
            created_at: head.created_at.as_ms(),
            updated_at: head.updated_at.as_ms(),
        }
    }
}

/// An object at a version.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ObjectVersion)]
pub struct ObjectView {
    /// Its name.
    pub name: String,
    /// The version of `body`.
    pub version: u64,
    /// What it holds.
    pub body: Value,
    /// The object as it stands at its newest version.
    pub newest: ObjectHeadView,
}

impl From<ObjectRecord> for ObjectView {
    fn from(object: ObjectRecord) -> Self {
        Self {
            name: object.head.name.clone(),
            version: object.version,
            body: to_value(&object.body),
            newest: object.head.into(),
        }
    }
}

/// A page of objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ObjectList {
    /// The objects, by name.
    pub objects: Vec<ObjectHeadView>,
    /// `after` of the next page; null if this is the last.
    pub next: Option<String>,
}

/// A call of an object: its task gets the payload `{"object": {"name", "version"}, "input"}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallObject {
    /// The version that the caller has seen; refused if the object is at another. The newest if absent.
    #[serde(default, deserialize_with = "whole::maybe")]
    #[schema(minimum = 1)]
    pub version: Option<u64>,
    /// Whether it shares the object.
    #[serde(default)]
    pub mode: CallChoice,
    /// Proof of the task that calls; the new task is its child then.
    pub fence: Option<FenceBody>,
    /// The task that works on the object; its `payload` is the input.
    pub task: CreateTask,
}
