//! Columns of forecasts to score by one rule.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// By which rule to score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Log loss of `probabilities` at `outcome`, in bits.
    Log,
    /// Brier score over all outcomes, from 0 to 2.
    Brier,
    /// One less the spherical score.
    Spherical,
    /// Ranked probability score, for outcomes in an order.
    Rps,
    /// Divergence of `reference` from `probabilities`, `KL(reference || probabilities)`, in bits.
    Kl,
    /// Jensen-Shannon divergence of `reference` and `probabilities`, in bits.
    JensenShannon,
    /// Cross-entropy of `probabilities` under `reference`, in bits.
    CrossEntropy,
    /// Continuous ranked probability score of an ensemble of `members` at `value`.
    Crps,
    /// The same of a normal distribution of mean `location` and standard deviation `scale`.
    CrpsNormal,
    /// The same of a logistic distribution of `location` and `scale`.
    CrpsLogistic,
}

impl Rule {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Brier => "brier",
            Self::Spherical => "spherical",
            Self::Rps => "rps",
            Self::Kl => "kl",
            Self::JensenShannon => "jensen_shannon",
            Self::CrossEntropy => "cross_entropy",
            Self::Crps => "crps",
            Self::CrpsNormal => "crps_normal",
            Self::CrpsLogistic => "crps_logistic",
        }
    }

    /// The unit of its losses.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Log | Self::Kl | Self::JensenShannon | Self::CrossEntropy => "bits",
            Self::Crps | Self::CrpsNormal | Self::CrpsLogistic => "value",
            Self::Brier | Self::Spherical | Self::Rps => "1",
        }
    }
}

/// By which rule to score the rows of a body.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScoreBy {
    /// The rule; it says which columns there must be.
    pub rule: Rule,
}

/// Columns of equal length: one row a forecast. The rule says which ones there must be; no others may be.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreColumns {
    /// Probability of each outcome; they sum to 1 in each row.
    #[schema(min_items = 1, max_items = 100_000)]
    pub probabilities: Option<Vec<Vec<f64>>>,
    /// Index of the outcome that happened, from 0.
    #[serde(default, deserialize_with = "aion_service::whole::list")]
    #[schema(min_items = 1, max_items = 100_000)]
    pub outcome: Option<Vec<u32>>,
    /// The distribution to compare with.
    #[schema(min_items = 1, max_items = 100_000)]
    pub reference: Option<Vec<Vec<f64>>>,
    /// The members of an ensemble.
    #[schema(min_items = 1, max_items = 100_000)]
    pub members: Option<Vec<Vec<f64>>>,
    /// The value that came about.
    #[schema(min_items = 1, max_items = 100_000)]
    pub value: Option<Vec<f64>>,
    /// Middle of the distribution.
    #[schema(min_items = 1, max_items = 100_000)]
    pub location: Option<Vec<f64>>,
    /// Width of the distribution, above 0.
    #[schema(min_items = 1, max_items = 100_000)]
    pub scale: Option<Vec<f64>>,
}

/// The losses of a batch: 0 is best, and less is better.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Losses {
    /// By which rule.
    pub rule: Rule,
    /// In which unit: `bits`, that of the `value`s, or none (`1`).
    pub unit: String,
    /// How many rows.
    pub n: u64,
    /// The mean loss; absent where a row's is infinite.
    pub mean: Option<f64>,
    /// The loss of each row; absent where it is infinite.
    pub loss: Vec<Option<f64>>,
}
