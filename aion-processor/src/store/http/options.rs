//! How a store over HTTP calls.

use std::time::Duration;

use secrecy::SecretString;

/// How a store over HTTP calls: the key, the time it has, how often it tries, and how much goes in
/// one request. The key shows in no log.
///
/// ```
/// use std::time::Duration;
/// use aion_processor::HttpOptions;
///
/// let options = HttpOptions::default()
///     .with_api_key("correct horse battery")
///     .with_timeout(Duration::from_secs(5));
/// assert!(!format!("{options:?}").contains("horse"));
/// ```
#[derive(Debug, Clone)]
pub struct HttpOptions {
    pub(super) api_key: Option<SecretString>,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) pause: Duration,
    pub(super) in_flight: usize,
    pub(super) max_items: usize,
    pub(super) max_bytes: usize,
}

impl Default for HttpOptions {
    /// No key; 5 s for a connection, 30 s for an answer; three more tries, after 50, 100 and 200 ms;
    /// two requests of each sort at once, each with 512 operations or 2 MiB at most.
    fn default() -> Self {
        Self {
            api_key: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            retries: 3,
            pause: Duration::from_millis(50),
            in_flight: 2,
            max_items: 512,
            max_bytes: 2 << 20,
        }
    }
}

impl HttpOptions {
    /// Sets the key, sent as a bearer token.
    #[must_use]
    pub fn with_api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(SecretString::from(key.into()));
        self
    }

    /// Sets the time for a connection.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the time for an answer, from the connection to its last byte.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many more times a request is sent that certainly did nothing, or that may be
    /// repeated.
    #[must_use]
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the wait before the second try; it doubles from there, up to two seconds.
    #[must_use]
    pub fn with_pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets how many requests with writes may be on their way at once, at least one, and as many with
    /// claims. Whatever is asked meanwhile goes together in the next.
    #[must_use]
    pub fn with_in_flight(mut self, requests: usize) -> Self {
        self.in_flight = requests.max(1);
        self
    }

    /// Sets how many operations of several callers go together in one request, at least one; what one
    /// caller asks for at once is never taken apart.
    #[must_use]
    pub fn with_max_items(mut self, items: usize) -> Self {
        self.max_items = items.max(1);
        self
    }

    /// Sets how many bytes of several callers go together in one request.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The wait after `tries` that failed.
    pub(super) fn pause_after(&self, tries: u32) -> Duration {
        const LONGEST: Duration = Duration::from_secs(2);
        self.pause.saturating_mul(1 << tries.min(16)).min(LONGEST)
    }
}
