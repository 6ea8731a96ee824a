//! Predictors, webhooks and alarms, as they go over the wire.

use aion_market::alarm::{Alarm, Alarms};
use aion_market::{Predictor, PredictorHealth};
use aion_types::{ForecasterId, MarketId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::StatusChoice;

/// What became of an event that the processor told of.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Told {
    /// Its place in the log of the processor.
    pub seq: u64,
    /// Whether it is news.
    pub heard: Heard,
}

/// Whether an event is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// It will be read from the processor soon.
    New,
    /// It had been taken up before.
    Known,
}

/// Who forecasts on behalf of the service.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PredictorList {
    /// The predictors, in the order in which they are asked.
    pub predictors: Vec<PredictorView>,
}

/// A predictor, with how it has done since the service started.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PredictorView {
    /// Its name as a forecaster.
    #[schema(value_type = String)]
    pub id: ForecasterId,
    /// Whether it looks at the price; its forecasts are then marked.
    pub informed: bool,
    /// How often it was asked.
    pub asked: u64,
    /// How often a forecast came of it.
    pub spoke: u64,
    /// How often it had no opinion.
    pub silent: u64,
    /// How often it failed.
    pub failed: u64,
    /// Why it failed last.
    pub last_failure: Option<String>,
}

impl PredictorView {
    /// A predictor with its health.
    pub fn new(predictor: &dyn Predictor, health: PredictorHealth) -> Self {
        Self {
            id: predictor.id().clone(),
            informed: predictor.informed(),
            asked: health.asked,
            spoke: health.spoke,
            silent: health.silent,
            failed: health.failed,
            last_failure: health.last_failure.map(|failure| failure.reason),
        }
    }
}

/// How far back a predictor learns.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainBody {
    /// From how many ended tasks, the latest ones.
    #[serde(default = "thousand", deserialize_with = "aion_service::whole::one")]
    #[schema(minimum = 1, maximum = 10_000, default = 1_000)]
    pub markets: usize,
}

fn thousand() -> usize {
    1_000
}

/// What a predictor learned from.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Trained {
    /// The predictor.
    #[schema(value_type = String)]
    pub predictor: ForecasterId,
    /// How many ended tasks it was told of.
    pub markets: u64,
}

/// Which markets to look at.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlarmsOf {
    /// Only of this status.
    pub status: Option<StatusChoice>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only those made before this one: the `next` of the page before.
    #[param(value_type = Option<String>, format = "uuid")]
    pub before: Option<MarketId>,
    /// How many at most.
    #[serde(default = "super::requests::fifty")]
    #[param(minimum = 1, maximum = 1000, default = 50)]
    pub limit: usize,
}

/// Markets that deserve a look.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AlarmList {
    /// The markets.
    pub markets: Vec<MarketAlarms>,
    /// Give this as `before` for the next page; absent on the last one.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub next: Option<MarketId>,
}

/// A market that deserves a look.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MarketAlarms {
    /// The market.
    #[schema(value_type = String, format = "uuid")]
    pub market_id: MarketId,
    /// Its kind.
    pub kind: String,
    /// Why.
    pub alarms: Vec<AlarmView>,
}

impl From<Alarms> for MarketAlarms {
    fn from(alarms: Alarms) -> Self {
        Self {
            market_id: alarms.market,
            kind: alarms.kind,
            alarms: alarms.alarms.into_iter().map(AlarmView::from).collect(),
        }
    }
}

/// Why a market deserves a look.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AlarmView {
    /// Its price stays near even odds.
    Undecided {
        /// Since when, in milliseconds since 1970.
        since: i64,
        /// How many forecasts and trades have not changed that.
        forecasts: u64,
    },
    /// Its price says otherwise than the persistence of its task.
    DisagreesWithPersistence {
        /// `logit p - ln R`, in nats: above 0 the market is more hopeful.
        nats: f64,
    },
    /// It was sure of what did not happen.
    Surprised {
        /// Divergence of what happened from the last price, in bits; absent where it is infinite.
        bits: Option<f64>,
    },
    /// Something that this version has no name for.
    Other,
}

impl From<Alarm> for AlarmView {
    fn from(alarm: Alarm) -> Self {
        match alarm {
            Alarm::Undecided { since, forecasts } => Self::Undecided {
                since: since.as_ms(),
                forecasts,
            },
            Alarm::DisagreesWithPersistence { nats } => Self::DisagreesWithPersistence { nats },
            Alarm::Surprised { bits } => Self::Surprised {
                bits: Some(bits).filter(|bits| bits.is_finite()),
            },
            _ => Self::Other,
        }
    }
}
