//! What a request may cost.

/// Limits of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LlmOptions {
    pub(crate) queue: usize,
    pub(crate) default_max_tokens: usize,
    pub(crate) max_inputs: usize,
}

impl Default for LlmOptions {
    /// 16 requests wait, 1,024 tokens where the request names no number, 64 texts in one embeddings request.
    fn default() -> Self {
        Self {
            queue: 16,
            default_max_tokens: 1024,
            max_inputs: 64,
        }
    }
}

impl LlmOptions {
    /// Requests that may wait beside those for whom the engine has a place, at least one; more get 429.
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
}
