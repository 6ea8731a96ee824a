//! The mixture of other predictors, each trusted by what it was worth so far.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aion_types::{ForecasterId, MarketId, PpmDist, Prob};
use async_trait::async_trait;

use super::{Ended, Mixture, Opinion, PredictError, Predictor};
use crate::Result;
use crate::feed::TaskView;
use crate::report::Report;

/// How many markets it remembers having learned from.
const MAX_LEARNED: usize = 100_000;

/// The Bayes [`Mixture`] of the last forecasts of others in the same market.
///
/// It is asked after them, and its forecasts are marked as informed: it looks at what others said.
/// A component that has not spoken about a task is left out there and neither gains nor loses.
#[derive(Debug)]
pub struct Ensemble {
    id: ForecasterId,
    components: Vec<ForecasterId>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    mixture: Mixture,
    learned: BTreeSet<MarketId>,
}

impl Ensemble {
    /// A mixture of these, equal at first; each once.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] without a component.
    pub fn new(components: impl IntoIterator<Item = ForecasterId>) -> Result<Self> {
        let distinct: BTreeSet<ForecasterId> = components.into_iter().collect();
        let mixture = Mixture::new(distinct.len())?;
        Ok(Self {
            id: ForecasterId::new("ensemble")?,
            components: distinct.into_iter().collect(),
            state: Mutex::new(State {
                mixture,
                learned: BTreeSet::new(),
            }),
        })
    }

    /// Sets the share of fixed share: how fast it follows a best one that changes.
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] outside `[0, 1]`.
    pub fn with_share(self, share: f64) -> Result<Self> {
        {
            let mut state = self.lock();
            state.mixture = state.mixture.clone().with_share(share)?;
        }
        Ok(self)
    }

    /// Its components with their weights, which sum to 1.
    pub fn weights(&self) -> Vec<(ForecasterId, f64)> {
        let weights = self.lock().mixture.weights().to_vec();
        self.components.iter().cloned().zip(weights).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The weights are replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each component says, by a look-up.
    fn says(&self, of: impl Fn(&ForecasterId) -> Option<f64>) -> Vec<Option<f64>> {
        self.components.iter().map(of).collect()
    }

    fn learn_report(&self, report: &Report, success: f64) -> Result<()> {
        let says = self.says(|id| {
            let last = &report.forecaster(id)?.last;
            last.get(crate::SUCCESS).map(|part| part.to_prob().get())
        });
        let mut state = self.lock();
        if state.learned.insert(report.market) {
            state.mixture.update(&says, success)?;
        }
        if state.learned.len() > MAX_LEARNED {
            state.learned.pop_first();
        }
        Ok(())
    }
}

#[async_trait]
impl Predictor for Ensemble {
    fn id(&self) -> &ForecasterId {
        &self.id
    }

    fn informed(&self) -> bool {
        true
    }

    fn listens(&self) -> bool {
        true
    }

    async fn predict(&self, task: &TaskView<'_>, _price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let says = self.says(|id| {
            let said = task.said.iter().find(|(who, _)| who == id);
            said.map(|(_, p)| p.get())
        });
        let mixed = self.lock().mixture.mix(&says)?;
        Ok(match mixed {
            Some(p) => Some(Opinion::new(Prob::new(p)?)),
            None => None,
        })
    }

    async fn learn(&self, ended: &Ended<'_>) -> Result<(), PredictError> {
        if let Some(success) = ended.success() {
            self.learn_report(ended.report, success)?;
        }
        Ok(())
    }
}
