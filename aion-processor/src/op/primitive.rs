//! Primitives: what tasks hold and wait for, in the order in which they came.

use aion_types::{Json, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Fence;

/// What a primitive is, and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum PrimitiveKind {
    /// So many units, held by as many tasks as fit.
    Semaphore {
        /// The units, at least 1.
        permits: u32,
    },
    /// One holder at a time.
    Mutex,
    /// A gate that is opened and shut by hand: [`Signal::Set`], [`Signal::Reset`],
    /// [`Signal::Pulse`]. New ones are shut.
    Event,
    /// A gate that is shut until a moment and opens by itself: [`Signal::ShutUntil`]. New ones are
    /// open.
    TimestampLock,
    /// Items, each for one task, in the order in which they were put: [`Signal::Put`].
    Queue {
        /// Items that may wait, at least 1.
        capacity: u32,
    },
}

impl PrimitiveKind {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Semaphore { .. } => "semaphore",
            Self::Mutex => "mutex",
            Self::Event => "event",
            Self::TimestampLock => "timestamp_lock",
            Self::Queue { .. } => "queue",
        }
    }

    /// Whether whoever passes leaves it as it is: an event or a timestamp lock.
    pub const fn is_gate(self) -> bool {
        matches!(self, Self::Event | Self::TimestampLock)
    }
}

/// A primitive to have. Declaring it again changes its size, but not its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPrimitive {
    /// Its name in the store.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: PrimitiveKind,
}

impl NewPrimitive {
    /// A primitive of this kind.
    pub fn new(name: impl Into<String>, kind: PrimitiveKind) -> Self {
        Self {
            name: name.into(),
            kind,
        }
    }
}

/// A primitive as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Primitive {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: PrimitiveKind,
    /// Grows with every token, place in the line and item that it gives out.
    pub ticket: u64,
    /// Units that tasks hold.
    pub held: u32,
    /// Tasks that wait.
    pub waiting: u32,
    /// Items that wait for a task (queue).
    pub items: u32,
    /// Whether the gate is open (event).
    pub open: bool,
    /// When the gate opens (timestamp lock).
    pub until: Option<Timestamp>,
    /// Waiters up to this ticket may pass a gate that is shut behind them.
    pub passing: u64,
    /// Whether waiters are left that may pass now: [`due`](crate::TaskStore::due) lets them through.
    pub moving: bool,
    /// Hashes of the last keys under which items were put, each with that of its item (queue).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub puts: Vec<(u64, u64)>,
}

/// What a holder wants of a primitive.
///
/// A task holds one grant of a primitive at a time: asking again gives the same grant, so that a
/// task that had to wait asks again when it is claimed the next time.
///
/// ```
/// use aion_processor::{Fence, Want};
/// use aion_types::{TaskId, Timestamp};
///
/// let fence = Fence { task: TaskId::generate(Timestamp::from_ms(0)), epoch: 1 };
/// let want = Want::new(fence, "gpu").with_units(2).with_until(Timestamp::from_ms(60_000));
/// assert_eq!((want.primitive.as_str(), want.units), ("gpu", 2));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// The holder's proof.
    pub fence: Fence,
    /// The name of the primitive.
    pub primitive: String,
    /// Units of a semaphore; 1 for everything else.
    #[serde(default = "one")]
    pub units: u32,
    /// Waits no longer than this; a moment that has passed means not to wait at all.
    pub until: Option<Timestamp>,
}

const fn one() -> u32 {
    1
}

impl Want {
    /// One unit, however long it takes.
    pub fn new(fence: Fence, primitive: impl Into<String>) -> Self {
        Self {
            fence,
            primitive: primitive.into(),
            units: 1,
            until: None,
        }
    }

    /// Wants so many units of a semaphore.
    #[must_use]
    pub fn with_units(mut self, units: u32) -> Self {
        self.units = units;
        self
    }

    /// Waits no longer than this. The same moment must be given when the task asks again.
    #[must_use]
    pub fn with_until(mut self, until: Timestamp) -> Self {
        self.until = Some(until);
        self
    }
}

/// What a task got of a primitive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The name of the primitive.
    pub primitive: String,
    /// Grows with every grant of this primitive: a fencing token for whatever it guards.
    pub token: u64,
    /// Units of a semaphore; 1 for everything else.
    pub units: u32,
    /// The item of a queue.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub item: Option<Json>,
    /// Since when.
    pub since: Timestamp,
}

/// A value that is there, even if it is null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// What becomes of a grant that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Return {
    /// The holder is done with it: an item of a queue is gone.
    #[default]
    Done,
    /// The holder did nothing with it: an item goes back to its place.
    Undone,
}

/// What anybody may tell a primitive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// Opens an event; everybody passes until it is reset.
    Set,
    /// Shuts an event. Whoever waited while it was open still passes.
    Reset,
    /// Lets everybody through who waits at an event now.
    Pulse,
    /// Shuts a timestamp lock until this moment; one that has passed opens it.
    ShutUntil(Timestamp),
    /// Adds an item to a queue.
    Put(Json),
    /// Adds an item to a queue unless it was added under this key before; the queue knows its last 64 keys.
    PutOnce {
        /// The idempotency key.
        key: String,
        /// The item.
        item: Json,
    },
}

/// A task that holds something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// The task.
    pub task: TaskId,
    /// What it holds.
    pub grant: Grant,
}

/// A task that waits for a primitive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    /// The task.
    pub task: TaskId,
    /// The name of the primitive.
    pub primitive: String,
    /// Its place in the line: smaller is earlier.
    pub place: u64,
    /// Units that it wants.
    pub units: u32,
    /// When it stops waiting.
    pub until: Option<Timestamp>,
    /// Since when it waits.
    pub since: Timestamp,
}
