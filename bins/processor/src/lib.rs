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
//! # What there is
//!
//! | resource | requests |
//! |---|---|
//! | tasks | `POST GET /v1/tasks`, `GET DELETE /v1/tasks/{id}`, `GET ../children`, `GET ../evidence`, `POST ../start`, `POST ../cancel` (the task or its tree) |
//! | claims | `POST /v1/claims` (long poll, by priority or in fair shares); of the holder: `POST ../heartbeat`, `../complete`, `../complete-and-claim`, `../fail`, `../release`, `../stop`, `../gather` |
//! | messages | `POST GET /v1/tasks/{id}/messages` |
//! | steps, done once over all attempts | `POST GET /v1/tasks/{id}/steps` |
//! | primitives | `GET /v1/primitives`, `PUT GET DELETE /v1/primitives/{name}`, `POST ../signal`, `GET ../waits`; `GET /v1/waits` (all of them, with deadlocks); of the holder: `POST /v1/tasks/{id}/acquire`, `../return`, `GET ../grants` |
//! | objects | `GET /v1/objects`, `PUT GET DELETE /v1/objects/{name}` (`ETag`, `If-Match`, `If-None-Match`), `POST ../call` |
//! | schedules | `GET /v1/schedules`, `PUT GET DELETE /v1/schedules/{name}`; `PUT /v1/queues/{queue}/weight` |
//! | trees | `GET /v1/tasks/{id}/export`, `POST /v1/import` (lines of JSON), `GET /v1/ended-roots`, `POST /v1/retire`, `DELETE /v1/tasks/{id}` |
//! | events | `GET /v1/events`, `GET /v1/events/stream` (server-sent, `Last-Event-ID`), `/v1/webhooks/..` (Standard Webhooks) |
//! | storage | `GET /v1/metrics`; `/v1/store/..`: the storage trait over HTTP, for clients of the library |
//!
//! Whatever makes a task, a message or an item of a queue takes `Idempotency-Key`: a repeat gives what the first request
//! made, and another body under the same key is refused with `idempotency_key_used`. Errors are problem documents with a stable `code`.
//!
//! # Reading order
//! [`wire`] (what goes over the wire), then the operations: tasks, holding, messages, steps, events, primitives, grants, objects,
//! schedules, trees, copies, retention, size, state; then what they share: conditions (entity tags), keys (idempotency), problem.

mod archive;
mod conditions;
mod copies;
mod delivery;
mod events;
mod grants;
mod holding;
mod keys;
mod messages;
mod objects;
mod options;
mod primitives;
mod problem;
mod retention;
mod schedules;
mod size;
mod state;
mod steps;
mod store;
mod tasks;
mod trees;
mod webhooks;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use aion_processor::{Limits, MemTaskStore, Processor};
use aion_service::{PathLimits, Service};
use aion_types::SystemClock;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use archive::Archive;
pub use delivery::{
    AddressRange, Deliverer, DelivererOptions, Delivering, HttpSender, Lookup, Outgoing, Patience, Plain,
    Sender, SenderError, SystemLookup, TargetArgs, TargetError, TargetPolicy,
};
pub use options::ServiceOptions;
pub use retention::Retention;

/// The port of the processor.
pub const DEFAULT_PORT: u16 = 9205;
/// Bytes of a body that may carry a payload, a result or a message of the largest size as JSON.
const LARGE_BODY_BYTES: usize = 4 << 20;

/// Time of an operation on a whole tree.
const TREE_TIMEOUT: Duration = Duration::from_secs(600);

/// The service over `processor`.
pub fn service(processor: Processor) -> Service {
    service_with(processor, ServiceOptions::default())
}

/// The service over `processor`, with these options.
pub fn service_with(processor: Processor, options: impl Into<ServiceOptions>) -> Service {
    let options = options.into();
    let state = Arc::new(state::TaskState::new(processor.clone()));
    let large = || PathLimits::new().with_max_body_bytes(LARGE_BODY_BYTES);
    let tree = || PathLimits::new().with_timeout(TREE_TIMEOUT);
    let retiring = trees::Retiring {
        processor: processor.clone(),
        archive: options.archive,
    };
    let routes = operations()
        .with_state(processor.clone())
        .merge(tree_operations().with_state(retiring))
        .merge(webhooks::operations(processor, options.targets));
    let service = Service::new("processor", DEFAULT_PORT, routes, state);
    store::with_limits(service)
        .with_path_limits("/v1/tasks", large())
        .with_path_limits("/v1/tasks/{task_id}/messages", large())
        .with_path_limits("/v1/tasks/{task_id}/steps", large())
        .with_path_limits("/v1/tasks/{task_id}/complete", large())
        .with_path_limits("/v1/tasks/{task_id}/complete-and-claim", large())
        .with_path_limits("/v1/objects/{name}", large())
        .with_path_limits("/v1/objects/{name}/call", large())
        .with_path_limits("/v1/schedules/{name}", large())
        .with_path_limits("/v1/tasks/{task_id}", tree())
        .with_path_limits("/v1/retire", tree())
        .with_path_limits("/v1/import", tree().with_max_body_bytes(copies::IMPORT_BYTES))
        .with_path_limits("/v1/events/stream", PathLimits::new().without_timeout())
}

/// The OpenAPI document of the service, without opening anything.
pub fn openapi_json() -> String {
    service(Processor::new(MemTaskStore::new(SystemClock, Limits::default()))).openapi_json()
}

fn operations() -> OpenApiRouter<Processor> {
    OpenApiRouter::new()
        .routes(routes!(tasks::create_task, tasks::list_tasks))
        .routes(routes!(tasks::get_task, trees::purge_tree))
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
        .routes(routes!(steps::record_step, steps::list_task_steps))
        .routes(routes!(events::list_events))
        .routes(routes!(events::stream_events))
        .merge(store::operations())
        .routes(routes!(holding::complete_and_claim))
        .routes(routes!(
            primitives::declare_primitive,
            primitives::get_primitive,
            primitives::undeclare_primitive
        ))
        .routes(routes!(primitives::list_primitives))
        .routes(routes!(primitives::signal_primitive))
        .routes(routes!(primitives::get_primitive_waits))
        .routes(routes!(primitives::get_waits))
        .routes(routes!(grants::acquire_grant))
        .routes(routes!(grants::return_grant))
        .routes(routes!(grants::list_grants))
        .routes(routes!(
            objects::put_object,
            objects::get_object,
            objects::delete_object
        ))
        .routes(routes!(objects::list_objects))
        .routes(routes!(objects::call_object))
        .routes(routes!(
            schedules::put_schedule,
            schedules::get_schedule,
            schedules::delete_schedule
        ))
        .routes(routes!(schedules::list_schedules))
        .routes(routes!(schedules::weigh_queue))
        .routes(routes!(trees::list_ended_roots))
        .routes(routes!(copies::export_tree))
        .routes(routes!(copies::import_tree))
        .routes(routes!(size::get_store_metrics))
}

fn tree_operations() -> OpenApiRouter<trees::Retiring> {
    OpenApiRouter::new().routes(routes!(trees::retire_trees))
}
