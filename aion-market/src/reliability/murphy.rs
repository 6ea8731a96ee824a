//! Murphy's decomposition of the Brier score.

use serde::Serialize;

use super::Reliability;
use super::bin::Bin;

/// Murphy's decomposition of the one-sided Brier score of binned forecasts, made exact for any
/// binning and for outcomes in parts:
/// `Brier = reliability - resolution + uncertainty + variance within - covariance within`.
///
/// # Sources
/// A. H. Murphy, A new vector partition of the probability score, 1973; the terms within bins after
/// D. B. Stephenson et al., Two extra components in the Brier score decomposition, 2008.
/// `docs/math/calibration.md`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Murphy {
    /// Mean squared gap between forecast and frequency; smaller is better.
    pub reliability: f64,
    /// Mean squared distance of the frequencies from the base rate; larger is better.
    pub resolution: f64,
    /// How often the event happened.
    pub base_rate: f64,
    /// Variance of the outcomes.
    uncertainty: f64,
    /// Mean variance of the forecasts within their bins.
    pub variance_within: f64,
    /// Twice the mean covariance of forecasts and outcomes within bins.
    pub covariance_within: f64,
    /// `sum (p - o - mean_bin(p - o))^2 / n`: what the bins do not show.
    within: f64,
}

impl Murphy {
    pub(super) fn of(curve: &Reliability) -> Self {
        let base = curve.mean(|bin| bin.mean_outcome);
        let per_row = |of: fn(&Bin) -> f64| curve.bins.iter().map(of).sum::<f64>() / curve.n as f64;
        let resolution = curve.mean(|bin| (bin.mean_outcome - base).powi(2));
        Self {
            reliability: curve.mean(|bin| bin.gap().powi(2)),
            resolution,
            base_rate: base,
            uncertainty: resolution + per_row(|bin| bin.outcome_spread),
            variance_within: per_row(|bin| bin.forecast_spread),
            covariance_within: 2.0 * per_row(|bin| bin.covariance),
            within: per_row(Bin::within),
        }
    }

    /// The variance of the outcomes, `base (1 - base)` where all are 0 or 1: how hard the events are
    /// for a forecaster who knows only the base rate.
    pub const fn uncertainty(&self) -> f64 {
        self.uncertainty
    }

    /// The mean Brier score of the forecasts as they were, not as binned.
    pub fn brier(&self) -> f64 {
        self.reliability + self.within
    }

    /// What the bins hide: `Brier - (reliability - resolution + uncertainty)`; 0 where all
    /// forecasts of a bin are equal.
    pub fn within_bins(&self) -> f64 {
        self.variance_within - self.covariance_within
    }

    /// `(resolution - reliability) / uncertainty`, the share of the uncertainty that binned forecasts
    /// take away; `None` where all outcomes are equal.
    pub fn skill(&self) -> Option<f64> {
        (self.uncertainty > 0.0).then(|| (self.resolution - self.reliability) / self.uncertainty)
    }
}
