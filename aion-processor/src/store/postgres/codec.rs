//! What is Postgres' own between rows and the types of the engine: columns by name, failures, texts.
//!
//! Postgres keeps no character 0 in a text, so [`text`] writes it as two others and [`plain`] reads it back.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

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
         t.messages, t.version, t.created_at, t.updated_at, t.finished_at, t.ckey, t.ckey_max, t.gated, t.holds, \
         t.purging"
    };
}
/// The columns of a body, in the order in which [`body`] reads them; the tables are called `t` and `b`. Short ends of a
/// task lie near, long ones apart.
macro_rules! texts {
    () => {
        "b.title, b.spec, b.payload, coalesce(t.result, b.result), coalesce(t.error, b.error)"
    };
}
/// The columns of a message, in the order in which [`message`] reads them, and where they are.
macro_rules! said {
    () => {
        "SELECT m.seq, m.role, m.content, m.tool_calls, m.tool_call_id, m.persistence, m.created_at FROM message m "
    };
}
pub(super) use {hot, said, texts};

/// How many columns [`hot`] names: the body follows them in a whole record.
pub(super) const HOT: usize = 33;
/// How many columns a body has.
pub(super) const TEXTS: usize = 5;

/// What a failure of Postgres means. Whatever the server says of a statement undoes its transaction; that
/// the server itself is gone leaves a commit in doubt.
///
/// # Sources
/// PostgreSQL 15, appendix A: classes 08 (connection), 25 (a server that only reads, a transaction that was ended), 28 (authorization), 3D (no such
/// database), 40 (rollback), 53 (resources), 57 (intervention), 58 (system).
pub(in crate::store) fn storage(error: sqlx::Error) -> Error {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(Cow::into_owned);
    match (code.as_deref(), &error) {
        (Some("53100"), _) => Error::Full,
        (Some("40001" | "40P01" | "55P03" | "53300"), _) => Error::Busy { retry_after_ms: 100 },
        (Some(code), _)
            if ["08", "25", "28", "3D", "53", "57", "58"]
                .iter()
                .any(|class| code.starts_with(class)) =>
        {
            Error::Unavailable(Arc::new(error))
        }
        (Some(_), _) | (_, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
            Error::Corrupt(error.to_string())
        }
        _ => Error::Unavailable(Arc::new(error)),
    }
}

/// Stands before a character that stands for another one.
const MARK: char = '\u{1}';

/// A text as Postgres stores it.
pub(super) fn text(plain: &str) -> String {
    if !plain.contains(['\0', MARK]) {
        return plain.to_owned();
    }
    let mut kept = String::with_capacity(plain.len() + 8);
    for letter in plain.chars() {
        match letter {
            '\0' => kept.extend([MARK, '\u{3}']),
            MARK => kept.extend([MARK, '\u{2}']),
            other => kept.push(other),
        }
    }
    kept
}

/// The text that [`text`] was given.
pub(super) fn plain(kept: String) -> String {
    if !kept.contains(MARK) {
        return kept;
    }
    let mut plain = String::with_capacity(kept.len());
    let mut letters = kept.chars();
    while let Some(letter) = letters.next() {
        plain.push(match (letter, letter == MARK) {
            (_, true) if letters.next() == Some('\u{3}') => '\0',
            (letter, _) => letter,
        });
    }
    plain
}

impl Columns for PgRow {
    columns_of_sqlx!(storage);

    fn plain(kept: &str) -> String {
        plain(kept.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is stored comes back, and none of it is the character that Postgres refuses.
        #[test]
        fn texts_come_back(letters in prop::collection::vec(prop_oneof![Just('\0'), Just(MARK), Just('\u{2}'), Just('\u{3}'), any::<char>()], 0..20)) {
            let given: String = letters.into_iter().collect();
            let kept = text(&given);
            prop_assert!(!kept.contains('\0'));
            prop_assert_eq!(plain(kept), given);
        }
    }
}
