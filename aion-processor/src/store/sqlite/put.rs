//! Rows bound to the statements that write them.

use aion_types::{EventKind, HandlerId, MessageRecord, TaskId, Timestamp};

use super::codec::{int, to_text};
use super::native::query;
use super::sql;
use super::tx::Statement;
use crate::Result;
use crate::engine::row::{Body, Row};
use crate::engine::rows::Outcome;

/// An event on its way to the log.
#[derive(Debug)]
pub(super) struct Happened {
    pub(super) seq: u64,
    pub(super) task: TaskId,
    pub(super) root: TaskId,
    pub(super) kind: EventKind,
    pub(super) body: String,
    pub(super) at: Timestamp,
}

/// As many events as the statement takes.
pub(super) fn events<'q>(sql: &'static str, events: &'q [Happened]) -> Statement<'q> {
    events.iter().fold(query(sql), |statement, event| {
        statement
            .bind(int(event.seq))
            .bind(&event.task.as_bytes()[..])
            .bind(&event.root.as_bytes()[..])
            .bind(event.kind.as_str())
            .bind(&event.body)
            .bind(event.at.as_ms())
    })
}

pub(super) fn insert<'q>(row: &'q Row, key: Option<&'q str>) -> Statement<'q> {
    let concurrency = row.concurrency.as_ref();
    query(sql::INSERT)
        .bind(&row.id.as_bytes()[..])
        .bind(&row.root_id.as_bytes()[..])
        .bind(row.parent_id.as_ref().map(|id| &id.as_bytes()[..]))
        .bind(row.depth)
        .bind(&row.kind)
        .bind(&row.queue)
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
        .bind(concurrency.map(|concurrency| &concurrency.key))
        .bind(concurrency.map(|concurrency| concurrency.max))
        .bind(key)
}

pub(super) fn insert_body<'q>(row: &Row, body: &'q Body) -> Result<Statement<'q>> {
    Ok(query(sql::INSERT_BODY)
        .bind(int(row.ord))
        .bind(&body.title)
        .bind(&body.spec)
        .bind(to_text(&body.payload)?)
        .bind(body.result.as_ref().map(to_text).transpose()?)
        .bind(body.error.as_ref()))
}

/// With the text only if it does not lie apart.
pub(super) fn insert_message<'q>(
    row: &Row,
    message: &'q MessageRecord,
    key: Option<&'q str>,
    apart: bool,
) -> Result<Statement<'q>> {
    let calls = (!message.tool_calls.is_empty())
        .then(|| to_text(&message.tool_calls))
        .transpose()?;
    let text = if apart { "" } else { message.content.as_str() };
    Ok(query(sql::INSERT_MESSAGE)
        .bind(int(row.ord))
        .bind(int(message.seq))
        .bind(message.role.as_str())
        .bind(text)
        .bind(calls)
        .bind(message.tool_call_id.as_ref())
        .bind(message.persistence.as_ref().map(to_text).transpose()?)
        .bind(message.created_at.as_ms())
        .bind(key)
        .bind(apart))
}

/// A row whose status has changed.
pub(super) fn loud(row: &Row) -> Statement<'_> {
    changed(sql::PUT, row)
}

/// A row whose task has ended, with how it did.
pub(super) fn ended<'q>(row: &'q Row, outcome: &Outcome, text: String) -> Statement<'q> {
    let sql = match outcome {
        Outcome::Result(_) => sql::PUT_WITH_RESULT,
        Outcome::Error(_) => sql::PUT_WITH_ERROR,
    };
    changed(sql, row).bind(text)
}

fn changed<'q>(sql: &'static str, row: &'q Row) -> Statement<'q> {
    query(sql)
        .bind(int(row.ord))
        .bind(row.status as i64)
        .bind(int(row.ready_seq))
        .bind(row.handler_id.as_ref().map(HandlerId::as_str))
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
pub(super) fn quiet(row: &Row) -> Statement<'_> {
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
