//! The processor as an HTTP service: the durable task tree over REST, on port 9205.
//!
//! [`service`] is pure construction over a [`Processor`]; the caller keeps its time
//! ([`Processor::keep_time`]).
//!
//! ```
//! use aion_processor::{Limits, MemTaskStore, Processor};
//! use aion_types::SystemClock;
//!
//! let processor = Processor::new(MemTaskStore::new(SystemClock, Limits::default()));
//! let router = aion_processor_server::service(processor).into_router(&aion_service::Limits::default());
//! # let _ = router;
//! assert!(aion_processor_server::openapi_json().contains("\"claim_tasks\""));
//! ```
//!
//! # Reading order
//! [`wire`] (what goes over the wire), then the operations: tasks, holding, messages, events, state.

mod events;
mod holding;
mod messages;
mod problem;
mod state;
mod tasks;
pub mod wire;

use std::sync::Arc;

use aion_processor::{Limits, MemTaskStore, Processor};
use aion_service::{PathLimits, Service};
use aion_types::SystemClock;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The port of the processor.
pub const DEFAULT_PORT: u16 = 9205;
/// Bytes of a body that may carry a payload, a result or a message of the largest size as JSON.
const LARGE_BODY_BYTES: usize = 4 << 20;

/// The service over `processor`.
pub fn service(processor: Processor) -> Service {
    let state = Arc::new(state::TaskState::new(processor.clone()));
    let large = || PathLimits::new().with_max_body_bytes(LARGE_BODY_BYTES);
    Service::new(
        "processor",
        DEFAULT_PORT,
        operations().with_state(processor),
        state,
    )
    .with_path_limits("/v1/tasks", large())
    .with_path_limits("/v1/tasks/{task_id}/messages", large())
    .with_path_limits("/v1/tasks/{task_id}/complete", large())
    .with_path_limits("/v1/events/stream", PathLimits::new().without_timeout())
}

/// The OpenAPI document of the service, without opening anything.
pub fn openapi_json() -> String {
    service(Processor::new(MemTaskStore::new(SystemClock, Limits::default()))).openapi_json()
}

fn operations() -> OpenApiRouter<Processor> {
    OpenApiRouter::new()
        .routes(routes!(tasks::create_task, tasks::list_tasks))
        .routes(routes!(tasks::get_task))
        .routes(routes!(tasks::list_children))
        .routes(routes!(tasks::start_task))
        .routes(routes!(tasks::cancel_task))
        .routes(routes!(tasks::get_evidence))
        .routes(routes!(holding::claim_tasks))
        .routes(routes!(holding::heartbeat_task))
        .routes(routes!(holding::complete_task))
        .routes(routes!(holding::fail_task))
        .routes(routes!(holding::release_task))
        .routes(routes!(holding::stop_task))
        .routes(routes!(holding::gather_tasks))
        .routes(routes!(messages::append_message, messages::list_messages))
        .routes(routes!(events::list_events))
        .routes(routes!(events::stream_events))
}
