//! `GET /state`: the small, mergeable JSON that the agent loop reads before every step.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use serde_json::{Map, Value};

use crate::Problem;

/// The header that tells a service which task the caller works on.
pub const TASK_STATE_HEADER: &str = "x-task-state";

/// What a caller of `GET /state` said about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateQuery {
    /// The value of `X-Task-State`, as it came.
    pub task_state: Option<String>,
}

impl StateQuery {
    /// Sets the value of `X-Task-State`.
    #[must_use]
    pub fn with_task_state(mut self, task_state: impl Into<String>) -> Self {
        self.task_state = Some(task_state.into());
        self
    }

    /// Reads the headers that a state may depend on; a value that is not text counts as absent.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let task_state = headers
            .get(TASK_STATE_HEADER)
            .and_then(|value| value.to_str().ok());
        Self {
            task_state: task_state.map(str::to_owned),
        }
    }
}

/// What a service says about itself at `GET /state` and `GET /readyz`.
#[async_trait]
pub trait StateSource: Send + Sync {
    /// The present state: a small JSON object whose keys do not collide with other services'.
    ///
    /// # Errors
    /// A problem when the state cannot be read.
    async fn state(&self, query: &StateQuery) -> Result<Value, Problem>;

    /// Whether the service can take work now.
    ///
    /// # Errors
    /// A sentence that says what it waits for.
    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    /// Brings gauges up to date that are costly to keep so; called when somebody reads `/metrics`.
    async fn measure(&self) {}
}

/// A service without a state of its own: `{}`, always ready.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoState;

#[async_trait]
impl StateSource for NoState {
    async fn state(&self, _query: &StateQuery) -> Result<Value, Problem> {
        Ok(Value::Object(Map::new()))
    }
}

/// Several sources as one: objects are merged key by key, the first failure is the answer.
pub(crate) struct Merged(pub(crate) Vec<Arc<dyn StateSource>>);

#[async_trait]
impl StateSource for Merged {
    async fn state(&self, query: &StateQuery) -> Result<Value, Problem> {
        let mut merged = Value::Object(Map::new());
        for source in &self.0 {
            merge_state(&mut merged, source.state(query).await?);
        }
        Ok(merged)
    }

    async fn ready(&self) -> Result<(), String> {
        for source in &self.0 {
            source.ready().await?;
        }
        Ok(())
    }

    async fn measure(&self) {
        for source in &self.0 {
            source.measure().await;
        }
    }
}

/// Merges `other` into `base`: objects key by key, anything else is replaced.
///
/// ```
/// use serde_json::json;
/// let mut base = json!({"tasks": {"open": 1}, "cwd": "a"});
/// aion_service::merge_state(&mut base, json!({"tasks": {"done": 2}, "cwd": "b"}));
/// assert_eq!(base, json!({"tasks": {"open": 1, "done": 2}, "cwd": "b"}));
/// ```
pub fn merge_state(base: &mut Value, other: Value) {
    match (base, other) {
        (Value::Object(base), Value::Object(other)) => {
            for (key, value) in other {
                match base.get_mut(&key) {
                    Some(slot) => merge_state(slot, value),
                    None => drop(base.insert(key, value)),
                }
            }
        }
        (base, other) => *base = other,
    }
}
