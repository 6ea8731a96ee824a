//! Between rows and the types of the engine, the same for every database.

use aion_types::{
    EventKind, EventRecord, Format, HandlerId, Json, MessageRecord, Role, Status, TaskId, Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::row::{Body, Row};
use crate::engine::rows::Held;
use crate::{Concurrency, Error, GatherPolicy, Grant, Holder, Result, StepRecord, Waiter};

/// A row, read column by column, wherever its statement ran.
pub(in crate::store) trait Columns {
    fn int(&self, index: usize) -> Result<i64>;
    fn maybe_int(&self, index: usize) -> Result<Option<i64>>;
    fn flag(&self, index: usize) -> Result<bool>;
    fn bytes(&self, index: usize) -> Result<&[u8]>;
    fn maybe_bytes(&self, index: usize) -> Result<Option<&[u8]>>;
    /// A text as it is stored.
    fn kept(&self, index: usize) -> Result<&str>;
    /// A text as it is stored, if there is one.
    fn maybe_kept(&self, index: usize) -> Result<Option<&str>>;

    /// The text that is stored as `kept`.
    fn plain(kept: &str) -> String {
        kept.to_owned()
    }

    /// A text as it was given.
    fn text(&self, index: usize) -> Result<String> {
        self.kept(index).map(Self::plain)
    }

    /// A text as it was given, if there was one.
    fn maybe_text(&self, index: usize) -> Result<Option<String>> {
        Ok(self.maybe_kept(index)?.map(Self::plain))
    }
}

/// The columns of a row of sqlx, whose failures mean what `$failed` says.
macro_rules! columns_of_sqlx {
    ($failed:path) => {
        fn int(&self, index: usize) -> Result<i64> {
            self.try_get(index).map_err($failed)
        }

        fn maybe_int(&self, index: usize) -> Result<Option<i64>> {
            self.try_get(index).map_err($failed)
        }

        fn flag(&self, index: usize) -> Result<bool> {
            self.try_get(index).map_err($failed)
        }

        fn bytes(&self, index: usize) -> Result<&[u8]> {
            self.try_get(index).map_err($failed)
        }

        fn maybe_bytes(&self, index: usize) -> Result<Option<&[u8]>> {
            self.try_get(index).map_err($failed)
        }

        fn kept(&self, index: usize) -> Result<&str> {
            self.try_get(index).map_err($failed)
        }

        fn maybe_kept(&self, index: usize) -> Result<Option<&str>> {
            self.try_get(index).map_err($failed)
        }
    };
}
pub(in crate::store) use columns_of_sqlx;

/// A count or a time as a database stores it.
pub(in crate::store) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(in crate::store) fn to_text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Corrupt(error.to_string()))
}

pub(in crate::store) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt(error.to_string()))
}

fn count<T: TryFrom<i64>>(row: &impl Columns, index: usize) -> Result<T> {
    let n = row.int(index)?;
    T::try_from(n).map_err(|_| Error::Corrupt(format!("column {index} is {n}")))
}

fn id(row: &impl Columns, index: usize) -> Result<TaskId> {
    task_id(row.bytes(index)?)
}

pub(in crate::store) fn task_id(bytes: &[u8]) -> Result<TaskId> {
    let bytes = bytes
        .try_into()
        .map_err(|_| Error::Corrupt("an id is not 16 bytes".to_owned()))?;
    TaskId::from_bytes(bytes).map_err(|error| Error::Corrupt(error.to_string()))
}

fn moment(row: &impl Columns, index: usize) -> Result<Timestamp> {
    row.int(index).map(Timestamp::from_ms)
}

fn later(row: &impl Columns, index: usize) -> Result<Option<Timestamp>> {
    Ok(row.maybe_int(index)?.map(Timestamp::from_ms))
}

pub(in crate::store) fn status(code: i64) -> Result<Status> {
    let found = usize::try_from(code).ok().and_then(|code| Status::ALL.get(code));
    found
        .copied()
        .ok_or_else(|| Error::Corrupt(format!("status {code}")))
}

pub(in crate::store) fn policy(code: i64) -> Result<GatherPolicy> {
    let known = [GatherPolicy::All, GatherPolicy::FailFast, GatherPolicy::Settle];
    let found = usize::try_from(code).ok().and_then(|code| known.get(code));
    found
        .copied()
        .ok_or_else(|| Error::Corrupt(format!("gather policy {code}")))
}

/// Reads the columns of a hot row, as a database's `hot!` names them.
pub(in crate::store) fn row(row: &impl Columns) -> Result<Row> {
    let shared = row.maybe_text(28)?.zip(row.maybe_int(29)?);
    let concurrency = shared.map(|(key, max)| Concurrency {
        key,
        max: u32::try_from(max).unwrap_or(u32::MAX),
    });
    Ok(Row {
        concurrency,
        gated: row.flag(30)?,
        holds: count(row, 31)?,
        purging: row.flag(32)?,
        ord: count(row, 0)?,
        id: id(row, 1)?,
        root_id: id(row, 2)?,
        parent_id: row.maybe_bytes(3)?.map(task_id).transpose()?,
        depth: count(row, 4)?,
        kind: row.text(5)?,
        queue: row.text(6)?,
        status: status(row.int(7)?)?,
        priority: count(row, 8)?,
        ready_seq: count(row, 9)?,
        handler_id: row
            .maybe_text(10)?
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
        cancel_requested: row.flag(18)?,
        open_children: count(row, 19)?,
        waiting_on: count(row, 20)?,
        gather: row.maybe_int(21)?.map(policy).transpose()?,
        gather_failed: row.flag(22)?,
        messages: count(row, 23)?,
        version: count(row, 24)?,
        created_at: moment(row, 25)?,
        updated_at: moment(row, 26)?,
        finished_at: later(row, 27)?,
    })
}

/// Reads the columns of `texts!`, the first of which is number `first`.
pub(in crate::store) fn body(row: &impl Columns, first: usize) -> Result<Body> {
    Ok(Body {
        title: row.text(first)?,
        spec: row.text(first + 1)?,
        payload: from_text(row.kept(first + 2)?)?,
        result: row.maybe_kept(first + 3)?.map(from_text::<Json>).transpose()?,
        error: row.maybe_text(first + 4)?,
    })
}

/// Reads the columns of `said!`.
pub(in crate::store) fn message(task: TaskId, row: &impl Columns) -> Result<MessageRecord> {
    let calls = row.maybe_kept(3)?.map(from_text).transpose()?;
    Ok(MessageRecord {
        format: Format::default(),
        task_id: task,
        seq: count(row, 0)?,
        role: role(row.kept(1)?)?,
        content: row.text(2)?,
        tool_calls: calls.unwrap_or_default(),
        tool_call_id: row.maybe_text(4)?,
        persistence: row.maybe_kept(5)?.map(from_text).transpose()?,
        created_at: moment(row, 6)?,
    })
}

fn role(text: &str) -> Result<Role> {
    let known = [Role::System, Role::User, Role::Assistant, Role::Tool];
    let found = known.into_iter().find(|role| role.as_str() == text);
    found.ok_or_else(|| Error::Corrupt(format!("role {text}")))
}

/// Reads `seq, name, result, at`.
pub(in crate::store) fn step(task: TaskId, row: &impl Columns) -> Result<StepRecord> {
    Ok(StepRecord {
        task_id: task,
        seq: count(row, 0)?,
        name: row.text(1)?,
        result: from_text(row.kept(2)?)?,
        at: moment(row, 3)?,
    })
}

/// Reads `task, primitive, token, units, place, item, since`.
pub(in crate::store) fn held(row: &impl Columns) -> Result<Held> {
    let grant = Grant {
        primitive: row.text(1)?,
        token: count(row, 2)?,
        units: count(row, 3)?,
        item: row.maybe_kept(5)?.map(from_text).transpose()?,
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
pub(in crate::store) fn waiter(row: &impl Columns) -> Result<Waiter> {
    Ok(Waiter {
        task: id(row, 0)?,
        primitive: row.text(1)?,
        place: count(row, 2)?,
        units: count(row, 3)?,
        until: later(row, 4)?,
        since: moment(row, 5)?,
    })
}

/// Reads `seq, task, root, kind, body, at`.
pub(in crate::store) fn event(row: &impl Columns) -> Result<EventRecord> {
    let kind: EventKind =
        serde_json::from_value(row.kept(3)?.into()).map_err(|e| Error::Corrupt(e.to_string()))?;
    Ok(EventRecord {
        format: Format::default(),
        seq: count(row, 0)?,
        task_id: id(row, 1)?,
        root_id: id(row, 2)?,
        kind,
        body: from_text(row.kept(4)?)?,
        at: moment(row, 5)?,
    })
}
