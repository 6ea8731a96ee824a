//! The storage of the task tree: one small trait, and who implements it.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod codec;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod group;
#[cfg(feature = "client")]
pub(crate) mod http;
pub(crate) mod memory;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod schema;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

use std::fmt;

use aion_types::Timestamp;
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{ClaimReq, Done, Lease, Page, Query, Result, Write};

#[cfg(feature = "client")]
pub use http::{HttpOptions, HttpTaskStore};
pub use memory::MemTaskStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresTaskStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteTaskStore};

/// Where tasks are kept.
///
/// Seven methods, none of which knows SQL. Every operation is atomic and decided by the same rules
/// ([`machine`](crate::machine)); several may share a commit. The kit in `testkit` (a feature)
/// says whether an implementation is right.
#[async_trait]
pub trait TaskStore: fmt::Debug + Send + Sync + 'static {
    /// Brings the storage to the newest schema and says which that is.
    ///
    /// # Errors
    /// [`Error::NewerDatabase`](crate::Error::NewerDatabase) if a newer program wrote it.
    async fn open_schema(&self) -> Result<SchemaInfo>;

    /// Carries out the operations in order, each on its own: one that is refused does not undo the
    /// others. An inner `Ok` means that the change is durable as asked, an inner error that it was
    /// not made (unless [`is_unknown`](crate::Error::is_unknown) says that nobody knows).
    ///
    /// # Errors
    /// When it is not known what was done; whatever has an idempotency key may be sent again.
    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Result<Done>>>;

    /// Hands out ready tasks, highest priority first, then first come, first served, or by the
    /// shares of their queues ([`ClaimOrder`](crate::ClaimOrder)). Nothing to do is an empty list.
    ///
    /// # Errors
    /// A limit, or a failure of the storage; [`Error::Full`](crate::Error::Full) while it has no
    /// room, for work that cannot be finished should not begin.
    async fn claim(&self, req: ClaimReq) -> Result<Vec<Lease>>;

    /// Does what time demands: ends leases that ran out, starts tasks whose time has come, ends
    /// waits, makes the tasks of schedules, goes on where waiters may pass and where a tree is being
    /// cancelled; at most `limit` of each.
    ///
    /// # Errors
    /// A failure of the storage.
    async fn due(&self, limit: u32) -> Result<DueReport>;

    /// Answers a question.
    ///
    /// # Errors
    /// A limit, or a failure of the storage.
    async fn read(&self, query: Query) -> Result<Page>;

    /// The time by which leases run.
    ///
    /// # Errors
    /// A failure of the storage.
    async fn now(&self) -> Result<Timestamp>;

    /// Hints that something was committed; some may be lost, so poll as well.
    fn wake(&self) -> BoxStream<'static, Wake>;
}

/// What is behind a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaInfo {
    /// The engine, such as `sqlite 3.51.3`.
    pub engine: String,
    /// Version of the schema.
    pub version: u32,
}

/// What [`TaskStore::due`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DueReport {
    /// Leases that ended.
    pub expired: u32,
    /// Tasks among them that failed because too many holders vanished in a row.
    pub poisoned: u32,
    /// Tasks that ended because their deadline had passed.
    #[serde(default)]
    pub overdue: u32,
    /// Delayed tasks that became ready.
    pub started: u32,
    /// Tasks that did not want to wait for a primitive any longer.
    pub gave_up: u32,
    /// Tasks that schedules made.
    pub scheduled: u32,
    /// Tasks that were looked at because something above them was cancelled.
    pub cancelled: u32,
    /// Tasks that were removed because their trees are.
    pub removed: u32,
    /// Whether there may be more to do.
    pub more: bool,
}

/// Something was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wake {
    /// The last event in the log.
    pub last_seq: u64,
    /// How many tasks became ready.
    pub ready: u32,
}

/// Bytes up to which a result or an error lies with the part of a task that is written when it ends, so that its payload
/// is not written once more.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) const NEAR: usize = 512;
/// Tasks that one page of a search by text or time looks at.
pub(crate) const SIFT: u32 = 5_000;
/// Holders, waiters and gathers that one view gives, of each.
pub(crate) const WAITS: u32 = 10_000;

impl crate::Waits {
    /// Leaves out what is too much, and says so.
    pub(crate) fn cut_to(&mut self, limit: u32) {
        let limit = limit as usize;
        let longest = self.holders.len().max(self.waiters.len()).max(self.gathers.len());
        self.cut = longest.max(self.primitives.len()) > limit;
        self.primitives.truncate(limit);
        self.holders.truncate(limit);
        self.waiters.truncate(limit);
        self.gathers.truncate(limit);
    }
}

/// The size of a page: `limit`, or 100 if it is 0.
pub(crate) fn page_size(limit: u32, max: u32) -> Result<u32> {
    crate::engine::check::at_most("limit", limit.into(), max.into())?;
    Ok(if limit == 0 { 100.min(max) } else { limit })
}

/// A stream of the hints that are sent from now on.
pub(crate) fn hints(receiver: tokio::sync::broadcast::Receiver<Wake>) -> BoxStream<'static, Wake> {
    use tokio::sync::broadcast::error::RecvError;
    let stream = futures::stream::unfold(receiver, |mut receiver| async move {
        loop {
            match receiver.recv().await {
                Ok(wake) => return Some((wake, receiver)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Box::pin(stream)
}
