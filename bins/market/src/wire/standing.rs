//! Prices and forecasters, as they go over the wire.

use aion_market::MarketView;
use aion_market::store::ScoreRow;
use aion_types::{ForecasterId, MarketId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{StatusChoice, bits, numbers};

/// The price of a market.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProbView {
    /// The market.
    #[schema(value_type = String, format = "uuid")]
    pub market_id: MarketId,
    /// Where it stands.
    pub status: StatusChoice,
    /// How many changes it has seen.
    pub version: u64,
    /// The names of its outcomes.
    pub outcomes: Vec<String>,
    /// The price of each outcome now.
    pub probabilities: Vec<f64>,
}

impl From<MarketView> for ProbView {
    fn from(view: MarketView) -> Self {
        Self {
            market_id: view.id,
            status: view.status.into(),
            version: view.version,
            probabilities: numbers(&view.price),
            outcomes: view.spec.outcomes,
        }
    }
}

/// Prices of several markets.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProbList {
    /// The prices, in the order in which they were asked for.
    pub probs: Vec<ProbView>,
    /// Markets that there are not.
    #[schema(value_type = Vec<String>)]
    pub unknown: Vec<MarketId>,
}

/// Which prices.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProbsOf {
    /// Ids of markets, 1 to 100, separated by commas.
    #[param(min_length = 36, max_length = 3699)]
    pub ids: String,
}

/// Which scores of a forecaster.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListScores {
    /// Go on after this one: the `next` of the page before.
    pub after: Option<String>,
    /// How many at most.
    #[serde(default = "super::requests::fifty")]
    #[param(minimum = 1, maximum = 1000, default = 50)]
    pub limit: usize,
}

/// What the forecasts of one forecaster were worth.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ForecasterScore {
    /// Who.
    #[schema(value_type = String)]
    pub forecaster: ForecasterId,
    /// In how many markets that ended: all of them count.
    pub markets: u64,
    /// With how many forecasts.
    pub forecasts: u64,
    /// All scores added up, in bits.
    pub gain_bits: f64,
    /// The mean score of a market, in bits.
    pub mean_gain_bits: f64,
    /// The standard error of that mean; absent for one market.
    pub mean_gain_se_bits: Option<f64>,
    /// Last forecasts against knowing nothing, added up, in bits.
    pub baseline_bits: f64,
    /// The scores by market, latest end first.
    pub scores: Vec<MarketScore>,
    /// Give this as `after` for the next page; absent on the last one.
    pub next: Option<String>,
}

/// What a forecaster did in one market.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MarketScore {
    /// The market.
    #[schema(value_type = String, format = "uuid")]
    pub market_id: MarketId,
    /// Its kind.
    pub kind: String,
    /// The score, in bits.
    pub gain_bits: f64,
    /// How far the price was moved towards what happened, in bits.
    pub moved_bits: f64,
    /// The last forecast against knowing nothing, in bits.
    pub baseline_bits: f64,
    /// How many forecasts.
    pub forecasts: u64,
    /// The last forecast.
    pub last: Vec<f64>,
    /// The share of each outcome in what happened.
    pub happened: Vec<f64>,
    /// When it ended, in milliseconds since 1970.
    pub resolved_at: i64,
}

impl From<&ScoreRow> for MarketScore {
    fn from(row: &ScoreRow) -> Self {
        Self {
            market_id: row.market,
            kind: row.kind.clone(),
            gain_bits: bits(row.gain),
            moved_bits: bits(row.moved),
            baseline_bits: bits(row.baseline),
            forecasts: row.forecasts,
            last: numbers(&row.last),
            happened: numbers(row.target.dist()),
            resolved_at: row.resolved_at.as_ms(),
        }
    }
}
