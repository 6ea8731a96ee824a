//! The agent loop: sense, plan, act, score.

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
mod run;
mod services;
pub mod store;
mod tool;
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
pub use run::{
    Action, CallResult, CallStatus, Claim, FINISH, Input, LoopRun, OnAmbiguous, Outcome, PlannedCall,
    Protocol, RUN_FORMAT, RunOptions, RunSnapshot, UnsavedMessage,
};
pub use services::{IDEMPOTENCY_KEY, ServiceLimits, ServiceLink, Services, TASK_STATE};
pub use store::{Intent, IntentOutcome, LoopStore, MemoryLoopStore, RunRecord, RunStatus, StoreError};
pub use tool::{Place, Replay, Tool, ToolRequest, Toolset};
#[cfg(feature = "network")]
pub use transport::NetworkTransport;
pub use transport::{BodyStream, BoxError, InProcessTransport, Transport, TransportError, read_body};
