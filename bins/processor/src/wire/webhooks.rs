//! Webhooks over the wire.

use aion_processor::{
    Delivery, DeliveryState, Disabled, NewWebhook, Outcome, Webhook, WebhookChange, WebhookFilter,
    WebhookKey, WebhookState, Word,
};
use aion_service::Problem;
use aion_types::{EventKind, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Event;

/// A webhook to make.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    /// Its name.
    #[schema(min_length = 1, max_length = 128)]
    pub name: String,
    /// Where messages go: https, to a public address, unless the operator allows more.
    #[schema(max_length = 2048)]
    pub url: String,
    /// Which events it tells of.
    #[serde(default)]
    pub filter: FilterView,
    /// What messages are signed with, `whsec_` and 24 to 64 bytes in base64; made here if absent.
    pub secret: Option<String>,
    /// The last event that it does not tell of; absent, it begins with the next one.
    #[serde(default, deserialize_with = "aion_service::whole::maybe")]
    pub after: Option<u64>,
}

/// A change of a webhook; what is absent stays.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeWebhook {
    /// Where messages go.
    #[schema(max_length = 2048)]
    pub url: Option<String>,
    /// Which events it tells of.
    pub filter: Option<FilterView>,
}

/// Which events a webhook tells of; what is empty or absent wants all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FilterView {
    /// Kinds of events, such as `completed`.
    #[schema(max_items = 64)]
    pub events: Vec<String>,
    /// Kinds of tasks.
    #[schema(max_items = 64)]
    pub task_kinds: Vec<String>,
    /// Tasks of the tree below this root only.
    #[schema(format = "uuid")]
    pub root_id: Option<String>,
}

impl FilterView {
    fn into_filter(self) -> Result<WebhookFilter, Problem> {
        let events = self.events.iter().enumerate();
        let events = events.map(|(place, name)| kind(name).ok_or((place, name)));
        let events: Vec<EventKind> = events.collect::<Result<_, _>>().map_err(|(place, name)| {
            let detail = format!("there are no events of the kind {name:.64}");
            Problem::unprocessable("invalid", detail).at(format!("/filter/events/{place}"))
        })?;
        let root = self.root_id.as_deref().map(str::parse::<TaskId>).transpose();
        let root =
            root.map_err(|error| Problem::unprocessable("invalid", error.to_string()).at("/filter/root_id"))?;
        Ok(WebhookFilter {
            events,
            task_kinds: self.task_kinds,
            root,
        })
    }
}

fn kind(name: &str) -> Option<EventKind> {
    serde_json::from_value(Value::String(name.to_owned())).ok()
}

impl From<WebhookFilter> for FilterView {
    fn from(filter: WebhookFilter) -> Self {
        Self {
            events: filter
                .events
                .iter()
                .map(|kind| kind.as_str().to_owned())
                .collect(),
            task_kinds: filter.task_kinds,
            root_id: filter.root.map(|root| root.to_string()),
        }
    }
}

impl CreateWebhook {
    /// The webhook for the library; `fresh` signs if the body names no secret.
    pub(crate) fn into_new(self, fresh: WebhookKey) -> Result<NewWebhook, Problem> {
        let given = self.secret.map(WebhookKey::new).transpose();
        let given =
            given.map_err(|error| Problem::unprocessable("invalid", error.to_string()).at("/secret"))?;
        let mut new = NewWebhook::new(self.name, self.url, given.unwrap_or(fresh));
        new.filter = self.filter.into_filter()?;
        new.after = self.after;
        Ok(new)
    }
}

impl ChangeWebhook {
    /// The change for the library.
    pub(crate) fn into_change(self, name: String, version: Option<u64>) -> Result<WebhookChange, Problem> {
        Ok(WebhookChange {
            name,
            url: self.url,
            filter: self.filter.map(FilterView::into_filter).transpose()?,
            version,
        })
    }
}

/// How long the present key goes on signing beside the new one.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// In milliseconds; at 0 the present key stops at once.
    #[serde(default = "day", deserialize_with = "aion_service::whole::one")]
    #[schema(maximum = 2_592_000_000_u64, default = 86_400_000)]
    pub keep_ms: u64,
    /// The new key; made here if absent.
    pub secret: Option<String>,
}

const fn day() -> u64 {
    86_400_000
}

/// Where to begin again.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayWebhook {
    /// The last event that is not told of again; 0 begins with the first that is there.
    #[serde(deserialize_with = "aion_service::whole::one")]
    pub after: u64,
}

/// Which dead letters to send again.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryLetters {
    /// Only that of this event; absent, as many as there is room for, the oldest first.
    #[serde(default, deserialize_with = "aion_service::whole::maybe")]
    pub seq: Option<u64>,
}

/// Which webhooks to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListWebhooks {
    /// `next` of the page before: the name to go on from.
    pub after: Option<String>,
    /// How many at most.
    #[serde(default = "page")]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub limit: u32,
}

/// Which deliveries to list.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDeliveries {
    /// `next` of the page before: the `seq` to go on from.
    #[serde(default)]
    pub after: u64,
    /// How many at most.
    #[serde(default = "page")]
    #[param(minimum = 1, maximum = 1_000, default = 100)]
    pub limit: u32,
}

const fn page() -> u32 {
    100
}

/// Whether a webhook tells of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookStateName {
    /// It does.
    Active,
    /// Too many events wait for another attempt; it goes on when there are fewer.
    HeldBack,
    /// Somebody paused it.
    Paused,
    /// It was switched off, for the receiver said 410.
    Gone,
    /// It was switched off, for there was nothing but failures for a long time.
    Failing,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WebhookView {
    /// Its name.
    pub name: String,
    /// Where messages go.
    pub url: String,
    /// Which events it tells of.
    pub filter: FilterView,
    /// Whether it tells of anything.
    pub state: WebhookStateName,
    /// It has dealt with every event up to this `seq`.
    pub cursor: u64,
    /// Events that wait for another attempt.
    pub parked: u32,
    /// Dead letters.
    pub dead: u32,
    /// When the next attempt is made, in milliseconds since 1970.
    pub next_at: Option<i64>,
    /// Since when there has been nothing but failures, in milliseconds since 1970.
    pub failing_since: Option<i64>,
    /// When a message was last accepted, in milliseconds since 1970.
    pub last_success_at: Option<i64>,
    /// The last attempt that failed.
    pub last_failure: Option<AttemptView>,
    /// Messages that were accepted.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// The last test that was asked for.
    pub ping: Option<PingView>,
    /// Until when the key before the present one signs as well, in milliseconds since 1970.
    pub rotating_until: Option<i64>,
    /// One more with every change of address, filter, key or state.
    pub version: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_at: i64,
    /// When it was changed, in milliseconds since 1970.
    pub updated_at: i64,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AttemptView {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed; absent if the message was accepted.
    pub error: Option<String>,
}

/// A test of a webhook.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PingView {
    /// The id of its message.
    pub id: String,
    /// When it was asked for, in milliseconds since 1970.
    pub asked_at: i64,
    /// What came of it; absent until it was sent.
    pub attempt: Option<AttemptView>,
}

/// A webhook and its new key, which is not shown again.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WebhookWithSecret {
    /// What messages are signed with.
    pub secret: String,
    /// The webhook.
    pub webhook: WebhookView,
}

/// A page of webhooks.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct WebhookList {
    /// The webhooks, by name.
    pub webhooks: Vec<WebhookView>,
    /// `after` of the next page; absent if this is the last.
    pub next: Option<String>,
}

/// An event that could not be delivered yet, or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeliveryView {
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried again, in milliseconds since 1970; absent while it waits behind an earlier event of its
    /// task, and for a dead letter.
    pub next_at: Option<i64>,
    /// When it was put aside, in milliseconds since 1970.
    pub since: i64,
    /// The last attempt.
    pub last: Option<AttemptView>,
    /// The event.
    pub event: Event,
}

/// A page of deliveries.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeliveryList {
    /// The deliveries, by `seq` of their events.
    pub deliveries: Vec<DeliveryView>,
    /// `after` of the next page; absent if this is the last.
    pub next: Option<u64>,
}

fn state_of(webhook: &Webhook) -> WebhookStateName {
    match webhook.state {
        WebhookState::Active if webhook.is_held_back() => WebhookStateName::HeldBack,
        WebhookState::Active => WebhookStateName::Active,
        WebhookState::Paused => WebhookStateName::Paused,
        WebhookState::Disabled(Disabled::Gone) => WebhookStateName::Gone,
        WebhookState::Disabled(Disabled::Failing) => WebhookStateName::Failing,
    }
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        Self {
            state: state_of(&webhook),
            name: webhook.name,
            url: webhook.url,
            filter: webhook.filter.into(),
            cursor: webhook.cursor,
            parked: webhook.parked,
            dead: webhook.dead,
            next_at: webhook.next_at.map(Timestamp::as_ms),
            failing_since: webhook.failing_since.map(Timestamp::as_ms),
            last_success_at: webhook.last_success_at.map(Timestamp::as_ms),
            last_failure: webhook.last_failure.map(Into::into),
            delivered: webhook.delivered,
            failed: webhook.failed,
            ping: webhook.ping.map(|ping| PingView {
                id: ping.id,
                asked_at: ping.asked_at.as_ms(),
                attempt: ping.word.map(Into::into),
            }),
            rotating_until: webhook.rotating_until.map(Timestamp::as_ms),
            version: webhook.version,
            created_at: webhook.created_at.as_ms(),
            updated_at: webhook.updated_at.as_ms(),
        }
    }
}

impl From<Word> for AttemptView {
    fn from(word: Word) -> Self {
        let Outcome { status, error, .. } = word.outcome;
        Self {
            at: word.at.as_ms(),
            status,
            error,
        }
    }
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        let is_parked = delivery.state == DeliveryState::Parked;
        Self {
            attempts: delivery.attempts,
            next_at: delivery.next_at.filter(|_| is_parked).map(Timestamp::as_ms),
            since: delivery.since.as_ms(),
            last: delivery.last.map(Into::into),
            event: delivery.event.into(),
        }
    }
}
