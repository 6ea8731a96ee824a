//! Intervals: of a frequency, of a forecast, and how often they hold what they promise.

use serde::Serialize;

use crate::Result;
use crate::error::{Error, check, check_len};

/// The standard normal quantile of a two-sided level of 95%.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// A closed interval `[lower, upper]`.
///
/// ```
/// use aion_market::interval::Interval;
///
/// let interval = Interval::new(0.2, 0.6)?;
/// assert!(interval.contains(0.6) && !interval.contains(0.7));
/// assert!(Interval::new(0.6, 0.2).is_err());
/// # Ok::<(), aion_market::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
}

impl Interval {
    /// Checks that the ends are numbers and in order; infinite ends are allowed.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] otherwise.
    pub fn new(lower: f64, upper: f64) -> Result<Self> {
        check("a lower end", "a number", lower, true)?;
        check("an upper end", "at least the lower end", upper, upper >= lower)?;
        Ok(Self { lower, upper })
    }

    /// Whether `y` lies in it; its ends do.
    pub fn contains(&self, y: f64) -> bool {
        (self.lower..=self.upper).contains(&y)
    }

    /// How wide it is.
    pub fn width(&self) -> f64 {
        self.upper - self.lower
    }

    /// The interval of Wilson for a frequency of `hits` (0 or more) in `n` trials: with the standard
    /// normal quantile `z`, the frequencies that are no further than `z` of their own standard errors
    /// from what was seen. It stays in `[0, 1]` and is not empty at 0 or `n` hits.
    ///
    /// ```
    /// use aion_market::interval::{Interval, Z_95};
    ///
    /// let interval = Interval::wilson(8.0, 10, Z_95)?;
    /// assert!((interval.lower - 0.490_162).abs() < 1e-6 && (interval.upper - 0.943_318).abs() < 1e-6);
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for no trial, hits outside `[0, n]`, or a `z` that is not above 0.
    ///
    /// # Sources
    /// E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    pub fn wilson(hits: f64, n: u64, z: f64) -> Result<Self> {
        let trials = n as f64;
        check("trials", "at least 1", trials, n > 0)?;
        check("hits", "in [0, n]", hits, (0.0..=trials).contains(&hits))?;
        check(
            "a normal quantile",
            "finite and above 0",
            z,
            z.is_finite() && z > 0.0,
        )?;
        let (p, zz) = (hits / trials, z * z);
        let centre = (p + zz / (2.0 * trials)) / (1.0 + zz / trials);
        let reach = z / (1.0 + zz / trials) * (p * (1.0 - p) / trials + zz / (4.0 * trials * trials)).sqrt();
        // At 0 and n hits the end is exactly there, but for rounding.
        let lower = if hits == 0.0 {
            0.0
        } else {
            (centre - reach).max(0.0)
        };
        let upper = if hits == trials {
            1.0
        } else {
            (centre + reach).min(1.0)
        };
        Ok(Self { lower, upper })
    }
}

/// How often intervals held what happened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Coverage {
    /// How many intervals there are.
    pub n: u64,
    /// How many of them held their observation.
    pub covered: u64,
    /// Their mean width.
    pub mean_width: f64,
}

impl Coverage {
    /// Counts how many intervals hold their observation.
    ///
    /// ```
    /// use aion_market::interval::{Coverage, Interval};
    ///
    /// let said = [Interval::new(1.0, 3.0)?, Interval::new(4.0, 8.0)?];
    /// let coverage = Coverage::of(&said, &[2.0, 9.0])?;
    /// assert_eq!((coverage.frequency(), coverage.mean_width), (0.5, 3.0));
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error`] if there is none, the lengths differ, or an observation is not a number.
    pub fn of(intervals: &[Interval], y: &[f64]) -> Result<Self> {
        check_len("observations", y.len(), intervals.len())?;
        if intervals.is_empty() {
            return Err(Error::Shape {
                what: "intervals",
                found: 0,
                expected: 1,
            });
        }
        crate::error::check_entries("observations", "a number", y, |x| !x.is_nan())?;
        let n = intervals.len() as u64;
        let covered = intervals
            .iter()
            .zip(y)
            .filter(|(interval, y)| interval.contains(**y));
        Ok(Self {
            n,
            covered: covered.count() as u64,
            mean_width: intervals.iter().map(Interval::width).sum::<f64>() / n as f64,
        })
    }

    /// The share of intervals that held.
    pub fn frequency(&self) -> f64 {
        self.covered as f64 / self.n as f64
    }

    /// [`Interval::wilson`] of the share.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a `z` that is not above 0.
    pub fn wilson(&self, z: f64) -> Result<Interval> {
        Interval::wilson(self.covered as f64, self.n, z)
    }
}

/// The interval score `(u - l) + 2/a (l - y)+ + 2/a (y - u)+` of a central interval that should miss
/// a share `a` of what it is about: a proper loss, in the unit of `y`.
///
/// ```
/// use aion_market::interval::{Interval, interval_score};
///
/// let said = Interval::new(1.0, 3.0)?;
/// assert_eq!(interval_score(said, 0.1, 2.0)?, 2.0);
/// assert_eq!(interval_score(said, 0.1, 4.0)?, 22.0);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfRange`] if `a` is not in `(0, 1)` or a number is not finite.
///
/// # Sources
/// T. Gneiting and A. E. Raftery, Strictly proper scoring rules, prediction, and estimation, 2007,
/// equation 43.
pub fn interval_score(interval: Interval, miss: f64, y: f64) -> Result<f64> {
    check("a share of misses", "in (0, 1)", miss, miss > 0.0 && miss < 1.0)?;
    check(
        "a width",
        "finite",
        interval.width(),
        interval.width().is_finite(),
    )?;
    check("an observation", "finite", y, y.is_finite())?;
    let outside = (interval.lower - y).max(0.0) + (y - interval.upper).max(0.0);
    Ok(interval.width() + 2.0 / miss * outside)
}

/// The pinball loss `(y - x) t` where `y >= x`, `(x - y) (1 - t)` elsewhere, of a forecast `x` of the
/// `t`-quantile, in the unit of `y`.
///
/// ```
/// use aion_market::interval::pinball;
///
/// assert_eq!(pinball(2.0, 0.9, 3.0)?, 0.9);
/// assert!((pinball(2.0, 0.9, 1.0)? - 0.1).abs() < 1e-15);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfRange`] if `t` is not in `(0, 1)` or a number is not finite.
///
/// # Sources
/// R. Koenker and G. Bassett, Regression quantiles, 1978.
pub fn pinball(x: f64, t: f64, y: f64) -> Result<f64> {
    check("a quantile", "finite", x, x.is_finite())?;
    check("a level", "in (0, 1)", t, t > 0.0 && t < 1.0)?;
    check("an observation", "finite", y, y.is_finite())?;
    Ok(if y >= x { (y - x) * t } else { (x - y) * (1.0 - t) })
}
