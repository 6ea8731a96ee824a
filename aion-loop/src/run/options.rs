//! How a run behaves: protocol, budget, limits.

use serde::{Deserialize, Serialize};

use crate::budget::Budget;

/// How the model is told about tools and how it asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Tools in the request, `tool_calls` in the answer: for models trained to it.
    #[default]
    Native,
    /// Tools in the prompt, and an answer that must be one `{"action", "arguments"}` object, which the
    /// server enforces by a JSON schema: for small models, which ignore `tools`.
    JsonSchema,
}

/// What becomes of a run that has a call nobody knows the outcome of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguous {
    /// It waits until somebody says what happened.
    #[default]
    Park,
    /// The model is told that the call may or may not have happened, and goes on.
    Report,
}

/// Options of a run; part of its snapshot.
///
/// ```
/// use aion_loop::{Budget, Protocol, RunOptions};
///
/// let options = RunOptions::for_small_model()
///     .with_budget(Budget { tokens: 20_000, steps: 8, seconds: 300 });
/// assert_eq!(options.protocol, Protocol::JsonSchema);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// How tools are told and asked for.
    pub protocol: Protocol,
    /// Rules for the whole conversation, put before those of the protocol.
    pub system: String,
    /// What may be used.
    pub budget: Budget,
    /// The most tokens of one answer.
    pub max_output_tokens: u32,
    /// The fewest tokens for which an answer is still asked for.
    pub min_output_tokens: u32,
    /// The context of the model in tokens; older steps are left out of the prompt to fit it.
    pub context_tokens: u64,
    /// Steps that stay in the prompt.
    pub history_steps: usize,
    /// Bytes of the state in the prompt; 0 leaves it out.
    pub state_bytes: usize,
    /// Bytes of each tool's answer in the prompt.
    pub answer_bytes: usize,
    /// Lines of a state difference in the prompt.
    pub diff_lines: usize,
    /// Tools that every prompt names; all of them when `shortlist` is none.
    pub core: Vec<String>,
    /// How many more tools each step names, chosen by a ranker.
    pub shortlist: Option<usize>,
    /// Bytes of a tool's description in the prompt of the JSON-schema protocol.
    pub description_bytes: usize,
    /// Most tools in a native request; beyond it only core and shortlist are sent.
    pub max_native_tools: usize,
    /// Most calls in one answer.
    pub max_calls: usize,
    /// Times in a row that an unusable answer is asked for again.
    pub repairs: u32,
    /// Times in a row that the model may fail to answer.
    pub model_failures: u32,
    /// Same calls in a row without any change of state after which a run counts as stalled.
    pub stall_after: u32,
    /// Calls of unknown outcome.
    pub on_ambiguous: OnAmbiguous,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Seed of the sampler.
    pub seed: Option<u64>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            protocol: Protocol::Native,
            system: String::new(),
            budget: Budget::default(),
            max_output_tokens: 1_024,
            min_output_tokens: 16,
            context_tokens: 32_768,
            history_steps: 24,
            state_bytes: 2_000,
            answer_bytes: 8_000,
            diff_lines: 20,
            core: Vec::new(),
            shortlist: None,
            description_bytes: 300,
            max_native_tools: 64,
            max_calls: 16,
            repairs: 2,
            model_failures: 3,
            stall_after: 3,
            on_ambiguous: OnAmbiguous::Park,
            temperature: None,
            seed: None,
        }
    }
}

impl RunOptions {
    /// For models of a few hundred million parameters: the JSON-schema protocol, short prompts, greedy.
    pub fn for_small_model() -> Self {
        Self {
            protocol: Protocol::JsonSchema,
            max_output_tokens: 320,
            context_tokens: 2_048,
            history_steps: 3,
            state_bytes: 240,
            answer_bytes: 900,
            diff_lines: 6,
            description_bytes: 80,
            max_calls: 1,
            temperature: Some(0.0),
            ..Self::default()
        }
    }

    /// Sets the protocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the rules for the conversation.
    #[must_use]
    pub fn with_system(mut self, system: impl Into<String>) -> Self {
        self.system = system.into();
        self
    }

    /// Sets the budget.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Names `core` in every prompt, and `k` more tools a step.
    #[must_use]
    pub fn with_shortlist<T: Into<String>>(mut self, core: impl IntoIterator<Item = T>, k: usize) -> Self {
        self.core = core.into_iter().map(Into::into).collect();
        self.shortlist = Some(k);
        self
    }

    /// Sets the sampling temperature and seed.
    #[must_use]
    pub fn with_sampling(mut self, temperature: f64, seed: u64) -> Self {
        self.temperature = Some(temperature);
        self.seed = Some(seed);
        self
    }

    /// Sets what becomes of calls of unknown outcome.
    #[must_use]
    pub fn with_on_ambiguous(mut self, on_ambiguous: OnAmbiguous) -> Self {
        self.on_ambiguous = on_ambiguous;
        self
    }

    /// Sets the most tokens of one answer and the context of the model.
    #[must_use]
    pub fn with_tokens(mut self, max_output_tokens: u32, context_tokens: u64) -> Self {
        self.max_output_tokens = max_output_tokens;
        self.context_tokens = context_tokens;
        self
    }
}
