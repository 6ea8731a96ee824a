//! Two forecasters side by side, as it goes over the wire.

use aion_market::compare::{Assumption, Verdict};
use aion_market::store::ScorePlace;
use aion_market::{Contest, Reach};
use aion_types::ForecasterId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Whom to compare, and how sure to be.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Compared {
    /// One; `house` for the market's own last price.
    #[param(value_type = String)]
    pub a: ForecasterId,
    /// The other.
    #[param(value_type = String)]
    pub b: ForecasterId,
    /// How often the interval may ever be wrong.
    #[serde(default = "five_percent")]
    #[param(minimum = 0.000001, maximum = 0.5, default = 0.05)]
    pub alpha: f64,
    /// What is assumed of the markets.
    #[serde(default)]
    #[param(inline)]
    pub assumption: AssumptionChoice,
}

fn five_percent() -> f64 {
    0.05
}

/// What is assumed of the markets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssumptionChoice {
    /// Nothing: who is better may change, and the interval is about the markets so far.
    #[default]
    Drifting,
    /// The expected difference is the same in every market; the interval is tighter.
    Constant,
}

impl From<AssumptionChoice> for Assumption {
    fn from(choice: AssumptionChoice) -> Self {
        match choice {
            AssumptionChoice::Drifting => Self::Drifting,
            AssumptionChoice::Constant => Self::Constant,
        }
    }
}

/// Who is better, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The interval lies above 0.
    A,
    /// It lies below 0.
    B,
    /// It holds 0.
    Open,
}

impl Better {
    fn of(verdict: &Verdict) -> Self {
        if verdict.a_is_better() {
            Self::A
        } else if verdict.b_is_better() {
            Self::B
        } else {
            Self::Open
        }
    }
}

/// Two forecasters on the markets that both have a score in, by their Brier scores. It may be asked for
/// after every market: the interval and the p-value hold at all times at once.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ComparisonView {
    /// One.
    #[schema(value_type = String)]
    pub a: ForecasterId,
    /// The other.
    #[schema(value_type = String)]
    pub b: ForecasterId,
    /// In how many markets they are compared.
    pub n: u64,
    /// Whether these are all that both have a score in. If not there were too many for one request: ask again.
    pub complete: bool,
    /// When the first of them ended, in milliseconds since 1970.
    pub first_resolved_at: Option<i64>,
    /// When the last of them ended, in milliseconds since 1970.
    pub last_resolved_at: Option<i64>,
    /// By how much the Brier score of `a`, from 0 to 2, is smaller in the mean: positive if `a` is better.
    pub mean: f64,
    /// Lower end of the interval of the expected mean.
    pub lower: f64,
    /// Upper end of that interval.
    pub upper: f64,
    /// How often the interval may ever be wrong.
    pub alpha: f64,
    /// What was assumed of the markets.
    pub assumption: AssumptionChoice,
    /// Evidence against "`a` is not better": the capital of who bet 1 on `a` at fair odds.
    pub e_a_better: f64,
    /// Evidence against "`b` is not better".
    pub e_b_better: f64,
    /// Evidence against "they are equally good".
    pub e_value: f64,
    /// The p-value of "they are equally good".
    pub p_value: f64,
    /// Who is better.
    pub better: Better,
}

impl ComparisonView {
    /// The view of a contest.
    pub fn new(of: Compared, contest: &Contest, reach: Reach) -> Self {
        let verdict = contest.verdict();
        let at = |place: Option<ScorePlace>| place.map(|place| place.resolved_at.as_ms());
        // JSON has no infinity.
        let finite = |e: f64| e.min(f64::MAX);
        Self {
            a: of.a,
            b: of.b,
            n: verdict.n,
            complete: reach == Reach::End,
            first_resolved_at: at(contest.first()),
            last_resolved_at: at(contest.last()),
            mean: verdict.mean,
            lower: verdict.interval.lower,
            upper: verdict.interval.upper,
            alpha: of.alpha,
            assumption: of.assumption,
            e_a_better: finite(verdict.e_a_better),
            e_b_better: finite(verdict.e_b_better),
            e_value: finite(verdict.e_value),
            p_value: verdict.p_value,
            better: Better::of(&verdict),
        }
    }
}
