//! `Idempotency-Key`: a repeat gives what the first request made, and another request under the same key is refused.
//!
//! The key lies with the task, the message or the queue that it was used on, so that it lives and goes with that and repeats
//! grow nothing.

use aion_processor::{Error, NewMessage, NewTask, Page, Processor, Query};
use aion_service::Problem;
use aion_types::{Json, MessageRecord, TaskRecord};
use http::HeaderMap;

use crate::problem::in_query;

/// The header `Idempotency-Key`, if it is there.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let bad = |_| {
        Problem::bad_request("invalid_header", "Idempotency-Key is not text").at("header:idempotency-key")
    };
    value.to_str().map(|text| Some(text.to_owned())).map_err(bad)
}

/// Refuses a task that an earlier, different request made under the same key. When it begins is not compared, for the
/// task does not remember it once it has begun.
pub(crate) async fn same_task(
    processor: &Processor,
    asked: &NewTask,
    made: &TaskRecord,
) -> Result<(), Problem> {
    let same = asked.parent == made.parent_id
        && asked.kind == made.kind
        && asked.queue == made.queue
        && asked.title == made.title
        && asked.spec == made.spec
        && asked.priority == made.priority
        && asked.deadline == made.deadline
        && asked.max_attempts == made.max_attempts
        && same_json(&asked.payload, &made.payload);
    let same = same && asked.concurrency == concurrency_of(processor, made).await?;
    same.then_some(()).ok_or_else(used)
}

async fn concurrency_of(
    processor: &Processor,
    made: &TaskRecord,
) -> Result<Option<aion_processor::Concurrency>, Problem> {
    let page = processor
        .store()
        .read(Query::Copy(made.id))
        .await
        .map_err(in_query)?;
    match page {
        Page::Copy(Some(copy)) => Ok(copy.concurrency),
        // It was removed meanwhile.
        _ => Err(in_query(Error::NotFound(made.id))),
    }
}

/// Refuses a message that an earlier, different request appended under the same key.
pub(crate) fn same_message(asked: &NewMessage, made: &MessageRecord) -> Result<(), Problem> {
    let persistence = match (&asked.persistence, &made.persistence) {
        (Some(asked), Some(made)) => same_json(asked, made),
        (asked, made) => asked.is_some() == made.is_some(),
    };
    let same = persistence
        && asked.role == made.role
        && asked.content == made.content
        && asked.tool_calls == made.tool_calls
        && asked.tool_call_id == made.tool_call_id;
    same.then_some(()).ok_or_else(used)
}

fn same_json(one: &Json, other: &Json) -> bool {
    serde_json::to_string(one).ok() == serde_json::to_string(other).ok()
}

pub(crate) fn used() -> Problem {
    let detail = "this Idempotency-Key was used for a request with another body";
    Problem::unprocessable("idempotency_key_used", detail).at("header:idempotency-key")
}
