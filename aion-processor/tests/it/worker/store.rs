//! A store around another one that counts what is asked of it, and is away for a while.

use std::sync::Arc;

use aion_processor::{
    ClaimReq, Done, DueReport, Error, Lease, Limits, MemTaskStore, Op, Page, Query, Result, SchemaInfo,
    TaskStore, Wake, Write,
};
use aion_types::{SystemClock, Timestamp};
use async_trait::async_trait;
use futures::stream::BoxStream;

use super::Count;

/// Counts writes other than heartbeats, and claims by themselves.
#[derive(Debug)]
pub(crate) struct Counting {
    pub(crate) inner: MemTaskStore,
    pub(crate) writes: Count,
    pub(crate) claims: Count,
    /// How many reads of steps are not answered.
    pub(crate) away: Count,
}

impl Counting {
    pub(crate) fn new() -> Self {
        Self {
            inner: MemTaskStore::new(SystemClock, Limits::default()),
            writes: Count::default(),
            claims: Count::default(),
            away: Count::default(),
        }
    }
}

impl std::fmt::Debug for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

#[async_trait]
impl TaskStore for Counting {
    async fn open_schema(&self) -> Result<SchemaInfo> {
        self.inner.open_schema().await
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Result<Done>>> {
        if !writes
            .iter()
            .all(|write| matches!(write.op, Op::Heartbeat { .. }))
        {
            self.writes.up();
        }
        self.inner.apply(writes).await
    }

    async fn claim(&self, req: ClaimReq) -> Result<Vec<Lease>> {
        self.claims.up();
        self.inner.claim(req).await
    }

    async fn due(&self, limit: u32) -> Result<DueReport> {
        self.inner.due(limit).await
    }

    async fn read(&self, query: Query) -> Result<Page> {
        if matches!(query, Query::Steps(..)) && self.away.get() > 0 {
            self.away.down();
            return Err(Error::Unavailable(Arc::new(std::io::Error::other("away"))));
        }
        self.inner.read(query).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }

    fn wake(&self) -> BoxStream<'static, Wake> {
        self.inner.wake()
    }
}
