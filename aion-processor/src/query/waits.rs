//! Who holds and who waits, and how large the store is.

use aion_types::{Status, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::engine::deadlock;
use crate::{GatherPolicy, Holder, Primitive, Waiter};

/// Who holds primitives, who waits for them, and who waits for other tasks.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use aion_processor::{
///     ClaimReq, Limits, MemTaskStore, NewPrimitive, NewTask, PrimitiveKind, Processor, Want,
/// };
/// use aion_types::{HandlerId, SystemClock, TaskId, Timestamp};
///
/// let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
/// for name in ["left", "right"] {
///     processor.declare(NewPrimitive::new(name, PrimitiveKind::Mutex)).await?;
/// }
/// let mut leases = Vec::new();
/// for title in ["One", "Two"] {
///     let id = TaskId::generate(Timestamp::from_ms(0));
///     processor.create(NewTask::new(id, "demo", title)).await?;
///     leases.extend(processor.claim(ClaimReq::new(HandlerId::new("worker")?)).await?);
/// }
/// let (one, two) = (leases[0].fence(), leases[1].fence());
/// for (fence, name) in [(one, "left"), (two, "right"), (one, "right"), (two, "left")] {
///     processor.acquire(Want::new(fence, name)).await?;
/// }
/// let circles = processor.waits(None).await?.circles();
/// let links: Vec<_> = circles[0].links.iter().map(|link| (link.task, link.waits_for)).collect();
/// assert!(links.contains(&(one.task, two.task)) && links.contains(&(two.task, one.task)));
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Waits {
    /// The primitives that are held or waited for.
    pub primitives: Vec<Primitive>,
    /// Who holds them, by primitive and token.
    pub holders: Vec<Holder>,
    /// Who waits for them, by primitive and place.
    pub waiters: Vec<Waiter>,
    /// Who waits for other tasks.
    pub gathers: Vec<Gather>,
    /// Whether some are left out because there are too many.
    pub cut: bool,
}

impl Waits {
    /// Deadlocks: tasks that wait for each other in a circle, whatever else happens; at most 100 of them. If some waits
    /// are [left out](Self::cut), circles may be missing, but none is named that is not one.
    pub fn circles(&self) -> Vec<Circle> {
        deadlock::circles(self)
    }
}

/// A task that waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gather {
    /// Who waits.
    pub waiter: TaskId,
    /// For whom.
    pub task: TaskId,
    /// What if that one does not complete.
    pub policy: GatherPolicy,
}

/// Tasks each of which waits for the next, and the last for the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circle {
    /// The tasks.
    pub links: Vec<Link>,
}

/// A task in a circle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Who waits.
    pub task: TaskId,
    /// For whom: a holder, somebody before it in the line, or a task that it gathers.
    pub waits_for: TaskId,
    /// In the line of which primitive; none if it gathers.
    pub primitive: Option<String>,
}

/// How large and how old a store is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Bytes that the database takes; 0 if it takes none of a disk.
    pub bytes: u64,
    /// Bytes within it that are free to be used again; none where the storage does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// The last event.
    pub last_seq: u64,
    /// When the oldest event that is kept happened.
    pub oldest_event: Option<Timestamp>,
    /// When the first of the tasks in each status was created, in the order of
    /// [`Status::ALL`].
    pub oldest: [Option<Timestamp>; Status::ALL.len()],
    /// Whether the storage has no room: nothing is claimed until it has.
    pub full: bool,
}
