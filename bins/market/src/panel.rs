//! Who forecasts in a service that follows a processor.

use std::sync::Arc;

use aion_market::predict::logistic::LogisticPredictorOptions;
use aion_market::{
    BaseRate, BetaHistory, Ensemble, LogisticPredictor, Market, PersistencePredictor, Predictor, Result,
    TaskHistory,
};

/// Base rate, history of like tasks, logistic regression, persistence, whoever else is given, and the
/// mixture of them all.
///
/// ```
/// use aion_market::Market;
///
/// let panel = aion_market_server::panel(&Market::in_memory(), None)?;
/// let names: Vec<&str> = panel.iter().map(|one| one.id().as_str()).collect();
/// assert_eq!(names, ["base_rate", "beta_history", "logistic", "persistence", "ensemble"]);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`aion_market::Error`] never: every name is a valid one, and every option a default.
pub fn panel(
    market: &Market,
    more: impl IntoIterator<Item = Arc<dyn Predictor>>,
) -> Result<Vec<Arc<dyn Predictor>>> {
    let history = TaskHistory::new();
    let logistic = LogisticPredictor::new(history.clone(), LogisticPredictorOptions::new()?);
    let mut all: Vec<Arc<dyn Predictor>> = vec![
        Arc::new(BaseRate::new(market.clone())?),
        Arc::new(BetaHistory::new(history)?),
        Arc::new(logistic),
        Arc::new(PersistencePredictor::new(market.clone())?),
    ];
    all.extend(more);
    let mixture = Ensemble::new(all.iter().map(|predictor| predictor.id().clone()))?;
    all.push(Arc::new(mixture));
    Ok(all)
}
