//! How many webhooks, how patient, and when to give up.

use crate::Backoff;

/// The bounds on webhooks and their deliveries.
///
/// With the defaults an event is tried 18 times in about four days: after 5 s, 10 s, 20 s and so on, doubling up
/// to a day, each up to a fifth longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookLimits {
    /// Webhooks in a store.
    pub max_webhooks: u32,
    /// Bytes of an address.
    pub max_url_bytes: usize,
    /// Events of one webhook that wait for another attempt; when there are as many, its cursor stops.
    pub max_parked: u32,
    /// Dead letters of one webhook that are kept; then the oldest go.
    pub max_dead: u32,
    /// Attempts to deliver one event.
    pub max_attempts: u32,
    /// The wait between attempts.
    pub backoff: Backoff,
    /// The longest wait that a receiver may ask for.
    pub max_retry_after_ms: u64,
    /// After so long with nothing but failures a webhook is switched off.
    pub disable_after_ms: u64,
    /// The longest that a replaced key signs beside the new one.
    pub max_rotation_ms: u64,
}

impl Default for WebhookLimits {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 3_600_000;
        Self {
            max_webhooks: 100,
            max_url_bytes: 2_048,
            max_parked: 1_000,
            max_dead: 1_000,
            max_attempts: 18,
            backoff: Backoff {
                first_ms: 5_000,
                max_ms: DAY_MS,
                jitter_percent: 20,
            },
            max_retry_after_ms: DAY_MS,
            disable_after_ms: 5 * DAY_MS,
            max_rotation_ms: 30 * DAY_MS,
        }
    }
}

impl WebhookLimits {
    /// The longest that an event waits between two attempts.
    pub(crate) fn longest_wait_ms(&self) -> u64 {
        self.backoff.longest_ms().max(self.max_retry_after_ms)
    }

    /// Sets how many webhooks a store may have.
    #[must_use]
    pub fn with_max_webhooks(mut self, webhooks: u32) -> Self {
        self.max_webhooks = webhooks;
        self
    }

    /// Sets how many events of one webhook may wait for another attempt.
    #[must_use]
    pub fn with_max_parked(mut self, events: u32) -> Self {
        self.max_parked = events.max(1);
        self
    }

    /// Sets how many dead letters of one webhook are kept.
    #[must_use]
    pub fn with_max_dead(mut self, letters: u32) -> Self {
        self.max_dead = letters;
        self
    }

    /// Sets how often one event is tried, at least once.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// Sets the wait between attempts.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets after how long with nothing but failures a webhook is switched off.
    #[must_use]
    pub fn with_disable_after_ms(mut self, ms: u64) -> Self {
        self.disable_after_ms = ms;
        self
    }
}
