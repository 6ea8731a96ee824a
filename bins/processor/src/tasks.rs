//! Operations on tasks that need no lease.

use aion_processor::{Processor, TaskPage, TaskQuery};
use aion_service::{Json, Path, Problem, Query};
use aion_types::{TaskId, Timestamp};
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use crate::conditions::versioned;
use crate::keys::{idempotency_key, same_task};
use crate::problem::{in_body, in_query};
use crate::wire::{
    CancelScope, CancelTask, CreateTask, Evidence, HeadView, ListChildren, ListTasks, Task, TaskList,
};

/// Creates a task. Creating it again with the same id or key gives the task that is there.
#[utoipa::path(
    post,
    path = "/v1/tasks",
    operation_id = "create_task",
    tag = "tasks",
    params(("idempotency-key" = Option<String>, Header, description = "Used as `key` if the body names none; refuses another body")),
    request_body = CreateTask,
    responses(
        (status = 201, description = "The task, new or already there", body = Task),
        (status = 404, description = "There is no such parent", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The id is taken, the parent has ended, or the lease is lost", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "A text is too long", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid, or the key was used for another body", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_task(
    State(processor): State<Processor>,
    headers: HeaderMap,
    Json(task): Json<CreateTask>,
) -> Result<(StatusCode, Json<Task>), Problem> {
    let key = idempotency_key(&headers)?;
    let by_header = key.is_some() && task.key.is_none();
    let id = TaskId::generate(processor.now().await.map_err(in_body)?);
    let new = task.into_new_task(id, key);
    let asked = by_header.then(|| new.clone());
    let made = processor.create(new).await.map_err(in_body)?;
    if let Some(asked) = asked.filter(|_| made.id != id) {
        same_task(&processor, &asked, &made).await?;
    }
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Lists tasks in the order of their creation.
#[utoipa::path(
    get,
    path = "/v1/tasks",
    operation_id = "list_tasks",
    tag = "tasks",
    params(ListTasks),
    responses(
        (status = 200, description = "A page of tasks", body = TaskList),
        (status = 400, description = "A parameter does not parse", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A cursor, moment or limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_tasks(
    State(processor): State<Processor>,
    Query(list): Query<ListTasks>,
) -> Result<Json<TaskList>, Problem> {
    let query = TaskQuery {
        parent: list.parent_id,
        root: list.root_id,
        statuses: list.status.into_iter().map(Into::into).collect(),
        kind: list.kind,
        queue: list.queue,
        handler: list.handler_id,
        text: list.text,
        created_from: moment("created_from", list.created_from)?,
        created_to: moment("created_to", list.created_to)?,
        order: list.order.into(),
        cursor: list
            .cursor
            .map(|text| text.parse())
            .transpose()
            .map_err(in_query)?,
        limit: at_least_one(list.limit)?,
    };
    processor.tasks(query).await.map(page).map_err(in_query)
}

/// No task was made before 1970.
fn moment(name: &str, ms: Option<i64>) -> Result<Option<Timestamp>, Problem> {
    if ms.is_some_and(|ms| ms < 0) {
        let detail = format!("{name} lies before 1970");
        return Err(Problem::unprocessable("invalid", detail).at(format!("query:{name}")));
    }
    Ok(ms.map(Timestamp::from_ms))
}

fn page(page: TaskPage) -> Json<TaskList> {
    let tasks = page.tasks.into_iter().map(Into::into).collect();
    Json(TaskList {
        tasks,
        next: page.next.map(Into::into),
    })
}

/// A page has at least one item.
pub(crate) fn at_least_one(limit: u32) -> Result<u32, Problem> {
    if limit == 0 {
        return Err(Problem::unprocessable("invalid", "limit must be at least 1").at("query:limit"));
    }
    Ok(limit)
}

/// Gives one task. `ETag` is its version.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_id}",
    operation_id = "get_task",
    tag = "tasks",
    params(
        ("task_id" = String, Path, description = "The task", format = "uuid"),
        ("if-none-match" = Option<String>, Header, description = "The ETag that the client has"),
    ),
    responses(
        (status = 200, description = "The task", body = Task),
        (status = 304, description = "It has not changed"),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_task(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task = processor.get(task_id).await.map_err(in_query)?;
    Ok(versioned(task.version, &headers, Json(Task::from(task))))
}

/// Lists the children of a task in the order of their creation.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_id}/children",
    operation_id = "list_children",
    tag = "tasks",
    params(("task_id" = String, Path, description = "The parent", format = "uuid"), ListChildren),
    responses(
        (status = 200, description = "A page of tasks", body = TaskList),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A cursor or limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_children(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Query(list): Query<ListChildren>,
) -> Result<Json<TaskList>, Problem> {
    processor.get(task_id).await.map_err(in_query)?;
    let query = TaskQuery {
        statuses: list.status.into_iter().map(Into::into).collect(),
        cursor: list
            .cursor
            .map(|text| text.parse())
            .transpose()
            .map_err(in_query)?,
        limit: at_least_one(list.limit)?,
        ..TaskQuery::new()
    };
    processor
        .children(task_id, query)
        .await
        .map(page)
        .map_err(in_query)
}

/// Makes a held or delayed task ready now.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/start",
    operation_id = "start_task",
    tag = "tasks",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    responses(
        (status = 200, description = "Where the task stands", body = HeadView),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is not being prepared", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn start_task(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
) -> Result<Json<HeadView>, Problem> {
    processor
        .start(task_id)
        .await
        .map(|head| Json(head.into()))
        .map_err(in_body)
}

/// Asks for the end of a task, or of a whole tree: at once where nobody holds it. A large tree is gone through by and
/// by.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/cancel",
    operation_id = "cancel_task",
    tag = "tasks",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    request_body = CancelTask,
    responses(
        (status = 200, description = "Where the task stands", body = HeadView),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended otherwise", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel_task(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Json(cancel): Json<CancelTask>,
) -> Result<Json<HeadView>, Problem> {
    let mode = cancel.mode.into();
    let head = match cancel.scope {
        CancelScope::Task => processor.cancel(task_id, mode).await,
        CancelScope::Tree => processor.cancel_tree(task_id, mode).await,
    };
    Ok(Json(head.map_err(in_body)?.into()))
}

/// Counts what weighs on the persistence of a task: its children and its retries.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_id}/evidence",
    operation_id = "get_evidence",
    tag = "tasks",
    params(("task_id" = String, Path, description = "The task", format = "uuid")),
    responses(
        (status = 200, description = "The counts", body = Evidence),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_evidence(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
) -> Result<Json<Evidence>, Problem> {
    processor
        .child_counts(task_id)
        .await
        .map(|counts| Json(counts.into()))
        .map_err(in_query)
}
