//! Primitives on the wire: what tasks hold and wait for.

use aion_processor::{
    Acquired, Circle, Gather, Grant, Holder, Link, Primitive, PrimitiveKind, Signal, Waiter, Waits,
};
use aion_service::{Problem, whole};
use aion_types::{Json, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::answers::to_value;
use super::{AcquireOutcome, GatherChoice, HeadView, PrimitiveName, ReturnChoice, SignalName};

/// A primitive to have. Declaring it again changes its size, but not its kind.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclarePrimitive {
    /// What it is.
    pub kind: PrimitiveName,
    /// The units of a semaphore, for which they must be given.
    #[serde(default, deserialize_with = "whole::maybe")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub permits: Option<u32>,
    /// Items that may wait in a queue, for which it must be given.
    #[serde(default, deserialize_with = "whole::maybe")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub capacity: Option<u32>,
}

impl DeclarePrimitive {
    /// What it is, for the library.
    ///
    /// # Errors
    /// A size that is missing, or that a primitive of this kind does not have.
    pub fn into_kind(self) -> Result<PrimitiveKind, Problem> {
        let kind = match self.kind {
            PrimitiveName::Semaphore => PrimitiveKind::Semaphore {
                permits: self.permits.ok_or_else(|| missing("permits", "a semaphore"))?,
            },
            PrimitiveName::Queue => PrimitiveKind::Queue {
                capacity: self.capacity.ok_or_else(|| missing("capacity", "a queue"))?,
            },
            PrimitiveName::Mutex => PrimitiveKind::Mutex,
            PrimitiveName::Event => PrimitiveKind::Event,
            PrimitiveName::TimestampLock => PrimitiveKind::TimestampLock,
        };
        let takes = |what: PrimitiveName, size: Option<u32>| size.is_none() || self.kind == what;
        if !takes(PrimitiveName::Semaphore, self.permits) {
            return Err(needless("permits", "a semaphore"));
        }
        if !takes(PrimitiveName::Queue, self.capacity) {
            return Err(needless("capacity", "a queue"));
        }
        Ok(kind)
    }
}

fn missing(member: &str, of: &str) -> Problem {
    Problem::unprocessable("invalid", format!("{of} needs {member}")).at(format!("/{member}"))
}

fn needless(member: &str, of: &str) -> Problem {
    Problem::unprocessable("invalid", format!("only {of} has {member}")).at(format!("/{member}"))
}

/// A primitive as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Primitive)]
pub struct PrimitiveView {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: PrimitiveName,
    /// The units of a semaphore.
    pub permits: Option<u32>,
    /// Items that may wait in a queue.
    pub capacity: Option<u32>,
    /// Units that tasks hold.
    pub held: u32,
    /// Tasks that wait.
    pub waiting: u32,
    /// Items that wait for a task (queue).
    pub items: u32,
    /// Whether the gate is open (event).
    pub open: bool,
    /// When the gate opens, in milliseconds since 1970 (timestamp lock).
    pub until: Option<i64>,
    /// Grows with every token, place in the line and item that it gives out.
    pub ticket: u64,
}

impl From<Primitive> for PrimitiveView {
    fn from(primitive: Primitive) -> Self {
        let (permits, capacity) = match primitive.kind {
            PrimitiveKind::Semaphore { permits } => (Some(permits), None),
            PrimitiveKind::Queue { capacity } => (None, Some(capacity)),
            _ => (None, None),
        };
        Self {
            name: primitive.name,
            kind: primitive.kind.into(),
            permits,
            capacity,
            held: primitive.held,
            waiting: primitive.waiting,
            items: primitive.items,
            open: primitive.open,
            until: primitive.until.map(Timestamp::as_ms),
            ticket: primitive.ticket,
        }
    }
}

/// A page of primitives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PrimitiveList {
    /// The primitives, by name.
    pub primitives: Vec<PrimitiveView>,
    /// `after` of the next page; null if this is the last.
    pub next: Option<String>,
}

/// Something to tell a primitive.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalPrimitive {
    /// What.
    pub signal: SignalName,
    /// With `shut_until`, which needs it: when the gate opens, in milliseconds since 1970.
    #[serde(default, deserialize_with = "whole::maybe")]
    #[schema(minimum = 0)]
    pub until: Option<i64>,
    /// With `put`: the item, any JSON.
    #[schema(value_type = Value)]
    pub item: Option<Json>,
}

impl SignalPrimitive {
    /// The signal for the library; an item is put once under `key`.
    ///
    /// # Errors
    /// A member that is missing, or that the signal does not have.
    pub fn into_signal(self, key: Option<String>) -> Result<Signal, Problem> {
        if self.until.is_some() && self.signal != SignalName::ShutUntil {
            return Err(needless("until", "shut_until"));
        }
        if self.item.is_some() && self.signal != SignalName::Put {
            return Err(needless("item", "put"));
        }
        Ok(match self.signal {
            SignalName::Set => Signal::Set,
            SignalName::Reset => Signal::Reset,
            SignalName::Pulse => Signal::Pulse,
            SignalName::ShutUntil => {
                let until = self.until.ok_or_else(|| missing("until", "shut_until"))?;
                Signal::ShutUntil(Timestamp::from_ms(until))
            }
            SignalName::Put => put(self.item.unwrap_or_default(), key),
        })
    }
}

fn put(item: Json, key: Option<String>) -> Signal {
    match key {
        Some(key) => Signal::PutOnce { key, item },
        None => Signal::Put(item),
    }
}

/// A wish for something of a primitive.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcquireGrant {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
    /// The name of the primitive.
    #[schema(min_length = 1, max_length = 128)]
    pub primitive: String,
    /// Units of a semaphore; 1 for everything else.
    #[serde(default = "one", deserialize_with = "whole::one")]
    #[schema(minimum = 1, default = 1)]
    pub units: u32,
    /// Waits no longer than this, in milliseconds since 1970; a moment that has passed means not to wait at all.
    #[serde(default, deserialize_with = "whole::maybe")]
    #[schema(minimum = 0)]
    pub until: Option<i64>,
}

const fn one() -> u32 {
    1
}

/// Something that a task got of a primitive.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Grant)]
pub struct GrantView {
    /// The task.
    #[schema(format = "uuid")]
    pub task_id: String,
    /// The name of the primitive.
    pub primitive: String,
    /// Grows with every grant of this primitive: a fencing token for whatever it guards.
    pub token: u64,
    /// Units of a semaphore; 1 for everything else.
    pub units: u32,
    /// The item of a queue.
    pub item: Option<Value>,
    /// Since when, in milliseconds since 1970.
    pub since: i64,
}

impl GrantView {
    fn of(task: TaskId, grant: Grant) -> Self {
        Self {
            task_id: task.to_string(),
            primitive: grant.primitive,
            token: grant.token,
            units: grant.units,
            item: grant.item.as_ref().map(to_value),
            since: grant.since.as_ms(),
        }
    }
}

impl From<Holder> for GrantView {
    fn from(holder: Holder) -> Self {
        Self::of(holder.task, holder.grant)
    }
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Acquired)]
pub struct AcquiredView {
    /// In a word.
    pub outcome: AcquireOutcome,
    /// The grant, if it was granted.
    pub grant: Option<GrantView>,
    /// Where the task stands, if it waits.
    pub task: Option<HeadView>,
}

impl AcquiredView {
    /// What became of the wish of `task`.
    pub fn of(task: TaskId, acquired: Acquired) -> Self {
        let (outcome, grant, head) = match acquired {
            Acquired::Granted(grant) => (AcquireOutcome::Granted, Some(GrantView::of(task, grant)), None),
            Acquired::Waits(head) => (AcquireOutcome::Waits, None, Some(head.into())),
            Acquired::Missed => (AcquireOutcome::Missed, None, None),
        };
        Self {
            outcome,
            grant,
            task: head,
        }
    }
}

/// A grant to give back.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnGrant {
    /// Fencing token of the claim.
    #[serde(deserialize_with = "whole::one")]
    pub epoch: u64,
    /// The name of the primitive.
    #[schema(min_length = 1, max_length = 128)]
    pub primitive: String,
    /// The token of the grant.
    #[serde(deserialize_with = "whole::one")]
    pub token: u64,
    /// Whether the holder is done with it.
    #[serde(default)]
    pub how: ReturnChoice,
}

impl ReturnGrant {
    /// The grant that it is about.
    pub fn grant(&self) -> Grant {
        Grant {
            primitive: self.primitive.clone(),
            token: self.token,
            units: 1,
            item: None,
            since: Timestamp::from_ms(0),
        }
    }
}

/// What a task holds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct GrantList {
    /// The grants, by the name of the primitive.
    pub grants: Vec<GrantView>,
}

/// A task that waits for a primitive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Waiter)]
pub struct WaiterView {
    /// The task.
    #[schema(format = "uuid")]
    pub task_id: String,
    /// The name of the primitive.
    pub primitive: String,
    /// Its place in the line: smaller is earlier.
    pub place: u64,
    /// Units that it wants.
    pub units: u32,
    /// When it stops waiting, in milliseconds since 1970.
    pub until: Option<i64>,
    /// Since when it waits, in milliseconds since 1970.
    pub since: i64,
}

impl From<Waiter> for WaiterView {
    fn from(waiter: Waiter) -> Self {
        Self {
            task_id: waiter.task.to_string(),
            primitive: waiter.primitive,
            place: waiter.place,
            units: waiter.units,
            until: waiter.until.map(Timestamp::as_ms),
            since: waiter.since.as_ms(),
        }
    }
}

/// A task that waits for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Gathering)]
pub struct GatheringView {
    /// Who waits.
    #[schema(format = "uuid")]
    pub waiter_id: String,
    /// For whom.
    #[schema(format = "uuid")]
    pub task_id: String,
    /// What if that one does not complete.
    pub policy: GatherChoice,
}

impl From<Gather> for GatheringView {
    fn from(gather: Gather) -> Self {
        Self {
            waiter_id: gather.waiter.to_string(),
            task_id: gather.task.to_string(),
            policy: gather.policy.into(),
        }
    }
}

/// Tasks each of which waits for the next, and the last for the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Deadlock)]
pub struct DeadlockView {
    /// The tasks.
    pub links: Vec<LinkView>,
}

/// A task in a deadlock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DeadlockLink)]
pub struct LinkView {
    /// Who waits.
    #[schema(format = "uuid")]
    pub task_id: String,
    /// For whom: a holder, somebody before it in the line, or a task that it gathers.
    #[schema(format = "uuid")]
    pub waits_for: String,
    /// In the line of which primitive; null if it gathers.
    pub primitive: Option<String>,
}

impl From<Circle> for DeadlockView {
    fn from(circle: Circle) -> Self {
        Self {
            links: circle.links.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Link> for LinkView {
    fn from(link: Link) -> Self {
        Self {
            task_id: link.task.to_string(),
            waits_for: link.waits_for.to_string(),
            primitive: link.primitive,
        }
    }
}

/// Who holds and who waits.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Waits)]
pub struct WaitsView {
    /// The primitives that are held or waited for.
    pub primitives: Vec<PrimitiveView>,
    /// Who holds them, by primitive and token.
    pub holders: Vec<GrantView>,
    /// Who waits for them, by primitive and place.
    pub waiters: Vec<WaiterView>,
    /// Who waits for other tasks; empty if only one primitive was asked for.
    pub gathers: Vec<GatheringView>,
    /// Tasks that wait for each other in a circle, whatever else happens; empty if only one primitive was asked for.
    pub deadlocks: Vec<DeadlockView>,
    /// Whether some waits are left out because there are too many. Deadlocks may be missing then, and every one that is named
    /// is one.
    pub cut: bool,
}

impl From<Waits> for WaitsView {
    fn from(waits: Waits) -> Self {
        let deadlocks = waits.circles().into_iter().map(Into::into).collect();
        Self {
            primitives: waits.primitives.into_iter().map(Into::into).collect(),
            holders: waits.holders.into_iter().map(Into::into).collect(),
            waiters: waits.waiters.into_iter().map(Into::into).collect(),
            gathers: waits.gathers.into_iter().map(Into::into).collect(),
            deadlocks,
            cut: waits.cut,
        }
    }
}
