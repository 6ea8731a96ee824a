//! Webhooks and deliveries as they stand.

use aion_types::{EventRecord, HandlerId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::WebhookFilter;

/// A webhook as it stands. Its keys are not in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its name in the store.
    pub name: String,
    /// Where messages go.
    pub url: String,
    /// Which events it tells of.
    pub filter: WebhookFilter,
    /// Whether it tells of anything now.
    pub state: WebhookState,
    /// Every event up to this `seq` was delivered, is parked, became a dead letter, or was not wanted.
    pub cursor: u64,
    /// Fencing token of whoever sends.
    pub epoch: u64,
    /// Events that wait for another attempt.
    pub parked: u32,
    /// How many more may wait; the cursor stops at 0.
    pub room: u32,
    /// Dead letters.
    pub dead: u32,
    /// When the next parked event is tried again.
    pub next_at: Option<Timestamp>,
    /// Since when there has been nothing but failures.
    pub failing_since: Option<Timestamp>,
    /// When a message was last accepted.
    pub last_success_at: Option<Timestamp>,
    /// What was last said of a message that was not accepted.
    pub last_failure: Option<Word>,
    /// Messages that were accepted.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// The last test that was asked for.
    pub ping: Option<Ping>,
    /// Until when the key before the present one signs as well.
    pub rotating_until: Option<Timestamp>,
    /// Who sends.
    pub holder: Option<HandlerId>,
    /// Until when nobody else may send.
    pub held_until: Option<Timestamp>,
    /// From 1, one more with every change of address, filter, key or state.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

impl Webhook {
    /// Whether it tells of new events.
    pub fn is_active(&self) -> bool {
        self.state == WebhookState::Active
    }

    /// Whether its cursor stands still because too many events wait for another attempt.
    pub const fn is_held_back(&self) -> bool {
        self.room == 0
    }

    /// Whether a test was asked for that has not been sent.
    pub fn has_open_ping(&self) -> bool {
        self.ping.as_ref().is_some_and(|ping| ping.word.is_none())
    }
}

/// Whether a webhook tells of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookState {
    /// It does.
    Active,
    /// Somebody paused it.
    Paused,
    /// It was switched off.
    Disabled(Disabled),
}

/// Why a webhook was switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disabled {
    /// The receiver said 410: it will never come back.
    Gone,
    /// There was nothing but failures for a long time.
    Failing,
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed; none if the message was accepted.
    pub error: Option<String>,
    /// How long the receiver asked to wait.
    pub retry_after_ms: Option<u64>,
}

impl Outcome {
    /// The message was accepted with this status.
    pub const fn accepted(status: u16) -> Self {
        Self {
            status: Some(status),
            error: None,
            retry_after_ms: None,
        }
    }

    /// The message was not accepted.
    pub fn failed(status: Option<u16>, error: impl Into<String>) -> Self {
        Self {
            status,
            error: Some(error.into()),
            retry_after_ms: None,
        }
    }

    /// The receiver asked to wait.
    #[must_use]
    pub fn with_retry_after_ms(mut self, ms: Option<u64>) -> Self {
        self.retry_after_ms = ms;
        self
    }

    /// Whether the message was accepted.
    pub const fn is_accepted(&self) -> bool {
        self.error.is_none()
    }

    /// Whether the receiver will never come back.
    pub fn is_gone(&self) -> bool {
        self.error.is_some() && self.status == Some(410)
    }
}

/// What was said of an attempt, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// When.
    pub at: Timestamp,
    /// What.
    pub outcome: Outcome,
}

/// A test of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The id of its message.
    pub id: String,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// What came of it; none until it was sent.
    pub word: Option<Word>,
}

/// An event that could not be delivered yet, or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The webhook.
    pub webhook: String,
    /// Whether it is tried again.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried again; none while it waits behind an earlier event of its task, and for a dead letter.
    pub next_at: Option<Timestamp>,
    /// When it was put aside.
    pub since: Timestamp,
    /// What came of the last attempt.
    pub last: Option<Word>,
    /// The event itself, for it may leave the log in the meantime.
    pub event: EventRecord,
}

impl Delivery {
    /// Its place in the log.
    pub const fn seq(&self) -> u64 {
        self.event.seq
    }

    /// The task that it is about.
    pub const fn task(&self) -> TaskId {
        self.event.task_id
    }
}

/// Whether a delivery is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is.
    Parked,
    /// It was tried too often: a dead letter.
    Dead,
}

/// Which page of the deliveries of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryQuery {
    /// The webhook.
    pub webhook: String,
    /// Which of them.
    pub state: DeliveryState,
    /// The `seq` to go on from, not included.
    pub after: u64,
    /// How many at most; 0 stands for 100.
    pub limit: u32,
}
