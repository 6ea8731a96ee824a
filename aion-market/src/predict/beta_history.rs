//! How the same task ended before.

use aion_types::{ForecasterId, PpmDist, Prob};
use async_trait::async_trait;

use super::{Cadence, Ended, Opinion, PredictError, Predictor, TaskHistory};
use crate::Result;
use crate::error::check;
use crate::feed::TaskView;

/// `(s + k b) / (n + k)` over the earlier ends of the same task, with `b` the base rate of its kind.
#[derive(Debug, Clone)]
pub struct BetaHistory {
    id: ForecasterId,
    history: TaskHistory,
    strength: f64,
}

impl BetaHistory {
    /// Looks back through this history; `k = 2`.
    ///
    /// # Errors
    /// [`crate::Error`] never: the name `beta_history` is a valid one.
    pub fn new(history: TaskHistory) -> Result<Self> {
        Ok(Self {
            id: ForecasterId::new("beta_history")?,
            history,
            strength: 2.0,
        })
    }

    /// Sets the strength `k` of the pull towards the kind's base rate.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] if it is not finite and above 0.
    pub fn with_strength(mut self, k: f64) -> Result<Self> {
        self.strength = check("a strength", "finite and above 0", k, k.is_finite() && k > 0.0)?;
        Ok(self)
    }

    /// Sets the name, for several strengths side by side.
    #[must_use]
    pub fn with_id(mut self, id: ForecasterId) -> Self {
        self.id = id;
        self
    }
}

#[async_trait]
impl Predictor for BetaHistory {
    fn id(&self) -> &ForecasterId {
        &self.id
    }

    /// Nothing that happens in a task changes how others ended.
    fn cadence(&self) -> Cadence {
        Cadence::OnCreation
    }

    async fn predict(&self, task: &TaskView<'_>, _price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let success = self.history.success(task.task, self.strength)?;
        Ok(Some(Opinion::new(Prob::new(success)?)))
    }

    async fn learn(&self, ended: &Ended<'_>) -> Result<(), PredictError> {
        if let (Some(view), Some(success)) = (&ended.task, ended.success()) {
            self.history.ended(view.task, success);
        }
        Ok(())
    }
}
