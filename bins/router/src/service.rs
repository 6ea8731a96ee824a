//! The parts of the service, put together.

use std::future::Future;
use std::sync::{Arc, Mutex};

use aion_router::prompt::Prompts;
use aion_router::{LiveRouter, TokenCounter};
use aion_service::{PathLimits, Problem, Service};
use tokio::sync::Semaphore;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{DEFAULT_PORT, embeddings, imports, items, judging, ranking, state, stats};

/// Bytes of a list of items, or of a document to import.
const LARGE_BODY_BYTES: usize = 16 << 20;
/// Bytes of a query, as JSON.
const QUERY_BODY_BYTES: usize = 4 << 20;

/// Tasks whose latest prompt is kept, to say what the next one shares with it.
const PROMPTS: usize = 1_024;

/// What operations work with.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) router: LiveRouter,
    pub(crate) counter: Arc<dyn TokenCounter>,
    pub(crate) prompts: Arc<Mutex<Prompts>>,
    /// How many threads compute at once.
    places: Arc<Semaphore>,
}

impl Parts {
    /// Runs what computes for long beside the threads that answer requests, as many at once as there are cores.
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = self
            .places
            .clone()
            .acquire_owned()
            .await
            .map_err(Problem::internal)?;
        let runtime = tokio::runtime::Handle::current();
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            runtime.block_on(work)
        });
        done.await.map_err(Problem::internal)
    }
}

/// Runs a change to its end, also when the client goes while it is under way.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.map_err(Problem::internal)
}

/// The service over a router; `counter` counts the tokens of items that come without renderings.
pub fn service(router: LiveRouter, counter: Arc<dyn TokenCounter>) -> Service {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let parts = Parts {
        router: router.clone(),
        counter,
        prompts: Arc::new(Mutex::new(Prompts::new(PROMPTS))),
        places: Arc::new(Semaphore::new(cores)),
    };
    let state = Arc::new(state::RouterState::new(router));
    let body = |bytes| PathLimits::new().with_max_body_bytes(bytes);
    Service::new("router", DEFAULT_PORT, operations().with_state(parts), state)
        .with_path_limits("/v1/items", body(LARGE_BODY_BYTES))
        .with_path_limits("/v1/imports", body(LARGE_BODY_BYTES))
        .with_path_limits("/v1/rank", body(QUERY_BODY_BYTES))
        .with_path_limits("/v1/embeddings", body(QUERY_BODY_BYTES))
        .with_path_limits("/v1/evaluate", body(LARGE_BODY_BYTES))
}

fn operations() -> OpenApiRouter<Parts> {
    OpenApiRouter::new()
        .routes(routes!(items::put_items, items::list_items))
        .routes(routes!(items::get_item, items::remove_item))
        .routes(routes!(items::approve_item))
        .routes(routes!(items::list_item_changes))
        .routes(routes!(imports::import_items))
        .routes(routes!(ranking::rank_items))
        .routes(routes!(ranking::explain_decision))
        .routes(routes!(ranking::record_outcome))
        .routes(routes!(judging::evaluate_policy))
        .routes(routes!(embeddings::embed_texts))
        .routes(routes!(stats::router_stats))
}
