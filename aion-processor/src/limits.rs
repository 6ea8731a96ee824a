//! Limits: how large, how deep, how many; and how long to wait between attempts.

use aion_types::TaskId;

use crate::WebhookLimits;

/// The bounds that a store enforces; every one has a default that suits one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Steps from a task to its root.
    pub max_depth: u32,
    /// Bytes of a title.
    pub max_title_bytes: usize,
    /// Bytes of a spec.
    pub max_spec_bytes: usize,
    /// Bytes of a payload or a result, as JSON.
    pub max_payload_bytes: usize,
    /// Bytes of a message: its content, its calls and its persistence together.
    pub max_message_bytes: usize,
    /// Bytes of an error text; a longer one is cut.
    pub max_error_bytes: usize,
    /// Tasks in one claim.
    pub max_claim: u32,
    /// Items in one page.
    pub max_page: u32,
    /// Tasks that one gather may list.
    pub max_gather: usize,
    /// Operations in one call of `apply`.
    pub max_ops: usize,
    /// Attempts that a task may ask for.
    pub max_attempts: u32,
    /// Longest lease.
    pub max_lease_ms: u64,
    /// How many holders may vanish in a row before the task fails. An attempt that ends by itself (it fails and is
    /// retried, is released, or gathers tasks) begins the count anew.
    pub poison_limit: u32,
    /// The wait between attempts.
    pub backoff: Backoff,
    /// Grants that one task may hold at once.
    pub max_holds: u32,
    /// Tasks that may wait for one primitive.
    pub max_waiting: u32,
    /// Items of a queue, permits of a semaphore.
    pub max_permits: u32,
    /// Bytes of an item, as JSON.
    pub max_item_bytes: usize,
    /// Bytes of a version of an object, as JSON.
    pub max_object_bytes: usize,
    /// Versions of an object that are kept.
    pub max_object_versions: u32,
    /// How many webhooks, and how patient they are.
    pub webhooks: WebhookLimits,
    /// Steps that a task may record.
    pub max_steps: u32,
    /// Bytes of what a step gave, as JSON.
    pub max_step_bytes: usize,
    /// Bytes of all steps of a task: their names and what they gave, as JSON.
    pub max_steps_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: 64,
            max_title_bytes: 1 << 10,
            max_spec_bytes: 256 << 10,
            max_payload_bytes: 1 << 20,
            max_message_bytes: 1 << 20,
            max_error_bytes: 16 << 10,
            max_claim: 256,
            max_page: 1_000,
            max_gather: 10_000,
            max_ops: 1_000,
            max_attempts: 100,
            max_lease_ms: 24 * 3_600_000,
            poison_limit: 5,
            backoff: Backoff::default(),
            max_holds: 64,
            max_waiting: 1_000_000,
            max_permits: 1_000_000,
            max_item_bytes: 64 << 10,
            max_object_bytes: 1 << 20,
            max_object_versions: 16,
            webhooks: WebhookLimits::default(),
            max_steps: 10_000,
            max_step_bytes: 1 << 20,
            max_steps_bytes: 16 << 20,
        }
    }
}

impl Limits {
    /// Sets how many steps a task may lie below its root.
    #[must_use]
    pub fn with_max_depth(mut self, steps: u32) -> Self {
        self.max_depth = steps;
        self
    }

    /// Sets how many bytes a payload or a result may have, as JSON.
    #[must_use]
    pub fn with_max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }

    /// Sets how many bytes a version of an object may have, as JSON.
    #[must_use]
    pub fn with_max_object_bytes(mut self, bytes: usize) -> Self {
        self.max_object_bytes = bytes;
        self
    }

    /// Sets how many versions of an object are kept, at least one.
    #[must_use]
    pub fn with_max_object_versions(mut self, versions: u32) -> Self {
        self.max_object_versions = versions.max(1);
        self
    }

    /// Sets how many steps a task may record, how many bytes what each of them gave may have, as JSON,
    /// and how many all of them together.
    #[must_use]
    pub fn with_max_steps(mut self, steps: u32, bytes_each: usize, bytes_together: usize) -> Self {
        self.max_steps = steps;
        self.max_step_bytes = bytes_each;
        self.max_steps_bytes = bytes_together;
        self
    }

    /// Sets how many holders may vanish before the task fails.
    #[must_use]
    pub fn with_poison_limit(mut self, crashes: u32) -> Self {
        self.poison_limit = crashes;
        self
    }

    /// Sets how many webhooks there may be, and how patient they are.
    #[must_use]
    pub fn with_webhooks(mut self, webhooks: WebhookLimits) -> Self {
        self.webhooks = webhooks;
        self
    }

    /// Sets the wait between attempts.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}

/// Exponential backoff with a jitter that is the same for the same task and attempt.
///
/// ```
/// use aion_processor::Backoff;
/// use aion_types::{TaskId, Timestamp};
///
/// let task = TaskId::generate(Timestamp::from_ms(0));
/// let backoff = Backoff { first_ms: 1_000, max_ms: 60_000, jitter_percent: 20 };
/// assert!((1_000..=1_200).contains(&backoff.delay_ms(task, 1)));
/// assert!((4_000..=4_800).contains(&backoff.delay_ms(task, 3)));
/// assert!((60_000..=72_000).contains(&backoff.delay_ms(task, 50)));
/// assert_eq!(backoff.delay_ms(task, 3), backoff.delay_ms(task, 3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first attempt.
    pub first_ms: u64,
    /// The longest wait, before jitter.
    pub max_ms: u64,
    /// How much may be added, in percent of the wait.
    pub jitter_percent: u8,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first_ms: 1_000,
            max_ms: 3_600_000,
            jitter_percent: 20,
        }
    }
}

impl Backoff {
    /// The longest wait, with the most jitter.
    pub(crate) fn longest_ms(&self) -> u64 {
        let widest = self.max_ms.saturating_mul(u64::from(self.jitter_percent)) / 100;
        self.max_ms.saturating_add(widest)
    }

    /// How long to wait after attempt number `attempt`, counted from 1: doubles each time.
    pub fn delay_ms(&self, task: TaskId, attempt: u32) -> u64 {
        let doublings = attempt.saturating_sub(1).min(62);
        let wait = self.first_ms.saturating_mul(1 << doublings).min(self.max_ms);
        let widest = wait.saturating_mul(u64::from(self.jitter_percent)) / 100;
        wait.saturating_add(jitter(task, attempt) % (widest + 1))
    }
}

/// 64 even bits that depend on the task and the attempt alone.
fn jitter(task: TaskId, attempt: u32) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(task.as_bytes()).update(&attempt.to_le_bytes());
    let mut bits = [0; 8];
    bits.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bits)
}
