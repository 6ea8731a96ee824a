//! Whom the replay asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use aion_market::features::Share;
use aion_market::predict::AtShare;
use aion_market::predict::logistic::{LogisticPredictorOptions, Ridge};
use aion_market::{
    BaseRate, BetaHistory, Ensemble, LogisticPredictor, Market, Predictor, Result, TaskHistory,
};
use aion_types::{ForecasterId, TaskId};

/// After how much of the messages regressions speak, in percent.
pub(crate) const SHARES: [u32; 3] = [25, 50, 100];

/// The base rate; histories of strength 2 and 1/2; regressions after a quarter, half and all of the
/// messages; and the mixture of them all.
pub(crate) fn all(
    market: &Market,
    lengths: &Arc<BTreeMap<TaskId, usize>>,
    ridge: Ridge,
) -> Result<Vec<Arc<dyn Predictor>>> {
    let history = TaskHistory::new();
    let mut all: Vec<Arc<dyn Predictor>> = vec![Arc::new(BaseRate::new(market.clone())?)];
    for (name, strength) in [("beta_k2", 2.0), ("beta_k05", 0.5)] {
        let beta = BetaHistory::new(history.clone())?.with_strength(strength)?;
        all.push(Arc::new(beta.with_id(ForecasterId::new(name)?)));
    }
    for percent in SHARES {
        let share = Share::new(f64::from(percent) / 100.0)?;
        let options = LogisticPredictorOptions::new()?
            .with_id(ForecasterId::new(format!("logistic_{percent}"))?)
            .with_ridge(ridge)
            .with_views(vec![share])?;
        let logistic = Arc::new(LogisticPredictor::new(history.clone(), options));
        all.push(Arc::new(AtShare::new(logistic, share, Arc::clone(lengths))));
    }
    let components: Vec<ForecasterId> = all.iter().map(|predictor| predictor.id().clone()).collect();
    all.push(Arc::new(Ensemble::new(components)?));
    Ok(all)
}
