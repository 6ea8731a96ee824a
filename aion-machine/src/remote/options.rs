//! How a remote machine is called.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::TaskKeys;

/// How a remote machine is called: keys, who calls, the time it has, how often it is tried. No key shows in a
/// log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RemoteOptions {
    pub(super) api_key: Option<SecretString>,
    pub(super) operator_key: Option<SecretString>,
    pub(super) task_keys: Option<Arc<TaskKeys>>,
    pub(super) task_id: Option<String>,
    pub(super) signature_life: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) pause: Duration,
    pub(super) max_answer_bytes: usize,
}

impl Default for RemoteOptions {
    /// No keys and no task; 5 s for a connection, 60 s for an answer of at most 64 MiB; four more tries after
    /// 50, 100, 200 and 400 ms; signatures for 60 s.
    fn default() -> Self {
        Self {
            api_key: None,
            operator_key: None,
            task_keys: None,
            task_id: None,
            signature_life: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(60),
            retries: 4,
            pause: Duration::from_millis(50),
            max_answer_bytes: 64 << 20,
        }
    }
}

impl RemoteOptions {
    /// Sets the key of the server, sent as a bearer token.
    #[must_use]
    pub fn with_api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(SecretString::from(key.into()));
        self
    }

    /// Sets the key of the operator, which servers may want for a probe.
    #[must_use]
    pub fn with_operator_key(mut self, key: impl Into<String>) -> Self {
        self.operator_key = Some(SecretString::from(key.into()));
        self
    }

    /// Signs which task calls and where it works.
    #[must_use]
    pub fn with_task_keys(mut self, keys: Arc<TaskKeys>) -> Self {
        self.task_keys = Some(keys);
        self
    }

    /// Says which task calls.
    #[must_use]
    pub fn with_task_id(mut self, task_id: impl Into<String>) -> Self {
        self.task_id = Some(task_id.into());
        self
    }

    /// Sets how long a signature is valid. One is made for each request.
    #[must_use]
    pub fn with_signature_life(mut self, life: Duration) -> Self {
        self.signature_life = life;
        self
    }

    /// Sets the time for a connection.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the time for an answer; streams have no end.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many more times a request is sent that may be repeated.
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

    /// Sets the longest answer that is read, in bytes.
    #[must_use]
    pub fn with_max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }

    /// The wait after `tries` that failed.
    pub(super) fn pause_after(&self, tries: u32) -> Duration {
        const LONGEST: Duration = Duration::from_secs(2);
        self.pause.saturating_mul(1 << tries.min(16)).min(LONGEST)
    }
}
