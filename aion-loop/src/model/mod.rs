//! What a language model is to the loop: messages in, a reply with calls and usage out.

mod config;
mod error;
mod openai;
mod stream;
mod wire;

use std::fmt::Debug;

use aion_types::{Json, PersistenceSummary, Role, ToolCall};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use config::OpenAiConfig;
pub use error::ModelError;
pub use openai::{OpenAiChat, RetryPolicy, Streaming};
pub use stream::StreamAccumulator;
pub use wire::{parse_completion, request_body};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
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
}

impl ChatMessage {
    /// A message without calls.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// What the model said, with the calls that it asked for.
    pub fn assistant(content: impl Into<String>, tool_calls: Vec<ToolCall>) -> Self {
        Self {
            tool_calls,
            ..Self::new(Role::Assistant, content)
        }
    }

    /// The answer to the call `id`.
    pub fn tool(id: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            tool_call_id: Some(id.into()),
            ..Self::new(Role::Tool, content)
        }
    }

    /// How many bytes of text it carries.
    pub fn bytes(&self) -> usize {
        let calls: usize = self
            .tool_calls
            .iter()
            .map(|call| call.name.len() + call.arguments.len())
            .sum();
        self.content.len() + calls
    }
}

/// A tool as the model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON schema of its arguments.
    pub parameters: Value,
}

/// A form that the whole answer must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseSchema {
    /// A name for it.
    pub name: String,
    /// The JSON schema.
    pub schema: Value,
}

/// What the model is asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The conversation so far.
    pub messages: Vec<ChatMessage>,
    /// Tools that it may call, for the native protocol.
    #[serde(default)]
    pub tools: Vec<ToolSpec>,
    /// The form of the answer, for the JSON-schema protocol.
    #[serde(default)]
    pub response_schema: Option<ResponseSchema>,
    /// The most tokens that it may write.
    pub max_tokens: u32,
    /// Sampling temperature; 0 is greedy.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Seed of the sampler.
    #[serde(default)]
    pub seed: Option<u64>,
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// It wants tools to be called.
    ToolCalls,
    /// It ran into the limit on tokens.
    Length,
    /// A filter stopped it.
    ContentFilter,
    /// Something else that a server says; the reply is complete.
    Other(String),
    /// Nothing says that the reply is complete: no call in it is ever dispatched.
    Missing,
}

/// Tokens used by one call, as far as the server says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    #[serde(default)]
    pub prompt_tokens: Option<u64>,
    /// Tokens written.
    #[serde(default)]
    pub completion_tokens: Option<u64>,
    /// Tokens read from the server's prefix cache.
    #[serde(default)]
    pub cached_tokens: Option<u64>,
    /// `usage.persistence`, kept as it came.
    #[serde(default)]
    pub persistence: Option<Json>,
}

impl Usage {
    /// All tokens, if the server said both numbers. What a server says may be anything: a sum that fits
    /// no number is the largest one.
    pub fn total(&self) -> Option<u64> {
        Some(self.prompt_tokens?.saturating_add(self.completion_tokens?))
    }

    /// The persistence of the reply, if the server reported it in the known form.
    pub fn summary(&self) -> Option<PersistenceSummary> {
        let value = serde_json::to_value(self.persistence.as_ref()?).ok()?;
        serde_json::from_value(value).ok()
    }
}

/// What the model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The text; empty when there are only calls.
    pub text: String,
    /// What it thought aloud before, where the server tells it apart.
    #[serde(default)]
    pub reasoning: String,
    /// The calls that it asks for, in order.
    #[serde(default)]
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: FinishReason,
    /// Tokens used.
    #[serde(default)]
    pub usage: Usage,
    /// The model that answered, by its own account.
    #[serde(default)]
    pub model: Option<String>,
}

/// A language model that the loop can ask.
#[async_trait]
pub trait ChatModel: Debug + Send + Sync + 'static {
    /// The name to report.
    fn name(&self) -> &str;

    /// Asks once; retries are the implementation's own affair.
    ///
    /// # Errors
    /// [`ModelError`] when there is no complete answer.
    async fn chat(&self, request: &ChatRequest) -> Result<ChatReply, ModelError>;
}
