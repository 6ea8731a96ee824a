//! The store itself over HTTP: many operations, one commit. Programs in Rust use it by `HttpTaskStore`.

mod problem;
mod schemas;
mod wake;

use std::time::Duration;

use aion_processor::wire::{Answer, Apply, Ask, Claims, Due, Outcome, Outcomes, Time};
use aion_processor::{ClaimReq, Done, DueReport, Error, Lease, Processor, SchemaInfo};
use aion_service::{Json, PathLimits, Service};
use axum::extract::State;
use futures::StreamExt;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::problem::StoreProblem;
use self::schemas::{
    StoreAnswer, StoreAsk, StoreClaims, StoreDue, StoreDueReport, StoreInfo, StoreLeases, StoreResults,
    StoreTime, StoreWrites,
};

/// Bytes of a body with operations.
const BODY_BYTES: usize = 16 << 20;
/// Wishes in one request.
const MAX_CLAIMS: usize = 256;
/// The longest wait of a claim, below the time limit of a request.
const MAX_WAIT_MS: u64 = 20_000;
/// How often a waiting claim looks even if nobody told it to.
const POLL: Duration = Duration::from_secs(1);
/// Most of each sort that one look at the clock handles.
const MAX_DUE: u32 = 10_000;

/// The operations on the store.
pub(crate) fn operations() -> OpenApiRouter<Processor> {
    OpenApiRouter::new()
        .routes(routes!(store_info))
        .routes(routes!(store_apply))
        .routes(routes!(store_claim))
        .routes(routes!(store_read))
        .routes(routes!(store_due))
        .routes(routes!(store_now))
        .routes(routes!(wake::store_wake))
}

/// What one request on the store may cost.
pub(crate) fn with_limits(service: Service) -> Service {
    let large = || PathLimits::new().with_max_body_bytes(BODY_BYTES);
    service
        .with_path_limits("/v1/store/apply", large())
        .with_path_limits("/v1/store/claim", large())
        .with_path_limits("/v1/store/wake", PathLimits::new().without_timeout())
}

/// Says what is behind the store.
#[utoipa::path(
    get,
    path = "/v1/store",
    operation_id = "store_info",
    tag = "store",
    responses((status = 200, description = "The engine and its schema", body = StoreInfo)),
)]
async fn store_info(State(processor): State<Processor>) -> Result<Json<SchemaInfo>, StoreProblem> {
    Ok(Json(processor.store().open_schema().await?))
}

/// Many operations, one commit: carries them out in order, each on its own, and says what became of each.
///
/// An operation that is refused does not undo the others. A result is given when all of them are as durable as asked.
/// This is the way to write much: a request with 100 operations costs little more than one with a single one.
#[utoipa::path(
    post,
    path = "/v1/store/apply",
    operation_id = "store_apply",
    tag = "store",
    request_body = StoreWrites,
    responses(
        (status = 200, description = "One result for each operation, in their order", body = StoreResults),
        (status = 400, description = "The body is not JSON", body = StoreProblem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = StoreProblem, content_type = "application/problem+json"),
        (status = 422, description = "An operation is malformed (`pointer` says which), or there are too many; nothing was done", body = StoreProblem, content_type = "application/problem+json"),
        (status = 503, description = "Busy, or the storage does not answer", body = StoreProblem, content_type = "application/problem+json"),
    ),
)]
async fn store_apply(
    State(processor): State<Processor>,
    Json(apply): Json<Apply>,
) -> Result<Json<Outcomes<Done>>, StoreProblem> {
    let done = processor.store().apply(apply.writes).await?;
    Ok(outcomes(done))
}

/// Takes ready tasks for several wishes at once. Nothing to do is an empty list, after `wait_ms` if no wish is granted.
#[utoipa::path(
    post,
    path = "/v1/store/claim",
    operation_id = "store_claim",
    tag = "store",
    request_body = StoreClaims,
    responses(
        (status = 200, description = "One result for each wish, in their order", body = StoreLeases),
        (status = 400, description = "The body is not JSON", body = StoreProblem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = StoreProblem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid; nothing was claimed", body = StoreProblem, content_type = "application/problem+json"),
    ),
)]
async fn store_claim(
    State(processor): State<Processor>,
    Json(claims): Json<Claims>,
) -> Result<Json<Outcomes<Vec<Lease>>>, StoreProblem> {
    at_most("claims", claims.claims.len() as u64, MAX_CLAIMS as u64)?;
    at_most("wait_ms", claims.wait_ms, MAX_WAIT_MS)?;
    // Who wishes nothing waits for nothing.
    let wait_ms = if claims.claims.is_empty() {
        0
    } else {
        claims.wait_ms
    };
    let wait = Duration::from_millis(wait_ms);
    Ok(outcomes(granted(&processor, &claims.claims, wait).await?))
}

/// Answers a question: about tasks, messages, events, primitives, objects, schedules.
#[utoipa::path(
    post,
    path = "/v1/store/read",
    operation_id = "store_read",
    tag = "store",
    request_body = StoreAsk,
    responses(
        (status = 200, description = "The answer", body = StoreAnswer),
        (status = 400, description = "The body is not JSON", body = StoreProblem, content_type = "application/problem+json"),
        (status = 404, description = "What the question is about is not there", body = StoreProblem, content_type = "application/problem+json"),
        (status = 422, description = "A cursor or a limit is not valid", body = StoreProblem, content_type = "application/problem+json"),
    ),
)]
async fn store_read(
    State(processor): State<Processor>,
    Json(ask): Json<Ask>,
) -> Result<Json<Answer>, StoreProblem> {
    let page = processor.store().read(ask.query).await?;
    Ok(Json(Answer { page }))
}

/// Does what time demands, once: leases that ran out, tasks whose start has come. The server does so by itself as well.
#[utoipa::path(
    post,
    path = "/v1/store/due",
    operation_id = "store_due",
    tag = "store",
    request_body = StoreDue,
    responses(
        (status = 200, description = "What was done", body = StoreDueReport),
        (status = 400, description = "The body is not JSON", body = StoreProblem, content_type = "application/problem+json"),
        (status = 422, description = "The limit is not valid", body = StoreProblem, content_type = "application/problem+json"),
    ),
)]
async fn store_due(
    State(processor): State<Processor>,
    Json(due): Json<Due>,
) -> Result<Json<DueReport>, StoreProblem> {
    if due.limit == 0 {
        let why = "it must be at least 1".to_owned();
        return Err(Error::Invalid { what: "limit", why }.into());
    }
    at_most("limit", due.limit.into(), MAX_DUE.into())?;
    Ok(Json(processor.store().due(due.limit).await?))
}

/// Says what time it is for leases.
#[utoipa::path(
    get,
    path = "/v1/store/now",
    operation_id = "store_now",
    tag = "store",
    responses((status = 200, description = "The time", body = StoreTime)),
)]
async fn store_now(State(processor): State<Processor>) -> Result<Json<Time>, StoreProblem> {
    let now = processor.now().await?;
    Ok(Json(Time { now }))
}

type Granted = Vec<Result<Vec<Lease>, Error>>;

/// What each wish is granted, as soon as one of them is granted something.
async fn granted(processor: &Processor, claims: &[ClaimReq], wait: Duration) -> Result<Granted, Error> {
    if wait.is_zero() {
        return Ok(each(processor, claims).await);
    }
    let end = Instant::now() + wait;
    let mut hints = processor.wake();
    loop {
        processor.tick().await?;
        let found = each(processor, claims).await;
        let settled = |one: &Result<Vec<Lease>, Error>| !matches!(one, Ok(leases) if leases.is_empty());
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || found.iter().any(settled) {
            return Ok(found);
        }
        let ready = async { while hints.next().await.is_some_and(|hint| hint.ready == 0) {} };
        // Running out of time is no failure: it is the moment to look again.
        let _ = tokio::time::timeout(left.min(POLL), ready).await;
    }
}

/// All of them at once, so that they share a commit.
async fn each(processor: &Processor, claims: &[ClaimReq]) -> Granted {
    futures::future::join_all(claims.iter().map(|claim| processor.claim(claim.clone()))).await
}

fn outcomes<T>(results: Vec<Result<T, Error>>) -> Json<Outcomes<T>> {
    Json(Outcomes {
        results: results.into_iter().map(Outcome::from).collect(),
    })
}

fn at_most(what: &'static str, got: u64, limit: u64) -> Result<(), Error> {
    if got > limit {
        return Err(Error::Limit { what, limit, got });
    }
    Ok(())
}
