//! Bounds on what comes from outside; nothing is written before they hold.

use aion_types::{Json, MessageRecord, Timestamp};

use super::take_over::plan_of;
use crate::{
    ClaimReq, Concurrency, Error, Limits, NewMessage, NewPrimitive, NewTask, PrimitiveKind, Result,
    StepRecord, TaskCopy,
};

/// Bytes of a kind, a queue or a key.
const MAX_NAME_BYTES: usize = 128;
/// Nesting of a JSON value, the same as serde_json reads.
const MAX_JSON_DEPTH: u32 = 100;
/// Names in one filter of a claim.
const MAX_FILTER: usize = 64;
/// What the concurrency keys of exclusive calls begin with, so that nobody else's do.
pub(super) const CALLS: &str = "object:";
/// Largest version and count that a copy may bring.
const MAX_COUNT: u64 = 1 << 52;
/// Latest moment that can be stored: far enough, and sums with a lease do not overflow.
const MAX_TIME_MS: i64 = 1 << 52;

pub(crate) fn new_task(new: &NewTask, limits: &Limits) -> Result<()> {
    let reserved = |given: &&Concurrency| given.key.starts_with(CALLS);
    if new.concurrency.as_ref().filter(reserved).is_some() {
        return Err(Error::invalid("concurrency", "calls of objects have this key"));
    }
    task(new, limits)
}

/// As [`new_task`], whatever the concurrency key.
pub(super) fn task(new: &NewTask, limits: &Limits) -> Result<()> {
    name("kind", &new.kind)?;
    name("queue", &new.queue)?;
    new.key.as_deref().map_or(Ok(()), |key| name("key", key))?;
    text("title", &new.title, limits.max_title_bytes)?;
    text("spec", &new.spec, limits.max_spec_bytes)?;
    json("payload", &new.payload, limits.max_payload_bytes)?;
    if let Some(concurrency) = &new.concurrency {
        name("concurrency", &concurrency.key)?;
        between("concurrency", concurrency.max.into(), limits.max_permits.into())?;
    }
    if new.max_attempts == 0 {
        return Err(Error::invalid("max_attempts", "it must be at least 1"));
    }
    at_most(
        "max_attempts",
        new.max_attempts.into(),
        limits.max_attempts.into(),
    )?;
    if let crate::Start::At(at) = new.start {
        moment("run_after", at)?;
    }
    new.deadline.map_or(Ok(()), |at| moment("deadline", at))
}

/// A task of another store, which may have gone on since it was made.
pub(super) fn copy(copy: &TaskCopy, limits: &Limits) -> Result<()> {
    let record = &copy.task;
    task(&plan_of(copy), limits)?;
    moment("created_at", record.created_at)?;
    record
        .finished_at
        .map_or(Ok(()), |at| moment("finished_at", at))?;
    record.run_after.map_or(Ok(()), |at| moment("run_after", at))?;
    if record.status.is_terminal() != record.finished_at.is_some() {
        return Err(Error::invalid("finished_at", "it does not fit the status"));
    }
    at_most("lease_epoch", record.lease_epoch, MAX_COUNT)?;
    at_most("attempt", record.attempt.into(), record.max_attempts.into())?;
    at_most("crash_count", record.crash_count.into(), MAX_COUNT)?;
    let result = record.result.as_ref();
    result.map_or(Ok(()), |result| json("result", result, limits.max_payload_bytes))?;
    let error = record.error.as_deref().unwrap_or_default();
    text("error", error, limits.max_error_bytes)
}

/// Messages of one task, the first at most one after the `there` ones that are there.
pub(super) fn copied_messages(messages: &[MessageRecord], there: u64, limits: &Limits) -> Result<()> {
    at_most("messages", messages.len() as u64, limits.max_page.into())?;
    let first = messages.first().map_or(1, |first| first.seq).min(there + 1);
    let task = messages.first().map(|first| first.task_id);
    for (seq, message) in (first..).zip(messages) {
        if message.seq != seq || Some(message.task_id) != task {
            return Err(Error::invalid("messages", "they do not follow each other"));
        }
        moment("created_at", message.created_at)?;
        self::message(&spoken(message), limits)?;
    }
    Ok(())
}

fn spoken(message: &MessageRecord) -> NewMessage {
    NewMessage {
        role: message.role,
        content: message.content.clone(),
        tool_calls: message.tool_calls.clone(),
        tool_call_id: message.tool_call_id.clone(),
        persistence: message.persistence.clone(),
        key: None,
    }
}

pub(super) fn primitive(new: &NewPrimitive, limits: &Limits) -> Result<()> {
    name("name", &new.name)?;
    match new.kind {
        PrimitiveKind::Semaphore { permits } => between("permits", permits.into(), limits.max_permits.into()),
        PrimitiveKind::Queue { capacity } => between("capacity", capacity.into(), limits.max_permits.into()),
        _ => Ok(()),
    }
}

pub(crate) fn message(new: &NewMessage, limits: &Limits) -> Result<()> {
    new.key.as_deref().map_or(Ok(()), |key| name("key", key))?;
    let calls = new
        .tool_calls
        .iter()
        .map(|call| call.id.len() + call.name.len() + call.arguments.len());
    let persistence = new
        .persistence
        .as_ref()
        .map_or(Ok(0), |value| json_bytes("persistence", value))?;
    let answered = new.tool_call_id.as_ref().map_or(0, String::len);
    let bytes = new.content.len() + calls.sum::<usize>() + persistence + answered;
    at_most("message", bytes as u64, limits.max_message_bytes as u64)
}

/// A step after others of so many `bytes` together; gives the sum with it.
pub(super) fn step(step: &StepRecord, bytes: u64, limits: &Limits) -> Result<u64> {
    name("name", &step.name)?;
    at_most("steps", step.seq, limits.max_steps.into())?;
    let own = json_bytes("result", &step.result)? as u64;
    at_most("result", own, limits.max_step_bytes as u64)?;
    let bytes = bytes + own + step.name.len() as u64;
    at_most("steps_bytes", bytes, limits.max_steps_bytes as u64)?;
    Ok(bytes)
}

pub(crate) fn claim(claim: &ClaimReq, limits: &Limits) -> Result<()> {
    at_most("max", claim.max.into(), limits.max_claim.into())?;
    at_most("queues", claim.queues.len() as u64, MAX_FILTER as u64)?;
    at_most("kinds", claim.kinds.len() as u64, MAX_FILTER as u64)?;
    lease(claim.lease_ms, limits)
}

pub(crate) fn lease(lease_ms: u64, limits: &Limits) -> Result<()> {
    if lease_ms == 0 {
        return Err(Error::invalid("lease_ms", "it must be at least 1"));
    }
    at_most("lease_ms", lease_ms, limits.max_lease_ms)
}

pub(crate) fn json(what: &'static str, value: &Json, max_bytes: usize) -> Result<()> {
    let bytes = json_bytes(what, value)?;
    at_most(what, bytes as u64, max_bytes as u64)
}

pub(crate) fn at_most(what: &'static str, got: u64, limit: u64) -> Result<()> {
    if got > limit {
        Err(Error::Limit { what, limit, got })
    } else {
        Ok(())
    }
}

/// At least 1 and at most `limit`.
pub(super) fn between(what: &'static str, got: u64, limit: u64) -> Result<()> {
    if got == 0 {
        return Err(Error::invalid(what, "it must be at least 1"));
    }
    at_most(what, got, limit)
}

/// Cuts `text` to at most `max` bytes, between characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}

pub(super) fn name(what: &'static str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(Error::invalid(what, "it is empty"));
    }
    if value.chars().any(char::is_control) {
        return Err(Error::invalid(what, "it has a control character"));
    }
    at_most(what, value.len() as u64, MAX_NAME_BYTES as u64)
}

fn text(what: &'static str, value: &str, max_bytes: usize) -> Result<()> {
    at_most(what, value.len() as u64, max_bytes as u64)
}

pub(super) fn moment(what: &'static str, at: Timestamp) -> Result<()> {
    if at.as_ms() < 0 || at.as_ms() > MAX_TIME_MS {
        return Err(Error::invalid(what, "it lies before 1970 or too far ahead"));
    }
    Ok(())
}

/// The length of the value as JSON, which must be readable again.
fn json_bytes(what: &'static str, value: &Json) -> Result<usize> {
    nesting(what, value, 0)?;
    serde_json::to_vec(value)
        .map(|text| text.len())
        .map_err(|error| Error::invalid(what, error.to_string()))
}

fn nesting(what: &'static str, value: &Json, depth: u32) -> Result<()> {
    if depth > MAX_JSON_DEPTH {
        return Err(Error::invalid(what, "it is nested too deeply"));
    }
    match value {
        Json::Float(x) if !x.is_finite() => Err(Error::invalid(what, "it has a number that is not finite")),
        Json::List(items) => items.iter().try_for_each(|item| nesting(what, item, depth + 1)),
        Json::Map(members) => members
            .values()
            .try_for_each(|item| nesting(what, item, depth + 1)),
        _ => Ok(()),
    }
}
