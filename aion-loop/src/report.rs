//! What a step did, for whoever watches: the terminal, the server, a market.

use std::fmt::Debug;
use std::sync::Arc;

use aion_types::{PersistenceSummary, Prob, RunId, TaskId};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::diff::StateDiff;
use crate::model::Usage;
use crate::run::{CallStatus, Outcome};

/// One step of a run: what the model said and did, and what it changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// Counts the calls of the model from 1.
    pub step: u32,
    /// What the model said beside its calls, or in their place.
    pub text: String,
    /// The calls that it made.
    pub calls: Vec<CallReport>,
    /// What was wrong with an answer that was not used.
    #[serde(default)]
    pub refused: Option<String>,
    /// What changed in the state of the services.
    pub diff: StateDiff,
    /// Tokens of this step.
    pub usage: Usage,
    /// Persistence of the message's tokens.
    #[serde(default)]
    pub persistence: Option<PersistenceSummary>,
    /// Tokens of the whole run so far.
    pub tokens_used: u64,
    /// The market's price of success after this step.
    #[serde(default)]
    pub price: Option<Prob>,
    /// Milliseconds that the model took.
    pub model_ms: u64,
    /// Milliseconds that the whole step took.
    pub step_ms: u64,
    /// How the run ended, when this step was the last.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

/// One call of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// How it ended.
    pub status: CallStatus,
    /// What the service said, cut to what the model saw.
    pub answer: String,
    /// Its idempotency key.
    pub key: String,
}

/// Hears of every step when it is over.
pub trait StepObserver: Send + Sync {
    /// A step is over. Returns at once: the loop waits for it.
    fn on_step(&self, step: &StepReport);
}

impl<F: Fn(&StepReport) + Send + Sync> StepObserver for F {
    fn on_step(&self, step: &StepReport) {
        self(step);
    }
}

/// A sender of a channel as an observer; a full channel loses the report.
impl StepObserver for tokio::sync::mpsc::Sender<StepReport> {
    fn on_step(&self, step: &StepReport) {
        if self.try_send(step.clone()).is_err() {
            tracing::warn!(step = step.step, "nobody takes the step reports");
        }
    }
}

/// Where the price of success comes from: a market whose predictors bet after every step.
#[async_trait]
pub trait PriceFeed: Debug + Send + Sync + 'static {
    /// The price after `step`, once every predictor has seen it; none while there is no market.
    async fn price_after(&self, step: &StepReport) -> Option<Prob>;
}

/// An observer that can be shared.
pub type SharedObserver = Arc<dyn StepObserver>;
