//! What goes over the wire: requests that are checked member by member, and answers.
//!
//! Probabilities are numbers that sum to 1; inside they are whole parts per million. Money and shares
//! are numbers with six decimals.

use aion_market::maker::MICRO;
use aion_market::reliability::Reliability;
use aion_market::{
    CalibrationReport, Fill, MarketStatus, MarketView, Order, Quote, Report, Resolution, Standing, Subject,
};
use aion_service::Problem;
use aion_trust::Account;
use aion_types::{Bits, ForecasterId, MarketId, MicroBits, PpmDist, TaskId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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
    /// How the price comes about.
    #[serde(default)]
    pub maker: MakerChoice,
    /// With `maker` = `lmsr`: how many shares it takes to move the price.
    #[schema(minimum = 0.001, maximum = 1_000_000, default = 100.0)]
    pub liquidity: Option<f64>,
    /// When it stops taking forecasts, in milliseconds since 1970.
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
    /// Sending the same key twice is harmless; the header `Idempotency-Key` does the same.
    #[schema(min_length = 1, max_length = 1024)]
    pub key: Option<String>,
    /// Refuse the forecast if the market is no longer at this version.
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
    /// Refuse the order if it costs more.
    pub max_cost: Option<f64>,
    /// Sending the same key twice is harmless; the header `Idempotency-Key` does the same.
    #[schema(min_length = 1, max_length = 1024)]
    pub key: Option<String>,
    /// Refuse the order if the market is no longer at this version.
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

/// Forecasts to score together.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreBatchBody {
    /// The forecasts, at most 100,000, each with what happened.
    #[schema(min_items = 1, max_items = 100_000)]
    pub rows: Vec<ScoreRowBody>,
    /// Bins of the reliability curve, for forecasts of two outcomes.
    #[serde(default = "ten")]
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

fn fifty() -> usize {
    50
}

/// Where a market stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusChoice {
    /// It takes forecasts.
    Open,
    /// It ended and is scored.
    Resolved,
    /// It ended without an answer.
    Void,
}

impl From<StatusChoice> for MarketStatus {
    fn from(choice: StatusChoice) -> Self {
        match choice {
            StatusChoice::Open => Self::Open,
            StatusChoice::Resolved => Self::Resolved,
            StatusChoice::Void => Self::Void,
        }
    }
}

impl From<MarketStatus> for StatusChoice {
    fn from(status: MarketStatus) -> Self {
        match status {
            MarketStatus::Open => Self::Open,
            MarketStatus::Resolved => Self::Resolved,
            MarketStatus::Void => Self::Void,
        }
    }
}

/// How many lines to give.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Top {
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

/// A market.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MarketInfo {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: MarketId,
    /// Where it stands.
    pub status: StatusChoice,
    /// The task that it asks about.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub task_id: Option<TaskId>,
    /// The question, if it is not about a task.
    pub question: Option<String>,
    /// Its kind.
    pub kind: String,
    /// The names of its outcomes.
    pub outcomes: Vec<String>,
    /// The price of each outcome now.
    pub probabilities: Vec<f64>,
    /// The first price of each outcome.
    pub first: Vec<f64>,
    /// How the price comes about.
    pub maker: MakerChoice,
    /// Who may not forecast: whoever works on the task.
    #[schema(value_type = Option<String>)]
    pub executor: Option<ForecasterId>,
    /// How many changes it has seen.
    pub version: u64,
    /// How many forecasts it has taken.
    pub forecasts: u64,
    /// How many trades it has taken.
    pub trades: u64,
    /// When it opened, in milliseconds since 1970.
    pub opened_at: i64,
    /// When it stops taking forecasts.
    pub closes_at: Option<i64>,
    /// When it ended.
    pub resolved_at: Option<i64>,
    /// The share of each outcome in what happened; absent while open and when void.
    pub happened: Option<Vec<f64>>,
    /// Why there is no answer, if it is void.
    pub void: Option<String>,
}

impl From<MarketView> for MarketInfo {
    fn from(view: MarketView) -> Self {
        let happened = view.target().map(|target| numbers(target.dist()));
        let (task_id, question) = match &view.spec.subject {
            Subject::Task { task } => (Some(*task), None),
            Subject::Question { text } => (None, Some(text.clone())),
            _ => (None, None),
        };
        let void = match &view.resolution {
            Some(Resolution::Void { reason }) => Some(reason.clone()),
            _ => None,
        };
        let maker = match view.spec.maker {
            aion_market::MakerSpec::Lmsr { .. } => MakerChoice::Lmsr,
            _ => MakerChoice::PseudoCount,
        };
        Self {
            id: view.id,
            status: view.status.into(),
            task_id,
            question,
            kind: view.spec.kind,
            outcomes: view.spec.outcomes,
            probabilities: numbers(&view.price),
            first: numbers(&view.first),
            maker,
            executor: view.executor,
            version: view.version,
            forecasts: view.forecasts,
            trades: view.trades,
            opened_at: view.opened_at.as_ms(),
            closes_at: view.spec.closes_at.map(aion_types::Timestamp::as_ms),
            resolved_at: view.resolved_at.map(aion_types::Timestamp::as_ms),
            happened,
            void,
        }
    }
}

/// A page of markets, newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MarketList {
    /// The markets.
    pub markets: Vec<MarketInfo>,
    /// Give this as `before` for the next page; absent on the last one.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub next: Option<MarketId>,
}

/// What a forecast or a trade did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FillView {
    /// The version of the market that it made.
    pub version: u64,
    /// The price of each outcome before.
    pub before: Vec<f64>,
    /// The price of each outcome after.
    pub after: Vec<f64>,
    /// What it cost.
    pub cost: f64,
}

impl From<Fill> for FillView {
    fn from(fill: Fill) -> Self {
        Self {
            version: fill.version,
            before: numbers(&fill.before),
            after: numbers(&fill.after),
            cost: units(fill.cost_micro),
        }
    }
}

/// What an order would do.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QuoteView {
    /// Shares of each outcome that it would buy.
    pub shares: Vec<f64>,
    /// What it would cost.
    pub cost: f64,
    /// The price of each outcome before.
    pub before: Vec<f64>,
    /// The price of each outcome after.
    pub after: Vec<f64>,
}

impl From<Quote> for QuoteView {
    fn from(quote: Quote) -> Self {
        Self {
            shares: quote.shares_micro.iter().map(|shares| units(*shares)).collect(),
            cost: units(quote.cost_micro),
            before: numbers(&quote.before),
            after: numbers(&quote.after),
        }
    }
}

/// The scores of a market that ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReportView {
    /// The market.
    #[schema(value_type = String, format = "uuid")]
    pub market_id: MarketId,
    /// Its kind.
    pub kind: String,
    /// The share of each outcome in what happened; absent when void.
    pub happened: Option<Vec<f64>>,
    /// The first price of each outcome.
    pub first: Vec<f64>,
    /// The last price of each outcome before the end was known.
    pub last: Vec<f64>,
    /// What the market gained on its first price, in bits.
    pub gain_bits: f64,
    /// What its last price lost, in bits.
    pub loss_bits: f64,
    /// What each forecaster did.
    pub forecasters: Vec<ForecasterView>,
    /// The rules that it was scored by.
    pub rules_version: u32,
    /// Digest of the report.
    pub digest: String,
}

/// What one forecaster did in a market that ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ForecasterView {
    /// Who.
    #[schema(value_type = String)]
    pub forecaster: ForecasterId,
    /// The score, in bits.
    pub gain_bits: f64,
    /// How far he moved the price towards what happened, in bits.
    pub moved_bits: f64,
    /// His last forecast against knowing nothing, in bits.
    pub baseline_bits: f64,
    /// How many forecasts and trades.
    pub forecasts: u64,
    /// How many of them with the price known.
    pub informed: u64,
    /// Money won.
    pub profit: f64,
    /// The last forecast.
    pub last: Vec<f64>,
}

impl From<Report> for ReportView {
    fn from(report: Report) -> Self {
        let forecasters = report.forecasters.into_iter().map(|row| ForecasterView {
            forecaster: row.forecaster,
            gain_bits: bits(row.gain),
            moved_bits: bits(row.moved),
            baseline_bits: bits(row.baseline),
            forecasts: row.forecasts,
            informed: row.informed,
            profit: units(row.profit_micro),
            last: numbers(&row.last),
        });
        Self {
            market_id: report.market,
            kind: report.kind,
            happened: report.target.map(|target| numbers(target.dist())),
            first: numbers(&report.p_first),
            last: numbers(&report.p_last),
            gain_bits: bits(report.kl_bits),
            loss_bits: bits(report.loss_bits),
            forecasters: forecasters.collect(),
            rules_version: report.rules_version,
            digest: report.digest,
        }
    }
}

/// Forecasters by what they gained.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Leaderboard {
    /// The largest gain first.
    pub forecasters: Vec<StandingView>,
}

/// One line of the leaderboard.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StandingView {
    /// Who.
    #[schema(value_type = String)]
    pub forecaster: ForecasterId,
    /// All scores added up, in bits.
    pub gain_bits: f64,
    /// Last forecasts against knowing nothing, added up, in bits.
    pub baseline_bits: f64,
    /// In how many markets that ended.
    pub markets: u64,
    /// With how many forecasts.
    pub forecasts: u64,
}

impl From<Standing> for StandingView {
    fn from(standing: Standing) -> Self {
        Self {
            forecaster: standing.forecaster,
            gain_bits: bits(standing.gain),
            baseline_bits: bits(standing.baseline),
            markets: standing.markets,
            forecasts: standing.forecasts,
        }
    }
}

/// How well forecasts matched what happened.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CalibrationView {
    /// How many forecasts.
    pub n: u64,
    /// Mean log loss, in bits; absent where it is infinite.
    pub loss_bits: Option<f64>,
    /// Mean one-sided Brier score.
    pub brier: f64,
    /// Expected calibration error.
    pub ece: f64,
    /// Murphy: gap between forecast and frequency; smaller is better.
    pub reliability: f64,
    /// Murphy: spread of the frequencies; larger is better.
    pub resolution: f64,
    /// Murphy: how hard the events are.
    pub uncertainty: f64,
    /// Bins with forecasts, from 0 to 1.
    pub bins: Vec<BinView>,
}

/// Forecasts of about the same probability.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BinView {
    /// Lower end of the bin.
    pub lower: f64,
    /// Upper end of the bin.
    pub upper: f64,
    /// How many forecasts.
    pub n: u64,
    /// Their mean.
    pub forecast: f64,
    /// How often the event happened.
    pub frequency: f64,
}

impl CalibrationView {
    /// The view of a curve.
    pub fn new(curve: &Reliability, loss_bits: f64) -> Self {
        let murphy = curve.murphy();
        let filled = curve.bins.iter().filter(|bin| bin.n > 0);
        Self {
            n: curve.n,
            loss_bits: Some(loss_bits).filter(|loss| loss.is_finite()),
            brier: murphy.brier(),
            ece: curve.ece(),
            reliability: murphy.reliability,
            resolution: murphy.resolution,
            uncertainty: murphy.uncertainty(),
            bins: filled
                .map(|bin| BinView {
                    lower: bin.lower,
                    upper: bin.upper,
                    n: bin.n,
                    forecast: bin.mean_forecast,
                    frequency: bin.mean_outcome,
                })
                .collect(),
        }
    }
}

impl From<CalibrationReport> for CalibrationView {
    fn from(report: CalibrationReport) -> Self {
        Self::new(&report.reliability, report.loss_bits)
    }
}

/// The scores of a batch.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ScoreBatchView {
    /// Score of each row.
    pub rows: Vec<ScoreView>,
    /// Mean log loss in bits; absent where a row's is infinite.
    pub mean_loss_bits: Option<f64>,
    /// Mean Brier score over all outcomes, from 0 to 2.
    pub mean_brier: f64,
    /// Mean ranked probability score.
    pub mean_rps: f64,
    /// Calibration of the first outcome, if all rows have two outcomes.
    pub calibration: Option<CalibrationView>,
}

/// The scores of one forecast.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct ScoreView {
    /// Log loss in bits; absent where it is infinite.
    pub loss_bits: Option<f64>,
    /// Brier score over all outcomes, from 0 to 2.
    pub brier: f64,
    /// Ranked probability score, for outcomes in an order.
    pub rps: f64,
}

/// Accounts by trust.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TrustList {
    /// The largest first.
    pub accounts: Vec<AccountView>,
}

/// The trust of an agent type, a predictor or the house.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccountView {
    /// Whose.
    #[schema(value_type = String)]
    pub account: ForecasterId,
    /// Its trust.
    pub trust: f64,
    /// What it was given to begin with.
    pub granted: f64,
    /// In how many settlements it took part.
    pub settlements: u64,
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            account: account.id,
            trust: account.balance.get() as f64 / 1e3,
            granted: account.granted.get() as f64 / 1e3,
            settlements: account.settlements,
        }
    }
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
    let sum: f64 = probabilities.iter().sum();
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

fn units(micro: i64) -> f64 {
    micro as f64 / MICRO as f64
}

fn bits(amount: MicroBits) -> f64 {
    Bits::from(amount).get()
}

fn numbers(dist: &PpmDist) -> Vec<f64> {
    dist.parts().iter().map(|part| f64::from(*part) / 1e6).collect()
}
