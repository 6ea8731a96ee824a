//! Predictors: who says beforehand how a task will end.

mod base_rate;
mod persistence;
mod random;

use std::fmt::Debug;

use aion_types::{ForecasterId, PpmDist, Prob};
use async_trait::async_trait;

use crate::Result;
use crate::feed::TaskView;
use crate::report::Report;

pub use base_rate::BaseRate;
pub use persistence::PersistencePredictor;
pub use random::Random;

/// Why a predictor failed.
pub type PredictError = Box<dyn std::error::Error + Send + Sync>;

/// What a predictor says about a task.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Opinion {
    /// The probability of success.
    pub success: Prob,
    /// How many reports it counts for.
    pub weight: f64,
    /// The `ln R` that it rests on.
    pub ln_ratio: Option<f64>,
}

impl Opinion {
    /// A report of weight 1.
    pub const fn new(success: Prob) -> Self {
        Self {
            success,
            weight: 1.0,
            ln_ratio: None,
        }
    }

    /// Sets how many reports it counts for.
    #[must_use]
    pub const fn with_weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Keeps the `ln R` that it rests on, to be calibrated by how the task ends.
    #[must_use]
    pub const fn with_ln_ratio(mut self, ln_ratio: f64) -> Self {
        self.ln_ratio = Some(ln_ratio);
        self
    }
}

/// Somebody who says how likely a task is to succeed.
///
/// A predictor sees the price only as an argument: one that uses it says so by [`Predictor::informed`].
#[async_trait]
pub trait Predictor: Debug + Send + Sync {
    /// Under which name it forecasts.
    fn id(&self) -> &ForecasterId;

    /// Whether it looks at the price; its forecasts are then marked.
    fn informed(&self) -> bool {
        false
    }

    /// Its opinion, asked when a task is made and after messages; `None` if it has none (any more).
    ///
    /// # Errors
    /// [`PredictError`]; the observer logs it and goes on without this predictor.
    async fn predict(&self, task: &TaskView<'_>, price: &PpmDist) -> Result<Option<Opinion>, PredictError>;

    /// Learns from a market that was just resolved.
    ///
    /// # Errors
    /// [`PredictError`]; the observer logs it.
    async fn learn(&self, _report: &Report) -> Result<(), PredictError> {
        Ok(())
    }
}
