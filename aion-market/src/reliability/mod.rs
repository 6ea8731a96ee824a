//! Calibration measured: reliability curve, calibration errors, Murphy's decomposition, sharpness.

mod bin;
mod murphy;

use serde::Serialize;

pub use bin::Bin;
pub use murphy::Murphy;

use crate::Result;
use crate::error::{Error, check_entries, check_len};

/// The most bins of one curve.
pub const MAX_BINS: usize = 1_000;

/// How forecasts are sorted into bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binning {
    /// So many bins of the same width; some may stay empty.
    EqualWidth(usize),
    /// At most so many bins with about as many forecasts each. Equal forecasts stay together, so the
    /// order of the rows does not matter, and there are fewer bins where many are equal.
    EqualMass(usize),
}

/// How often what was forecast with `p` happened, by bins of `p`.
///
/// ```
/// use aion_market::reliability::Reliability;
///
/// let curve = Reliability::of(&[0.1, 0.3, 0.8, 0.9], &[0.0, 1.0, 1.0, 1.0], 2)?;
/// assert!((curve.ece() - 0.225).abs() < 1e-12);
/// assert!((curve.mce() - 0.3).abs() < 1e-12);
/// let parts = curve.murphy();
/// assert!((parts.brier() - 0.1375).abs() < 1e-12);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Sources
/// `docs/math/calibration.md`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// The bins, from 0 to 1.
    pub bins: Vec<Bin>,
    /// How many forecasts there are.
    pub n: u64,
}

impl Reliability {
    /// Sorts forecasts `p` of events with outcomes `o` in `[0, 1]` into bins of equal width.
    ///
    /// # Errors
    /// As [`binned`](Self::binned).
    pub fn of(p: &[f64], o: &[f64], bins: usize) -> Result<Self> {
        Self::binned(p, o, Binning::EqualWidth(bins))
    }

    /// Sorts forecasts `p` of events with outcomes `o` in `[0, 1]` into bins.
    ///
    /// ```
    /// use aion_market::reliability::{Binning, Reliability};
    ///
    /// let (p, o) = ([0.01, 0.02, 0.03, 0.9], [0.0, 0.0, 1.0, 1.0]);
    /// let curve = Reliability::binned(&p, &o, Binning::EqualMass(2))?;
    /// assert_eq!(curve.bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [2, 2]);
    /// assert_eq!(curve.bins[0].upper, 0.025);
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error`] if the lists are empty or differ in length, an entry is outside `[0, 1]`, or there
    /// are 0 or more than [`MAX_BINS`] bins.
    pub fn binned(p: &[f64], o: &[f64], binning: Binning) -> Result<Self> {
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
        let (Binning::EqualWidth(bins) | Binning::EqualMass(bins)) = binning;
        if !(1..=MAX_BINS).contains(&bins) {
            return Err(Error::LimitReached {
                what: "the number of bins",
                limit: MAX_BINS as u64,
            });
        }
        let bins = match binning {
            Binning::EqualWidth(_) => equal_width(p, o, bins),
            Binning::EqualMass(_) => equal_mass(p, o, bins),
        };
        Ok(Self {
            bins,
            n: p.len() as u64,
        })
    }

    /// The expected calibration error: the mean gap between forecast and frequency, in `[0, 1]`.
    ///
    /// # Sources
    /// M. P. Naeini, G. F. Cooper and M. Hauskrecht, Obtaining well calibrated probabilities using
    /// Bayesian binning, 2015.
    pub fn ece(&self) -> f64 {
        self.mean(|bin| bin.gap().abs())
    }

    /// The maximum calibration error: the largest gap of a bin that is not empty, in `[0, 1]`.
    pub fn mce(&self) -> f64 {
        let filled = self.bins.iter().filter(|bin| bin.n > 0);
        filled.map(|bin| bin.gap().abs()).fold(0.0, f64::max)
    }

    /// The parts of the Brier score.
    pub fn murphy(&self) -> Murphy {
        Murphy::of(self)
    }

    /// The sharpness: the variance of the forecasts, in `[0, 1/4]`. It says how much a forecaster
    /// dares, not whether he is right; larger is better between equally calibrated ones.
    ///
    /// ```
    /// use aion_market::reliability::Reliability;
    ///
    /// let sharp = Reliability::of(&[0.0, 1.0], &[0.0, 1.0], 10)?.sharpness();
    /// let blunt = Reliability::of(&[0.5, 0.5], &[0.0, 1.0], 10)?.sharpness();
    /// assert_eq!((sharp, blunt), (0.25, 0.0));
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Sources
    /// T. Gneiting, F. Balabdaoui and A. E. Raftery, Probabilistic forecasts, calibration and
    /// sharpness, 2007.
    pub fn sharpness(&self) -> f64 {
        let mean = self.mean(|bin| bin.mean_forecast);
        let within: f64 = self.bins.iter().map(|bin| bin.forecast_spread).sum();
        self.mean(|bin| (bin.mean_forecast - mean).powi(2)) + within / self.n as f64
    }

    fn mean(&self, of: impl Fn(&Bin) -> f64) -> f64 {
        self.bins.iter().map(|bin| bin.n as f64 * of(bin)).sum::<f64>() / self.n as f64
    }
}

fn equal_width(p: &[f64], o: &[f64], bins: usize) -> Vec<Bin> {
    let end = |i: usize| i as f64 / bins as f64;
    let mut filled: Vec<Bin> = (0..bins).map(|i| Bin::empty(end(i), end(i + 1))).collect();
    for (p, o) in p.iter().zip(o) {
        let index = ((p * bins as f64) as usize).min(bins - 1);
        filled[index].push(*p, *o);
    }
    filled
}

fn equal_mass(p: &[f64], o: &[f64], bins: usize) -> Vec<Bin> {
    let mut rows: Vec<(f64, f64)> = p.iter().copied().zip(o.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut filled: Vec<Bin> = Vec::with_capacity(bins);
    let (mut rank, mut current, mut last) = (0, None, 0.0);
    for equal in rows.chunk_by(|a, b| a.0 == b.0) {
        // A run of equal forecasts goes where its middle belongs.
        let index = (2 * rank + equal.len() - 1) * bins / (2 * rows.len());
        if current.replace(index) != Some(index) {
            let lower = filled.last_mut().map_or(0.0, |before: &mut Bin| {
                before.upper = f64::midpoint(last, equal[0].0);
                before.upper
            });
            filled.push(Bin::empty(lower, 1.0));
        }
        if let Some(bin) = filled.last_mut() {
            equal.iter().for_each(|(p, o)| bin.push(*p, *o));
        }
        (rank, last) = (rank + equal.len(), equal[0].0);
    }
    filled
}
