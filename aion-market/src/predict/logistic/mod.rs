//! Logistic regression: Newton's method on the penalised log loss, models that remember what they were
//! trained on, and the predictor that keeps one up to date.

mod cholesky;
mod choose;
mod fit;
mod model;
mod predictor;
mod saved;
mod standard;
mod step;

pub use choose::{Ridge, choose_ridge};
pub use fit::{ClassWeights, FitStatus, LogisticFit, LogisticOptions, fit, fit_weighted};
pub use model::{LogisticModel, ModelError, RowId, TrainingRow};
pub use predictor::{LogisticPredictor, LogisticPredictorOptions};
