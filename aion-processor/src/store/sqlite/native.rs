//! Statements of the writer on the connection itself.
//!
//! sqlx hands each statement to a thread of its own and waits for the answer, which costs many times what our statements
//! cost. So the writer locks the connection that sqlx has opened, and runs its statements where it stands.
#![allow(unsafe_code)] // a borrowed handle, in `Native::over` and `keep_memory`; statements that go along with it, `Session`

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ffi};
use sqlx::sqlite::LockedSqliteHandle;

use super::codec::failure;
use crate::{Error, Result};

/// Room for the values of a statement: few have more.
const VALUES: usize = 24;

/// Memory that the writer's connection keeps for itself: half a mebibyte, in slots that hold a row with its body in line.
const SLOT_BYTES: c_int = 2_048;
const SLOTS: c_int = 256;

/// A connection of sqlx that nobody else uses meanwhile.
pub(super) struct Native<'h> {
    /// Goes first: its statements must end before the lock does.
    conn: Connection,
    _locked: LockedSqliteHandle<'h>,
}

impl<'h> Native<'h> {
    /// Works on a locked connection, which stays open and as it was set.
    pub(super) fn over(mut locked: LockedSqliteHandle<'h>) -> Result<Self> {
        let handle = locked.as_raw_handle().as_ptr().cast();
        // SAFETY: the handle is that of an open connection, of the one SQLite that is linked; the lock, which lives as
        // long as this value and is let go of after `conn`, keeps sqlx from using it, and `conn` does not close it.
        let conn = unsafe { Connection::from_handle(handle) }.map_err(failed)?;
        Ok(Self {
            conn,
            _locked: locked,
        })
    }

    /// Keeps the plans of statements, which otherwise are made again whenever a value is bound.
    pub(super) fn keep_plans(self) -> Result<Self> {
        let stable = DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG;
        self.conn.set_db_config(stable, true).map_err(failed)?;
        Ok(self)
    }

    /// Gives the connection small memory of its own, so that rows, cursors and values of a few kilobytes need no lock of the
    /// allocator. Where some of what it has now is in use, that stays as it is.
    pub(super) fn keep_memory(self) -> Self {
        let (none, bytes, count) = (std::ptr::null_mut::<c_void>(), SLOT_BYTES, SLOTS);
        // SAFETY: the handle is open; this verb takes a pointer, null for memory that SQLite gets by itself, and two ints.
        let _in_use = unsafe {
            ffi::sqlite3_db_config(
                self.conn.handle(),
                ffi::SQLITE_DBCONFIG_LOOKASIDE,
                none,
                bytes,
                count,
            )
        };
        self
    }

    pub(super) fn session(&mut self) -> Session<'_> {
        Session {
            conn: &mut self.conn,
            prepared: HashMap::new(),
        }
    }
}

/// The only use of a connection for a while, with the statements that were prepared meanwhile.
#[derive(Debug)]
pub(super) struct Session<'h> {
    conn: &'h Connection,
    /// By where their text lies and how long it is: texts are constants.
    prepared: HashMap<(usize, usize), rusqlite::Statement<'h>>,
}

// SAFETY: a session is made of the one `&mut` to its connection, which nobody else can reach while it lives, and its
// statements never leave it; so connection and statements change threads together, which SQLite allows.
unsafe impl Send for Session<'_> {}

impl<'h> Session<'h> {
    fn prepared(&mut self, sql: &'static str) -> Result<&mut rusqlite::Statement<'h>> {
        Ok(match self.prepared.entry((sql.as_ptr() as usize, sql.len())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(self.conn.prepare(sql).map_err(failed)?),
        })
    }

    /// The row that was inserted last.
    pub(super) fn last_row(&self) -> i64 {
        self.conn.last_insert_rowid()
    }
}

/// A statement and its values.
#[derive(Debug)]
pub(super) struct Statement<'q> {
    sql: &'static str,
    values: Vec<Value<'q>>,
}

/// A statement that has no values yet.
pub(super) fn query<'q>(sql: &'static str) -> Statement<'q> {
    Statement {
        sql,
        values: Vec::with_capacity(VALUES),
    }
}

impl<'q> Statement<'q> {
    /// Adds the next value.
    pub(super) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it for what it changes.
    pub(super) fn execute(&self, session: &mut Session<'_>) -> Result<()> {
        self.bound(session)?.raw_execute().map(drop).map_err(failed)
    }

    /// Runs it for its rows, each of which `read` takes apart.
    pub(super) fn fetch<T>(
        &self,
        session: &mut Session<'_>,
        mut read: impl FnMut(&rusqlite::Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut rows = self.bound(session)?.raw_query();
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    fn bound<'s, 'h>(&self, session: &'s mut Session<'h>) -> Result<&'s mut rusqlite::Statement<'h>> {
        let prepared = session.prepared(self.sql)?;
        debug_assert_eq!(prepared.parameter_count(), self.values.len(), "{}", self.sql);
        for (at, value) in self.values.iter().enumerate() {
            prepared.raw_bind_parameter(at + 1, value).map_err(failed)?;
        }
        Ok(prepared)
    }
}

/// What a failure of SQLite means.
fn failed(error: rusqlite::Error) -> Error {
    let code = error.sqlite_error().map(|error| error.extended_code);
    failure(code, error.to_string(), || Error::Unavailable(Arc::new(error)))
}

/// A value of a statement.
#[derive(Debug)]
pub(super) enum Value<'q> {
    Null,
    Int(i64),
    Text(Cow<'q, str>),
    Bytes(Cow<'q, [u8]>),
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(n) => ValueRef::Integer(*n),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Into [`Value`], a variant for each type.
macro_rules! values {
    ($($from:ty => |$value:ident| $to:expr;)*) => {$(
        impl<'q> From<$from> for Value<'q> {
            fn from($value: $from) -> Self {
                $to
            }
        }
    )*};
}

values! {
    i64 => |n| Self::Int(n);
    i32 => |n| Self::Int(n.into());
    u32 => |n| Self::Int(n.into());
    bool => |yes| Self::Int(yes.into());
    String => |text| Self::Text(text.into());
    &'q str => |text| Self::Text(text.into());
    &'q String => |text| Self::Text(text.into());
    Vec<u8> => |bytes| Self::Bytes(bytes.into());
    &'q [u8] => |bytes| Self::Bytes(bytes.into());
}

impl<'q, T: Into<Value<'q>>> From<Option<T>> for Value<'q> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
