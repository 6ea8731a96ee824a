//! One row, and how it is chained.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Enforcement, NetworkDecision, RelPath, Tier};

/// What became of something that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Outcome {
    /// It is about to happen; another row says what came of it.
    Asked,
    /// It happened.
    Done,
    /// It was not allowed.
    Denied,
    /// It was allowed and did not work.
    Failed,
    /// Whoever asked did not wait for it.
    Cancelled,
}

/// What a row says, without its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AuditEvent {
    /// The operation.
    pub op: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The task that asked, if it said who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The directory of the machine that it works in.
    pub cwd: RelPath,
    /// The row in which it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Names and numbers of what was asked for; no contents, no secrets.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub what: Value,
    /// Why it was denied or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How a program ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ProgramEnd>,
    /// How many bytes came back or were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// How a program ended, and what held it in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ProgramEnd {
    /// The exit code, unless a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Who or what ended it.
    pub ending: crate::Ending,
    /// The tier that held.
    pub tier: Tier,
    /// What held it in.
    pub enforcement: Enforcement,
    /// Where it connected to, or was not allowed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<NetworkDecision>,
}

impl AuditEvent {
    /// Something that is asked for in a directory.
    pub fn new(op: impl Into<String>, cwd: RelPath) -> Self {
        Self {
            op: op.into(),
            outcome: Outcome::Asked,
            task: None,
            cwd,
            of: None,
            what: Value::Null,
            code: None,
            end: None,
            bytes: None,
            duration_ms: None,
        }
    }

    /// Says what became of it.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome, code: Option<&str>) -> Self {
        self.outcome = outcome;
        self.code = code.map(str::to_owned);
        self
    }

    /// Says who asked.
    #[must_use]
    pub fn with_task(mut self, task: Option<String>) -> Self {
        self.task = task;
        self
    }

    /// Says what was asked for.
    #[must_use]
    pub fn with_what(mut self, what: Value) -> Self {
        self.what = what;
        self
    }

    /// The end of this, if it did not happen because nobody waited for it any more.
    pub(super) fn cancelled(&self) -> Self {
        Self {
            outcome: Outcome::Cancelled,
            what: Value::Null,
            ..self.clone()
        }
    }
}

/// A row as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AuditRow {
    /// Its number, from 1, without a gap.
    pub seq: u64,
    /// When it was written, in milliseconds since 1970.
    pub at_ms: u64,
    /// The hash of the row before.
    pub prev: String,
    /// What it says.
    #[serde(flatten)]
    pub event: AuditEvent,
    /// The hash of all that comes before it in the row's line.
    pub hash: String,
}

/// The hash that the first row of all is chained to.
pub(super) const ORIGIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const HASH_DIGITS: usize = ORIGIN.len();

/// A row without its hash; the text that is hashed.
#[derive(Serialize)]
struct Unhashed<'r> {
    seq: u64,
    at_ms: u64,
    prev: &'r str,
    #[serde(flatten)]
    event: &'r AuditEvent,
}

/// The line of a row, with its line break, and its hash.
pub(super) fn line(
    seq: u64,
    at_ms: u64,
    prev: &str,
    event: &AuditEvent,
) -> serde_json::Result<(String, String)> {
    let mut text = serde_json::to_string(&Unhashed {
        seq,
        at_ms,
        prev,
        event,
    })?;
    let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
    text.pop();
    text.push_str(&format!(",\"hash\":\"{hash}\"}}\n"));
    Ok((text, hash))
}

/// The row of a line (without its line break), if the hash fits the rest of it.
pub(super) fn parse(line: &str) -> Option<AuditRow> {
    let row: AuditRow = serde_json::from_str(line).ok()?;
    let tail = format!(",\"hash\":\"{}\"}}", row.hash);
    let head = line
        .strip_suffix(&tail)
        .filter(|_| row.hash.len() == HASH_DIGITS)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(head.as_bytes()).update(b"}");
    (hasher.finalize().to_hex().as_str() == row.hash).then_some(row)
}
