//! The persistence prior: the task's `R_T`, calibrated on tasks that have ended.

use std::sync::{Mutex, PoisonError};

use aion_types::{ForecasterId, PpmDist};
use async_trait::async_trait;

use super::{Opinion, PredictError, Predictor};
use crate::Result;
use crate::calibration::{Calibration, Fit, FitOptions};
use crate::feed::TaskView;
use crate::market::Market;
use crate::report::Report;

/// The most resolved tasks that a fit looks at, the latest first.
const MAX_EXAMPLES: usize = 2_000;

/// `p = sigmoid(a ln R_T + c)` with `R_T` from the harmonic means that the model reported of its
/// tokens, and `(a, c)` refitted whenever a task ends.
///
/// Has no opinion before the first assistant message that reports its persistence. Its reports count
/// for `(n + 1) / (n + 8) / k`: little while only few tasks `n` have calibrated it, and less for the
/// `k`-th message of a task, since one message tells much of what the next one will (ours: the
/// harmonic weights keep a long task from drowning the prior in one and the same evidence).
#[derive(Debug)]
pub struct PersistencePredictor {
    id: ForecasterId,
    market: Market,
    fit: FitOptions,
    fitted: Mutex<Option<Fit>>,
}

impl PersistencePredictor {
    /// Learns from the resolved markets of this handle.
    ///
    /// # Errors
    /// [`crate::Error`] never: the name `persistence` is a valid one.
    pub fn new(market: Market) -> Result<Self> {
        let id = ForecasterId::new("persistence")?;
        Ok(Self {
            id,
            market,
            fit: FitOptions::default(),
            fitted: Mutex::default(),
        })
    }

    /// Sets how it is fitted.
    #[must_use]
    pub const fn with_fit(mut self, options: FitOptions) -> Self {
        self.fit = options;
        self
    }

    /// Fits `(a, c)` to its last signals on resolved tasks.
    ///
    /// # Errors
    /// [`crate::Error::Store`] if the store fails.
    pub async fn refit(&self) -> Result<Fit> {
        let rows = self.market.scores(&self.id, MAX_EXAMPLES).await?;
        let (mut ln_ratios, mut outcomes) = (Vec::new(), Vec::new());
        for row in &rows {
            let success = row.target.dist().get(crate::SUCCESS);
            if let (Some(signal), Some(success)) = (row.signal_micro, success) {
                ln_ratios.push(signal as f64 / 1e6);
                outcomes.push(success.to_prob().get());
            }
        }
        let fit = Calibration::fit(&ln_ratios, &outcomes, self.fit)?;
        *self.fitted.lock().unwrap_or_else(PoisonError::into_inner) = Some(fit);
        Ok(fit)
    }

    /// The fit in force, made on the first call and whenever a task ends.
    ///
    /// # Errors
    /// [`crate::Error::Store`] if the store fails.
    pub async fn fitted(&self) -> Result<Fit> {
        let known = *self.fitted.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(fit) => Ok(fit),
            None => self.refit().await,
        }
    }
}

#[async_trait]
impl Predictor for PersistencePredictor {
    fn id(&self) -> &ForecasterId {
        &self.id
    }

    async fn predict(&self, task: &TaskView<'_>, _price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let evidence = task.evidence();
        if evidence.messages.is_empty() {
            return Ok(None);
        }
        let ln_ratio = evidence.persistence()?.ratio.ln();
        let fit = self.fitted().await?;
        let success = fit.calibration.prob_of_ln(ln_ratio)?;
        let weight = weight(fit.n, evidence.messages.len());
        Ok(Some(
            Opinion::new(success).with_weight(weight).with_ln_ratio(ln_ratio),
        ))
    }

    async fn learn(&self, _report: &Report) -> Result<(), PredictError> {
        self.refit().await?;
        Ok(())
    }
}

/// How much the report on the `messages`-th message counts after `tasks` tasks; never below what a
/// market takes.
fn weight(tasks: usize, messages: usize) -> f64 {
    let (tasks, messages) = (tasks as f64, messages.max(1) as f64);
    ((tasks + 1.0) / (tasks + 8.0) / messages).max(0.001)
}
