//! Why a model gave no complete answer.

use crate::transport::TransportError;

/// Why a model gave no complete answer. No variant carries a key or a prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The server could not be reached, or the way to it broke.
    #[error("the model server could not be reached")]
    Transport(#[from] TransportError),
    /// No complete answer within the time.
    #[error("no complete answer within {after_ms} ms")]
    Timeout {
        /// The time that was allowed.
        after_ms: u64,
    },
    /// The server refused.
    #[error("the model server answered {status}: {message}")]
    Status {
        /// The HTTP status, or 200 when the refusal came inside an answer.
        status: u16,
        /// What it says.
        message: String,
        /// When it asks to be asked again.
        retry_after_s: Option<u64>,
    },
    /// The answer is no JSON, such as the HTML page of a proxy.
    #[error("the model server answered with {content_type} instead of JSON: {snippet}")]
    NotJson {
        /// What it claims to be.
        content_type: String,
        /// How it begins.
        snippet: String,
    },
    /// JSON, but no chat completion.
    #[error("the model server's answer has {reason}: {snippet}")]
    Shape {
        /// What is wrong with it.
        reason: &'static str,
        /// How it begins.
        snippet: String,
    },
    /// A stream that ended before the model said that it was done.
    #[error("the stream ended after {events} events without a finish reason")]
    StreamCut {
        /// Events read before.
        events: u64,
    },
    /// An answer over the limit.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The configuration names no usable server.
    #[error("the model is not configured: {0}")]
    Config(String),
    /// A model that runs in this process failed.
    #[error("the engine failed: {0}")]
    Engine(String),
}

impl ModelError {
    /// Whether the same question may well be answered a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport(error) => error.is_transient(),
            Self::Timeout { .. } | Self::StreamCut { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 409 | 425 | 429 | 500..=599),
            Self::NotJson { .. }
            | Self::Shape { .. }
            | Self::TooLarge { .. }
            | Self::Config(_)
            | Self::Engine(_) => false,
        }
    }

    /// How long the server asks to wait.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Status { retry_after_s, .. } => *retry_after_s,
            _ => None,
        }
    }
}
