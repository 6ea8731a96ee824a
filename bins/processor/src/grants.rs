//! What tasks get of primitives and give back.

use aion_processor::{Processor, Want};
use aion_service::{Json, Path, Problem};
use aion_types::{TaskId, Timestamp};
use axum::extract::State;

use crate::problem::{in_body, in_query};
use crate::wire::{AcquireGrant, AcquiredView, GrantList, HeadView, ReturnGrant, fence};

/// Wants something of a primitive, first come, first served. A task that has to wait loses its lease; whoever claims it
/// when it is ready again asks again and has it. Asking again while it is held gives the same grant.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/acquire",
    operation_id = "acquire_grant",
    tag = "primitives",
    params(("task_id" = String, Path, description = "The task that wants it", format = "uuid")),
    request_body = AcquireGrant,
    responses(
        (status = 200, description = "Whether the task has it or waits", body = AcquiredView),
        (status = 404, description = "There is no such task or primitive", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost, or too many wait", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn acquire_grant(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(acquire): Json<AcquireGrant>,
) -> Result<Json<AcquiredView>, Problem> {
    let want = Want {
        fence: fence(task_id, acquire.epoch),
        primitive: acquire.primitive,
        units: acquire.units,
        until: acquire.until.map(Timestamp::from_ms),
    };
    let acquired = processor.acquire(want).await.map_err(in_body)?;
    Ok(Json(AcquiredView::of(task_id, acquired)))
}

/// Gives a grant back. Doing so twice is harmless.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/return",
    operation_id = "return_grant",
    tag = "primitives",
    params(("task_id" = String, Path, description = "The task that holds it", format = "uuid")),
    request_body = ReturnGrant,
    responses(
        (status = 200, description = "Where the task stands", body = HeadView),
        (status = 404, description = "There is no such task or primitive", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost, or the task holds it by another token", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn return_grant(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(back): Json<ReturnGrant>,
) -> Result<Json<HeadView>, Problem> {
    let head = processor
        .give_back(fence(task_id, back.epoch), &back.grant(), back.how.into())
        .await
        .map_err(in_body)?;
    Ok(Json(head.into()))
}

/// Lists what a task holds of primitives.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_id}/grants",
    operation_id = "list_grants",
    tag = "primitives",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    responses(
        (status = 200, description = "Its grants", body = GrantList),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_grants(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
) -> Result<Json<GrantList>, Problem> {
    let holders = processor.holds(task_id).await.map_err(in_query)?;
    if holders.is_empty() {
        processor.get(task_id).await.map_err(in_query)?;
    }
    let grants = holders.into_iter().map(Into::into).collect();
    Ok(Json(GrantList { grants }))
}
