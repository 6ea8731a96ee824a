//! Executions that are started now and asked for later.

use std::convert::Infallible;
use std::sync::Arc;

use aion_machine::wire::{Start, Started};
use aion_machine::{Error, ExecCursor, ExecRequest};
use aion_service::{Json, Path, Problem};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::Stream;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::exec::{MAX_TIMEOUT_S, SHOWN_CHARS, summary};
use super::workspace::KEEP_ALIVE;
use super::{Reply, Shared};
use crate::context::{Context, IdempotencyKey, Keyed, begin, settle};
use crate::executions::{ExecutionStatus, command_line, stream};
use crate::problem::Refusal;
use crate::task::TaskState;

/// The most of each end of an output that is kept of a started execution, in bytes.
const MAX_KEPT_BYTES: usize = 256 << 10;

pub(super) fn routes() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new()
        .routes(routes!(start_execution, list_executions))
        .routes(routes!(get_execution, kill_execution))
        .routes(routes!(follow_execution))
}

/// Which execution.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct Id {
    /// Its id.
    #[param(max_length = 64)]
    id: String,
}

/// The executions of a task.
#[derive(Debug, Serialize, ToSchema)]
struct ExecutionList {
    /// The oldest first.
    executions: Vec<ExecutionStatus>,
}

/// Starts a program and comes back at once. It is followed at `/v1/executions/{id}/events`.
///
/// Its output is kept in a bounded replay, and its end for some minutes. With an `Idempotency-Key` it is
/// started at most once, also over the end of the server.
#[utoipa::path(
    post,
    path = "/v1/executions",
    operation_id = "start_execution",
    tag = "executions",
    params(
        ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed"),
        ("Idempotency-Key" = Option<String>, Header, description = "the program is started once for a key"),
    ),
    request_body = Start,
    responses(
        (status = 201, description = "It runs.", body = Started, headers(("location" = String, description = "where it is asked for"))),
        (status = "4XX", description = "Refused; nothing was started.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn start_execution(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    Json(body): Json<Start>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Started>), Refusal> {
    let work = context.workspace(&task).await?;
    let mut claim = match context.claim::<Started>(&key, "start_execution", &task, &body)? {
        Keyed::Answered(started) => return Ok(created(started)),
        Keyed::Run(claim, None) => claim,
        Keyed::Run(_, Some(Started { .. })) | Keyed::Unknown => return Err(outcome_unknown().into()),
    };
    let request = bounded(body, context.executions.max_replay_bytes())?;
    let argv = request.argv.clone();
    // From here on nothing is in the way of keeping it: no program runs of which nobody knows.
    let reserved = context.executions.reserve(&task.cwd)?;
    begin(&mut claim, None).await?;
    let execution = match work.start(request).await {
        Ok(execution) => execution,
        Err(error) => {
            let refusal = Refusal::of(&error, "cwd");
            if matches!(error, Error::Supervisor { .. } | Error::Io { .. }) {
                // It may have run: the key stays begun, so that it does not start it again.
                return Err(refusal);
            }
            return settle(claim, Err(refusal)).await.map(created);
        }
    };
    let (cwd, about) = (task.cwd.clone(), Arc::clone(&context));
    let shown = command_line(&argv, SHOWN_CHARS);
    let entry = context.executions.keep(reserved, &argv, execution, move |done| {
        if let Ok(ended) = done {
            let end = (ended.ending, ended.exit_code, ended.signal);
            about.set_last_exec(&cwd, summary(&shown, end));
        }
    });
    let started = Started { id: entry.id.clone() };
    settle(claim, Ok(started)).await.map(created)
}

fn created(started: Started) -> (StatusCode, [(HeaderName, String); 1], Json<Started>) {
    let location = format!("/v1/executions/{}", started.id);
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(started))
}

fn bounded(body: Start, max_replay_bytes: usize) -> Result<ExecRequest, Refusal> {
    let mut request = body.into_request()?;
    let limits = &mut request.limits;
    limits.head_bytes = limits.head_bytes.min(MAX_KEPT_BYTES);
    limits.tail_bytes = limits.tail_bytes.min(MAX_KEPT_BYTES);
    if request.limits.wall_ms > MAX_TIMEOUT_S * 1000 {
        let detail = format!("the time is above {MAX_TIMEOUT_S} s");
        return Err(Refusal::of(&Error::Invalid { reason: detail }, "limits/wall_ms"));
    }
    let replay_bytes = request.replay_bytes.min(max_replay_bytes);
    Ok(request.with_replay_bytes(replay_bytes))
}

fn outcome_unknown() -> Problem {
    let detail =
        "this execution was begun and what came of it was not seen; it is not started again under this key";
    Problem::conflict("outcome_unknown", detail)
}

/// Lists the executions of the task: those that run, and those that ended a short while ago.
#[utoipa::path(
    get,
    path = "/v1/executions",
    operation_id = "list_executions",
    tag = "executions",
    params(("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    responses(
        (status = 200, description = "They.", body = ExecutionList),
        (status = "4XX", description = "Refused.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn list_executions(State(context): Shared, task: TaskState) -> Reply<ExecutionList> {
    let executions = context.executions.list(&task.cwd);
    Ok(Json(ExecutionList { executions }))
}

/// Says how far an execution is.
#[utoipa::path(
    get,
    path = "/v1/executions/{id}",
    operation_id = "get_execution",
    tag = "executions",
    params(Id, ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    responses(
        (status = 200, description = "What is known of it.", body = ExecutionStatus),
        (status = "4XX", description = "There is none, or it ended a while ago.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn get_execution(
    State(context): Shared,
    task: TaskState,
    Path(Id { id }): Path<Id>,
) -> Reply<ExecutionStatus> {
    Ok(Json(context.executions.get(&task.cwd, &id)?.status()))
}

/// Kills an execution and all that it started. One that has ended stays as it is.
#[utoipa::path(
    delete,
    path = "/v1/executions/{id}",
    operation_id = "kill_execution",
    tag = "executions",
    params(Id, ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    responses(
        (status = 202, description = "It is told to end; its stream and its status say when it has.", body = ExecutionStatus),
        (status = "4XX", description = "There is none.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn kill_execution(
    State(context): Shared,
    task: TaskState,
    Path(Id { id }): Path<Id>,
) -> Result<(StatusCode, Json<ExecutionStatus>), Refusal> {
    let entry = context.executions.get(&task.cwd, &id)?;
    let kill = async {
        entry.handle.kill();
        Ok(())
    };
    context.recorded("kill", &task, entry.named(), kill).await?;
    Ok((StatusCode::ACCEPTED, Json(entry.status())))
}

/// Streams what an execution writes, and its end, as server-sent events.
///
/// `stdout` and `stderr` have `offset` and `text`, or `base64` where it is not UTF-8; `omitted` says which bytes
/// this reader was too slow for; `ended` has the result or a problem, and is the last. `Last-Event-ID` goes on
/// where a stream broke off.
#[utoipa::path(
    get,
    path = "/v1/executions/{id}/events",
    operation_id = "follow_execution",
    tag = "executions",
    params(
        Id,
        ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed"),
        ("last-event-id" = Option<String>, Header, description = "The id of the last event seen: bytes of standard output and of standard error, like `120-33`"),
    ),
    responses(
        (status = 200, description = "Events `stdout`, `stderr`, `omitted`, `ended`.", body = aion_machine::wire::Wrote, content_type = "text/event-stream"),
        (status = "4XX", description = "There is none, or the place is not valid.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn follow_execution(
    State(context): Shared,
    task: TaskState,
    headers: HeaderMap,
    Path(Id { id }): Path<Id>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let after = last_event_id(&headers)?;
    let entry = context.executions.get(&task.cwd, &id)?;
    let events = stream(&entry, after);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn last_event_id(headers: &HeaderMap) -> Result<ExecCursor, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(ExecCursor::default());
    };
    let cursor = value.to_str().ok().and_then(|text| text.parse().ok());
    cursor.ok_or_else(|| {
        let detail = "Last-Event-ID is not `STDOUT-STDERR`, both in bytes";
        Problem::bad_request("invalid_header", detail).at("header:last-event-id")
    })
}
