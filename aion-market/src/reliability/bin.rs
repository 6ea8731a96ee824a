//! One bin of a reliability curve.

use serde::Serialize;

use crate::Result;
use crate::interval::Interval;

/// Forecasts in `[lower, upper)`, the last bin with its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Its lower end.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
    /// How many forecasts fell into it.
    pub n: u64,
    /// Their mean; 0 in an empty bin.
    pub mean_forecast: f64,
    /// How often the event happened; 0 in an empty bin.
    pub mean_outcome: f64,
    /// `sum (p - mean p)^2`.
    #[serde(skip)]
    pub(super) forecast_spread: f64,
    /// `sum (o - mean o)^2`.
    #[serde(skip)]
    pub(super) outcome_spread: f64,
    /// `sum (p - mean p)(o - mean o)`.
    #[serde(skip)]
    pub(super) covariance: f64,
}

impl Bin {
    pub(super) const fn empty(lower: f64, upper: f64) -> Self {
        Self {
            lower,
            upper,
            n: 0,
            mean_forecast: 0.0,
            mean_outcome: 0.0,
            forecast_spread: 0.0,
            outcome_spread: 0.0,
            covariance: 0.0,
        }
    }

    /// One more forecast, by Welford's recurrences.
    pub(super) fn push(&mut self, p: f64, o: f64) {
        self.n += 1;
        let n = self.n as f64;
        let (dp, d_o) = (p - self.mean_forecast, o - self.mean_outcome);
        self.mean_forecast += dp / n;
        self.mean_outcome += d_o / n;
        self.forecast_spread += dp * (p - self.mean_forecast);
        self.outcome_spread += d_o * (o - self.mean_outcome);
        self.covariance += dp * (o - self.mean_outcome);
    }

    /// `sum (p - o - mean(p - o))^2`.
    pub(super) fn within(&self) -> f64 {
        self.forecast_spread + self.outcome_spread - 2.0 * self.covariance
    }

    /// How far the mean forecast lies above what happened; below, if negative.
    pub fn gap(&self) -> f64 {
        self.mean_forecast - self.mean_outcome
    }

    /// [`Interval::wilson`] of how often the event happened; `None` in an empty bin. Exact in its
    /// meaning for outcomes of 0 and 1; wide rather than narrow for parts of outcomes.
    ///
    /// ```
    /// use aion_market::interval::Z_95;
    /// use aion_market::reliability::Reliability;
    ///
    /// let curve = Reliability::of(&[0.9; 10], &[1., 1., 1., 1., 1., 1., 1., 1., 0., 0.], 2)?;
    /// assert!(curve.bins[0].wilson(Z_95)?.is_none());
    /// let interval = curve.bins[1].wilson(Z_95)?.ok_or(aion_market::Error::TooSmall)?;
    /// assert!((interval.lower - 0.490_162).abs() < 1e-6 && interval.contains(0.9));
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::OutOfRange`] for a `z` that is not above 0.
    pub fn wilson(&self, z: f64) -> Result<Option<Interval>> {
        if self.n == 0 {
            return Ok(None);
        }
        let n = self.n as f64;
        let hits = (self.mean_outcome * n).clamp(0.0, n);
        // A count of whole events, if it is one but for rounding.
        let whole = hits.round();
        let hits = if (hits - whole).abs() < 1e-9 * n {
            whole
        } else {
            hits
        };
        Interval::wilson(hits, self.n, z).map(Some)
    }
}
