//! Handlers: an async function for each kind of task, and a pool that runs them.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use aion_processor::worker::{Ctx, Worker};
//! use aion_processor::{Limits, MemTaskStore, NewTask, Processor};
//! use aion_types::{Clock, Json, SystemClock, TaskId};
//!
//! let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
//! let task = NewTask::new(TaskId::generate(SystemClock.now()), "greet", "Greet Ada");
//! let task = processor.create(task.with_payload("Ada".into())).await?;
//!
//! let worker = Worker::new(&processor).handle("greet", |ctx: Ctx, name: String| async move {
//!     let greeting = ctx.step("compose", async { Ok(format!("Hello, {name}!")) }).await?;
//!     Ok(greeting)
//! });
//! let done = async { processor.wait_for(task.id).await.map(drop).unwrap_or_default() };
//! worker.run(done).await?;
//!
//! assert_eq!(processor.get(task.id).await?.result, Some(Json::from("Hello, Ada!")));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//!
//! - A function may run more than once for one task. What a [`step`](Ctx::step) gave is recorded and given
//!   again; code outside of steps runs again, and so does a step in which the process ended.
//! - While a function runs, the lease of its task is extended. If the lease is lost all the same, the
//!   function is dropped at once, and nothing that it could still say would be accepted.
//! - Waiting for [children](Ctx::gather), for a [time](Ctx::sleep) or for a [primitive](Ctx::acquire) takes no
//!   slot: the function ends there and is run again when the wait is over.
//! - A panic is a failed attempt. Which failures are tried again, and when, says [`Failure`].
//! - Kinds without a function are never claimed.
//!
//! # Reading order
//!
//! 1. [`Worker`]: how many at once, for how long, until when.
//! 2. [`Ctx`]: what a function can do.
//! 3. [`Failure`]: how it fails.

mod attempt;
mod ctx;
mod failure;
mod handler;
mod keeper;
mod outcome;
mod pool;
mod signals;
mod waits;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aion_types::HandlerId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::ctx::Ctx;
pub use self::failure::Failure;
pub use self::waits::{Ended, Guard};

use self::handler::Handler;
use self::keeper::Keeper;
use self::pool::{Phase, Pool};
use crate::{ClaimOrder, ClaimReq, Error, Processor, Result};

/// How often time is kept: leases that ran out, tasks whose start has come.
const TICK: Duration = Duration::from_secs(1);

/// A pool of slots that claim tasks and run the functions of their kinds.
///
/// Unless said otherwise it has 16 slots, leases of 30 seconds, 10 seconds of grace at its end and 5 for
/// functions whose task was cancelled, and it looks in all queues.
#[derive(Debug)]
pub struct Worker {
    processor: Processor,
    handlers: BTreeMap<String, Handler>,
    id: Option<HandlerId>,
    queues: Vec<String>,
    order: ClaimOrder,
    slots: usize,
    lease: Duration,
    grace: Duration,
    cancel_grace: Duration,
    timeout: Option<Duration>,
}

impl Worker {
    /// A worker without functions.
    pub fn new(processor: &Processor) -> Self {
        Self {
            processor: processor.clone(),
            handlers: BTreeMap::new(),
            id: None,
            queues: Vec::new(),
            order: ClaimOrder::Priority,
            slots: 16,
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            cancel_grace: Duration::from_secs(5),
            timeout: None,
        }
    }

    /// Runs `function` for the tasks of this kind: it gets their payload as a `P`, and what it gives is
    /// their result. A second function for the kind replaces the first.
    ///
    /// A payload that is no `P` fails the task.
    #[must_use]
    pub fn handle<P, R, F, T>(mut self, kind: impl Into<String>, function: F) -> Self
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize,
        F: Fn(Ctx, P) -> T + Send + Sync + 'static,
        T: Future<Output = Result<R, Failure>> + Send + 'static,
    {
        self.handlers.insert(kind.into(), Handler::new(function));
        self
    }

    /// Sets the name under which it claims; otherwise it gets one that no other worker has.
    #[must_use]
    pub fn with_id(mut self, id: HandlerId) -> Self {
        self.id = Some(id);
        self
    }

    /// Looks in these queues only. Then a queue should hold few tasks of kinds that have no function
    /// here, for claims pass over them one by one.
    #[must_use]
    pub fn with_queues(mut self, queues: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// Says which tasks come first.
    #[must_use]
    pub fn with_order(mut self, order: ClaimOrder) -> Self {
        self.order = order;
        self
    }

    /// Sets how many tasks run at once, at least one.
    #[must_use]
    pub fn with_slots(mut self, slots: usize) -> Self {
        self.slots = slots.max(1);
        self
    }

    /// Sets how long a lease lasts. It is extended three times in this time; a task whose holder vanished
    /// is free again after it.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(1));
        self
    }

    /// Sets how long functions may go on after the shutdown began; then they are dropped and their tasks
    /// are given back.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how long functions may go on after their task was cancelled.
    #[must_use]
    pub fn with_cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = grace;
        self
    }

    /// Sets how long one run of a function may take; then it is dropped, and the attempt has failed.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Works until `shutdown` comes back; then claims nothing more, lets functions end for the time of
    /// grace, and gives back what is left. Keeps time for the store meanwhile.
    ///
    /// A worker whose future is dropped leaves its tasks to the end of their leases.
    ///
    /// # Errors
    /// Something that will not change: no functions, more kinds or queues than a claim may name.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let (slots, grace) = (self.slots, self.grace);
        let pool = Arc::new(self.pool()?);
        let mut aside = JoinSet::new();
        let beating = pool.clone();
        aside.spawn(async move { beating.keeper.run().await });
        let processor = pool.processor.clone();
        aside.spawn(async move { processor.keep_time(TICK).await });
        let mut running = JoinSet::new();
        let filled = {
            let mut fill = std::pin::pin!(pool.fill(slots, &mut running));
            tokio::select! {
                filled = &mut fill => filled,
                () = shutdown => {
                    pool.phase.send_replace(Phase::Stopping);
                    fill.await
                }
            }
        };
        pool.phase.send_replace(Phase::Stopping);
        if tokio::time::timeout(grace, ended(&mut running)).await.is_err() {
            pool.phase.send_replace(Phase::Ending);
            ended(&mut running).await;
        }
        filled
    }

    fn pool(self) -> Result<Pool> {
        if self.handlers.is_empty() {
            return Err(Error::invalid("kinds", "no function is there for any"));
        }
        let id = match self.id {
            Some(id) => id,
            None => unique_id()?,
        };
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let claim = ClaimReq::new(id)
            .with_queues(self.queues)
            .with_kinds(self.handlers.keys())
            .with_order(self.order)
            .with_lease_ms(lease_ms);
        Ok(Pool {
            keeper: Keeper::new(self.processor.clone(), lease_ms),
            processor: self.processor,
            handlers: self.handlers,
            claim,
            cancel_grace: self.cancel_grace,
            timeout: self.timeout,
            phase: watch::Sender::new(Phase::Working),
        })
    }
}

/// Waits for every slot.
async fn ended(running: &mut JoinSet<()>) {
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a slot has ended by itself");
        }
    }
}

/// A name that no other worker has.
fn unique_id() -> Result<HandlerId> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("worker-{}-{:x}", std::process::id(), now.as_nanos());
    HandlerId::new(name).map_err(|error| Error::invalid("handler", error.to_string()))
}
