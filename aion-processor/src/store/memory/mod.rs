//! The task tree in memory: the reference model of the tests, and a store for programs that need
//! no disk.

mod hooks;
mod lines;
mod orders;
pub(crate) mod read;
mod world;

use std::sync::Arc;

use aion_types::{Clock, Timestamp};
use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::{Mutex, broadcast};

use self::world::World;
use super::{DueReport, SchemaInfo, TaskStore, Wake, hints};
use crate::engine::apply::apply;
use crate::engine::due::due;
use crate::engine::{check, claim};
use crate::{ClaimReq, Done, Lease, Limits, Page, Query, Result, Write};

/// A store that forgets everything with the process.
///
/// It holds at most as many tasks, messages and events as [`with_max_rows`](Self::with_max_rows)
/// says, then it is full.
#[derive(Debug)]
pub struct MemTaskStore {
    clock: Arc<dyn Clock>,
    limits: Limits,
    world: Mutex<World>,
    wake: broadcast::Sender<Wake>,
}

impl MemTaskStore {
    /// An empty store.
    pub fn new(clock: impl Clock, limits: Limits) -> Self {
        Self {
            clock: Arc::new(clock),
            limits,
            world: Mutex::new(World::new()),
            wake: broadcast::channel(64).0,
        }
    }

    /// Sets how many tasks, messages and events it holds together.
    #[must_use]
    pub fn with_max_rows(mut self, rows: usize) -> Self {
        self.world.get_mut().max_rows = rows;
        self
    }

    /// A store of its own that holds the same: what is done to one does not show in the other.
    pub async fn fork(&self) -> Self {
        Self {
            clock: self.clock.clone(),
            limits: self.limits.clone(),
            world: Mutex::new(self.world.lock().await.clone()),
            wake: broadcast::channel(64).0,
        }
    }

    fn hint(&self, world: &mut World) {
        let ready = std::mem::take(&mut world.made_ready);
        let last_seq = world.last_seq();
        if std::mem::replace(&mut world.hinted, last_seq) == last_seq {
            return;
        }
        // Nobody listening is fine: the hint is only a hint.
        let _ = self.wake.send(Wake { last_seq, ready });
    }
}

#[async_trait]
impl TaskStore for MemTaskStore {
    async fn open_schema(&self) -> Result<SchemaInfo> {
        Ok(SchemaInfo {
            engine: "memory".to_owned(),
            version: 1,
        })
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<Vec<Result<Done>>> {
        check::at_most("writes", writes.len() as u64, self.limits.max_ops as u64)?;
        let mut world = self.world.lock().await;
        let now = self.clock.now();
        let mut done = Vec::with_capacity(writes.len());
        for write in &writes {
            let frees = matches!(write.op, crate::Op::Purge { .. });
            let room = if frees { Ok(()) } else { world.room() };
            done.push(match room {
                Ok(()) => apply(&mut *world, &self.limits, now, &write.op).await,
                Err(full) => Err(full),
            });
        }
        self.hint(&mut world);
        Ok(done)
    }

    async fn claim(&self, req: ClaimReq) -> Result<Vec<Lease>> {
        let mut world = self.world.lock().await;
        world.room()?;
        let leases = claim(&mut *world, &self.limits, self.clock.now(), &req).await?;
        self.hint(&mut world);
        Ok(leases)
    }

    async fn due(&self, limit: u32) -> Result<DueReport> {
        let mut world = self.world.lock().await;
        let report = due(&mut *world, &self.limits, self.clock.now(), limit).await?;
        self.hint(&mut world);
        Ok(report)
    }

    async fn read(&self, query: Query) -> Result<Page> {
        let world = self.world.lock().await;
        world.read(query, self.limits.max_page, self.clock.now())
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.clock.now())
    }

    fn wake(&self) -> BoxStream<'static, Wake> {
        hints(self.wake.subscribe())
    }
}
