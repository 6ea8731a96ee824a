//! What goes over HTTP between `HttpTaskStore` (feature `client`) and a server: lists of operations
//! in, lists of outcomes out, errors by their code and members.
//!
//! A server says why it refused a request as a whole by a problem document (RFC 9457) whose member
//! `error` is an [`Error`].
//!
//! ```
//! use aion_processor::{Done, Error, wire::{Apply, Outcome}};
//!
//! let apply: Apply = serde_json::from_str(r#"{"writes": [{"op": {"create": {
//!     "id": "01893d0e-7c00-7abc-8def-0123456789ab", "kind": "demo", "title": "A task"}}}]}"#)?;
//! assert_eq!(apply.writes[0].durability, apply.writes[0].op.durability());
//!
//! let refused = r#"{"error": {"code": "over_limit", "what": "writes", "limit": 2, "got": 3, "detail": ""}}"#;
//! let outcome: Outcome<Done> = serde_json::from_str(refused)?;
//! assert!(matches!(outcome.into_result(), Err(Error::Limit { what: "writes", limit: 2, got: 3 })));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use aion_types::{Json, Status, TaskId, TaskRecord, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ClaimReq, Durability, Error, Op, Page, Query, Result, Write};

/// Bytes of a word of an error, and how many of them are told apart.
const MAX_WORD_BYTES: usize = 64;
const MAX_WORDS: usize = 256;

/// Operations to carry out, in order, each on its own, in one commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The operations.
    pub writes: Vec<Write>,
}

/// Wishes for work, each answered on its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The wishes.
    pub claims: Vec<ClaimReq>,
    /// How long to wait if none of them is granted anything.
    #[serde(default)]
    pub wait_ms: u64,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The question.
    pub query: Query,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The answer.
    pub page: Page,
}

/// To do what time demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    /// How much of each.
    pub limit: u32,
}

/// The time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// The time by which leases run.
    pub now: Timestamp,
}

/// What the items of a list gave, in their order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcomes<T> {
    /// One for each item.
    pub results: Vec<Outcome<T>>,
}

/// What one item of a list gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<T> {
    /// It was done.
    Done(T),
    /// It was not, or nobody knows ([`Error::is_unknown`]).
    Error(Error),
}

impl<T> Outcome<T> {
    /// The same as a result.
    ///
    /// # Errors
    /// The error of the item.
    pub fn into_result(self) -> Result<T> {
        match self {
            Self::Done(done) => Ok(done),
            Self::Error(error) => Err(error),
        }
    }
}

impl<T> From<Result<T>> for Outcome<T> {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(done) => Self::Done(done),
            Err(error) => Self::Error(error),
        }
    }
}

/// A write whose durability may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteForm {
    op: Op,
    durability: Option<Durability>,
}

impl From<WriteForm> for Write {
    fn from(form: WriteForm) -> Self {
        let WriteForm { mut op, durability } = form;
        if let Op::Import(copy) = &mut op {
            mend(&mut copy.task);
        }
        let write = Self::from(op);
        match durability {
            Some(durability) => write.with_durability(durability),
            None => write,
        }
    }
}

/// An error as it is sent: its code and members, and its message for people.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    #[serde(default)]
    detail: String,
    #[serde(flatten)]
    kind: Kind,
}

/// The errors by [`Error::code`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
enum Kind {
    Conflict {
        why: String,
    },
    LeaseLost {
        task: TaskId,
        given: u64,
    },
    TaskNotFound {
        task: TaskId,
    },
    NotFound {
        what: String,
        name: String,
    },
    IllegalTransition {
        from: Status,
        input: String,
    },
    Invalid {
        what: String,
        why: String,
    },
    OverLimit {
        what: String,
        limit: u64,
        got: u64,
    },
    StorageFull,
    Busy {
        retry_after_ms: u64,
    },
    StorageUnavailable {
        why: String,
    },
    StorageCorrupt {
        why: String,
    },
    NewerDatabase {
        found: u32,
        newest: u32,
    },
    DatabaseInUse {
        path: String,
    },
    Denied {
        why: String,
    },
    /// Of a newer server.
    #[serde(other)]
    Unheard,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        let kind = match error {
            Error::Conflict(why) => Kind::Conflict { why },
            Error::LeaseLost { task, given } => Kind::LeaseLost { task, given },
            Error::NotFound(task) => Kind::TaskNotFound { task },
            Error::Unknown { what, name } => Kind::NotFound {
                what: what.to_owned(),
                name,
            },
            Error::IllegalTransition { from, input } => Kind::IllegalTransition {
                from,
                input: input.to_owned(),
            },
            Error::Invalid { what, why } => Kind::Invalid {
                what: what.to_owned(),
                why,
            },
            Error::Limit { what, limit, got } => Kind::OverLimit {
                what: what.to_owned(),
                limit,
                got,
            },
            Error::Full => Kind::StorageFull,
            Error::Busy { retry_after_ms } => Kind::Busy { retry_after_ms },
            Error::Unavailable(cause) => Kind::StorageUnavailable {
                why: cause.to_string(),
            },
            Error::Corrupt(why) => Kind::StorageCorrupt { why },
            Error::NewerDatabase { found, newest } => Kind::NewerDatabase { found, newest },
            Error::InUse(path) => Kind::DatabaseInUse {
                path: path.display().to_string(),
            },
            Error::Denied(why) => Kind::Denied { why },
        };
        Self { detail, kind }
    }
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Failure::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Failure::deserialize(deserializer).map(Into::into)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            Kind::Conflict { why } => Self::Conflict(why),
            Kind::LeaseLost { task, given } => Self::LeaseLost { task, given },
            Kind::TaskNotFound { task } => Self::NotFound(task),
            Kind::NotFound { what, name } => Self::Unknown {
                what: word(what),
                name,
            },
            Kind::IllegalTransition { from, input } => Self::IllegalTransition {
                from,
                input: word(input),
            },
            Kind::Invalid { what, why } => Self::Invalid {
                what: word(what),
                why,
            },
            Kind::OverLimit { what, limit, got } => Self::Limit {
                what: word(what),
                limit,
                got,
            },
            Kind::StorageFull => Self::Full,
            Kind::Busy { retry_after_ms } => Self::Busy { retry_after_ms },
            Kind::StorageUnavailable { why } => unavailable(why),
            Kind::StorageCorrupt { why } => Self::Corrupt(why),
            Kind::NewerDatabase { found, newest } => Self::NewerDatabase { found, newest },
            Kind::DatabaseInUse { path } => Self::InUse(path.into()),
            Kind::Denied { why } => Self::Denied(why),
            Kind::Unheard => unavailable(failure.detail),
        }
    }
}

/// The storage, or the way to it, does not answer, in words.
pub(crate) fn unavailable(why: String) -> Error {
    Error::Unavailable(Arc::new(std::io::Error::other(why)))
}

/// The word as errors hold it. There are few of them; what a server says beyond that is not told
/// apart, so that it cannot fill the memory.
fn word(text: String) -> &'static str {
    static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.get(text.as_str()) {
        return known;
    }
    if text.len() > MAX_WORD_BYTES || words.len() >= MAX_WORDS {
        return "value";
    }
    let kept: &'static str = Box::leak(text.into_boxed_str());
    words.insert(kept);
    kept
}

/// A completed task has a result; JSON does not tell the result `null` from none.
pub(crate) fn mend(task: &mut TaskRecord) {
    if task.status == Status::Completed && task.result.is_none() {
        task.result = Some(Json::Null);
    }
}

#[cfg(test)]
mod tests {
    use aion_types::SystemClock;

    use super::*;

    fn errors() -> Vec<Error> {
        let task = TaskId::generate(aion_types::Clock::now(&SystemClock));
        vec![
            Error::Conflict("taken".to_owned()),
            Error::LeaseLost {
                task,
                given: u64::MAX,
            },
            Error::NotFound(task),
            Error::Unknown {
                what: "primitive",
                name: "gpu".to_owned(),
            },
            Error::IllegalTransition {
                from: Status::Ready,
                input: "start",
            },
            Error::invalid("payload", "it is nested too deeply"),
            Error::Limit {
                what: "depth",
                limit: 8,
                got: 9,
            },
            Error::Full,
            Error::Busy { retry_after_ms: 50 },
            unavailable("no answer".to_owned()),
            Error::Corrupt("odd".to_owned()),
            Error::NewerDatabase { found: 9, newest: 3 },
            Error::InUse("a/b.db".into()),
            Error::Denied("no key".to_owned()),
        ]
    }

    #[test]
    fn errors_come_back_as_they_went() {
        for error in errors() {
            let text = serde_json::to_string(&error).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["code"], error.code(), "{text}");
            let back: Error = serde_json::from_str(&text).unwrap();
            assert_eq!(format!("{back:?}"), format!("{error:?}"));
        }
    }

    #[test]
    fn an_unheard_error_is_an_unknown_outcome() {
        let back: Error =
            serde_json::from_str(r#"{"code": "gone_fishing", "detail": "back soon", "n": 1}"#).unwrap();
        let Error::Unavailable(cause) = back else {
            panic!("{back:?}")
        };
        assert_eq!(cause.to_string(), "back soon");
    }

    #[test]
    fn words_are_bounded() {
        assert_eq!(word("x".repeat(65)), "value");
        let odd: BTreeSet<_> = (0..2 * MAX_WORDS).map(|n| word(format!("odd {n}"))).collect();
        assert!(odd.len() <= MAX_WORDS + 1);
    }
}
