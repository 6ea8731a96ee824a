//! What a request may cost.

/// Limits of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LlmOptions {
    pub(crate) queue: usize,
    pub(crate) default_max_tokens: usize,
    pub(crate) max_inputs: usize,
    pub(crate) max_choices: usize,
    pub(crate) max_total_tokens: usize,
    pub(crate) encodings: usize,
}

impl Default for LlmOptions {
    /// 16 requests wait, 1,024 tokens where the request names no number, 64 texts in one embeddings request, 16
    /// completions of 32,768 tokens together in one request; the sentence encoder, where there is one, works on as many
    /// requests as there are cores.
    fn default() -> Self {
        Self {
            queue: 16,
            default_max_tokens: 1024,
            max_inputs: 64,
            max_choices: 16,
            max_total_tokens: 32_768,
            encodings: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl LlmOptions {
    /// Requests that may wait beside those for whom the engine has a place, at least one; more get 429. As many may wait
    /// for the sentence encoder.
    #[must_use]
    pub fn with_queue(mut self, requests: usize) -> Self {
        self.queue = requests.max(1);
        self
    }

    /// Tokens of a completion whose request names no number, at least one.
    #[must_use]
    pub fn with_default_max_tokens(mut self, tokens: usize) -> Self {
        self.default_max_tokens = tokens.max(1);
        self
    }

    /// Texts in one embeddings request, at least one.
    #[must_use]
    pub fn with_max_inputs(mut self, texts: usize) -> Self {
        self.max_inputs = texts.max(1);
        self
    }

    /// Completions of one request (`n` for each prompt), at least one.
    #[must_use]
    pub fn with_max_choices(mut self, completions: usize) -> Self {
        self.max_choices = completions.max(1);
        self
    }

    /// Tokens that the completions of one request may have together, where it asks for several.
    #[must_use]
    pub fn with_max_total_tokens(mut self, tokens: usize) -> Self {
        self.max_total_tokens = tokens;
        self
    }

    /// Requests that the sentence encoder works on at once, at least one.
    #[must_use]
    pub fn with_encodings(mut self, requests: usize) -> Self {
        self.encodings = requests.max(1);
        self
    }
}
