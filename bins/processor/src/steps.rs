//! Steps: what a holder has done already, so that no later attempt does it again.

use aion_processor::{Processor, StepQuery};
use aion_service::{Json, Path, Problem, Query};
use aion_types::TaskId;
use axum::extract::State;

use crate::problem::{in_body, in_query};
use crate::tasks::at_least_one;
use crate::wire::{ListTaskSteps, RecordStep, TaskStep, TaskStepList, fence};

/// Records what a step gave. If a step of this name was recorded before, by this attempt or an earlier one, nothing is
/// written and that one is the answer: go on with its result.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/steps",
    operation_id = "record_step",
    tag = "holding",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    request_body = RecordStep,
    responses(
        (status = 200, description = "The step, new or already there", body = TaskStep),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost, or the task has too many steps", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The result is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn record_step(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(step): Json<RecordStep>,
) -> Result<Json<TaskStep>, Problem> {
    let holder = fence(task_id, step.epoch);
    let recorded = processor
        .step(holder, step.name, step.result)
        .await
        .map_err(in_body)?;
    Ok(Json(recorded.into()))
}

/// Lists the steps of a task, in the order in which they were recorded.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_id}/steps",
    operation_id = "list_task_steps",
    tag = "tasks",
    params(("task_id" = String, Path, description = "The task", format = "uuid"), ListTaskSteps),
    responses(
        (status = 200, description = "A page of steps", body = TaskStepList),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_task_steps(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Query(list): Query<ListTaskSteps>,
) -> Result<Json<TaskStepList>, Problem> {
    let query = StepQuery {
        after: list.after,
        limit: at_least_one(list.limit)?,
    };
    let page = processor.steps(task_id, query).await.map_err(in_query)?;
    Ok(Json(TaskStepList {
        steps: page.steps.into_iter().map(Into::into).collect(),
        next: page.next,
    }))
}
