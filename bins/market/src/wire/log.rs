//! What happened to markets, as it goes over the wire.

use aion_market::Logged;
use aion_market::event::{Event, StoredEvent};
use aion_types::MarketId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// What can happen to a market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub enum EventType {
    /// It began.
    #[serde(rename = "market.opened")]
    Opened,
    /// Somebody reported a belief.
    #[serde(rename = "market.forecast")]
    Forecast,
    /// Somebody traded.
    #[serde(rename = "market.traded")]
    Traded,
    /// The price moved and nobody moved it.
    #[serde(rename = "market.moved")]
    Moved,
    /// Somebody began to work on its subject.
    #[serde(rename = "market.executor_named")]
    ExecutorNamed,
    /// It takes no more forecasts.
    #[serde(rename = "market.closed")]
    Closed,
    /// It ended and is scored, or is void.
    #[serde(rename = "market.resolved")]
    Resolved,
    /// Something that this version has no name for.
    #[serde(rename = "market.other")]
    Other,
}

impl EventType {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "market.opened",
            Self::Forecast => "market.forecast",
            Self::Traded => "market.traded",
            Self::Moved => "market.moved",
            Self::ExecutorNamed => "market.executor_named",
            Self::Closed => "market.closed",
            Self::Resolved => "market.resolved",
            Self::Other => "market.other",
        }
    }
}

impl From<&Event> for EventType {
    fn from(event: &Event) -> Self {
        match event {
            Event::MarketOpened { .. } => Self::Opened,
            Event::ForecastReported { .. } => Self::Forecast,
            Event::Traded { .. } => Self::Traded,
            Event::HouseMoved { .. } => Self::Moved,
            Event::ExecutorNamed { .. } => Self::ExecutorNamed,
            Event::Closed { .. } => Self::Closed,
            Event::Resolved { .. } => Self::Resolved,
            _ => Self::Other,
        }
    }
}

/// One change of a market.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MarketEvent {
    /// Its place in the history of the market, from 1; the version of the market after it.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Details, as they are stored: probabilities in parts per million, money and shares in millionths.
    #[schema(value_type = Object)]
    pub body: Value,
}

impl From<StoredEvent> for MarketEvent {
    fn from(stored: StoredEvent) -> Self {
        let kind = EventType::from(&stored.event);
        let mut body = serde_json::to_value(&stored.event).unwrap_or_default();
        if let Some(members) = body.as_object_mut() {
            members.remove("type");
        }
        Self {
            seq: stored.seq,
            at: stored.at.as_ms(),
            kind,
            body,
        }
    }
}

/// A page of the history of a market, oldest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MarketEvents {
    /// The events.
    pub events: Vec<MarketEvent>,
    /// Give this as `after` for the next page, also when there is nothing yet.
    pub next: u64,
}

/// One change of one of all markets.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LoggedEvent {
    /// Its place among the events of all markets: the id of the event in the stream.
    pub place: u64,
    /// The market.
    #[schema(value_type = String, format = "uuid")]
    pub market_id: MarketId,
    /// Its place in the history of the market, from 1; the version of the market after it.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Details, as they are stored: probabilities in parts per million, money and shares in millionths.
    #[schema(value_type = Object)]
    pub body: Value,
}

impl From<Logged> for LoggedEvent {
    fn from(logged: Logged) -> Self {
        let event = MarketEvent::from(logged.stored);
        Self {
            place: logged.place,
            market_id: logged.market,
            seq: event.seq,
            at: event.at,
            kind: event.kind,
            body: event.body,
        }
    }
}

/// A page of what happened to all markets, in the order in which it took effect.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogPage {
    /// The events.
    pub events: Vec<LoggedEvent>,
    /// Give this as `after` for the next page, also when there is nothing yet.
    pub next: u64,
}

/// Which events of a market to list.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListHistory {
    /// Go on after this one: the `next` of the page before.
    #[serde(default)]
    #[param(minimum = 0)]
    pub after: u64,
    /// How many at most.
    #[serde(default = "super::requests::fifty")]
    #[param(minimum = 1, maximum = 1000, default = 50)]
    pub limit: usize,
}

/// Which events of all markets to list.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListLog {
    /// Go on after this place: the `next` of the page before.
    #[serde(default)]
    #[param(minimum = 0)]
    pub after: u64,
    /// Only events of this type, such as `market.resolved`.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    pub kind: Option<EventType>,
    /// How many at most.
    #[serde(default = "super::requests::fifty")]
    #[param(minimum = 1, maximum = 1000, default = 50)]
    pub limit: usize,
}

/// Which events to stream.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamLog {
    /// The place to go on from; the header `Last-Event-ID` wins.
    #[serde(default)]
    #[param(minimum = 0)]
    pub after: u64,
    /// Only events of this type, such as `market.resolved`.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    pub kind: Option<EventType>,
}
