//! One message of a task's history.

use serde::{Deserialize, Serialize};

use crate::{Format, Json, TaskId, Timestamp};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Rules that hold for the whole conversation.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
    /// The answer of a tool.
    Tool,
}

impl Role {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// A call of a tool that the model asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Ties the answer to the call.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// The arguments as JSON text, just as the model gave them.
    pub arguments: String,
}

/// A message as it is stored and exchanged; never changed once written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageRecord {
    /// Version of this record.
    #[serde(default)]
    pub format: Format,
    /// The task that it belongs to.
    pub task_id: TaskId,
    /// Its place in the history, from 1.
    pub seq: u64,
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Calls that the model asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// What the model server reported of its tokens, kept as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Json>,
    /// When it was written.
    pub created_at: Timestamp,
}
