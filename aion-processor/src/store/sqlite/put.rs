//! Rows bound to the statements that write them.

use aion_types::{MessageRecord, Timestamp};

use super::codec::{int, to_text};
use super::native::query;
use super::sql;
use super::tx::Statement;
use crate::Result;
use crate::engine::row::{Body, Row};

pub(super) fn insert(row: &Row, key: Option<&str>) -> Statement<'static> {
    let concurrency = row.concurrency.as_ref();
    query(sql::INSERT)
        .bind(row.id.as_bytes().to_vec())
        .bind(row.root_id.as_bytes().to_vec())
        .bind(row.parent_id.map(|id| id.as_bytes().to_vec()))
        .bind(row.depth)
        .bind(row.kind.clone())
        .bind(row.queue.clone())
        .bind(row.status as i64)
        .bind(row.priority)
        .bind(int(row.lease_epoch))
        .bind(row.attempt)
        .bind(row.max_attempts)
        .bind(row.crash_count)
        .bind(row.run_after.map(Timestamp::as_ms))
        .bind(row.deadline.map(Timestamp::as_ms))
        .bind(row.cancel_requested)
        .bind(int(row.version))
        .bind(row.created_at.as_ms())
        .bind(row.updated_at.as_ms())
        .bind(row.finished_at.map(Timestamp::as_ms))
        .bind(concurrency.map(|concurrency| concurrency.key.clone()))
        .bind(concurrency.map(|concurrency| concurrency.max))
        .bind(key.map(str::to_owned))
}

pub(super) fn insert_body(row: &Row, body: &Body) -> Result<Statement<'static>> {
    Ok(query(sql::INSERT_BODY)
        .bind(int(row.ord))
        .bind(body.title.clone())
        .bind(body.spec.clone())
        .bind(to_text(&body.payload)?)
        .bind(body.result.as_ref().map(to_text).transpose()?)
        .bind(body.error.clone()))
}

/// With the text only if it does not lie apart.
pub(super) fn insert_message(
    row: &Row,
    message: &MessageRecord,
    key: Option<&str>,
    apart: bool,
) -> Result<Statement<'static>> {
    let calls = (!message.tool_calls.is_empty())
        .then(|| to_text(&message.tool_calls))
        .transpose()?;
    let text = if apart {
        String::new()
    } else {
        message.content.clone()
    };
    Ok(query(sql::INSERT_MESSAGE)
        .bind(int(row.ord))
        .bind(int(message.seq))
        .bind(message.role.as_str())
        .bind(text)
        .bind(calls)
        .bind(message.tool_call_id.clone())
        .bind(message.persistence.as_ref().map(to_text).transpose()?)
        .bind(message.created_at.as_ms())
        .bind(key.map(str::to_owned))
        .bind(apart))
}

/// A row whose status has changed.
pub(super) fn loud(row: &Row) -> Statement<'static> {
    query(sql::PUT)
        .bind(int(row.ord))
        .bind(row.status as i64)
        .bind(int(row.ready_seq))
        .bind(row.handler_id.as_ref().map(|id| id.as_str().to_owned()))
        .bind(int(row.lease_epoch))
        .bind(row.lease_until.map(Timestamp::as_ms))
        .bind(row.attempt)
        .bind(row.crash_count)
        .bind(row.run_after.map(Timestamp::as_ms))
        .bind(row.cancel_requested)
        .bind(row.open_children)
        .bind(row.waiting_on)
        .bind(row.gather.map(|policy| policy as i64))
        .bind(row.gather_failed)
        .bind(int(row.messages))
        .bind(int(row.version))
        .bind(row.updated_at.as_ms())
        .bind(row.finished_at.map(Timestamp::as_ms))
        .bind(row.gated)
        .bind(row.holds)
}

/// A row whose status has not.
pub(super) fn quiet(row: &Row) -> Statement<'static> {
    query(sql::PUT_QUIET)
        .bind(int(row.ord))
        .bind(row.lease_until.map(Timestamp::as_ms))
        .bind(row.cancel_requested)
        .bind(row.open_children)
        .bind(row.waiting_on)
        .bind(row.gather_failed)
        .bind(int(row.messages))
        .bind(int(row.version))
        .bind(row.updated_at.as_ms())
        .bind(row.holds)
        .bind(row.purging)
}
