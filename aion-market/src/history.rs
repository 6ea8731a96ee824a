//! What past markets tell: base rates of a kind, calibration of a forecaster.

use aion_types::{ForecasterId, PPM_ONE, PpmDist};
use serde::Serialize;

use crate::Result;
use crate::reliability::{Murphy, Reliability};
use crate::store::ScoreRow;

/// How markets of one kind ended.
///
/// ```
/// use aion_market::History;
///
/// let history = History::of("agent.run", vec![3_000_000, 1_000_000]);
/// assert_eq!(history.base_rate(2.0)?.parts(), [666_667, 333_333]);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// The kind.
    pub kind: String,
    /// How often each outcome happened, in millionths (a mixture counts in part).
    pub counts_micro: Vec<u64>,
}

impl History {
    /// These counts, in millionths.
    pub fn of(kind: impl Into<String>, counts_micro: Vec<u64>) -> Self {
        Self {
            kind: kind.into(),
            counts_micro,
        }
    }

    /// How many markets there were.
    pub fn resolved(&self) -> f64 {
        self.counts_micro.iter().sum::<u64>() as f64 / f64::from(PPM_ONE)
    }

    /// The pseudo-count estimate `(n_k + k0/K) / (n + k0)`.
    ///
    /// # Errors
    /// [`Error`](crate::Error) for fewer than two outcomes, or `k0` that is not finite and above 0.
    pub fn base_rate(&self, k0: f64) -> Result<PpmDist> {
        crate::error::check(
            "pseudo-counts",
            "finite and above 0",
            k0,
            k0.is_finite() && k0 > 0.0,
        )?;
        let share = k0 / self.counts_micro.len() as f64;
        let weights: Vec<f64> = self
            .counts_micro
            .iter()
            .map(|n| *n as f64 / f64::from(PPM_ONE) + share)
            .collect();
        Ok(PpmDist::from_weights(&weights)?)
    }
}

/// How well the last forecasts of one forecaster matched what happened, over markets of two outcomes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalibrationReport {
    /// Who; `house` for the market's own last price.
    pub forecaster: ForecasterId,
    /// The reliability curve of the first outcome.
    pub reliability: Reliability,
    /// Expected calibration error.
    pub ece: f64,
    /// Mean one-sided Brier score.
    pub brier: f64,
    /// Its parts.
    pub murphy: Murphy,
    /// Mean log loss, in bits.
    pub loss_bits: f64,
}

/// The calibration over rows of two outcomes; `None` without one.
pub(crate) fn calibration_of(
    forecaster: &ForecasterId,
    rows: &[ScoreRow],
    bins: usize,
) -> Result<Option<CalibrationReport>> {
    let first_of = |dist: &PpmDist| dist.get(0).map_or(0.0, |part| part.to_prob().get());
    let binary = || rows.iter().filter(|row| row.last.outcomes() == 2);
    let p: Vec<f64> = binary().map(|row| first_of(&row.last)).collect();
    let o: Vec<f64> = binary().map(|row| first_of(row.target.dist())).collect();
    if p.is_empty() {
        return Ok(None);
    }
    let loss = p
        .iter()
        .zip(&o)
        .map(|(p, o)| crate::divergence::cross_entropy(&[*o, 1.0 - o], &[*p, 1.0 - p]));
    let nats: f64 = loss.sum::<Result<f64>>()?;
    let reliability = Reliability::of(&p, &o, bins)?;
    let murphy = reliability.murphy();
    Ok(Some(CalibrationReport {
        forecaster: forecaster.clone(),
        ece: reliability.ece(),
        brier: murphy.brier(),
        murphy,
        loss_bits: nats / std::f64::consts::LN_2 / p.len() as f64,
        reliability,
    }))
}
