//! Operations of whoever holds a task, or wants to.

use std::time::Duration;

use aion_processor::Processor;
use aion_service::{Json, Path, Problem};
use aion_types::TaskId;
use axum::extract::State;

use crate::problem::{in_body, in_claim};
use crate::wire::{
    ClaimTasks, CompleteAndClaim, CompleteTask, FailTask, GatherTasks, HeadView, HeartbeatTask,
    HeartbeatView, LeaseList, NextTasks, ReleaseTask, StopTask, fence,
};

/// The longest wait of a claim, below the time limit of a request.
const MAX_WAIT_MS: u64 = 20_000;

/// Takes ready tasks under a lease: highest priority first, then first come, first served. None ready is an empty list.
#[utoipa::path(
    post,
    path = "/v1/claims",
    operation_id = "claim_tasks",
    tag = "holding",
    request_body = ClaimTasks,
    responses(
        (status = 200, description = "The granted claims", body = LeaseList),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn claim_tasks(
    State(processor): State<Processor>,
    Json(claim): Json<ClaimTasks>,
) -> Result<Json<LeaseList>, Problem> {
    if claim.wait_ms > MAX_WAIT_MS {
        let detail = format!("wait_ms is {}, over the limit of {MAX_WAIT_MS}", claim.wait_ms);
        return Err(Problem::unprocessable("over_limit", detail).at("/wait_ms"));
    }
    at_least_one(claim.max, "/max")?;
    let wait = Duration::from_millis(claim.wait_ms);
    let req = claim.into_claim();
    let leases = if wait.is_zero() {
        processor.claim(req).await
    } else {
        processor.claim_wait(req, wait).await
    };
    let leases = leases.map_err(in_body)?;
    Ok(Json(LeaseList {
        leases: leases.into_iter().map(Into::into).collect(),
    }))
}

/// A claim takes at least one task.
fn at_least_one(max: u32, pointer: &str) -> Result<(), Problem> {
    if max == 0 {
        return Err(Problem::unprocessable("invalid", "max must be at least 1").at(pointer));
    }
    Ok(())
}

/// Extends the lease of a task, and tells its holder whether to stop.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/heartbeat",
    operation_id = "heartbeat_task",
    tag = "holding",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    request_body = HeartbeatTask,
    responses(
        (status = 200, description = "The lease", body = HeartbeatView),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn heartbeat_task(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(beat): Json<HeartbeatTask>,
) -> Result<Json<HeartbeatView>, Problem> {
    let beat = processor
        .heartbeat(fence(task_id, beat.epoch), beat.lease_ms)
        .await
        .map_err(in_body)?;
    Ok(Json(HeartbeatView {
        until: beat.until.as_ms(),
        cancel_requested: beat.cancel_requested,
    }))
}

/// Ends a task well. Saying so twice is harmless.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/complete",
    operation_id = "complete_task",
    tag = "holding",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    request_body = CompleteTask,
    responses(
        (status = 200, description = "Where the task stands", body = HeadView),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The result is too large", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn complete_task(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(complete): Json<CompleteTask>,
) -> Result<Json<HeadView>, Problem> {
    let head = processor
        .complete(fence(task_id, complete.epoch), complete.result)
        .await
        .map_err(in_body)?;
    Ok(Json(head.into()))
}

/// Ends a task well and takes the next ones, in one commit. Saying so twice is harmless: nothing is taken the second
/// time.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/complete-and-claim",
    operation_id = "complete_and_claim",
    tag = "holding",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    request_body = CompleteAndClaim,
    responses(
        (status = 200, description = "Where the task stands, and the granted claims", body = NextTasks),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The result is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn complete_and_claim(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(complete): Json<CompleteAndClaim>,
) -> Result<Json<NextTasks>, Problem> {
    let claim = complete.claim;
    at_least_one(claim.max, "/claim/max")?;
    if claim.wait_ms > 0 {
        let detail = "the end of a task does not wait for the next: claim again to wait";
        return Err(Problem::unprocessable("invalid", detail).at("/claim/wait_ms"));
    }
    let fence = fence(task_id, complete.epoch);
    let (task, leases) = processor
        .complete_and_claim(fence, complete.result, claim.into_claim())
        .await
        .map_err(in_claim)?;
    Ok(Json(NextTasks {
        task: task.into(),
        leases: leases.into_iter().map(Into::into).collect(),
    }))
}

/// Ends an attempt badly; the task fails with it unless another attempt follows.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/fail",
    operation_id = "fail_task",
    tag = "holding",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    request_body = FailTask,
    responses(
        (status = 200, description = "Where the task stands", body = HeadView),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn fail_task(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(fail): Json<FailTask>,
) -> Result<Json<HeadView>, Problem> {
    let retry = fail.retry();
    let head = processor
        .fail(fence(task_id, fail.epoch), fail.error, retry)
        .await
        .map_err(in_body)?;
    Ok(Json(head.into()))
}

/// Gives a task back; the attempt does not count.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/release",
    operation_id = "release_task",
    tag = "holding",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    request_body = ReleaseTask,
    responses(
        (status = 200, description = "Where the task stands", body = HeadView),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn release_task(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(release): Json<ReleaseTask>,
) -> Result<Json<HeadView>, Problem> {
    let rest = Duration::from_millis(release.delay_ms);
    let head = processor
        .release(fence(task_id, release.epoch), rest)
        .await
        .map_err(in_body)?;
    Ok(Json(head.into()))
}

/// Stops a held task whose cancellation was asked for.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/stop",
    operation_id = "stop_task",
    tag = "holding",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    request_body = StopTask,
    responses(
        (status = 200, description = "Where the task stands", body = HeadView),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost, or nobody asked", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn stop_task(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(stop): Json<StopTask>,
) -> Result<Json<HeadView>, Problem> {
    processor
        .stop(fence(task_id, stop.epoch))
        .await
        .map(|head| Json(head.into()))
        .map_err(in_body)
}

/// Waits for tasks below this one: the lease ends, and the task is ready again when they have ended. If they have
/// already, it stays RUNNING with its holder.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/gather",
    operation_id = "gather_tasks",
    tag = "holding",
    params(("task_id" = String, Path, description = "The task that waits", format = "uuid")),
    request_body = GatherTasks,
    responses(
        (status = 200, description = "Where the task stands", body = HeadView),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "One of them does not lie below it", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn gather_tasks(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(gather): Json<GatherTasks>,
) -> Result<Json<HeadView>, Problem> {
    let fence = fence(task_id, gather.epoch);
    let head = processor
        .gather(fence, gather.tasks, gather.policy.into())
        .await
        .map_err(in_body)?;
    Ok(Json(head.into()))
}
