//! The agent loop as an HTTP service: types of agent, runs and their steps, on port 9300.
//!
//! ```
//! use std::sync::Arc;
//! use aion_loop::{MemoryLoopStore, ServiceLimits, Services, Toolset};
//! use aion_loop_server::{Models, Runner, service};
//! use aion_processor::{Limits, MemTaskStore, Processor};
//! use aion_types::SystemClock;
//!
//! let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
//! let services = Services::new([], Toolset::default(), ServiceLimits::default());
//! let runner = Runner::new(processor, Arc::new(MemoryLoopStore::new()), services, Models::none());
//! let router = service(runner).into_router(&aion_service::Limits::default());
//! # let _ = router;
//! assert!(aion_loop_server::openapi_json().contains("\"start_run\""));
//! ```
//!
//! # Reading order
//! [`wire`] (what goes over the wire), [`Runner`] (which runs go on in this process), then the
//! operations: types of agent, runs, state.

mod kinds;
mod models;
mod problem;
mod runner;
mod runs;
mod state;
pub mod wire;

use std::sync::Arc;

use aion_loop::{MemoryLoopStore, ServiceLimits, Services, Toolset};
use aion_processor::{Limits, MemTaskStore, Processor};
use aion_service::Service;
use aion_types::SystemClock;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use models::Models;
pub use runner::{MAX_RUNS, Runner};

/// The port of the loop.
pub const DEFAULT_PORT: u16 = 9300;

/// The service over `runner`.
pub fn service(runner: Runner) -> Service {
    let state = Arc::new(state::LoopState::new(runner.clone()));
    Service::new("loop", DEFAULT_PORT, operations().with_state(runner), state)
}

/// The OpenAPI document of the service, without opening anything.
pub fn openapi_json() -> String {
    let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
    let services = Services::new([], Toolset::default(), ServiceLimits::default());
    let store = Arc::new(MemoryLoopStore::new());
    service(Runner::new(processor, store, services, Models::none())).openapi_json()
}

fn operations() -> OpenApiRouter<Runner> {
    OpenApiRouter::new()
        .routes(routes!(kinds::put_agent_type, kinds::list_agent_types))
        .routes(routes!(kinds::get_agent_type))
        .routes(routes!(runs::start_run, runs::list_runs))
        .routes(routes!(runs::get_run))
        .routes(routes!(runs::pause_run))
        .routes(routes!(runs::resume_run))
        .routes(routes!(runs::decide_run))
        .routes(routes!(runs::list_steps))
}
