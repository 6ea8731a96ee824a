//! Bodies and query strings of requests, and what is checked of them.

use aion_market::maker::MICRO;
use aion_market::{Order, Resolution};
use aion_service::Problem;
use aion_types::{ForecasterId, MarketId, PpmDist, TaskId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::StatusChoice;
use crate::problem::invalid;

/// A market to open: on a task, or on a question.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenMarketBody {
    /// The task that it asks about: will it succeed? A task has one market.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub task_id: Option<TaskId>,
    /// The question in words, if it is not about a task.
    #[schema(min_length = 1, max_length = 1024)]
    pub question: Option<String>,
    /// Id of a market on a question, a UUID version 7 of your own making; opening it again is harmless.
    /// Made here if absent.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub id: Option<MarketId>,
    /// What kind of question it is; the first price is how markets of its kind ended before.
    #[schema(min_length = 1, max_length = 1024)]
    pub kind: String,
    /// Names of the outcomes; SUCCESS and FAILED of a task, YES and NO of a question if absent.
    #[schema(min_items = 2, max_items = 4096)]
    pub outcomes: Option<Vec<String>>,
    /// The first price by outcome, if it is known better than by the kind.
    #[schema(min_items = 2, max_items = 4096)]
    pub prior: Option<Vec<f64>>,
    /// The persistence ratio `R_T` of the task: the first of two outcomes starts at `R / (1 + R)`. Instead of `prior`.
    #[schema(minimum = 0.000001, maximum = 1_000_000)]
    pub persistence_ratio: Option<f64>,
    /// How the price comes about.
    #[serde(default)]
    pub maker: MakerChoice,
    /// With `maker` = `lmsr` or `liquidity_sensitive`: how many shares it takes to move the price (at first).
    #[schema(minimum = 0.001, maximum = 1_000_000, default = 100.0)]
    pub liquidity: Option<f64>,
    /// With `maker` = `liquidity_sensitive`: by how much all prices together may exceed 1.
    #[schema(minimum = 0.001, maximum = 1, default = 0.05)]
    pub commission: Option<f64>,
    /// When it stops taking forecasts, in milliseconds since 1970.
    #[serde(default, deserialize_with = "aion_service::whole::maybe")]
    #[schema(minimum = 0)]
    pub closes_at: Option<i64>,
}

/// How the price of a market comes about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MakerChoice {
    /// Forecasts are averaged with the prior; each is scored against the price before it.
    #[default]
    PseudoCount,
    /// Forecasts and trades buy shares; the move of the price is paid for.
    Lmsr,
    /// The same, and each trade makes the next one move the price less.
    LiquiditySensitive,
}

/// A forecast.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForecastBody {
    /// Who forecasts.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub forecaster: ForecasterId,
    /// Probability of each outcome, in the order of the market's outcomes; they sum to 1.
    #[schema(min_items = 2, max_items = 4096)]
    pub probabilities: Vec<f64>,
    /// How many forecasts it counts for.
    #[serde(default = "one")]
    #[schema(minimum = 0.001, maximum = 10, default = 1.0)]
    pub weight: f64,
    /// Whether the price was known to the forecaster.
    #[serde(default)]
    pub seen_price: SeenPrice,
    /// In a market with a maker that trades: refuse the forecast if it costs more.
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000)]
    pub max_cost: Option<f64>,
    /// Sending the same key twice is harmless; the header `Idempotency-Key` does the same.
    #[schema(min_length = 1, max_length = 1024)]
    pub key: Option<String>,
    /// Refuse the forecast if the market is no longer at this version.
    #[serde(default, deserialize_with = "aion_service::whole::maybe")]
    pub expected_version: Option<u64>,
}

fn one() -> f64 {
    1.0
}

/// Whether the price was known to a forecaster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeenPrice {
    /// It was not.
    #[default]
    No,
    /// It was.
    Yes,
}

/// An order to look at: either `shares` or `move_to`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteBody {
    /// Shares of each outcome to buy; negative to sell.
    #[schema(min_items = 2, max_items = 4096)]
    pub shares: Option<Vec<f64>>,
    /// The price to move to, by outcome.
    #[schema(min_items = 2, max_items = 4096)]
    pub move_to: Option<Vec<f64>>,
}

/// An order: either `shares` or `move_to`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TradeBody {
    /// Who trades.
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub forecaster: ForecasterId,
    /// Shares of each outcome to buy; negative to sell.
    #[schema(min_items = 2, max_items = 4096)]
    pub shares: Option<Vec<f64>>,
    /// The price to move to, by outcome.
    #[schema(min_items = 2, max_items = 4096)]
    pub move_to: Option<Vec<f64>>,
    /// Refuse the order if it costs more; below 0, if a sale brings less.
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000)]
    pub max_cost: Option<f64>,
    /// Refuse the order if it leaves a price outside of these.
    #[serde(default)]
    #[schema(max_items = 4096)]
    pub price_limits: Vec<PriceLimitBody>,
    /// Sending the same key twice is harmless; the header `Idempotency-Key` does the same.
    #[schema(min_length = 1, max_length = 1024)]
    pub key: Option<String>,
    /// Refuse the order if the market is no longer at this version.
    #[serde(default, deserialize_with = "aion_service::whole::maybe")]
    pub expected_version: Option<u64>,
}

/// How a market ended: one of `outcome`, `mixture` and `void`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveBody {
    /// The name of the outcome that happened.
    pub outcome: Option<String>,
    /// The share of each outcome, if each happened in part; they sum to 1.
    #[schema(min_items = 2, max_items = 4096)]
    pub mixture: Option<Vec<f64>>,
    /// Why there is no answer: money goes back and nobody scores.
    #[schema(min_length = 1, max_length = 1024)]
    pub void: Option<String>,
}

impl ResolveBody {
    /// The resolution of a market with these outcomes.
    ///
    /// # Errors
    /// 422 unless exactly one member is given, and names an outcome or is a distribution.
    pub fn resolution(self, names: &[String]) -> Result<Resolution, Problem> {
        match (self.outcome, self.mixture, self.void) {
            (Some(name), None, None) => names
                .iter()
                .position(|known| *known == name)
                .map(Resolution::outcome)
                .ok_or_else(|| invalid("/outcome", "the market has no such outcome")),
            (None, Some(shares), None) => Ok(Resolution::Mixture {
                dist: distribution("/mixture", &shares)?,
            }),
            (None, None, Some(reason)) => Ok(Resolution::void(reason)),
            _ => Err(invalid("", "give exactly one of outcome, mixture and void")),
        }
    }
}

/// Why a market takes no more forecasts.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseBody {
    /// The reason, in words.
    #[schema(min_length = 1, max_length = 1024)]
    pub reason: String,
}

/// What an order may leave the price of one outcome at.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceLimitBody {
    /// The index of the outcome.
    #[serde(deserialize_with = "aion_service::whole::one")]
    #[schema(maximum = 4095)]
    pub outcome: usize,
    /// At least this.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1, default = 0.0)]
    pub min: f64,
    /// At most this.
    #[serde(default = "one")]
    #[schema(minimum = 0, maximum = 1, default = 1.0)]
    pub max: f64,
}

/// Forecasts to score together.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreBatchBody {
    /// The forecasts, at most 100,000, each with what happened.
    #[schema(min_items = 1, max_items = 100_000)]
    pub rows: Vec<ScoreRowBody>,
    /// Bins of the reliability curve, for forecasts of two outcomes.
    #[serde(default = "ten", deserialize_with = "aion_service::whole::one")]
    #[schema(minimum = 1, maximum = 1000, default = 10)]
    pub bins: usize,
}

fn ten() -> usize {
    10
}

/// One forecast with what happened.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRowBody {
    /// Probability of each outcome; they sum to 1.
    #[schema(min_items = 2, max_items = 4096)]
    pub probabilities: Vec<f64>,
    /// Index of the outcome that happened, from 0.
    #[serde(deserialize_with = "aion_service::whole::one")]
    pub outcome: usize,
}

/// Which markets to list.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListMarkets {
    /// Only markets of this status.
    pub status: Option<StatusChoice>,
    /// Only markets of this kind.
    pub kind: Option<String>,
    /// Go on after this market: the `next` of the page before.
    #[param(value_type = Option<String>, format = "uuid")]
    pub before: Option<MarketId>,
    /// How many at most.
    #[serde(default = "fifty")]
    #[param(minimum = 1, maximum = 1000, default = 50)]
    pub limit: usize,
}

pub(super) fn fifty() -> usize {
    50
}

/// How many lines to give.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Top {
    /// Go on after this one: the `next` of the page before.
    #[param(value_type = Option<String>)]
    pub after: Option<ForecasterId>,
    /// How many at most.
    #[serde(default = "fifty")]
    #[param(minimum = 1, maximum = 1000, default = 50)]
    pub limit: usize,
}

/// Whose calibration.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CalibrationOf {
    /// Who; `house` for the market's own last price.
    #[param(value_type = String)]
    pub forecaster: ForecasterId,
    /// Bins of the reliability curve.
    #[serde(default = "ten")]
    #[param(minimum = 1, maximum = 1000, default = 10)]
    pub bins: usize,
}

/// Probabilities of a body as parts per million; `pointer` says where they stand.
///
/// # Errors
/// 422 unless there are 2 to 4,096 numbers in `[0, 1]` that sum to 1 within a millionth.
pub fn distribution(pointer: &str, probabilities: &[f64]) -> Result<PpmDist, Problem> {
    if let Some(i) = probabilities.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(invalid(
            &format!("{pointer}/{i}"),
            "a probability must be in [0, 1]",
        ));
    }
    // From +0: the sum of nothing is -0.
    let sum = probabilities.iter().fold(0.0, |sum, p| sum + p);
    if (sum - 1.0).abs() > 1e-6 {
        return Err(invalid(
            pointer,
            format!("the probabilities sum to {sum}, not to 1"),
        ));
    }
    PpmDist::from_weights(probabilities).map_err(|error| invalid(pointer, error.to_string()))
}

/// The order of a body.
///
/// # Errors
/// 422 unless exactly one of the two is given and its numbers can be.
pub fn order(shares: Option<Vec<f64>>, move_to: Option<Vec<f64>>) -> Result<Order, Problem> {
    match (shares, move_to) {
        (Some(shares), None) => {
            let parts = shares.iter().enumerate();
            let micro = parts
                .map(|(i, shares)| micro(&format!("/shares/{i}"), *shares))
                .collect();
            Ok(Order::Shares {
                micro: micro_all(micro)?,
            })
        }
        (None, Some(price)) => Ok(Order::MoveTo {
            price: distribution("/move_to", &price)?,
        }),
        _ => Err(invalid("", "give exactly one of shares and move_to")),
    }
}

fn micro_all(parts: Vec<Result<i64, Problem>>) -> Result<Vec<i64>, Problem> {
    parts.into_iter().collect()
}

/// An amount in millionths.
///
/// # Errors
/// 422 above a thousand million.
pub fn micro(pointer: &str, amount: f64) -> Result<i64, Problem> {
    if !(-1e9..=1e9).contains(&amount) {
        return Err(invalid(pointer, "an amount must be in [-1e9, 1e9]"));
    }
    Ok((amount * MICRO as f64).round() as i64)
}
