//! Between rows of SQLite and the types of the engine.

use std::sync::Arc;

use aion_types::{
    EventKind, EventRecord, Format, HandlerId, Json, MessageRecord, Role, Status, TaskId, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::native::Column;
use crate::engine::row::{Body, Row};
use crate::engine::rows::Held;
use crate::{Concurrency, Error, GatherPolicy, Grant, Holder, Result, StepRecord, Waiter};

/// The columns of a hot row, in the order in which [`row`] reads them; the table is called `t`.
macro_rules! hot {
    () => {
        "t.ord, t.uid, t.root, t.parent, t.depth, t.kind, t.queue, t.status, t.priority, t.ready_seq, \
         t.handler, t.lease_epoch, t.lease_until, t.attempt, t.max_attempts, t.crash_count, t.run_after, \
         t.deadline, t.cancel_requested, t.open_children, t.waiting_on, t.gather, t.gather_failed, \
         t.messages, t.version, t.created_at, t.updated_at, t.finished_at, t.ckey, t.cmax, t.gated, t.holds, \
         t.purging"
    };
}
/// The columns of a body, in the order in which [`body`] reads them; the table is called `b`.
macro_rules! texts {
    () => {
        "b.title, b.spec, b.payload, b.result, b.error"
    };
}
/// The columns of a message, in the order in which [`message`] reads them, and where they are.
macro_rules! said {
    () => {
        "SELECT m.seq, m.role, ifnull(x.content, m.content), m.tool_calls, m.tool_call_id, m.persistence, \
         m.created_at FROM message m LEFT JOIN message_text x ON m.apart = 1 AND x.task = m.task AND x.seq = m.seq "
    };
}
pub(super) use {hot, said, texts};

/// How many columns [`hot`] names: the body follows them in a whole record.
pub(super) const HOT: usize = 33;

/// What a failure of SQLite means.
pub(in crate::store) fn storage(error: sqlx::Error) -> Error {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    let code = code.and_then(|code| code.parse().ok());
    if matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) {
        return Error::Corrupt(error.to_string());
    }
    failure(code, error.to_string(), || Error::Unavailable(Arc::new(error)))
}

/// What a result code of SQLite means, with its words.
pub(super) fn failure(code: Option<i32>, words: String, unavailable: impl FnOnce() -> Error) -> Error {
    match code.map(|code| code & 0xff) {
        Some(13) => Error::Full,
        Some(5 | 6) => Error::Busy { retry_after_ms: 100 },
        Some(11 | 26) => Error::Corrupt(words),
        _ => unavailable(),
    }
}

/// A row, wherever its statement ran.
pub(super) trait Columns {
    /// The value of a column.
    fn column<'r, T: Column<'r>>(&'r self, index: usize) -> Result<T>;
}

impl Columns for SqliteRow {
    fn column<'r, T: Column<'r>>(&'r self, index: usize) -> Result<T> {
        self.try_get(index).map_err(storage)
    }
}

impl Columns for rusqlite::Row<'_> {
    fn column<'r, T: Column<'r>>(&'r self, index: usize) -> Result<T> {
        let value = self.get_ref(index).ok().and_then(T::native);
        value.ok_or_else(|| Error::Corrupt(format!("column {index} has another type")))
    }
}

/// A count or a time as SQLite stores it.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn to_text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Corrupt(error.to_string()))
}

pub(super) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt(error.to_string()))
}

/// A column of a row.
fn get<'r, T: Column<'r>>(row: &'r impl Columns, index: usize) -> Result<T> {
    row.column(index)
}

fn count<T: TryFrom<i64>>(row: &impl Columns, index: usize) -> Result<T> {
    let n: i64 = get(row, index)?;
    T::try_from(n).map_err(|_| Error::Corrupt(format!("column {index} is {n}")))
}

fn id(row: &impl Columns, index: usize) -> Result<TaskId> {
    task_id(get(row, index)?)
}

pub(super) fn task_id(bytes: &[u8]) -> Result<TaskId> {
    let bytes = bytes
        .try_into()
        .map_err(|_| Error::Corrupt("an id is not 16 bytes".to_owned()))?;
    TaskId::from_bytes(bytes).map_err(|error| Error::Corrupt(error.to_string()))
}

fn moment(row: &impl Columns, index: usize) -> Result<Timestamp> {
    get(row, index).map(Timestamp::from_ms)
}

fn later(row: &impl Columns, index: usize) -> Result<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, index)?.map(Timestamp::from_ms))
}

pub(super) fn status(code: i64) -> Result<Status> {
    let found = usize::try_from(code).ok().and_then(|code| Status::ALL.get(code));
    found
        .copied()
        .ok_or_else(|| Error::Corrupt(format!("status {code}")))
}

pub(super) fn policy(code: i64) -> Result<GatherPolicy> {
    let known = [GatherPolicy::All, GatherPolicy::FailFast, GatherPolicy::Settle];
    let found = usize::try_from(code).ok().and_then(|code| known.get(code));
    found
        .copied()
        .ok_or_else(|| Error::Corrupt(format!("gather policy {code}")))
}

/// Reads the columns of [`hot`].
pub(super) fn row(row: &impl Columns) -> Result<Row> {
    let parent: Option<&[u8]> = get(row, 3)?;
    let handler: Option<String> = get(row, 10)?;
    let gather: Option<i64> = get(row, 21)?;
    let key: Option<String> = get(row, 28)?;
    let max: Option<i64> = get(row, 29)?;
    let concurrency = key.zip(max).map(|(key, max)| Concurrency {
        key,
        max: u32::try_from(max).unwrap_or(u32::MAX),
    });
    Ok(Row {
        concurrency,
        gated: get(row, 30)?,
        holds: count(row, 31)?,
        purging: get(row, 32)?,
        ord: count(row, 0)?,
        id: id(row, 1)?,
        root_id: id(row, 2)?,
        parent_id: parent.map(task_id).transpose()?,
        depth: count(row, 4)?,
        kind: get(row, 5)?,
        queue: get(row, 6)?,
        status: status(get(row, 7)?)?,
        priority: count(row, 8)?,
        ready_seq: count(row, 9)?,
        handler_id: handler
            .map(HandlerId::new)
            .transpose()
            .map_err(|e| Error::Corrupt(e.to_string()))?,
        lease_epoch: count(row, 11)?,
        lease_until: later(row, 12)?,
        attempt: count(row, 13)?,
        max_attempts: count(row, 14)?,
        crash_count: count(row, 15)?,
        run_after: later(row, 16)?,
        deadline: later(row, 17)?,
        cancel_requested: get(row, 18)?,
        open_children: count(row, 19)?,
        waiting_on: count(row, 20)?,
        gather: gather.map(policy).transpose()?,
        gather_failed: get(row, 22)?,
        messages: count(row, 23)?,
        version: count(row, 24)?,
        created_at: moment(row, 25)?,
        updated_at: moment(row, 26)?,
        finished_at: later(row, 27)?,
    })
}

/// Reads the columns of [`texts`], the first of which is number `first`.
pub(super) fn body(row: &impl Columns, first: usize) -> Result<Body> {
    let result: Option<&str> = get(row, first + 3)?;
    Ok(Body {
        title: get(row, first)?,
        spec: get(row, first + 1)?,
        payload: from_text(get(row, first + 2)?)?,
        result: result.map(from_text::<Json>).transpose()?,
        error: get(row, first + 4)?,
    })
}

/// Reads the columns of [`said`].
pub(super) fn message(task: TaskId, row: &impl Columns) -> Result<MessageRecord> {
    let calls: Option<&str> = get(row, 3)?;
    let persistence: Option<&str> = get(row, 5)?;
    Ok(MessageRecord {
        format: Format::default(),
        task_id: task,
        seq: count(row, 0)?,
        role: role(get(row, 1)?)?,
        content: get(row, 2)?,
        tool_calls: calls.map(from_text).transpose()?.unwrap_or_default(),
        tool_call_id: get(row, 4)?,
        persistence: persistence.map(from_text).transpose()?,
        created_at: moment(row, 6)?,
    })
}

fn role(text: &str) -> Result<Role> {
    let known = [Role::System, Role::User, Role::Assistant, Role::Tool];
    let found = known.into_iter().find(|role| role.as_str() == text);
    found.ok_or_else(|| Error::Corrupt(format!("role {text}")))
}

/// Reads `seq, name, result, at`.
pub(super) fn step(task: TaskId, row: &impl Columns) -> Result<StepRecord> {
    Ok(StepRecord {
        task_id: task,
        seq: count(row, 0)?,
        name: get(row, 1)?,
        result: from_text(get(row, 2)?)?,
        at: moment(row, 3)?,
    })
}

/// Reads `task, primitive, token, units, place, item, since`.
pub(super) fn held(row: &impl Columns) -> Result<Held> {
    let item: Option<&str> = get(row, 5)?;
    let grant = Grant {
        primitive: get(row, 1)?,
        token: count(row, 2)?,
        units: count(row, 3)?,
        item: item.map(from_text).transpose()?,
        since: moment(row, 6)?,
    };
    Ok(Held {
        holder: Holder {
            task: id(row, 0)?,
            grant,
        },
        place: count(row, 4)?,
    })
}

/// Reads `task, primitive, place, units, until, since`.
pub(super) fn waiter(row: &impl Columns) -> Result<Waiter> {
    Ok(Waiter {
        task: id(row, 0)?,
        primitive: get(row, 1)?,
        place: count(row, 2)?,
        units: count(row, 3)?,
        until: later(row, 4)?,
        since: moment(row, 5)?,
    })
}

/// Reads `seq, task, root, kind, body, at`.
pub(super) fn event(row: &impl Columns) -> Result<EventRecord> {
    let kind: &str = get(row, 3)?;
    let kind: EventKind = serde_json::from_value(kind.into()).map_err(|e| Error::Corrupt(e.to_string()))?;
    Ok(EventRecord {
        format: Format::default(),
        seq: count(row, 0)?,
        task_id: id(row, 1)?,
        root_id: id(row, 2)?,
        kind,
        body: from_text(get(row, 4)?)?,
        at: moment(row, 5)?,
    })
}
