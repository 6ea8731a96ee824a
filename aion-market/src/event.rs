//! What happened to a market: the only thing that is stored of it that cannot be derived.

use aion_types::{ForecasterId, Format, PpmDist, Timestamp};
use serde::{Deserialize, Serialize};

use crate::order::Fill;
use crate::resolution::Resolution;
use crate::spec::MarketSpec;

/// One change of a market. Prices and costs are on record, so scores need no second computation of
/// an exponential and come out alike on every platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// It began.
    MarketOpened {
        /// Its terms.
        spec: Box<MarketSpec>,
    },
    /// Somebody reported a belief.
    ForecastReported {
        /// Who.
        forecaster: ForecasterId,
        /// The belief, raised to the floor of the market.
        dist: PpmDist,
        /// The belief as it was reported, where the floor changed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reported: Option<PpmDist>,
        /// How many reports it counts for, in millionths.
        weight_micro: u64,
        /// Whether the price had been seen.
        informed: bool,
        /// The `ln R` that it rests on, in millionths.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal_micro: Option<i64>,
        /// The price before.
        before: PpmDist,
        /// The price after.
        after: PpmDist,
    },
    /// Somebody traded.
    Traded {
        /// Who.
        forecaster: ForecasterId,
        /// Micro-shares by outcome; negative for sales.
        shares_micro: Vec<i64>,
        /// What it cost, in micro-units.
        cost_micro: i64,
        /// Whether the price had been seen.
        informed: bool,
        /// The `ln R` that it rests on, in millionths.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal_micro: Option<i64>,
        /// The price before.
        before: PpmDist,
        /// The price after.
        after: PpmDist,
    },
    /// The price moved and nobody moved it: seeding, liquidity. It is credited to `house`.
    HouseMoved {
        /// Why.
        reason: String,
        /// Towards what.
        dist: PpmDist,
        /// With how much weight; 0 in an LMSR.
        weight_micro: u64,
        /// Micro-shares by outcome; empty for pseudo-counts.
        shares_micro: Vec<i64>,
        /// What they would have cost.
        cost_micro: i64,
        /// The price before.
        before: PpmDist,
        /// The price after.
        after: PpmDist,
    },
    /// Somebody began to work on its subject and may not bet from now on.
    ExecutorNamed {
        /// Who.
        executor: ForecasterId,
    },
    /// It takes no more forecasts and waits for its resolution.
    Closed {
        /// Why.
        reason: String,
    },
    /// It ended.
    Resolved {
        /// How.
        resolution: Resolution,
    },
}

impl Event {
    /// The name on the wire.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::MarketOpened { .. } => "market_opened",
            Self::ForecastReported { .. } => "forecast_reported",
            Self::Traded { .. } => "traded",
            Self::HouseMoved { .. } => "house_moved",
            Self::ExecutorNamed { .. } => "executor_named",
            Self::Closed { .. } => "closed",
            Self::Resolved { .. } => "resolved",
        }
    }

    /// The price before and after, if it moved one.
    pub const fn move_of_price(&self) -> Option<(&PpmDist, &PpmDist)> {
        match self {
            Self::ForecastReported { before, after, .. }
            | Self::Traded { before, after, .. }
            | Self::HouseMoved { before, after, .. } => Some((before, after)),
            Self::MarketOpened { .. }
            | Self::ExecutorNamed { .. }
            | Self::Closed { .. }
            | Self::Resolved { .. } => None,
        }
    }
}

/// An idempotency key and a digest of the request that it came with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestKey {
    /// The key.
    pub key: String,
    /// Hexadecimal digest of the request.
    pub digest: String,
}

/// An event with its place in the history of its market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Version of this record.
    #[serde(default)]
    pub format: Format,
    /// Its place, from 1 without holes; the version of the market after it.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The request that caused it, if that had a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestKey>,
    /// What happened.
    pub event: Event,
}

impl StoredEvent {
    /// What the event did, if it was a forecast or a trade.
    pub fn fill(&self) -> Option<Fill> {
        let (before, after) = self.event.move_of_price()?;
        let cost_micro = match &self.event {
            Event::Traded { cost_micro, .. } => *cost_micro,
            _ => 0,
        };
        Some(Fill {
            version: self.seq,
            before: before.clone(),
            after: after.clone(),
            cost_micro,
        })
    }
}
