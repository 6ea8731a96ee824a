//! How each predictor has done when it was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aion_types::{ForecasterId, TaskId};
use serde::Serialize;

/// Why an opinion did not become a forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The predictor failed.
    Error,
    /// It did not answer in time.
    Timeout,
    /// What it said is no forecast: a weight or a signal outside its range.
    Invalid,
    /// The market refused the forecast.
    Refused,
    /// It answered, or its turn came, when the market took no more forecasts.
    Late,
    /// Too many were waiting to be asked; it was not asked.
    Crowded,
    /// It could not learn from a task that ended.
    Learning,
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Failure {
    /// What sort.
    pub kind: FailureKind,
    /// About which task.
    pub task: TaskId,
    /// The reason, with its causes.
    pub reason: String,
}

/// How often a predictor was asked, and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PredictorHealth {
    /// How often it was asked.
    pub asked: u64,
    /// How often a forecast came of it.
    pub spoke: u64,
    /// How often it had no opinion.
    pub silent: u64,
    /// How often it failed, in any way.
    pub failed: u64,
    /// The latest failure.
    pub last_failure: Option<Failure>,
}

/// The health of all predictors of an observer and its clones.
#[derive(Debug, Clone, Default)]
pub(super) struct Health(Arc<Mutex<BTreeMap<ForecasterId, PredictorHealth>>>);

impl Health {
    pub(super) fn all(&self) -> BTreeMap<ForecasterId, PredictorHealth> {
        self.lock().clone()
    }

    pub(super) fn asked(&self, id: &ForecasterId) {
        self.change(id, |health| health.asked += 1);
    }

    pub(super) fn spoke(&self, id: &ForecasterId) {
        self.change(id, |health| health.spoke += 1);
    }

    pub(super) fn silent(&self, id: &ForecasterId) {
        self.change(id, |health| health.silent += 1);
    }

    pub(super) fn failed(&self, id: &ForecasterId, failure: Failure) {
        tracing::warn!(predictor = %id, task = %failure.task, kind = ?failure.kind, reason = %failure.reason,
            "a predictor failed");
        self.change(id, |health| {
            health.failed += 1;
            health.last_failure = Some(failure);
        });
    }

    fn change(&self, id: &ForecasterId, change: impl FnOnce(&mut PredictorHealth)) {
        let mut all = self.lock();
        match all.get_mut(id) {
            Some(health) => change(health),
            None => change(all.entry(id.clone()).or_default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ForecasterId, PredictorHealth>> {
        // Counters are changed one by one; none depends on another.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes, at most 500 characters.
pub(super) fn reason_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.chars().take(500).collect()
}
