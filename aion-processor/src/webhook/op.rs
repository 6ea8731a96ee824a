//! What can be done with webhooks.

use aion_types::{EventRecord, HandlerId, TaskId};
use serde::{Deserialize, Serialize};

use super::{Delivery, DeliveryQuery, Outcome, Webhook, WebhookFilter, WebhookKey};
use crate::NameQuery;

/// A change of a webhook; each gives [`Done::Webhook`](crate::Done::Webhook) unless it says otherwise.
///
/// Taking and settling is not for the wire: what is taken has the keys in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum WebhookOp {
    /// Makes a webhook.
    Create(NewWebhook),
    /// Changes address or filter.
    Change(WebhookChange),
    /// Removes it with its deliveries; gives [`Done::Nothing`](crate::Done::Nothing).
    Remove(String),
    /// Stops it where it is.
    Pause(String),
    /// Goes on, also after it was switched off; what is parked is tried at once.
    Resume(String),
    /// Signs with a new key from now on, and for a while with the present one as well.
    Rotate {
        /// The webhook.
        name: String,
        /// The new key.
        key: WebhookKey,
        /// How long the present key goes on signing.
        keep_ms: u64,
    },
    /// Tells of everything after this event again; deliveries of later events are forgotten.
    Replay {
        /// The webhook.
        name: String,
        /// The last event that is not told of again.
        after: u64,
    },
    /// Makes dead letters parked events again, the oldest first, as many as there is room for.
    Retry {
        /// The webhook.
        name: String,
        /// Only this one.
        seq: Option<u64>,
    },
    /// Asks for a test message.
    Ping(String),
    /// Takes it to send; gives [`Done::Taken`](crate::Done::Taken).
    #[serde(skip)]
    Take(TakeWebhook),
    /// Says what came of sending.
    #[serde(skip)]
    Settle(Box<SettleWebhook>),
}

impl WebhookOp {
    /// The webhook that it is about.
    pub fn name(&self) -> &str {
        match self {
            Self::Create(new) => &new.name,
            Self::Change(change) => &change.name,
            Self::Take(take) => &take.name,
            Self::Settle(settle) => &settle.name,
            Self::Remove(name)
            | Self::Pause(name)
            | Self::Resume(name)
            | Self::Rotate { name, .. }
            | Self::Replay { name, .. }
            | Self::Retry { name, .. }
            | Self::Ping(name) => name,
        }
    }
}

/// A webhook to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// Its name in the store.
    pub name: String,
    /// Where messages go: `https://` or `http://`, and what the sender allows of it.
    pub url: String,
    /// Which events it tells of.
    #[serde(default)]
    pub filter: WebhookFilter,
    /// What messages are signed with.
    pub key: WebhookKey,
    /// The last event that it does not tell of; none begins with the next one.
    pub after: Option<u64>,
}

impl NewWebhook {
    /// Tells of all events from now on.
    pub fn new(name: impl Into<String>, url: impl Into<String>, key: WebhookKey) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            filter: WebhookFilter::default(),
            key,
            after: None,
        }
    }

    /// Tells of these events only.
    #[must_use]
    pub fn with_filter(mut self, filter: WebhookFilter) -> Self {
        self.filter = filter;
        self
    }

    /// Begins after this event.
    #[must_use]
    pub fn with_after(mut self, seq: u64) -> Self {
        self.after = Some(seq);
        self
    }
}

/// A change of address or filter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookChange {
    /// The webhook.
    pub name: String,
    /// The new address, if it changes.
    pub url: Option<String>,
    /// The new filter, if it changes.
    pub filter: Option<WebhookFilter>,
    /// The version that is changed; none changes any.
    pub version: Option<u64>,
}

/// A wish to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeWebhook {
    /// The webhook.
    pub name: String,
    /// Who sends.
    pub holder: HandlerId,
    /// How long nobody else may.
    pub lease_ms: u64,
    /// Parked events to take along, at most.
    pub max: u32,
}

/// What a sender needs.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenWebhook {
    /// The webhook as it stands.
    pub webhook: Webhook,
    /// What signs, the newest first.
    pub keys: Vec<WebhookKey>,
    /// Parked events whose time has come, each the first of its task.
    pub due: Vec<Delivery>,
    /// Tasks with parked events: later events of these must wait.
    pub blocked: Vec<TaskId>,
}

/// What came of sending; all of it is written, or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct SettleWebhook {
    /// The webhook.
    pub name: String,
    /// Of the sender.
    pub epoch: u64,
    /// How long nobody else may send; 0 gives it up.
    pub lease_ms: u64,
    /// The last event of the log that was dealt with, if any was.
    pub cursor: Option<u64>,
    /// How many events of the log were accepted at once.
    pub delivered: u32,
    /// Events of the log that are put aside, in their order.
    pub parked: Vec<ParkedEvent>,
    /// What came of parked events.
    pub tried: Vec<(u64, Outcome)>,
    /// What came of a test.
    pub ping: Option<Outcome>,
}

impl SettleWebhook {
    /// Nothing was done yet.
    pub fn new(taken: &Webhook, lease_ms: u64) -> Self {
        Self {
            name: taken.name.clone(),
            epoch: taken.epoch,
            lease_ms,
            cursor: None,
            delivered: 0,
            parked: Vec::new(),
            tried: Vec::new(),
            ping: None,
        }
    }
}

/// An event that is put aside.
#[derive(Debug, Clone, PartialEq)]
pub struct ParkedEvent {
    /// The event.
    pub event: EventRecord,
    /// What came of the attempt; none if there was none.
    pub outcome: Option<Outcome>,
}

/// A question about webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WebhookQuery {
    /// One; gives [`Page::Webhooks`](crate::Page::Webhooks) with one or none.
    One(String),
    /// A page by name; gives [`Page::Webhooks`](crate::Page::Webhooks).
    All(NameQuery),
    /// A page of deliveries by `seq`; gives [`Page::Deliveries`](crate::Page::Deliveries).
    Deliveries(DeliveryQuery),
}
