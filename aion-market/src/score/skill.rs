//! Skill: two forecasters on the same events, with the error of the difference.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Result;
use crate::error::{Error, check, check_finite, check_len};
use crate::interval::Interval;

/// The mean difference of two forecasters' scores on the same rows, and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Skill {
    /// Mean of `a - b`, in the unit of the scores: above 0 where `a` has the larger scores.
    pub mean: f64,
    /// Its standard error; `None` with fewer than two clusters.
    pub standard_error: Option<f64>,
    /// How many rows there are.
    pub rows: u64,
    /// How many of them are independent: clusters, or rows where each is its own.
    pub clusters: u64,
}

impl Skill {
    /// The skill of `a` against `b`, rows taken as independent:
    /// `se^2 = sum (d_i - mean d)^2 / (n (n - 1))`.
    ///
    /// ```
    /// use aion_market::score::skill::Skill;
    ///
    /// let skill = Skill::paired(&[0.9, 0.7, 0.8], &[0.5, 0.6, 0.7])?;
    /// assert!((skill.mean - 0.2).abs() < 1e-15);
    /// assert!((skill.standard_error.unwrap_or(0.0) - 0.1).abs() < 1e-15);
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error`] if there is no row, the lengths differ, or a score is not finite.
    pub fn paired(a: &[f64], b: &[f64]) -> Result<Self> {
        let rows: Vec<usize> = (0..a.len()).collect();
        Self::clustered(a, b, &rows)
    }

    /// The same where rows of one event (task, market, day) depend on each other:
    /// `se^2 = G/(G-1) sum_g (sum_{i in g} (d_i - mean d))^2 / n^2` over the `G` events.
    ///
    /// ```
    /// use aion_market::score::skill::Skill;
    ///
    /// // Four rows that are two events told twice: the error is that of two rows.
    /// let twice = Skill::clustered(&[0.9, 0.9, 0.7, 0.7], &[0.5, 0.5, 0.6, 0.6], &["x", "x", "y", "y"])?;
    /// let once = Skill::paired(&[0.9, 0.7], &[0.5, 0.6])?;
    /// assert!((twice.standard_error.unwrap_or(0.0) - once.standard_error.unwrap_or(1.0)).abs() < 1e-15);
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error`] if there is no row, the lengths differ, or a score is not finite.
    ///
    /// # Sources
    /// K.-Y. Liang and S. L. Zeger, Longitudinal data analysis using generalized linear models, 1986,
    /// for a mean, with the usual factor `G/(G-1)`.
    pub fn clustered<C: Ord>(a: &[f64], b: &[f64], clusters: &[C]) -> Result<Self> {
        check_len("scores of b", b.len(), a.len())?;
        check_len("clusters", clusters.len(), a.len())?;
        check_finite("scores of a", a)?;
        check_finite("scores of b", b)?;
        if a.is_empty() {
            return Err(Error::Shape {
                what: "scores of a",
                found: 0,
                expected: 1,
            });
        }
        let n = a.len() as f64;
        let mean = a.iter().zip(b).map(|(a, b)| a - b).sum::<f64>() / n;
        let mut sums: BTreeMap<&C, f64> = BTreeMap::new();
        for ((a, b), cluster) in a.iter().zip(b).zip(clusters) {
            *sums.entry(cluster).or_default() += a - b - mean;
        }
        let groups = sums.len() as f64;
        let squares: f64 = sums.values().map(|sum| sum * sum).sum();
        let standard_error = (sums.len() > 1).then(|| (groups / (groups - 1.0) * squares).sqrt() / n);
        Ok(Self {
            mean,
            standard_error,
            rows: a.len() as u64,
            clusters: sums.len() as u64,
        })
    }

    /// `mean +- z se`, for a number of rows that was fixed beforehand; `None` without an error. Who
    /// looks while rows come in uses [`crate::compare`].
    pub fn interval(&self, z: f64) -> Option<Interval> {
        let reach = z.abs() * self.standard_error?;
        Interval::new(self.mean - reach, self.mean + reach).ok()
    }
}

/// The share of a reference's loss that a forecaster saves: `1 - loss / reference`; 1 is perfect, 0
/// is no better than the reference.
///
/// ```
/// use aion_market::score::skill::skill_score;
///
/// assert_eq!(skill_score(0.2, 0.25)?, 1.0 - 0.2 / 0.25);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfRange`] if the loss is not finite or the reference is not above 0.
///
/// # Sources
/// A. H. Murphy, Skill scores based on the mean square error, 1988.
pub fn skill_score(loss: f64, reference: f64) -> Result<f64> {
    check("a loss", "finite", loss, loss.is_finite())?;
    check("a loss of reference", "finite and above 0", reference, {
        reference.is_finite() && reference > 0.0
    })?;
    Ok(1.0 - loss / reference)
}
