//! A durable task tree: claims under a lease with a fencing epoch, messages, events, and what tasks
//! need of each other: gather, primitives, objects, schedules.
//!
//! Tasks form trees. A handler claims a ready task under a lease, appends messages to it, and
//! completes or fails it; every write of a holder carries the epoch of its claim, so that a holder
//! that was given up for dead is refused. Each change and its event are one transaction.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use aion_processor::{ClaimReq, Limits, MemTaskStore, NewMessage, NewTask, Processor};
//! use aion_types::{Clock, HandlerId, Json, Role, Status, SystemClock, TaskId};
//!
//! // `Processor::open("processor.db").await?` keeps the same on disk.
//! let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
//! let id = TaskId::generate(SystemClock.now());
//! processor.create(NewTask::new(id, "agent.run", "Summarise the notes")).await?;
//!
//! let claim = ClaimReq::new(HandlerId::new("worker-1")?).with_lease_ms(30_000);
//! let lease = processor.claim(claim).await?.remove(0);
//! processor.append(lease.fence(), NewMessage::new(Role::Assistant, "Done.")).await?;
//! processor.complete(lease.fence(), Json::from("three lines")).await?;
//!
//! assert_eq!(processor.get(id).await?.status, Status::Completed);
//! let log = processor.events(0, 100).await?;
//! let kinds: Vec<_> = log.events.iter().map(|event| event.kind.as_str()).collect();
//! assert_eq!(kinds, ["created", "ready", "claimed", "message", "completed"]);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What there is
//!
//! | what | where to begin |
//! |---|---|
//! | tasks: priorities, queues, delays, retries, deadlines, keys | [`NewTask`], [`Retry`], [`Backoff`] |
//! | an async function for each kind, with steps that are done once | [`worker`] |
//! | claims: leases, batches, long poll, fair shares of queues | [`ClaimReq`], [`Processor::claim_wait`], [`ClaimOrder`] |
//! | so many of a kind at once | [`NewTask::with_concurrency`] |
//! | waiting for tasks below | [`Processor::gather`], [`GatherPolicy`] |
//! | semaphore, mutex, event, timestamp lock, queue; deadlocks by name | [`Processor::acquire`], [`PrimitiveKind`], [`Waits::circles`] |
//! | named context with versions, and calls of it | [`PutObject`], [`Call`] |
//! | cron schedules | [`NewSchedule`] |
//! | telling others of events, again until they hear | [`NewWebhook`], [`Processor::take_webhook`] |
//! | trees: cancel, search, export and import, removal | [`Processor::cancel_tree`], [`TaskQuery`], [`Processor::export`], [`Processor::retire`] |
//! | the log, which replays | [`Processor::events`], [`Replay`] |
//! | size and age | [`Processor::metrics`] |
//! | the tasks of a server, over HTTP | `HttpTaskStore` (feature `client`), [`wire`] |
//!
//! # Features
//!
//! - `sqlite` (default): `SqliteTaskStore`, one file in WAL mode behind one writer that commits in
//!   groups.
//!   It is 5 to 10% faster where SQLite is built with `LIBSQLITE3_FLAGS="-DSQLITE_DEFAULT_MEMSTATUS=0
//!   -USQLITE_ENABLE_MEMORY_MANAGEMENT"` in the environment or under `[env]` of `.cargo/config.toml`.
//! - `postgres`: `PostgresTaskStore`, for several processes at once.
//! - `client`: `HttpTaskStore`, the store of an `aion-processor-server`.
//! - `testkit`: the conformance suite for implementations of [`TaskStore`].
//!
//! # Reading order
//!
//! 1. [`Op`], [`ClaimReq`] and [`Query`]: what can be asked.
//! 2. [`machine`]: which changes are legal, in one function.
//! 3. [`TaskStore`]: the seven methods of a storage; [`MemTaskStore`] is the plainest one.
//! 4. [`Processor`]: the handle.
//! 5. [`Replay`]: the log tells the same story again.

mod engine;
mod error;
mod limits;
mod op;
mod processor;
mod query;
mod replay;
mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
mod webhook;
pub mod wire;
pub mod worker;

pub use engine::machine;
pub use error::{Cause, Error, Result};
pub use limits::{Backoff, Limits};
pub use op::{
    Call, CallMode, CancelMode, ClaimOrder, ClaimReq, Concurrency, Done, Durability, Expect, Fence,
    GatherPolicy, Grant, Heartbeat, Holder, Lease, NewMessage, NewPrimitive, NewSchedule, NewTask,
    ObjectHead, ObjectRecord, Op, Overlap, Piece, Primitive, PrimitiveKind, Purged, PutObject, Retry, Return,
    Schedule, Signal, Start, StepRecord, TaskCopy, TaskHead, Waiter, Want, Write,
};
pub use processor::{Acquired, Processor};
pub use query::{
    ChildCounts, Circle, Cursor, EndedQuery, EventPage, EventQuery, Gather, Link, MessagePage, MessageQuery,
    Metrics, NameQuery, Order, Page, Query, StatusCounts, StepPage, StepQuery, TaskPage, TaskQuery, Waits,
};
pub use replay::{Replay, Replayed};
pub use store::{DueReport, MemTaskStore, SchemaInfo, TaskStore, Wake};
#[cfg(feature = "client")]
pub use store::{HttpOptions, HttpTaskStore};
#[cfg(feature = "postgres")]
pub use store::{PostgresOptions, PostgresTaskStore};
#[cfg(feature = "sqlite")]
pub use store::{SqliteOptions, SqliteTaskStore};
pub use webhook::{
    Delivery, DeliveryQuery, DeliveryState, Disabled, NewWebhook, Outcome, ParkedEvent, Ping, SettleWebhook,
    TakeWebhook, TakenWebhook, Webhook, WebhookChange, WebhookFilter, WebhookKey, WebhookLimits, WebhookOp,
    WebhookQuery, WebhookState, Word,
};
