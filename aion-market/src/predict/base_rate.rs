//! How tasks of the same kind ended before.

use aion_types::{ForecasterId, PpmDist};
use async_trait::async_trait;

use super::{Cadence, Opinion, PredictError, Predictor};
use crate::Result;
use crate::feed::TaskView;
use crate::market::Market;

/// The pseudo-count base rate of the task's kind: `(successes + k0/2) / (n + k0)`.
#[derive(Debug, Clone)]
pub struct BaseRate {
    id: ForecasterId,
    market: Market,
    k0: f64,
}

impl BaseRate {
    /// Reads resolved markets through this handle; `k0 = 2`.
    ///
    /// # Errors
    /// [`crate::Error`] never: the name `base_rate` is a valid one.
    pub fn new(market: Market) -> Result<Self> {
        Ok(Self {
            id: ForecasterId::new("base_rate")?,
            market,
            k0: 2.0,
        })
    }

    /// Sets how many pseudo-counts it starts from.
    #[must_use]
    pub const fn with_pseudo_counts(mut self, k0: f64) -> Self {
        self.k0 = k0;
        self
    }
}

#[async_trait]
impl Predictor for BaseRate {
    fn id(&self) -> &ForecasterId {
        &self.id
    }

    /// Nothing that happens in a task changes its kind.
    fn cadence(&self) -> Cadence {
        Cadence::OnCreation
    }

    async fn predict(&self, task: &TaskView<'_>, _price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let rate = self
            .market
            .history(&task.task.kind, 2)
            .await?
            .base_rate(self.k0)?;
        Ok(rate
            .get(crate::SUCCESS)
            .map(|success| Opinion::new(success.to_prob())))
    }
}
