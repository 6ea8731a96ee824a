//! Objects: named context with a version, and calls that work on it.

use aion_types::{Json, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Fence, NewTask};

/// Which version of an object a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Any, or none.
    #[default]
    Any,
    /// None: the object is new.
    Absent,
    /// Exactly this one.
    Version(u64),
}

/// A new version of an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutObject {
    /// Its name in the store.
    pub name: String,
    /// What it holds.
    pub body: Json,
    /// Which version is replaced.
    #[serde(default)]
    pub expect: Expect,
    /// The holder's proof, if a task writes it.
    pub fence: Option<Fence>,
}

impl PutObject {
    /// Whatever the version is now.
    pub fn new(name: impl Into<String>, body: Json) -> Self {
        Self {
            name: name.into(),
            body,
            expect: Expect::Any,
            fence: None,
        }
    }

    /// Only if the object is in this state.
    #[must_use]
    pub fn with_expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// As the holder of a task.
    #[must_use]
    pub fn with_fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }
}

/// An object without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectHead {
    /// Its name.
    pub name: String,
    /// One more with every write. A new object begins at 1, or above every version that an object had which was removed:
    /// no version of a name comes twice.
    pub version: u64,
    /// The oldest version that is still kept.
    pub oldest: u64,
    /// Which task wrote this version.
    pub by: Option<TaskId>,
    /// When the object was made.
    pub created_at: Timestamp,
    /// When this version was written.
    pub updated_at: Timestamp,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// The newest version's head.
    pub head: ObjectHead,
    /// The version of the body.
    pub version: u64,
    /// What it holds.
    pub body: Json,
}

/// Whether calls of an object run beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallMode {
    /// Beside any other call.
    #[default]
    Shared,
    /// One exclusive call of the object at a time; the others stay ready until it is their turn.
    Exclusive,
}

/// A call of an object: a task whose payload is `{"object": {"name", "version"}, "input"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The object.
    pub object: String,
    /// The version that the caller has seen; none takes the newest.
    pub version: Option<u64>,
    /// Whether it shares the object.
    #[serde(default)]
    pub mode: CallMode,
    /// The holder's proof, if a task calls; the new task is its child then.
    pub fence: Option<Fence>,
    /// The task; its payload is the input.
    pub task: NewTask,
}

impl Call {
    /// A shared call of the newest version.
    pub fn new(object: impl Into<String>, task: NewTask) -> Self {
        Self {
            object: object.into(),
            version: None,
            mode: CallMode::Shared,
            fence: None,
            task,
        }
    }

    /// Refuses unless the object is at this version.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    /// Sets whether it shares the object.
    #[must_use]
    pub fn with_mode(mut self, mode: CallMode) -> Self {
        self.mode = mode;
        self
    }

    /// As the holder of a task, which becomes the parent.
    #[must_use]
    pub fn with_fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }
}
