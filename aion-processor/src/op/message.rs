//! A message to append.

use aion_types::{Json, Role, ToolCall};
use serde::{Deserialize, Serialize};

/// A message to append.
///
/// Appending it again with the same key gives the message that was written first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Calls that the model asked for.
    #[serde(default)]
    pub tool_calls: Vec<ToolCall>,
    /// Which call this answers.
    pub tool_call_id: Option<String>,
    /// What the model server reported of its tokens, kept as it came.
    pub persistence: Option<Json>,
    /// Idempotency key, unique among the messages of the task.
    pub key: Option<String>,
}

impl NewMessage {
    /// A message of text alone.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
            persistence: None,
            key: None,
        }
    }

    /// Adds the calls that the model asked for.
    #[must_use]
    pub fn with_tool_calls(mut self, calls: Vec<ToolCall>) -> Self {
        self.tool_calls = calls;
        self
    }

    /// Says which call this answers.
    #[must_use]
    pub fn with_tool_call_id(mut self, id: impl Into<String>) -> Self {
        self.tool_call_id = Some(id.into());
        self
    }

    /// Adds what the model server reported of its tokens.
    #[must_use]
    pub fn with_persistence(mut self, persistence: Json) -> Self {
        self.persistence = Some(persistence);
        self
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}
