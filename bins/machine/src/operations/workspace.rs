//! The operations of a workspace one to one, for programs: what [`RemoteMachine`](aion_machine::RemoteMachine)
//! calls, with typed errors. What they have beyond the tools is bytes, ranges, limits and conditions.

use std::convert::Infallible;
use std::time::Duration;

use aion_machine::wire::{
    At, Compare, Edits, FindLines, FindNames, List, Move, Nothing, Patch, Read, ReadAnswer, Remove, Snapshot,
    Write,
};
use aion_machine::{
    GlobOutput, GrepOutput, Listing, PatchRequest, RelPath, Stat, TreeDiff, Watch, WatchRequest, WriteOutput,
};
use aion_service::{Json, Problem, Query};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::Stream;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::once::once;
use super::{Reply, Shared};
use crate::context::{Context, IdempotencyKey};
use crate::problem::Refusal;
use crate::task::TaskState;

/// How often a stream says that it is alive.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<Arc<Context>> {
    OpenApiRouter::new()
        .routes(routes!(workspace_read))
        .routes(routes!(workspace_write))
        .routes(routes!(workspace_edit))
        .routes(routes!(workspace_patch))
        .routes(routes!(workspace_stat))
        .routes(routes!(workspace_list))
        .routes(routes!(workspace_mkdir))
        .routes(routes!(workspace_remove))
        .routes(routes!(workspace_move))
        .routes(routes!(workspace_glob))
        .routes(routes!(workspace_grep))
        .routes(routes!(workspace_snapshot))
        .routes(routes!(workspace_diff))
        .routes(routes!(workspace_watch))
}

/// Reads a file, or a part of it, to the byte.
#[utoipa::path(
    post,
    path = "/v1/workspace/read",
    operation_id = "workspace_read",
    tag = "workspace",
    params(("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    request_body = Read,
    responses(
        (status = 200, description = "Done.", body = ReadAnswer),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_read(
    State(context): Shared,
    task: TaskState,
    Json(body): Json<Read>,
) -> Reply<ReadAnswer> {
    let work = context.workspace(&task).await?;
    let options = body.options();
    let read = work.read(&body.path, options).await?;
    Ok(Json(read.into()))
}

/// Writes a whole file at once.
#[utoipa::path(
    post,
    path = "/v1/workspace/write",
    operation_id = "workspace_write",
    tag = "workspace",
    params(
        ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed"),
        ("Idempotency-Key" = Option<String>, Header, description = "the change is made once for a key, and answered alike"),
    ),
    request_body = Write,
    responses(
        (status = 200, description = "Done.", body = WriteOutput),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_write(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    Json(body): Json<Write>,
) -> Reply<WriteOutput> {
    let work = context.workspace(&task).await?;
    let (path, request) = body.clone().into_request()?;
    let change = async move { work.write(&path, request).await };
    once(&context, ("write", &key), &task, &body, change)
        .await
        .map(Json)
}

/// Replaces exact texts in a file, all or none of them.
#[utoipa::path(
    post,
    path = "/v1/workspace/edit",
    operation_id = "workspace_edit",
    tag = "workspace",
    params(
        ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed"),
        ("Idempotency-Key" = Option<String>, Header, description = "the change is made once for a key, and answered alike"),
    ),
    request_body = Edits,
    responses(
        (status = 200, description = "Done.", body = WriteOutput),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_edit(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    Json(body): Json<Edits>,
) -> Reply<WriteOutput> {
    let work = context.workspace(&task).await?;
    let (path, request) = body.clone().into_request();
    let change = async move { work.edit(&path, request).await };
    once(&context, ("edit", &key), &task, &body, change)
        .await
        .map(Json)
}

/// Applies a unified diff to a file, all of it or nothing.
#[utoipa::path(
    post,
    path = "/v1/workspace/patch",
    operation_id = "workspace_patch",
    tag = "workspace",
    params(
        ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed"),
        ("Idempotency-Key" = Option<String>, Header, description = "the change is made once for a key, and answered alike"),
    ),
    request_body = Patch,
    responses(
        (status = 200, description = "Done.", body = WriteOutput),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_patch(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    Json(body): Json<Patch>,
) -> Reply<WriteOutput> {
    let work = context.workspace(&task).await?;
    let mut request = PatchRequest::new(body.patch.clone());
    (request.if_match, request.durability) = (body.if_match.clone(), body.durability);
    let path = body.path.clone();
    let change = async move { work.patch(&path, request).await };
    once(&context, ("patch", &key), &task, &body, change)
        .await
        .map(Json)
}

/// Says what is at a path. A symbolic link is not followed.
#[utoipa::path(
    post,
    path = "/v1/workspace/stat",
    operation_id = "workspace_stat",
    tag = "workspace",
    params(("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    request_body = At,
    responses(
        (status = 200, description = "Done.", body = Stat),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_stat(State(context): Shared, task: TaskState, Json(body): Json<At>) -> Reply<Stat> {
    let work = context.workspace(&task).await?;
    Ok(Json(work.stat(&body.path).await?))
}

/// Lists a directory.
#[utoipa::path(
    post,
    path = "/v1/workspace/list",
    operation_id = "workspace_list",
    tag = "workspace",
    params(("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    request_body = List,
    responses(
        (status = 200, description = "Done.", body = Listing),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_list(State(context): Shared, task: TaskState, Json(body): Json<List>) -> Reply<Listing> {
    let work = context.workspace(&task).await?;
    let limit = body.limit();
    Ok(Json(work.list(&body.path, limit).await?))
}

/// Creates a directory and its parents.
#[utoipa::path(
    post,
    path = "/v1/workspace/mkdir",
    operation_id = "workspace_mkdir",
    tag = "workspace",
    params(
        ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed"),
        ("Idempotency-Key" = Option<String>, Header, description = "the change is made once for a key, and answered alike"),
    ),
    request_body = At,
    responses(
        (status = 200, description = "Done.", body = Nothing),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_mkdir(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    Json(body): Json<At>,
) -> Reply<Nothing> {
    let work = context.workspace(&task).await?;
    let path = body.path.clone();
    let change = async move { work.mkdir(&path).await.map(|()| Nothing {}) };
    once(&context, ("mkdir", &key), &task, &body, change)
        .await
        .map(Json)
}

/// Removes a file, or a directory.
#[utoipa::path(
    post,
    path = "/v1/workspace/remove",
    operation_id = "workspace_remove",
    tag = "workspace",
    params(
        ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed"),
        ("Idempotency-Key" = Option<String>, Header, description = "the change is made once for a key, and answered alike"),
    ),
    request_body = Remove,
    responses(
        (status = 200, description = "Done.", body = Nothing),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_remove(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    Json(body): Json<Remove>,
) -> Reply<Nothing> {
    let work = context.workspace(&task).await?;
    let (path, mode) = (body.path.clone(), body.mode);
    let change = async move { work.remove(&path, mode).await.map(|()| Nothing {}) };
    once(&context, ("remove", &key), &task, &body, change)
        .await
        .map(Json)
}

/// Gives a file or a directory another name.
#[utoipa::path(
    post,
    path = "/v1/workspace/move",
    operation_id = "workspace_move",
    tag = "workspace",
    params(
        ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed"),
        ("Idempotency-Key" = Option<String>, Header, description = "the change is made once for a key, and answered alike"),
    ),
    request_body = Move,
    responses(
        (status = 200, description = "Done.", body = Nothing),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_move(
    State(context): Shared,
    task: TaskState,
    key: IdempotencyKey,
    Json(body): Json<Move>,
) -> Reply<Nothing> {
    let work = context.workspace(&task).await?;
    let (from, to, mode) = (body.from.clone(), body.to.clone(), body.mode);
    let change = async move { work.rename(&from, &to, mode).await.map(|()| Nothing {}) };
    once(&context, ("move", &key), &task, &body, change)
        .await
        .map(Json)
}

/// Finds files by name.
#[utoipa::path(
    post,
    path = "/v1/workspace/glob",
    operation_id = "workspace_glob",
    tag = "workspace",
    params(("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    request_body = FindNames,
    responses(
        (status = 200, description = "Done.", body = GlobOutput),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_glob(
    State(context): Shared,
    task: TaskState,
    Json(body): Json<FindNames>,
) -> Reply<GlobOutput> {
    let work = context.workspace(&task).await?;
    Ok(Json(work.glob(body.into()).await?))
}

/// Finds lines by a regular expression.
#[utoipa::path(
    post,
    path = "/v1/workspace/grep",
    operation_id = "workspace_grep",
    tag = "workspace",
    params(("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    request_body = FindLines,
    responses(
        (status = 200, description = "Done.", body = GrepOutput),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_grep(
    State(context): Shared,
    task: TaskState,
    Json(body): Json<FindLines>,
) -> Reply<GrepOutput> {
    let work = context.workspace(&task).await?;
    Ok(Json(work.grep(body.into()).await?))
}

/// Remembers the tree of the workspace as it is.
#[utoipa::path(
    post,
    path = "/v1/workspace/snapshot",
    operation_id = "workspace_snapshot",
    tag = "workspace",
    params(("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    request_body = Nothing,
    responses(
        (status = 200, description = "Done.", body = Snapshot),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_snapshot(
    State(context): Shared,
    task: TaskState,
    Json(body): Json<Nothing>,
) -> Reply<Snapshot> {
    let work = context.remembered(&task).await?;
    let _ = body;
    let snapshot = work.snapshot().await?;
    Ok(Json(Snapshot { snapshot }))
}

/// Says what changed between two snapshots.
#[utoipa::path(
    post,
    path = "/v1/workspace/diff",
    operation_id = "workspace_diff",
    tag = "workspace",
    params(("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed")),
    request_body = Compare,
    responses(
        (status = 200, description = "Done.", body = TreeDiff),
        (status = "4XX", description = "Refused; nothing was done.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now; nothing was done.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_diff(
    State(context): Shared,
    task: TaskState,
    Json(body): Json<Compare>,
) -> Reply<TreeDiff> {
    let work = context.remembered(&task).await?;
    Ok(Json(work.diff(body.from, body.to).await?))
}

/// What to watch.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WatchWhat {
    /// The directory, with all below it.
    #[serde(default = "RelPath::root")]
    #[param(value_type = String, default = ".", max_length = 4096)]
    path: RelPath,
    /// How many events may wait to be read; more become one that says `lost`.
    #[serde(default = "default_events")]
    #[param(minimum = 1, maximum = 65536, default = 4096)]
    max_events: usize,
}

fn default_events() -> usize {
    4096
}

/// Streams what changes below a directory, as server-sent events `change`.
#[utoipa::path(
    get,
    path = "/v1/workspace/watch",
    operation_id = "workspace_watch",
    tag = "workspace",
    params(
        WatchWhat,
        ("X-Task-State" = Option<String>, Header, description = "whose workspace: JSON {task_id, cwd}, or signed"),
    ),
    responses(
        (status = 200, description = "Events `change`.", body = aion_machine::WatchEvent, content_type = "text/event-stream"),
        (status = "4XX", description = "Refused.", body = Refusal, content_type = "application/problem+json"),
        (status = "5XX", description = "Not possible now.", body = Refusal, content_type = "application/problem+json"),
    )
)]
async fn workspace_watch(
    State(context): Shared,
    task: TaskState,
    Query(what): Query<WatchWhat>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    if !(1..=aion_machine::MAX_WATCH_EVENTS).contains(&what.max_events) {
        let detail = format!("between 1 and {} events can wait", aion_machine::MAX_WATCH_EVENTS);
        return Err(Problem::unprocessable("invalid_request", detail)
            .at("query:max_events")
            .into());
    }
    let work = context.workspace(&task).await?;
    let request = WatchRequest::new(what.path).with_max_events(what.max_events);
    let watch = work.watch(request).await?;
    let stream = futures::stream::unfold(watch, |mut watch: Watch| async move {
        let change = watch.next().await?;
        let data = serde_json::to_string(&change).unwrap_or_default();
        Some((Ok(Event::default().event("change").data(data)), watch))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
