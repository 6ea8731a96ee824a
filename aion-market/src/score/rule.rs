//! Scoring rules as values: one forecast, a mixture of outcomes, or a batch.

use std::fmt;

use crate::Result;
use crate::batch::{BatchOptions, Categorical, Rows};
use crate::error::{check_dist, check_len, check_outcome};
use crate::resolution::Target;

/// Whether a larger score is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// Larger is better.
    Reward,
    /// Smaller is better.
    Loss,
}

/// A rule that scores a distribution over K outcomes; object-safe.
///
/// A rule of your own gives [`of_outcome`](Self::of_outcome) and is asked only for checked input; it
/// should be proper: nobody expects more than by reporting the belief.
///
/// ```
/// use aion_market::score::{Brier, Log, Rps, ScoringRule, Spherical};
///
/// let rules: [&dyn ScoringRule; 4] = [&Log, &Brier, &Rps, &Spherical];
/// let scores: Vec<f64> = rules.iter().map(|rule| rule.score(&[0.5, 0.3, 0.2], 0)).collect::<Result<_, _>>()?;
/// for (got, expected) in scores.iter().zip([-0.693_147, 0.38, 0.29, 0.811_107]) {
///     assert!((got - expected).abs() < 1e-6);
/// }
/// // A mixture counts every outcome by its share.
/// let half = Brier.expected(&[0.5, 0.3, 0.2], &[0.5, 0.5, 0.0])?;
/// assert!((half - (0.38 + 0.78) / 2.0).abs() < 1e-15);
/// # Ok::<(), aion_market::Error>(())
/// ```
pub trait ScoringRule: fmt::Debug + Send + Sync {
    /// Its name, for tables.
    fn name(&self) -> &'static str;

    /// Whether a larger score is better.
    fn orientation(&self) -> Orientation;

    /// The score of a distribution `q` when `y < q.len()` happened. Callers have checked both.
    fn of_outcome(&self, q: &[f64], y: usize) -> f64;

    /// `sum_k f_k S(q, k)`, the mean score when outcome `k` counts for the share `f_k`; outcomes
    /// without a share do not count, however badly `q` does on them. Callers have checked both.
    fn of_mixture(&self, q: &[f64], f: &[f64]) -> f64 {
        let shares = f.iter().enumerate().filter(|(_, share)| **share > 0.0);
        shares.map(|(k, share)| share * self.of_outcome(q, k)).sum()
    }

    /// The score of `q` when `y` happened.
    ///
    /// # Errors
    /// [`Error`](crate::Error) if `q` is no distribution or has no outcome `y`.
    fn score(&self, q: &[f64], y: usize) -> Result<f64> {
        check_dist("a forecast", q)?;
        check_outcome(y, q.len())?;
        Ok(self.of_outcome(q, y))
    }

    /// The expected score of `q` under the shares `f`: a belief, or a mixture as a resolution.
    ///
    /// # Errors
    /// [`Error`](crate::Error) if one is no distribution or they differ in length.
    fn expected(&self, q: &[f64], f: &[f64]) -> Result<f64> {
        check_dist("a forecast", q)?;
        check_dist("a mixture", f)?;
        check_len("a mixture", f.len(), q.len())?;
        Ok(self.of_mixture(q, f))
    }

    /// [`expected`](Self::expected) under the resolution of a market.
    ///
    /// # Errors
    /// [`Error`](crate::Error) if `q` is no distribution or has another number of outcomes.
    fn against(&self, q: &[f64], target: &Target) -> Result<f64> {
        self.expected(q, &target.shares())
    }

    /// The score as a reward: larger is better, whatever the rule's own orientation.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    fn reward(&self, q: &[f64], y: usize) -> Result<f64> {
        let score = self.score(q, y)?;
        Ok(match self.orientation() {
            Orientation::Reward => score,
            Orientation::Loss => -score,
        })
    }

    /// Scores row after row: `forecasts` is row-major `[rows, outcomes]`, `happened` and `out` are
    /// `[rows]`. All rows are checked before the first score is written.
    ///
    /// The rules of this crate do it by the kernels of [`crate::batch`], which has more forms; a rule
    /// of your own, by [`of_outcome`](Self::of_outcome).
    ///
    /// ```
    /// use aion_market::score::{Brier, ScoringRule};
    ///
    /// let (forecasts, mut scores) = ([0.5, 0.5, 0.2, 0.8], [0.0; 2]);
    /// Brier.score_into(&forecasts, 2, &[0, 1], &mut scores)?;
    /// assert!((scores[0] - 0.5).abs() < 1e-15 && (scores[1] - 0.08).abs() < 1e-15);
    /// # Ok::<(), aion_market::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Categorical::new`], for the first bad row, and
    /// [`Error::Shape`](crate::Error::Shape) if `out` has another length; then `out` is as it was.
    fn score_into(
        &self,
        forecasts: &[f64],
        outcomes: usize,
        happened: &[u32],
        out: &mut [f64],
    ) -> Result<()> {
        let rows = checked(forecasts, outcomes, happened)?;
        check_len("out", out.len(), rows.rows())?;
        for ((q, y), score) in forecasts.chunks_exact(outcomes).zip(happened).zip(out) {
            *score = self.of_outcome(q, *y as usize);
        }
        Ok(())
    }
}

fn checked<'a>(
    forecasts: &'a [f64],
    outcomes: usize,
    happened: &'a [u32],
) -> Result<Categorical<'a, f64, u32>> {
    Categorical::new(Rows::new(forecasts, outcomes)?, happened, BatchOptions::default())
}

/// `ln q(y)` in nats.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log;

impl ScoringRule for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn orientation(&self) -> Orientation {
        Orientation::Reward
    }

    fn of_outcome(&self, q: &[f64], y: usize) -> f64 {
        q[y].ln()
    }

    fn score_into(
        &self,
        forecasts: &[f64],
        outcomes: usize,
        happened: &[u32],
        out: &mut [f64],
    ) -> Result<()> {
        checked(forecasts, outcomes, happened)?.log_score_into(out)
    }
}

/// `sum_k (q_k - [k = y])^2`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Brier;

impl ScoringRule for Brier {
    fn name(&self) -> &'static str {
        "brier"
    }

    fn orientation(&self) -> Orientation {
        Orientation::Loss
    }

    fn of_outcome(&self, q: &[f64], y: usize) -> f64 {
        q.iter()
            .enumerate()
            .map(|(k, p)| (p - step(k == y)).powi(2))
            .sum()
    }

    /// `sum_k (q_k - f_k)^2 + f_k (1 - f_k)`: the distance to the shares, and what nobody can know.
    fn of_mixture(&self, q: &[f64], f: &[f64]) -> f64 {
        q.iter()
            .zip(f)
            .map(|(q, f)| (q - f).powi(2) + f * (1.0 - f))
            .sum()
    }

    fn score_into(
        &self,
        forecasts: &[f64],
        outcomes: usize,
        happened: &[u32],
        out: &mut [f64],
    ) -> Result<()> {
        checked(forecasts, outcomes, happened)?.brier_into(out)
    }
}

/// `sum_k (Q_k - [y <= k])^2` over ordered outcomes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rps;

impl ScoringRule for Rps {
    fn name(&self) -> &'static str {
        "rps"
    }

    fn orientation(&self) -> Orientation {
        Orientation::Loss
    }

    fn of_outcome(&self, q: &[f64], y: usize) -> f64 {
        let cumulated = cumulate(q).zip(0..q.len() - 1);
        cumulated.map(|(below, k)| (below - step(y <= k)).powi(2)).sum()
    }

    fn of_mixture(&self, q: &[f64], f: &[f64]) -> f64 {
        let both = cumulate(q).zip(cumulate(f)).take(q.len() - 1);
        both.map(|(q, f)| (q - f).powi(2) + f * (1.0 - f)).sum()
    }

    fn score_into(
        &self,
        forecasts: &[f64],
        outcomes: usize,
        happened: &[u32],
        out: &mut [f64],
    ) -> Result<()> {
        checked(forecasts, outcomes, happened)?.rps_into(out)
    }
}

/// `q(y) / |q|`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spherical;

impl ScoringRule for Spherical {
    fn name(&self) -> &'static str {
        "spherical"
    }

    fn orientation(&self) -> Orientation {
        Orientation::Reward
    }

    fn of_outcome(&self, q: &[f64], y: usize) -> f64 {
        q[y] / norm(q)
    }

    fn of_mixture(&self, q: &[f64], f: &[f64]) -> f64 {
        q.iter().zip(f).map(|(q, f)| q * f).sum::<f64>() / norm(q)
    }

    fn score_into(
        &self,
        forecasts: &[f64],
        outcomes: usize,
        happened: &[u32],
        out: &mut [f64],
    ) -> Result<()> {
        checked(forecasts, outcomes, happened)?.spherical_into(out)
    }
}

fn norm(q: &[f64]) -> f64 {
    q.iter().map(|p| p * p).sum::<f64>().sqrt()
}

fn step(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

fn cumulate(q: &[f64]) -> impl Iterator<Item = f64> {
    q.iter().scan(0.0, |below, p| {
        *below += p;
        Some(*below)
    })
}
