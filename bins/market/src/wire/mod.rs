//! What goes over the wire: requests that are checked member by member, and answers.
//!
//! Probabilities are numbers that sum to 1; inside they are whole parts per million. Money and shares
//! are numbers with six decimals.

pub mod columns;
pub mod compared;
pub mod following;
pub mod log;
mod requests;
pub mod standing;

use aion_market::interval::Z_95;
use aion_market::maker::MICRO;
use aion_market::reliability::{Bin, Reliability};
use aion_market::{
    CalibrationReport, Fill, MarketStatus, MarketView, Quote, Report, Resolution, Standing, Subject,
};
use aion_trust::Account;
use aion_types::{Bits, ForecasterId, MarketId, MicroBits, PpmDist, TaskId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use requests::*;

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
    /// When somebody closed it.
    pub closed_at: Option<i64>,
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
            aion_market::MakerSpec::LiquiditySensitive { .. } => MakerChoice::LiquiditySensitive,
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
            closed_at: view.closed_at.map(aion_types::Timestamp::as_ms),
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
    /// Give this as `after` for the next page; absent on the last one.
    #[schema(value_type = Option<String>)]
    pub next: Option<ForecasterId>,
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
    /// Expected calibration error: the mean gap between forecast and frequency.
    pub ece: f64,
    /// Maximum calibration error: the largest gap of a bin.
    pub mce: f64,
    /// Variance of the forecasts: how much they dare.
    pub sharpness: f64,
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
    /// Lower end of Wilson's interval of 95% of that frequency.
    pub frequency_lower: f64,
    /// Upper end of that interval.
    pub frequency_upper: f64,
}

impl From<&Bin> for BinView {
    fn from(bin: &Bin) -> Self {
        // There is one for every bin that is not empty.
        let interval = bin.wilson(Z_95).ok().flatten();
        Self {
            lower: bin.lower,
            upper: bin.upper,
            n: bin.n,
            forecast: bin.mean_forecast,
            frequency: bin.mean_outcome,
            frequency_lower: interval.map_or(0.0, |interval| interval.lower),
            frequency_upper: interval.map_or(1.0, |interval| interval.upper),
        }
    }
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
            mce: curve.mce(),
            sharpness: curve.sharpness(),
            reliability: murphy.reliability,
            resolution: murphy.resolution,
            uncertainty: murphy.uncertainty(),
            bins: filled.map(BinView::from).collect(),
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
    /// Give this as `after` for the next page; absent on the last one.
    #[schema(value_type = Option<String>)]
    pub next: Option<ForecasterId>,
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

fn units(micro: i64) -> f64 {
    micro as f64 / MICRO as f64
}

fn bits(amount: MicroBits) -> f64 {
    Bits::from(amount).get()
}

fn numbers(dist: &PpmDist) -> Vec<f64> {
    dist.parts().iter().map(|part| f64::from(*part) / 1e6).collect()
}
