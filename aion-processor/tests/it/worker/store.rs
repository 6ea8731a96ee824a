//! A store around another one that counts what is asked of it.

use aion_processor::{
    ClaimReq, Done, DueReport, Lease, MemTaskStore, Op, Page, Query, Result, SchemaInfo, TaskStore, Wake,
    Write,
};
use aion_types::Timestamp;
use async_trait::async_trait;
use futures::stream::BoxStream;

use super::Count;

/// Counts writes other than heartbeats, and claims by themselves.
#[derive(Debug)]
pub(crate) struct Counting {
    pub(crate) inner: MemTaskStore,
    pub(crate) writes: Count,
    pub(crate) claims: Count,
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
        self.inner.read(query).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }

    fn wake(&self) -> BoxStream<'static, Wake> {
        self.inner.wake()
    }
}
