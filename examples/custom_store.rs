//! A task store of your own: `cargo run -p aion-examples --example custom_store`
//!
//! This one keeps an account of every operation in front of another store. Expect: the account of a
//! small task; the conformance kit that every store must pass runs with
//! `cargo test -p aion-examples`.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aion_processor::{
    ClaimReq, Done, DueReport, Lease, Limits, MemTaskStore, NewTask, Page, Processor, Query, Result,
    SchemaInfo, TaskStore, Wake, Write,
};
use aion_types::{Clock, HandlerId, Json, SystemClock, TaskId, Timestamp};
use async_trait::async_trait;
use futures::stream::BoxStream;

/// Counts what is asked of the store behind it.
#[derive(Debug)]
struct CountingStore<S> {
    inner: S,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl<S: TaskStore> CountingStore<S> {
    fn new(inner: S) -> Self {
        Self {
            inner,
            counts: Mutex::default(),
        }
    }

    fn count(&self, what: &'static str, times: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += times as u64;
    }
}

#[async_trait]
impl<S: TaskStore> TaskStore for CountingStore<S> {
    async fn open_schema(&self) -> Result<SchemaInfo> {
        self.inner.open_schema().await
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Result<Done>>> {
        self.count("writes", writes.len());
        self.inner.apply(writes).await
    }

    async fn claim(&self, req: ClaimReq) -> Result<Vec<Lease>> {
        self.count("claims", 1);
        self.inner.claim(req).await
    }

    async fn due(&self, limit: u32) -> Result<DueReport> {
        self.inner.due(limit).await
    }

    async fn read(&self, query: Query) -> Result<Page> {
        self.count("reads", 1);
        self.inner.read(query).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }

    fn wake(&self) -> BoxStream<'static, Wake> {
        self.inner.wake()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let inner = MemTaskStore::new(SystemClock, Limits::default());
    let store = std::sync::Arc::new(CountingStore::new(inner));
    let processor = Processor::over(store.clone());
    let id = TaskId::generate(SystemClock.now());
    processor
        .create(NewTask::new(id, "demo", "A counted task"))
        .await?;
    let lease = processor
        .claim(ClaimReq::new(HandlerId::new("me")?))
        .await?
        .remove(0);
    processor.complete(lease.fence(), Json::from(true)).await?;
    println!("{} is {}", id, processor.get(id).await?.status);
    for (what, times) in store.counts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("{what:<7} {times}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    aion_processor::task_store_tests!(|clock, limits| async {
        (CountingStore::new(MemTaskStore::new(clock, limits)), ())
    });
}
