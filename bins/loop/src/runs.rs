//! Operations on runs.

use aion_loop::RunRecord;
use aion_service::{Json, Path, Problem, Query};
use aion_types::RunId;
use axum::extract::State;
use http::StatusCode;

use crate::Runner;
use crate::kinds::page_limit;
use crate::problem::of_store;
use crate::wire::{DecideRun, Going, ListRuns, ListSteps, RunList, RunView, StartRun, StepList};

fn view(runner: &Runner, record: RunRecord) -> RunView {
    let going = if runner.is_going(record.run) {
        Going::Here
    } else {
        Going::NotHere
    };
    RunView::of(record, runner.services().tools(), going)
}

/// Claims a ready task and works on it in the background; a task that was begun is taken up again.
#[utoipa::path(
    post,
    path = "/v1/runs",
    operation_id = "start_run",
    tag = "runs",
    request_body = StartRun,
    responses(
        (status = 202, description = "The run", body = RunView),
        (status = 409, description = "The task cannot be claimed now", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "There is no such task, type of agent or model", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many runs go on", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn start_run(
    State(runner): State<Runner>,
    Json(start): Json<StartRun>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let record = runner.start(start.task_id, &start.agent).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&runner, record))))
}

/// Lists runs, newest first.
#[utoipa::path(
    get,
    path = "/v1/runs",
    operation_id = "list_runs",
    tag = "runs",
    params(ListRuns),
    responses((status = 200, description = "A page of runs", body = RunList)),
)]
pub(crate) async fn list_runs(
    State(runner): State<Runner>,
    Query(list): Query<ListRuns>,
) -> Result<Json<RunList>, Problem> {
    let records = runner
        .store()
        .runs(list.before, page_limit(list.limit)?)
        .await
        .map_err(of_store)?;
    let runs = records.into_iter().map(|record| view(&runner, record)).collect();
    Ok(Json(RunList { runs }))
}

/// Reads a run.
#[utoipa::path(
    get,
    path = "/v1/runs/{run_id}",
    operation_id = "get_run",
    tag = "runs",
    params(("run_id" = String, Path, description = "Id of the run")),
    responses(
        (status = 200, description = "The run", body = RunView),
        (status = 404, description = "There is no such run", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_run(
    State(runner): State<Runner>,
    Path(run): Path<RunId>,
) -> Result<Json<RunView>, Problem> {
    let record = runner.record(run).await?;
    Ok(Json(view(&runner, record)))
}

/// Asks a run to rest; it does between two calls, and its task is given back.
#[utoipa::path(
    post,
    path = "/v1/runs/{run_id}/pause",
    operation_id = "pause_run",
    tag = "runs",
    params(("run_id" = String, Path, description = "Id of the run")),
    responses(
        (status = 202, description = "The run as it was when it was asked", body = RunView),
        (status = 404, description = "There is no such run", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn pause_run(
    State(runner): State<Runner>,
    Path(run): Path<RunId>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let record = runner.pause(run).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&runner, record))))
}

/// Takes a resting run up where it stopped.
#[utoipa::path(
    post,
    path = "/v1/runs/{run_id}/resume",
    operation_id = "resume_run",
    tag = "runs",
    params(("run_id" = String, Path, description = "Id of the run")),
    responses(
        (status = 202, description = "The run", body = RunView),
        (status = 404, description = "There is no such run", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended, or its task cannot be claimed now", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn resume_run(
    State(runner): State<Runner>,
    Path(run): Path<RunId>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let record = runner.resume(run).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&runner, record))))
}

/// Says what became of the calls that a parked run waits for; resume it then.
#[utoipa::path(
    post,
    path = "/v1/runs/{run_id}/decide",
    operation_id = "decide_run",
    tag = "runs",
    params(("run_id" = String, Path, description = "Id of the run")),
    request_body = DecideRun,
    responses(
        (status = 200, description = "The run, which can be resumed", body = RunView),
        (status = 404, description = "There is no such run", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is not parked, or waits for other calls", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn decide_run(
    State(runner): State<Runner>,
    Path(run): Path<RunId>,
    Json(decide): Json<DecideRun>,
) -> Result<Json<RunView>, Problem> {
    let results = decide.results.into_iter().map(Into::into).collect();
    let record = runner.decide(run, results).await?;
    Ok(Json(view(&runner, record)))
}

/// Lists the steps of a run in order.
#[utoipa::path(
    get,
    path = "/v1/runs/{run_id}/steps",
    operation_id = "list_steps",
    tag = "runs",
    params(("run_id" = String, Path, description = "Id of the run"), ListSteps),
    responses(
        (status = 200, description = "A page of steps", body = StepList),
        (status = 404, description = "There is no such run", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_steps(
    State(runner): State<Runner>,
    Path(run): Path<RunId>,
    Query(list): Query<ListSteps>,
) -> Result<Json<StepList>, Problem> {
    let limit = page_limit(list.limit)?;
    runner.record(run).await?;
    let steps = runner
        .store()
        .steps(run, list.after, limit)
        .await
        .map_err(of_store)?;
    let steps = steps.into_iter().map(Into::into).collect();
    Ok(Json(StepList { steps }))
}
