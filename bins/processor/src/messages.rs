//! The history of a task.

use aion_processor::{MessageQuery, Processor};
use aion_service::{Json, Path, Problem, Query};
use aion_types::TaskId;
use axum::extract::State;
use http::{HeaderMap, StatusCode};

use crate::keys::{idempotency_key, same_message};
use crate::problem::{in_body, in_query};
use crate::tasks::at_least_one;
use crate::wire::{AppendMessage, ListMessages, Message, MessageList, fence};

/// Appends a message: with `epoch` as the holder, without it as somebody else. A repeated append with the same key
/// gives the first message.
#[utoipa::path(
    post,
    path = "/v1/tasks/{task_id}/messages",
    operation_id = "append_message",
    tag = "messages",
    params(
        ("task_id" = String, Path, description = "The task", format = "uuid"),
        ("idempotency-key" = Option<String>, Header, description = "Used as `key` if the body names none; refuses another body"),
    ),
    request_body = AppendMessage,
    responses(
        (status = 201, description = "The message, new or already there", body = Message),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The lease is lost, or the task has ended", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The message is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not valid, or the key was used for another body", body = Problem, content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn append_message(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    headers: HeaderMap,
    Json(message): Json<AppendMessage>,
) -> Result<(StatusCode, Json<Message>), Problem> {
    let key = idempotency_key(&headers)?;
    let by_header = key.is_some() && message.key.is_none();
    let epoch = message.epoch;
    let new = message.into_new_message(key);
    let asked = by_header.then(|| new.clone());
    let made = match epoch {
        Some(epoch) => processor.append(fence(task_id, epoch), new).await,
        None => processor.say(task_id, new).await,
    };
    let made = made.map_err(in_body)?;
    asked.map_or(Ok(()), |asked| same_message(&asked, &made))?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Lists the messages of a task, from either end.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_id}/messages",
    operation_id = "list_messages",
    tag = "messages",
    params(("task_id" = String, Path, description = "The task", format = "uuid"), ListMessages),
    responses(
        (status = 200, description = "A page of messages", body = MessageList),
        (status = 404, description = "There is no such task", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The limit is not valid", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list_messages(
    State(processor): State<Processor>,
    Path(task_id): Path<TaskId>,
    Query(list): Query<ListMessages>,
) -> Result<Json<MessageList>, Problem> {
    let query = MessageQuery {
        order: list.order.into(),
        from: list.from,
        limit: at_least_one(list.limit)?,
    };
    let page = processor.messages(task_id, query).await.map_err(in_query)?;
    let messages = page.messages.into_iter().map(Into::into).collect();
    Ok(Json(MessageList {
        messages,
        next: page.next,
    }))
}
