//! The persistence prior: the task's `R_T` and its weakest message, calibrated on tasks that have ended.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aion_types::{ForecasterId, PpmDist, Prob, TaskId};
use async_trait::async_trait;
use serde::Serialize;

use super::logistic::{self, LogisticOptions};
use super::{Cadence, Ended, Opinion, PredictError, Predictor};
use crate::Result;
use crate::calibration::{Calibration, Fit, FitOptions};
use crate::feed::{TaskView, least_ratio};
use crate::market::Market;

/// The most resolved tasks that a fit looks at, the latest first.
const MAX_EXAMPLES: usize = 2_000;
/// From how many tasks with a least ratio on the tail is fitted as well.
const MIN_TAILS: usize = 20;

/// `p = sigmoid(a ln R_T + b ln R_min + c)` with `R_T` from the harmonic means that the model reported of
/// its tokens, `R_min` the least ratio of any token, and `(a, b, c)` refitted whenever a task ends.
///
/// `b = 0` until 20 tasks have ended that reported `R_min`; `a = 1, c = 0` until one has ended. Has no
/// opinion before the first assistant message that reports its persistence. Its reports count
/// for `(n + 1) / (n + 8) / k`: little while only few tasks `n` have calibrated it, and less for the
/// `k`-th message of a task, since one message tells much of what the next one will (ours: the
/// harmonic weights keep a long task from drowning the prior in one and the same evidence).
#[derive(Debug)]
pub struct PersistencePredictor {
    id: ForecasterId,
    market: Market,
    fit: FitOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fitted: Option<Fit>,
    /// Tasks that reported `R_min`, the latest by id.
    tails: BTreeMap<TaskId, Tail>,
    tail: Option<TailFit>,
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    ln_ratio: f64,
    ln_least: f64,
    success: f64,
}

/// The calibration with the weakest token beside the mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TailFit {
    /// How far `ln R_T` may be trusted.
    pub a: f64,
    /// What the weakest token adds.
    pub b: f64,
    /// What ratios of 1 stand for, in log-odds.
    pub c: f64,
    /// How many tasks it saw.
    pub n: usize,
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
            state: Mutex::default(),
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
        self.lock().fitted = Some(fit);
        Ok(fit)
    }

    /// The fit in force, made on the first call and whenever a task ends.
    ///
    /// # Errors
    /// [`crate::Error::Store`] if the store fails.
    pub async fn fitted(&self) -> Result<Fit> {
        let known = self.lock().fitted;
        match known {
            Some(fit) => Ok(fit),
            None => self.refit().await,
        }
    }

    /// The fit with the weakest token, once 20 tasks have ended that reported it.
    pub fn tail(&self) -> Option<TailFit> {
        self.lock().tail
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Fits are replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what an ended task reported, and fits the tail again.
    fn learn_tail(&self, view: &TaskView<'_>, success: f64) -> Result<()> {
        let Some(ln_least) = ln_least(view) else {
            return Ok(());
        };
        let ln_ratio = view.evidence().persistence()?.ratio.ln();
        let mut state = self.lock();
        let tail = Tail {
            ln_ratio,
            ln_least,
            success,
        };
        state.tails.insert(view.task.id, tail);
        if state.tails.len() > MAX_EXAMPLES {
            state.tails.pop_first();
        }
        if state.tails.len() >= MIN_TAILS {
            state.tail = Some(fit_tail(state.tails.values())?);
        }
        Ok(())
    }

    async fn prob(&self, ln_ratio: f64, ln_least: Option<f64>) -> Result<Prob> {
        let fit = self.fitted().await?;
        match (self.tail(), ln_least) {
            (Some(tail), Some(least)) => Ok(Prob::from_logit(tail.a * ln_ratio + tail.b * least + tail.c)?),
            _ => Ok(fit.calibration.prob_of_ln(ln_ratio)?),
        }
    }
}

/// A ridge of 1 towards the odds link: the mean as it stands, and nothing from the tail.
fn fit_tail<'a>(tails: impl Iterator<Item = &'a Tail>) -> Result<TailFit> {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for tail in tails {
        x.extend([tail.ln_ratio, tail.ln_least]);
        y.push(tail.success);
    }
    let options = LogisticOptions::default().with_prior(vec![1.0, 0.0]);
    let fit = logistic::fit(&x, 2, &y, &options)?;
    // Where all tasks ended alike the intercept has no minimum.
    let c = fit.coefficients[2].clamp(-10.0, 10.0);
    Ok(TailFit {
        a: fit.coefficients[0],
        b: fit.coefficients[1],
        c,
        n: y.len(),
    })
}

/// The least `ln R_min` of the messages that report it.
fn ln_least(view: &TaskView<'_>) -> Option<f64> {
    let least = view.messages.iter().filter_map(least_ratio);
    least.reduce(f64::min).map(f64::ln)
}

#[async_trait]
impl Predictor for PersistencePredictor {
    fn id(&self) -> &ForecasterId {
        &self.id
    }

    fn cadence(&self) -> Cadence {
        Cadence::OnPersistence
    }

    async fn predict(&self, task: &TaskView<'_>, _price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let evidence = task.evidence();
        if evidence.messages.is_empty() {
            return Ok(None);
        }
        let ln_ratio = evidence.persistence()?.ratio.ln();
        let success = self.prob(ln_ratio, ln_least(task)).await?;
        let weight = weight(self.fitted().await?.n, evidence.messages.len());
        Ok(Some(
            Opinion::new(success).with_weight(weight).with_ln_ratio(ln_ratio),
        ))
    }

    async fn learn(&self, ended: &Ended<'_>) -> Result<(), PredictError> {
        self.refit().await?;
        if let (Some(view), Some(success)) = (&ended.task, ended.success()) {
            self.learn_tail(view, success)?;
        }
        Ok(())
    }
}

/// How much the report on the `messages`-th message counts after `tasks` tasks; never below what a
/// market takes.
fn weight(tasks: usize, messages: usize) -> f64 {
    let (tasks, messages) = (tasks as f64, messages.max(1) as f64);
    ((tasks + 1.0) / (tasks + 8.0) / messages).max(0.001)
}
