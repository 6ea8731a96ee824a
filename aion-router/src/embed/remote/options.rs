//! [`RemoteOptions`]: which server, which model, and for how long it is waited for.

use std::sync::Arc;
use std::time::Duration;

use aion_types::{Clock, SystemClock};
use secrecy::SecretString;

/// A server of embeddings, and the limits of asking it. The key is in no message and no debug print.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RemoteOptions {
    /// Its address up to `/embeddings`, such as `http://127.0.0.1:9210/v1`.
    pub base: String,
    /// The model's name there.
    pub model: String,
    /// What is sent as a bearer token.
    pub key: Option<SecretString>,
    /// How many numbers a vector has; learned from the first answer if not said.
    pub dim: Option<usize>,
    /// Texts of one request.
    pub batch: usize,
    /// The bytes of a text that are sent; the rest is left out.
    pub max_text_bytes: usize,
    /// The bytes of an answer that are read.
    pub max_answer_bytes: usize,
    /// How long one request may take; one that takes longer is not made again.
    pub timeout: Duration,
    /// How often a request is made that fails for a reason that may pass.
    pub attempts: u32,
    /// The wait before the second attempt, doubled before each further one, 2 seconds at most.
    pub backoff: Duration,
    /// How long a server that failed is left alone, in milliseconds.
    pub rest_ms: i64,
    /// What the time of rest is measured by.
    pub clock: Arc<dyn Clock>,
}

impl RemoteOptions {
    /// Batches of 64 texts of at most 8 KiB, answers of at most 32 MiB, 10 seconds a request, 3 attempts 200 ms
    /// apart and then more, 10 seconds of rest.
    pub fn new(base: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base: base.into(),
            model: model.into(),
            key: None,
            dim: None,
            batch: 64,
            max_text_bytes: 8 << 10,
            max_answer_bytes: 32 << 20,
            timeout: Duration::from_secs(10),
            attempts: 3,
            backoff: Duration::from_millis(200),
            rest_ms: 10_000,
            clock: Arc::new(SystemClock),
        }
    }

    /// Sends this key as a bearer token.
    #[must_use]
    pub fn with_key(mut self, key: SecretString) -> Self {
        self.key = Some(key);
        self
    }

    /// Holds the server to vectors of so many numbers from the first answer on.
    #[must_use]
    pub const fn with_dim(mut self, numbers: usize) -> Self {
        self.dim = Some(numbers);
        self
    }

    /// Sets how many texts one request has, at least 1.
    #[must_use]
    pub fn with_batch(mut self, texts: usize) -> Self {
        self.batch = texts.max(1);
        self
    }

    /// Sets how many bytes of an answer are read.
    #[must_use]
    pub const fn with_max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// Sets how many bytes of a text are sent.
    #[must_use]
    pub const fn with_max_text_bytes(mut self, bytes: usize) -> Self {
        self.max_text_bytes = bytes;
        self
    }

    /// Sets how long one request may take.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often a request is made at most, at least once.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Sets the wait before the second attempt.
    #[must_use]
    pub const fn with_backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long a server that failed is left alone.
    #[must_use]
    pub const fn with_rest_ms(mut self, ms: i64) -> Self {
        self.rest_ms = ms;
        self
    }

    /// Sets what the time of rest is measured by.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}
