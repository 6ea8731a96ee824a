//! Calibration measured: reliability curve, expected calibration error, Murphy's decomposition.

use serde::Serialize;

use crate::Result;
use crate::error::{Error, check_entries, check_len};

/// The most bins of one curve.
pub const MAX_BINS: usize = 1_000;

/// One bin of a reliability curve: forecasts in `[lower, upper)`, the last bin with its end.
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
    #[serde(skip)]
    spread: f64,
    #[serde(skip)]
    covariance: f64,
}

/// How often what was forecast with `p` happened, by bins of `p`.
///
/// ```
/// use aion_market::reliability::Reliability;
///
/// let curve = Reliability::of(&[0.1, 0.3, 0.8, 0.9], &[0.0, 1.0, 1.0, 1.0], 2)?;
/// assert!((curve.ece() - 0.225).abs() < 1e-12);
/// let parts = curve.murphy();
/// assert!((parts.brier() - 0.1375).abs() < 1e-12);
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// The bins, from 0 to 1.
    pub bins: Vec<Bin>,
    /// How many forecasts there are.
    pub n: u64,
}

impl Reliability {
    /// Sorts forecasts `p` of events with outcomes `o` in `[0, 1]` into equal bins.
    ///
    /// # Errors
    /// [`Error`] if the lists are empty or differ in length, an entry is outside `[0, 1]`, or there
    /// are 0 or more than [`MAX_BINS`] bins.
    pub fn of(p: &[f64], o: &[f64], bins: usize) -> Result<Self> {
        check_len("outcomes", o.len(), p.len())?;
        check_entries("forecasts", "in [0, 1]", p, |x| (0.0..=1.0).contains(&x))?;
        check_entries("outcomes", "in [0, 1]", o, |x| (0.0..=1.0).contains(&x))?;
        if p.is_empty() {
            return Err(Error::Shape {
                what: "forecasts",
                found: 0,
                expected: 1,
            });
        }
        if !(1..=MAX_BINS).contains(&bins) {
            return Err(Error::LimitReached {
                what: "the number of bins",
                limit: MAX_BINS as u64,
            });
        }
        let mut filled: Vec<Bin> = (0..bins).map(|i| Bin::empty(i, bins)).collect();
        for (p, o) in p.iter().zip(o) {
            let index = ((p * bins as f64) as usize).min(bins - 1);
            filled[index].push(*p, *o);
        }
        Ok(Self {
            bins: filled,
            n: p.len() as u64,
        })
    }

    /// The expected calibration error: the mean gap between forecast and frequency, in `[0, 1]`.
    pub fn ece(&self) -> f64 {
        self.mean(|bin| (bin.mean_forecast - bin.mean_outcome).abs())
    }

    /// The parts of the Brier score.
    pub fn murphy(&self) -> Murphy {
        let base = self.mean(|bin| bin.mean_outcome);
        Murphy {
            reliability: self.mean(|bin| (bin.mean_forecast - bin.mean_outcome).powi(2)),
            resolution: self.mean(|bin| (bin.mean_outcome - base).powi(2)),
            base_rate: base,
            within: self.bins.iter().map(Bin::within).sum::<f64>() / self.n as f64,
        }
    }

    fn mean(&self, of: impl Fn(&Bin) -> f64) -> f64 {
        self.bins.iter().map(|bin| bin.n as f64 * of(bin)).sum::<f64>() / self.n as f64
    }
}

impl Bin {
    fn empty(index: usize, bins: usize) -> Self {
        let end = |i: usize| i as f64 / bins as f64;
        Self {
            lower: end(index),
            upper: end(index + 1),
            n: 0,
            mean_forecast: 0.0,
            mean_outcome: 0.0,
            spread: 0.0,
            covariance: 0.0,
        }
    }

    /// Welford's recurrences for the means, `sum (p - mean)^2` plus `sum (o - mean)^2`, and the
    /// covariance.
    fn push(&mut self, p: f64, o: f64) {
        self.n += 1;
        let n = self.n as f64;
        let (dp, d_o) = (p - self.mean_forecast, o - self.mean_outcome);
        self.mean_forecast += dp / n;
        self.mean_outcome += d_o / n;
        self.spread += dp * (p - self.mean_forecast) + d_o * (o - self.mean_outcome);
        self.covariance += dp * (o - self.mean_outcome);
    }

    fn within(&self) -> f64 {
        self.spread - 2.0 * self.covariance
    }
}

/// Murphy's decomposition of the one-sided Brier score of binned forecasts:
/// `Brier = reliability - resolution + spread of the outcomes`, made exact for any binning.
///
/// # Sources
/// A. H. Murphy, A new vector partition of the probability score, 1973; the terms within bins after
/// D. B. Stephenson et al., Two extra components in the Brier score decomposition, 2008. Here the
/// spread within bins holds the outcomes' part as well, so outcomes need not be 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Murphy {
    /// Mean squared gap between forecast and frequency; smaller is better.
    pub reliability: f64,
    /// Mean squared distance of the frequencies from the base rate; larger is better.
    pub resolution: f64,
    /// How often the event happened.
    pub base_rate: f64,
    /// `sum (p - o - mean_bin(p - o))^2 / n`: what the bins do not show.
    within: f64,
}

impl Murphy {
    /// `base (1 - base)`: how hard the events are for a forecaster who knows only the base rate.
    pub fn uncertainty(&self) -> f64 {
        self.base_rate * (1.0 - self.base_rate)
    }

    /// The mean Brier score of the forecasts as they were, not as binned.
    pub fn brier(&self) -> f64 {
        self.reliability + self.within
    }

    /// What the bins hide: `Brier - (reliability - resolution + uncertainty)`; 0 where all
    /// forecasts of a bin are equal and all outcomes are 0 or 1.
    pub fn within_bins(&self) -> f64 {
        self.brier() - (self.reliability - self.resolution + self.uncertainty())
    }
}
