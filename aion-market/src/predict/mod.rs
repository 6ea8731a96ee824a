//! Predictors: who says beforehand how a task will end.

mod at_share;
mod base_rate;
mod beta_history;
mod ensemble;
pub mod llm;
pub mod logistic;
mod mixture;
mod persistence;
mod random;
mod task_history;

use std::fmt::Debug;
use std::num::NonZeroU32;

use aion_types::{ForecasterId, PpmDist, Prob};
use async_trait::async_trait;

use crate::Result;
use crate::feed::TaskView;
use crate::report::Report;

pub use at_share::AtShare;
pub use base_rate::BaseRate;
pub use beta_history::BetaHistory;
pub use ensemble::Ensemble;
pub use llm::LlmPredictor;
pub use logistic::LogisticPredictor;
pub use mixture::Mixture;
pub use persistence::{PersistencePredictor, TailFit};
pub use random::Random;
pub(crate) use random::splitmix64;
pub use task_history::TaskHistory;

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

/// When a predictor is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cadence {
    /// When a task is made, and never again.
    OnCreation,
    /// When it is made, and after as many messages as the observer waits for.
    #[default]
    Debounced,
    /// When it is made, and after so many messages each.
    EveryMessages(NonZeroU32),
    /// When it is made, and after each message of the model that reports its persistence.
    OnPersistence,
}

/// Whether whoever asks a predictor waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pace {
    /// It answers soon: the observer waits, and what it says is written with the event that it is asked at.
    #[default]
    InStep,
    /// It may take long: the observer goes on with other events. The forecast is entered when it comes,
    /// if the market still takes any. It is shown what was known at the event, but hears nobody.
    Aside,
}

/// How a task ended.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// What its market came to.
    pub report: &'a Report,
    /// The task with all of its messages; none if the feed has lost it.
    pub task: Option<TaskView<'a>>,
}

impl<'a> Ended<'a> {
    /// A market's report with its task.
    pub const fn new(report: &'a Report, task: Option<TaskView<'a>>) -> Self {
        Self { report, task }
    }

    /// How well it went, in `[0, 1]`; none where the market was void.
    pub fn success(&self) -> Option<f64> {
        let target = self.report.target.as_ref()?;
        Some(target.dist().get(crate::SUCCESS)?.to_prob().get())
    }
}

/// Somebody who says how likely a task is to succeed.
///
/// A predictor sees the price, and what others said, only as arguments: one that uses them says so by
/// [`Predictor::informed`]. It may fail, hang or say what is no probability: the observer notes that and
/// goes on with the others.
#[async_trait]
pub trait Predictor: Debug + Send + Sync {
    /// Under which name it forecasts.
    fn id(&self) -> &ForecasterId;

    /// Whether it looks at the price or at what others said; its forecasts are then marked.
    fn informed(&self) -> bool {
        false
    }

    /// Whether it is asked after the others, with what they said in [`TaskView::said`].
    fn listens(&self) -> bool {
        false
    }

    /// When it is asked.
    fn cadence(&self) -> Cadence {
        Cadence::default()
    }

    /// Whether it is waited for.
    fn pace(&self) -> Pace {
        Pace::default()
    }

    /// Its opinion; `None` if it has none (any more).
    ///
    /// # Errors
    /// [`PredictError`]; the observer notes it and goes on without this predictor.
    async fn predict(&self, task: &TaskView<'_>, price: &PpmDist) -> Result<Option<Opinion>, PredictError>;

    /// Learns from a task that just ended. It may be told again, after a restart: the second time must
    /// change nothing.
    ///
    /// # Errors
    /// [`PredictError`]; the observer notes it.
    async fn learn(&self, _ended: &Ended<'_>) -> Result<(), PredictError> {
        Ok(())
    }
}
