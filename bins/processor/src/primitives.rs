//! Primitives: declared, told, looked at.

use aion_processor::{Error, NameQuery, NewPrimitive, Processor};
use aion_service::{Json, Path, Problem, Query};
use axum::extract::State;
use http::{HeaderMap, StatusCode};

use crate::keys::{self, idempotency_key};
use crate::problem::{in_query, named};
use crate::tasks::at_least_one;
use crate::wire::{DeclarePrimitive, ListNames, PrimitiveList, PrimitiveView, SignalPrimitive, WaitsView};

/// Makes sure that a semaphore, mutex, event, timestamp lock or queue is there, of this size.
#[utoipa::path(
    put,
    path = "/v1/primitives/{name}",
    operation_id = "declare_primitive",
    tag = "primitives",
    params(("name" = String, Path, description = "Its name", min_length = 1, max_length = 128)),
    request_body = DeclarePrimitive,
    responses(
        (status = 200, description = "The primitive, new or already there", body = PrimitiveView),
        (status = 409, description = "It is of another kind", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn declare_primitive(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    Json(primitive): Json<DeclarePrimitive>,
) -> Result<Json<PrimitiveView>, Problem> {
    let new = NewPrimitive::new(name, primitive.into_kind()?);
    let primitive = processor.declare(new).await.map_err(named("name"))?;
    Ok(Json(primitive.into()))
}

/// Removes a primitive that nobody holds or waits for, and the items of a queue.
#[utoipa::path(
    delete,
    path = "/v1/primitives/{name}",
    operation_id = "undeclare_primitive",
    tag = "primitives",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such primitive", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Somebody holds it or waits for it", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn undeclare_primitive(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    processor.undeclare(name).await.map_err(named("name"))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a primitive as it stands.
#[utoipa::path(
    get,
    path = "/v1/primitives/{name}",
    operation_id = "get_primitive",
    tag = "primitives",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The primitive", body = PrimitiveView),
        (status = 404, description = "There is no such primitive", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_primitive(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<Json<PrimitiveView>, Problem> {
    let primitive = processor.primitive(name).await.map_err(in_query)?;
    Ok(Json(primitive.into()))
}

/// Lists primitives by name.
#[utoipa::path(
    get,
    path = "/v1/primitives",
    operation_id = "list_primitives",
    tag = "primitives",
    params(ListNames),
    responses(
        (status = 200, description = "A page of primitives", body = PrimitiveList),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_primitives(
    State(processor): State<Processor>,
    Query(list): Query<ListNames>,
) -> Result<Json<PrimitiveList>, Problem> {
    let limit = at_least_one(list.limit)?;
    let query = name_query(list);
    let found = processor.primitives(query).await.map_err(in_query)?;
    let primitives: Vec<PrimitiveView> = found.into_iter().map(Into::into).collect();
    let next = next_name(limit, &primitives, |primitive| &primitive.name);
    Ok(Json(PrimitiveList { primitives, next }))
}

/// The page of a list by name.
pub(crate) fn name_query(list: ListNames) -> NameQuery {
    NameQuery {
        after: list.after,
        limit: list.limit,
    }
}

/// Where the next page begins: a page that is not full is the last.
pub(crate) fn next_name<T>(limit: u32, found: &[T], name: impl Fn(&T) -> &String) -> Option<String> {
    let last = found.last().filter(|_| found.len() >= limit as usize);
    last.map(|last| name(last).clone())
}

/// Tells a primitive something: opens, shuts or pulses an event, shuts a timestamp lock, puts an item in a queue.
#[utoipa::path(
    post,
    path = "/v1/primitives/{name}/signal",
    operation_id = "signal_primitive",
    tag = "primitives",
    params(
        ("name" = String, Path, description = "Its name"),
        ("idempotency-key" = Option<String>, Header, description = "An item is put once under it, as long as it is among the last 64 keys of the queue; refuses another item"),
    ),
    request_body = SignalPrimitive,
    responses(
        (status = 200, description = "The primitive as it stands then", body = PrimitiveView),
        (status = 404, description = "There is no such primitive", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The queue is full", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The item is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A primitive of this kind does not understand it, a value is not valid, or the key was used for another item", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn signal_primitive(
    State(processor): State<Processor>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(signal): Json<SignalPrimitive>,
) -> Result<Json<PrimitiveView>, Problem> {
    let signal = signal.into_signal(idempotency_key(&headers)?)?;
    let told = processor.signal(name, signal).await;
    let primitive = told.map_err(|error| match error {
        // Nothing else about a signal is a conflict.
        Error::Conflict(_) => keys::used(),
        error => named("name")(error),
    })?;
    Ok(Json(primitive.into()))
}

/// Shows who holds a primitive and who waits for it, in the order of the line.
#[utoipa::path(
    get,
    path = "/v1/primitives/{name}/waits",
    operation_id = "get_primitive_waits",
    tag = "primitives",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "Holders and waiters", body = WaitsView),
        (status = 404, description = "There is no such primitive", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_primitive_waits(
    State(processor): State<Processor>,
    Path(name): Path<String>,
) -> Result<Json<WaitsView>, Problem> {
    let primitive = processor.primitive(name.clone()).await.map_err(in_query)?;
    let mut waits = processor.waits(Some(name)).await.map_err(in_query)?;
    waits.primitives = vec![primitive];
    Ok(Json(waits.into()))
}

/// Shows who holds and who waits, of all primitives and tasks, and names deadlocks.
#[utoipa::path(
    get,
    path = "/v1/waits",
    operation_id = "get_waits",
    tag = "primitives",
    responses((status = 200, description = "Holders, waiters and deadlocks", body = WaitsView)),
)]
pub(crate) async fn get_waits(State(processor): State<Processor>) -> Result<Json<WaitsView>, Problem> {
    let waits = processor.waits(None).await.map_err(in_query)?;
    Ok(Json(waits.into()))
}
