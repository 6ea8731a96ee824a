//! Bounds on what comes from outside; nothing is written before they hold.

use aion_types::{Json, Timestamp};

use crate::{ClaimReq, Error, Limits, NewMessage, NewTask, Result};

/// Bytes of a kind, a queue or a key.
const MAX_NAME_BYTES: usize = 128;
/// Nesting of a JSON value, the same as serde_json reads.
const MAX_JSON_DEPTH: u32 = 100;
/// Names in one filter of a claim.
const MAX_FILTER: usize = 64;
/// Latest moment that can be stored: far enough, and sums with a lease do not overflow.
const MAX_TIME_MS: i64 = 1 << 52;

pub(crate) fn new_task(new: &NewTask, limits: &Limits) -> Result<()> {
    name("kind", &new.kind)?;
    name("queue", &new.queue)?;
    new.key.as_deref().map_or(Ok(()), |key| name("key", key))?;
    text("title", &new.title, limits.max_title_bytes)?;
    text("spec", &new.spec, limits.max_spec_bytes)?;
    json("payload", &new.payload, limits.max_payload_bytes)?;
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

/// Cuts `text` to at most `max` bytes, between characters.
pub(crate) fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}

fn name(what: &'static str, value: &str) -> Result<()> {
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

fn moment(what: &'static str, at: Timestamp) -> Result<()> {
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
