//! Logistic regression kept up to date: learns from every task that ends, speaks about those that run.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aion_types::{ForecasterId, PpmDist, TaskId};
use async_trait::async_trait;

use super::choose::{Ridge, choose_ridge};
use super::fit::{ClassWeights, LogisticOptions};
use super::model::{LogisticModel, RowId, TrainingRow};
use crate::Result;
use crate::error::{Error, check};
use crate::features::{Features, Share};
use crate::feed::TaskView;
use crate::predict::{Ended, Opinion, PredictError, Predictor, TaskHistory};

/// How a [`LogisticPredictor`] learns.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LogisticPredictorOptions {
    id: ForecasterId,
    views: Vec<Share>,
    ridge: Ridge,
    class_weights: ClassWeights,
    history_strength: f64,
    min_tasks: usize,
    refit_every: NonZeroUsize,
    max_tasks: usize,
}

impl LogisticPredictorOptions {
    /// Named `logistic`: every task that ends is learned as it looked after a quarter, half and all of its
    /// messages; a ridge chosen anew at every refit, which is at least every 16 tasks; silent below 10
    /// tasks; the last 5,000 are kept.
    ///
    /// # Errors
    /// [`Error`] never: the name is a valid one.
    pub fn new() -> Result<Self> {
        Ok(Self {
            id: ForecasterId::new("logistic")?,
            views: vec![Share::new(0.25)?, Share::new(0.5)?, Share::ALL],
            ridge: Ridge::Chosen,
            class_weights: ClassWeights::Equal,
            history_strength: 2.0,
            min_tasks: 10,
            refit_every: NonZeroUsize::MIN.saturating_add(15),
            max_tasks: 5_000,
        })
    }

    /// Sets the name.
    #[must_use]
    pub fn with_id(mut self, id: ForecasterId) -> Self {
        self.id = id;
        self
    }

    /// Sets after which shares of its messages an ended task is looked at; at least one.
    ///
    /// # Errors
    /// [`Error::Shape`] for none.
    pub fn with_views(mut self, views: Vec<Share>) -> Result<Self> {
        if views.is_empty() {
            return Err(Error::Shape {
                what: "views",
                found: 0,
                expected: 1,
            });
        }
        self.views = views;
        Ok(self)
    }

    /// Sets how the ridge is found.
    #[must_use]
    pub const fn with_ridge(mut self, ridge: Ridge) -> Self {
        self.ridge = ridge;
        self
    }

    /// Sets how much the classes count.
    #[must_use]
    pub const fn with_class_weights(mut self, weights: ClassWeights) -> Self {
        self.class_weights = weights;
        self
    }

    /// Sets the strength of the history's pull towards the kind's base rate.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if it is not finite and above 0.
    pub fn with_history_strength(mut self, k: f64) -> Result<Self> {
        self.history_strength = check("a strength", "finite and above 0", k, k.is_finite() && k > 0.0)?;
        Ok(self)
    }

    /// Sets below how many ended tasks it is silent.
    #[must_use]
    pub const fn with_min_tasks(mut self, tasks: usize) -> Self {
        self.min_tasks = tasks;
        self
    }

    /// Sets after how many ended tasks it is fitted anew; between them it is updated.
    #[must_use]
    pub const fn with_refit_every(mut self, tasks: NonZeroUsize) -> Self {
        self.refit_every = tasks;
        self
    }

    /// Sets how many ended tasks are kept to learn from.
    #[must_use]
    pub const fn with_max_tasks(mut self, tasks: usize) -> Self {
        self.max_tasks = tasks;
        self
    }
}

/// Forecasts by a [`LogisticModel`] over the [`Features`] of the task so far.
///
/// The model that speaks about a task has never seen how it ended, and refuses if it has. Its features
/// include the log-odds of the task's history as they were when the task was made.
#[derive(Debug)]
pub struct LogisticPredictor {
    options: LogisticPredictorOptions,
    history: TaskHistory,
    state: Mutex<State>,
}

/// How many tasks it remembers having learned from; the first made go first.
const MAX_KNOWN: usize = 1 << 20;

#[derive(Debug, Default)]
struct State {
    /// The views of each ended task, in the order of their ends.
    rows: VecDeque<Vec<TrainingRow>>,
    known: BTreeSet<TaskId>,
    model: Option<LogisticModel>,
    since_fit: usize,
}

impl LogisticPredictor {
    /// A predictor that looks back through this history.
    pub fn new(history: TaskHistory, options: LogisticPredictorOptions) -> Self {
        Self {
            options,
            history,
            state: Mutex::default(),
        }
    }

    /// Starts from a model that was fitted before, until enough tasks have ended here.
    #[must_use]
    pub fn with_model(self, model: LogisticModel) -> Self {
        self.lock().model = Some(model);
        self
    }

    /// The model in force; none before enough tasks have ended.
    pub fn model(&self) -> Option<LogisticModel> {
        self.lock().model.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A model is replaced as a whole; a row more or less only shifts the next fit.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn features(&self, view: &TaskView<'_>) -> Result<Features> {
        let prospect = self.history.prospect(view.task, self.options.history_strength)?;
        Ok(Features::of(view, Some(prospect)))
    }

    /// What an ended task looked like after each share of its messages.
    fn rows_of(&self, view: &TaskView<'_>, success: f64) -> Result<Vec<TrainingRow>> {
        let (id, share) = (row_of(view.task.id), 1.0 / self.options.views.len() as f64);
        let look = |part: &Share| {
            let seen = view.until(part.of(view.messages.len()));
            Ok(TrainingRow::new(id, self.features(&seen)?, success).with_weight(share))
        };
        self.options.views.iter().map(look).collect()
    }

    /// Keeps the rows; gives all of them when it is time for a fit.
    fn keep(&self, task: TaskId, rows: Vec<TrainingRow>) -> Result<Option<Vec<TrainingRow>>> {
        let mut state = self.lock();
        if !state.known.insert(task) {
            return Ok(None);
        }
        if state.known.len() > MAX_KNOWN {
            state.known.pop_first();
        }
        state.since_fit += 1;
        let due = state.since_fit >= self.options.refit_every.get() || state.model.is_none();
        if let Some(model) = state.model.as_mut().filter(|_| !due) {
            // One look at a task is an update; more would count its end more than once.
            if let Some(row) = rows.last() {
                let whole = row.clone().with_weight(1.0);
                model.update(&whole)?;
            }
        }
        state.rows.push_back(rows);
        if state.rows.len() > self.options.max_tasks {
            state.rows.pop_front();
        }
        let ready = due && state.rows.len() >= self.options.min_tasks.max(1);
        Ok(ready.then(|| state.rows.iter().flatten().cloned().collect()))
    }
}

fn row_of(task: TaskId) -> RowId {
    RowId::of(task.as_bytes())
}

fn fitted(rows: &[TrainingRow], options: &LogisticPredictorOptions) -> Result<LogisticModel> {
    let plain = LogisticOptions::default().with_class_weights(options.class_weights);
    let ridge = match options.ridge {
        Ridge::Fixed(ridge) => ridge,
        Ridge::Chosen => choose_ridge(rows, &plain)?,
    };
    LogisticModel::fit(rows, &plain.with_ridge(ridge))
}

#[async_trait]
impl Predictor for LogisticPredictor {
    fn id(&self) -> &ForecasterId {
        &self.options.id
    }

    async fn predict(&self, task: &TaskView<'_>, _price: &PpmDist) -> Result<Option<Opinion>, PredictError> {
        let features = self.features(task)?;
        let state = self.lock();
        let Some(model) = &state.model else {
            return Ok(None);
        };
        Ok(Some(Opinion::new(
            model.predict(row_of(task.task.id), &features)?,
        )))
    }

    async fn learn(&self, ended: &Ended<'_>) -> Result<(), PredictError> {
        let (Some(view), Some(success)) = (&ended.task, ended.success()) else {
            return Ok(());
        };
        // The history as it was when the task was made, whoever has noted this end already.
        let rows = self.rows_of(view, success)?;
        self.history.ended(view.task, success);
        if let Some(rows) = self.keep(view.task.id, rows)? {
            let options = self.options.clone();
            let fit = tokio::task::spawn_blocking(move || fitted(&rows, &options));
            let model = fit.await??;
            let mut state = self.lock();
            state.model = Some(model);
            state.since_fit = 0;
        }
        Ok(())
    }
}
