//! A language model as a predictor: asked seldom, within a budget, answered in JSON or not at all.

mod answer;
mod budget;
mod prompt;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aion_types::{Clock, ForecasterId, PpmDist, Prob};
use async_trait::async_trait;
use serde_json::Value;

use super::{Cadence, Ended, Opinion, Pace, PredictError, Predictor};
use crate::Result;
use crate::feed::TaskView;

pub use answer::parse_probabilities;
use budget::Books;
pub use budget::{LlmBudget, LlmUsage};

/// Why a model gave no answer.
pub type ChatError = Box<dyn std::error::Error + Send + Sync>;

/// What a model is asked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ChatPrompt {
    /// The rules.
    pub system: String,
    /// The task and its messages, as data.
    pub user: String,
    /// The JSON schema of the answer: an object with `probabilities`.
    pub schema: Value,
    /// The most tokens of the answer.
    pub max_tokens: u32,
}

/// What a model said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ChatAnswer {
    /// The text, JSON if the model kept to the schema.
    pub text: String,
    /// Tokens of prompt and answer, if the server counts them.
    pub tokens: Option<u64>,
}

impl ChatAnswer {
    /// A text, its tokens not counted.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tokens: None,
        }
    }

    /// Sets the tokens of prompt and answer.
    #[must_use]
    pub const fn with_tokens(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }
}

/// Some language model, wherever it runs.
#[async_trait]
pub trait ChatModel: Debug + Send + Sync {
    /// Answers one prompt.
    ///
    /// # Errors
    /// [`ChatError`]; the predictor then has no opinion and says why.
    async fn complete(&self, prompt: &ChatPrompt) -> Result<ChatAnswer, ChatError>;
}

/// Why a language model has no opinion.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LlmError {
    /// The answer is not what was asked for.
    #[error("the answer is no forecast: {0}")]
    Malformed(String),
    /// No answer in time.
    #[error("no answer within {after_ms} ms")]
    Timeout {
        /// How long it was waited for.
        after_ms: u64,
    },
    /// The model failed.
    #[error("the model failed")]
    Model(#[source] ChatError),
}

/// How an [`LlmPredictor`] asks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LlmOptions {
    budget: LlmBudget,
    timeout: Duration,
    cadence: Cadence,
    max_prompt_bytes: usize,
    max_tokens: u32,
}

impl Default for LlmOptions {
    /// The default [`LlmBudget`], 30 s, debounced with the others, 24,000 bytes of transcript, 200 tokens
    /// of answer.
    fn default() -> Self {
        Self {
            budget: LlmBudget::default(),
            timeout: Duration::from_secs(30),
            cadence: Cadence::Debounced,
            max_prompt_bytes: 24_000,
            max_tokens: 200,
        }
    }
}

impl LlmOptions {
    /// Sets what it may spend.
    #[must_use]
    pub const fn with_budget(mut self, budget: LlmBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Sets how long an answer may take. The observer's own limit applies as well.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets when it is asked.
    #[must_use]
    pub const fn with_cadence(mut self, cadence: Cadence) -> Self {
        self.cadence = cadence;
        self
    }

    /// Sets how much of a transcript is shown: its beginning and its end.
    #[must_use]
    pub const fn with_max_prompt_bytes(mut self, bytes: usize) -> Self {
        self.max_prompt_bytes = bytes;
        self
    }
}

/// Asks a [`ChatModel`] how likely a task is to succeed.
///
/// The model is shown the task and its transcript as data, never the price. Every call is counted before
/// it is made; a call over the budget is not made. An answer that is not the JSON that was asked for is no
/// forecast: the predictor fails with the reason. An observer does not wait for it ([`Pace::Aside`]).
#[derive(Debug)]
pub struct LlmPredictor {
    id: ForecasterId,
    model: Arc<dyn ChatModel>,
    clock: Arc<dyn Clock>,
    options: LlmOptions,
    books: Mutex<Books>,
}

impl LlmPredictor {
    /// Asks this model, under the name `llm`.
    ///
    /// # Errors
    /// [`crate::Error`] never: the name is a valid one.
    pub fn new(model: Arc<dyn ChatModel>, clock: Arc<dyn Clock>, options: LlmOptions) -> Result<Self> {
        Ok(Self {
            id: ForecasterId::new("llm")?,
            model,
            clock,
            options,
            books: Mutex::default(),
        })
    }

    /// Sets the name, for several models side by side.
    #[must_use]
    pub fn with_id(mut self, id: ForecasterId) -> Self {
        self.id = id;
        self
    }

    /// What it has spent.
    pub fn usage(&self) -> LlmUsage {
        self.lock().usage()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // Counters are changed one by one; a lost one only makes the budget tighter.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, prompt: &ChatPrompt) -> Result<Prob, LlmError> {
        let after_ms = u64::try_from(self.options.timeout.as_millis()).unwrap_or(u64::MAX);
        let answer = tokio::time::timeout(self.options.timeout, self.model.complete(prompt));
        let answer = match answer.await {
            Err(_) => return Err(LlmError::Timeout { after_ms }),
            Ok(Err(error)) => return Err(LlmError::Model(error)),
            Ok(Ok(answer)) => answer,
        };
        if let Some(tokens) = answer.tokens {
            self.lock().correct(prompt::tokens(prompt), tokens);
        }
        let probabilities = parse_probabilities(&answer.text, &prompt::OUTCOMES)?;
        Prob::new(probabilities[crate::SUCCESS]).map_err(|error| LlmError::Malformed(error.to_string()))
    }
}

#[async_trait]
impl Predictor for LlmPredictor {
    fn id(&self) -> &ForecasterId {
        &self.id
    }

    fn cadence(&self) -> Cadence {
        self.options.cadence
    }

    fn pace(&self) -> Pace {
        Pace::Aside
    }

    async fn predict(&self, task: &TaskView<'_>, _price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let prompt = prompt::of(task, self.options.max_prompt_bytes, self.options.max_tokens);
        let tokens = prompt::tokens(&prompt);
        let now = self.clock.now();
        if !self.lock().spend(&self.options.budget, task.task.id, now, tokens) {
            return Ok(None);
        }
        match self.ask(&prompt).await {
            Ok(success) => Ok(Some(Opinion::new(success))),
            Err(error) => {
                self.lock().failed();
                Err(error.into())
            }
        }
    }

    async fn learn(&self, ended: &Ended<'_>) -> Result<(), PredictError> {
        if let Some(view) = &ended.task {
            self.lock().close(view.task.id);
        }
        Ok(())
    }
}
