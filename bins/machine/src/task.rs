//! `X-Task-State`: who calls, and which directory is theirs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aion_machine::wire::OPERATOR_KEY_HEADER;
use aion_machine::{RelPath, TaskKeys, TaskStateError};
use aion_service::Problem;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::context::Context;
use crate::options::Unsigned;

/// The longest header that is looked at, in bytes.
const MAX_HEADER_BYTES: usize = 8 << 10;
const MAX_TASK_ID_BYTES: usize = 128;

/// The task of a request: JSON `{"task_id", "cwd"}`, as it is or in base64url. Other members are left
/// alone.
///
/// The directory is `cwd` where it is given, else `tasks/{task_id}`, else the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskState {
    /// The task, if the caller named one.
    pub task_id: Option<String>,
    /// The directory that the paths of the request are relative to.
    pub cwd: RelPath,
}

#[derive(Deserialize)]
struct Header {
    task_id: Option<String>,
    cwd: Option<RelPath>,
}

impl TaskState {
    /// Reads the value of the header.
    ///
    /// ```
    /// use aion_machine_server::TaskState;
    /// let state = TaskState::parse(r#"{"task_id": "t1", "cwd": "jobs/t1"}"#)?;
    /// assert_eq!(state.cwd.as_str(), "jobs/t1");
    /// assert_eq!(TaskState::parse(r#"{"task_id": "t1"}"#)?.cwd.as_str(), "tasks/t1");
    /// assert!(TaskState::parse(r#"{"cwd": "../elsewhere"}"#).is_err());
    /// # Ok::<(), aion_service::Problem>(())
    /// ```
    ///
    /// # Errors
    /// A problem if it is not such JSON, or a path in it is not acceptable.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text.len() > MAX_HEADER_BYTES {
            return Err(invalid("it is too long"));
        }
        let plain = text.trim_start().starts_with('{');
        let json = if plain {
            text.as_bytes().to_vec()
        } else {
            decode(text)?
        };
        let header: Header = serde_json::from_slice(&json).map_err(|e| invalid(&e.to_string()))?;
        Self::of(header.task_id, header.cwd)
    }

    fn of(task_id: Option<String>, cwd: Option<RelPath>) -> Result<Self, Problem> {
        let cwd = match (cwd, &task_id) {
            (Some(cwd), _) => cwd,
            (None, Some(task_id)) => scratch(task_id)?,
            (None, None) => RelPath::root(),
        };
        Ok(Self { task_id, cwd })
    }

    /// The task of a request that may say nothing about it.
    pub(crate) fn parse_optional(text: Option<&str>) -> Result<Self, Problem> {
        match text.map(str::trim) {
            None | Some("") => Ok(Self::default()),
            Some(text) => Self::parse(text),
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, Problem> {
    let decoded = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    decoded.map_err(|_| invalid("it is neither JSON nor base64url"))
}

/// The directory of a task that has not been given one.
fn scratch(task_id: &str) -> Result<RelPath, Problem> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if task_id.is_empty() || task_id.len() > MAX_TASK_ID_BYTES || !task_id.bytes().all(plain) {
        return Err(invalid("the task id is not made of letters, digits, `-` and `_`"));
    }
    RelPath::parse(&format!("tasks/{task_id}")).map_err(|e| invalid(&e.to_string()))
}

fn invalid(why: &str) -> Problem {
    Problem::bad_request("invalid_task_state", format!("X-Task-State: {why}"))
}

/// Who is believed to be which task.
#[derive(Debug, Clone)]
pub(crate) struct Believed {
    pub(crate) keys: Option<Arc<TaskKeys>>,
    pub(crate) unsigned: Unsigned,
}

impl Believed {
    /// The task of a request, by the value of its header.
    pub(crate) fn task(&self, text: Option<&str>) -> Result<TaskState, Problem> {
        let text = text.map(str::trim).filter(|text| !text.is_empty());
        if let Some(signed) = text.filter(|text| is_signed(text)) {
            return self.verified(signed);
        }
        let accepted = match self.unsigned {
            Unsigned::WithoutKeys => self.keys.is_none(),
            Unsigned::Accept => true,
            Unsigned::Refuse => false,
        };
        if !accepted {
            let detail = "X-Task-State: it is missing or not signed, and unsigned ones are not believed here";
            return Err(unauthorized("task_state_unsigned", detail.to_owned()));
        }
        TaskState::parse_optional(text)
    }

    fn verified(&self, text: &str) -> Result<TaskState, Problem> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let verified = match &self.keys {
            Some(keys) => keys.verify(text, now.as_secs()),
            None => Err(TaskStateError::UnknownKey),
        };
        let claims = verified.map_err(|e| unauthorized(e.code(), format!("X-Task-State: {e}")))?;
        TaskState::of(claims.task_id, claims.cwd)
    }
}

/// Whether it is made as signed ones are: JSON and base64url have no such point.
fn is_signed(text: &str) -> bool {
    !text.starts_with('{') && text.contains('.')
}

fn unauthorized(code: &'static str, detail: String) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, detail)
}

/// A caller who may see what all tasks do.
#[derive(Debug)]
pub(crate) struct Operator;

impl FromRequestParts<Arc<Context>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Problem> {
        let key = parts.headers.get(OPERATOR_KEY_HEADER);
        context
            .operator(key.and_then(|key| key.to_str().ok()))
            .map(|()| Self)
    }
}

impl FromRequestParts<Arc<Context>> for TaskState {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Problem> {
        // Nobody outside of this process can set an extension.
        if let Some(task) = parts.extensions.get::<Self>() {
            crate::operations::is_of(task);
            return Ok(task.clone());
        }
        let value = parts.headers.get(aion_service::TASK_STATE_HEADER);
        let text = value.map(|value| value.to_str().map_err(|_| invalid("it is not ASCII")));
        let task = context.task(text.transpose()?).await?;
        crate::operations::is_of(&task);
        Ok(task)
    }
}
