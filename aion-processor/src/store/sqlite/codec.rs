//! What is SQLite's own between rows and the types of the engine: columns by name, failures, two kinds of rows.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use rusqlite::types::ValueRef;

use crate::store::codec::columns_of_sqlx;
pub(super) use crate::store::codec::{
    Columns, body, event, from_text, held, int, message, policy, row, status, step, task_id, to_text, waiter,
};
use crate::{Error, Result};

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
/// The columns of a body, in the order in which [`body`] reads them; the tables are called `t` and `b`. Short ends of a
/// task lie near, long ones apart.
macro_rules! texts {
    () => {
        "b.title, b.spec, b.payload, ifnull(t.result, b.result), ifnull(t.error, b.error)"
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

impl Columns for SqliteRow {
    columns_of_sqlx!(storage);
}

impl Columns for rusqlite::Row<'_> {
    fn int(&self, index: usize) -> Result<i64> {
        typed(index, value(self, index)?.as_i64())
    }

    fn maybe_int(&self, index: usize) -> Result<Option<i64>> {
        typed(index, value(self, index)?.as_i64_or_null())
    }

    fn flag(&self, index: usize) -> Result<bool> {
        self.int(index).map(|n| n != 0)
    }

    fn bytes(&self, index: usize) -> Result<&[u8]> {
        typed(index, value(self, index)?.as_blob())
    }

    fn maybe_bytes(&self, index: usize) -> Result<Option<&[u8]>> {
        typed(index, value(self, index)?.as_blob_or_null())
    }

    fn kept(&self, index: usize) -> Result<&str> {
        typed(index, value(self, index)?.as_str())
    }

    fn maybe_kept(&self, index: usize) -> Result<Option<&str>> {
        typed(index, value(self, index)?.as_str_or_null())
    }
}

fn value<'r>(row: &'r rusqlite::Row<'_>, index: usize) -> Result<ValueRef<'r>> {
    typed(index, row.get_ref(index))
}

fn typed<T, E>(index: usize, found: std::result::Result<T, E>) -> Result<T> {
    found.map_err(|_| Error::Corrupt(format!("column {index} has another type")))
}
