//! The agent loop: sense the services, ask a model, act by tools derived from OpenAPI, score the step.
//!
//! The loop itself, [`LoopRun`], does no I/O: it says what to do and takes what came of it, and it can
//! be stored at any moment. [`Agent`] drives it on a task held under a lease; a crash anywhere and a
//! new process later give the same world, with no call done twice.
//!
//! ```
//! use std::sync::Arc;
//! use aion_loop::{Agent, MemoryLoopStore, RunOptions, ServiceLimits, Services, Toolset, Worker, WorkerOptions};
//! # use aion_loop::{ChatModel, ChatReply, ChatRequest, FinishReason, ModelError, Usage};
//! use aion_processor::{Limits, MemTaskStore, NewTask, Processor};
//! use aion_types::{AgentId, Clock, HandlerId, Status, SystemClock, TaskId};
//!
//! # #[derive(Debug)] struct Parrot;
//! # #[async_trait::async_trait]
//! # impl ChatModel for Parrot {
//! #     fn name(&self) -> &str { "parrot" }
//! #     async fn chat(&self, _: &ChatRequest) -> Result<ChatReply, ModelError> {
//! #         Ok(ChatReply { text: "Done.".into(), reasoning: String::new(), tool_calls: vec![],
//! #             finish: FinishReason::Stop, usage: Usage::default(), model: None })
//! #     }
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
//! let task = TaskId::generate(SystemClock.now());
//! processor.create(NewTask::new(task, "agent.run", "Say that you are done")).await?;
//!
//! // `OpenAiChat::new(OpenAiConfig::from_env()?, ...)` asks a server; `Services::discover` finds tools.
//! let services = Services::new([], Toolset::default(), ServiceLimits::default());
//! let store = Arc::new(MemoryLoopStore::new());
//! let agent = Agent::new(AgentId::new("worker")?, Arc::new(Parrot), services, store, RunOptions::default());
//! let worker = Worker::new(processor, agent, HandlerId::new("w1")?, WorkerOptions::default());
//! let end = worker.work_once(&Default::default()).await?.ok_or("no task")?;
//! assert_eq!(end.status, Status::Completed);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! - `network` (default): [`NetworkTransport`], services and model servers over TCP and TLS.
//! - `sqlite`: `SqliteLoopStore`, runs and intents in one file.
//! - `router`: `RouterRanker`, shortlists by the ranking of `aion-router`.
//! - `testkit`: a scripted model server.
//!
//! # Reading order
//!
//! 1. [`LoopRun`] with [`Action`] and [`Input`]: the loop, and nothing else.
//! 2. [`RunOptions`], [`Protocol`], [`Budget`]: how it behaves.
//! 3. [`tools_from_openapi`] and [`Tool`]: what the model can call; [`ToolRanker`]: what it is shown.
//! 4. [`ChatModel`] and [`OpenAiChat`]: who is asked.
//! 5. [`Transport`] and [`Services`]: how calls get there.
//! 6. [`LoopStore`]: what must not be forgotten.
//! 7. [`Agent`], [`Worker`], [`Judge`], [`PriceFeed`], [`StepReport`]: real tasks.
//! 8. [`export()`]: what remains of them as training text.

mod agent;
mod budget;
mod canonical;
mod diff;
mod error;
mod judge;
pub mod model;
pub mod openapi;
mod ranker;
mod report;
#[cfg(feature = "router")]
mod router;
mod run;
mod services;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
mod tool;
mod trace;
mod transport;

pub use agent::{Agent, AgentType, WorkEnd, Worker, WorkerOptions};
pub use budget::{Budget, BudgetPart, Ledger};
pub use canonical::canonical_json;
pub use diff::StateDiff;
pub use error::{Error, Result};
pub use judge::{Judge, JudgeWhen, TakeAtWord, Verdict};
pub use model::{
    ChatMessage, ChatModel, ChatReply, ChatRequest, FinishReason, ModelError, OpenAiChat, OpenAiConfig,
    ResponseSchema, RetryPolicy, Streaming, ToolSpec, Usage,
};
pub use openapi::{Derived, IdempotencyKeys, OpenApiOptions, tools_from_openapi};
pub use ranker::{OverlapRanker, ToolRanker};
pub use report::{CallReport, PriceFeed, SharedObserver, StepObserver, StepReport};
#[cfg(feature = "router")]
pub use router::RouterRanker;
pub use run::{
    Action, CallResult, CallStatus, Claim, FINISH, Input, LoopRun, OnAmbiguous, Outcome, PlannedCall,
    Protocol, RUN_FORMAT, RunOptions, RunSnapshot, UnsavedMessage,
};
pub use services::{IDEMPOTENCY_KEY, ServiceLimits, ServiceLink, Services, TASK_STATE, TaskStateSigner};
#[cfg(feature = "sqlite")]
pub use store::SqliteLoopStore;
pub use store::{Intent, IntentOutcome, LoopStore, MemoryLoopStore, RunRecord, RunStatus, StoreError};
pub use tool::{Place, Replay, Tool, ToolRequest, Toolset};
pub use trace::{
    Export, ExportOptions, MarketTraces, REDACTED, Redactor, ResolvedTask, TraceFiles, export, gather,
    read_lines,
};
#[cfg(feature = "network")]
pub use transport::NetworkTransport;
pub use transport::{BodyStream, BoxError, InProcessTransport, Transport, TransportError, read_body};
