//! What is asked of the model, and what it answers.

use std::sync::Arc;

use aion_types::PersistenceSummary;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::chat::ChatMessage;
use crate::error::Result;
use crate::sampling::{LogitBias, Sampling, logit_bias};

/// What the model continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Text, special tokens recognised; the model's prefix token is put before it if it wants one.
    Text(String),
    /// Token ids as they are.
    Tokens(Vec<u32>),
    /// A conversation, rendered by the model's chat template. The text of special tokens inside messages is spelled
    /// out, so it cannot end a turn.
    Chat {
        /// The messages, oldest first.
        messages: Vec<ChatMessage>,
        /// The OpenAI list of tools, for templates that show them.
        tools: Option<Json>,
    },
}

impl Prompt {
    /// A conversation without tools.
    #[must_use]
    pub fn chat(messages: impl Into<Vec<ChatMessage>>) -> Self {
        Self::Chat {
            messages: messages.into(),
            tools: None,
        }
    }
}

/// What the output must look like.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum OutputFormat {
    /// Anything.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema admits.
    JsonSchema(Json),
    /// A text that this regular expression matches as a whole (the syntax of the `regex` crate, without look-around).
    Regex(String),
    /// A text of this grammar, in [llguidance's dialect of
    /// Lark](https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md), from its rule `start`.
    Lark(String),
}

/// What the model's end-of-text tokens do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndOfText {
    /// They end the completion.
    #[default]
    Stops,
    /// They are never chosen: for measuring speed.
    Banned,
}

/// One completion to make.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    pub(crate) prompt: Prompt,
    pub(crate) sampling: Sampling,
    pub(crate) logit_bias: LogitBias,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    pub(crate) format: OutputFormat,
    pub(crate) top_logprobs: usize,
    pub(crate) end_of_text: EndOfText,
    pub(crate) client: Arc<str>,
}

impl GenerateRequest {
    /// A greedy completion of the prompt, up to the end of the text or of the context window.
    #[must_use]
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            sampling: Sampling::greedy(),
            logit_bias: LogitBias::new(),
            max_tokens: None,
            stop: Vec::new(),
            format: OutputFormat::Text,
            top_logprobs: 0,
            end_of_text: EndOfText::Stops,
            client: Arc::from(""),
        }
    }

    /// How tokens are chosen.
    #[must_use]
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Adds to the logits of tokens before one is chosen: -100 bans a token, and 100 leaves only those that have it.
    ///
    /// # Errors
    /// [`Error::Request`](crate::Error::Request) for a bias outside -100 to 100, or more than
    /// [`MAX_LOGIT_BIAS`](crate::MAX_LOGIT_BIAS) of them.
    pub fn with_logit_bias(mut self, bias: impl IntoIterator<Item = (u32, f64)>) -> Result<Self> {
        self.logit_bias = logit_bias(bias)?;
        Ok(self)
    }

    /// At most this many tokens.
    #[must_use]
    pub fn with_max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Texts that end the completion and are not part of it.
    #[must_use]
    pub fn with_stop(mut self, stop: impl IntoIterator<Item = String>) -> Self {
        self.stop = stop.into_iter().collect();
        self
    }

    /// What the output must look like.
    #[must_use]
    pub fn with_format(mut self, format: OutputFormat) -> Self {
        self.format = format;
        self
    }

    /// Reports this many of the most probable tokens at each position.
    #[must_use]
    pub fn with_top_logprobs(mut self, k: usize) -> Self {
        self.top_logprobs = k;
        self
    }

    /// What end-of-text tokens do.
    #[must_use]
    pub fn with_end_of_text(mut self, end: EndOfText) -> Self {
        self.end_of_text = end;
        self
    }

    /// Who asks: clients that wait get places in turn, so that one with many requests does not keep out the others.
    #[must_use]
    pub fn with_client(mut self, client: impl Into<Arc<str>>) -> Self {
        self.client = client.into();
        self
    }
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEvent {
    /// Position in the completion, from 0.
    pub index: usize,
    /// The token.
    pub token: u32,
    /// Text that became safe to show; may be empty, and may belong to earlier tokens.
    pub text: String,
    /// `-ln p(token)` from the raw logits, in nats.
    pub surprise_nats: f64,
    /// Entropy of the prediction, in nats.
    pub entropy_nats: f64,
    /// `R_t`.
    pub persistence: f64,
    /// The most probable tokens with their log-probabilities, if asked for.
    pub top: Vec<(u32, f64)>,
}

/// What happens while a completion is made.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// A part of the prompt was read.
    Prefill {
        /// Prompt tokens done, those reused included.
        done: usize,
        /// Prompt tokens.
        total: usize,
    },
    /// A token was chosen.
    Token(TokenEvent),
    /// Text that was held back and turned out not to be a stop string.
    Tail(String),
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended the text, a stop string was met, or the schema was filled.
    Stop,
    /// The limit of tokens or of the context window was reached.
    Length,
    /// The caller asked to stop.
    Cancelled,
}

/// A finished completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text, without stop strings.
    pub text: String,
    /// The tokens, without the one that ended the text.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were still in the cache.
    pub cached_tokens: usize,
    /// `usage.persistence` with its probability `p`; none when no token was made.
    pub persistence: Option<PersistenceSummary>,
    /// Milliseconds until its turn came.
    pub queued_ms: i64,
    /// Milliseconds from then until the prompt was read.
    pub prefill_ms: i64,
    /// Milliseconds from then to the end.
    pub decode_ms: i64,
}

/// What the model says of one given token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub token: u32,
    /// `-ln p(token | all before)` in nats.
    pub surprise_nats: f64,
    /// Entropy of the prediction, in nats.
    pub entropy_nats: f64,
    /// `R_t`.
    pub persistence: f64,
    /// The most probable tokens with their log-probabilities, if asked for.
    pub top: Vec<(u32, f64)>,
}
