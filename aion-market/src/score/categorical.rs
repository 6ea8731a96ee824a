//! Scores of a distribution over outcomes.

use super::rule::{Brier, Log, Rps, ScoringRule, Spherical};
use crate::Result;
use crate::error::check;

/// The log score `ln q(y)` in nats, at most 0; minus infinity where `q(y) = 0`.
///
/// ```
/// use aion_market::score::log_score;
///
/// assert_eq!(log_score(&[0.5, 0.5], 0)?, -std::f64::consts::LN_2);
/// assert_eq!(log_score(&[1.0, 0.0], 1)?, f64::NEG_INFINITY);
/// assert!(log_score(&[f64::NAN, 1.0], 0).is_err());
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`](crate::Error) if `q` is no distribution or has no outcome `y`.
///
/// # Sources
/// I. J. Good, Rational decisions, 1952; `docs/math/scoring.md`.
pub fn log_score(q: &[f64], y: usize) -> Result<f64> {
    Log.score(q, y)
}

/// The Brier score `sum_k (q_k - [k = y])^2` in `[0, 2]`: the form over all outcomes, twice
/// [`brier_binary`] for two of them.
///
/// ```
/// use aion_market::score::brier;
///
/// assert!((brier(&[0.7, 0.2, 0.1], 0)? - 0.14).abs() < 1e-15);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`](crate::Error) if `q` is no distribution or has no outcome `y`.
///
/// # Sources
/// G. W. Brier, Verification of forecasts expressed in terms of probability, 1950.
pub fn brier(q: &[f64], y: usize) -> Result<f64> {
    Brier.score(q, y)
}

/// The one-sided Brier score `(p - o)^2` in `[0, 1]`, for an event that happened (`o = 1`), did not
/// (0), or in part.
///
/// ```
/// use aion_market::score::brier_binary;
///
/// assert!((brier_binary(0.8, 1.0)? - 0.04).abs() < 1e-15);
/// assert!(brier_binary(1.5, 1.0).is_err());
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfRange`](crate::Error::OutOfRange) outside `[0, 1]`.
pub fn brier_binary(p: f64, o: f64) -> Result<f64> {
    check("a probability", "in [0, 1]", p, (0.0..=1.0).contains(&p))?;
    check("an outcome", "in [0, 1]", o, (0.0..=1.0).contains(&o))?;
    Ok((p - o).powi(2))
}

/// The ranked probability score `sum_k (Q_k - [y <= k])^2` over ordered outcomes, with `Q` the
/// cumulative forecast: a miss by one place costs less than a miss by two. In `[0, K - 1]`.
///
/// ```
/// use aion_market::score::rps;
///
/// assert!((rps(&[0.5, 0.3, 0.2], 0)? - 0.29).abs() < 1e-15);
/// assert!((rps(&[0.5, 0.3, 0.2], 2)? - 0.89).abs() < 1e-15);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`](crate::Error) if `q` is no distribution or has no outcome `y`.
///
/// # Sources
/// E. S. Epstein, A scoring system for probability forecasts of ranked categories, 1969 (without
/// the division by `K - 1` that some authors add).
pub fn rps(q: &[f64], y: usize) -> Result<f64> {
    Rps.score(q, y)
}

/// The spherical score `q(y) / |q|` in `[0, 1]`, larger is better.
///
/// ```
/// use aion_market::score::spherical;
///
/// assert!((spherical(&[0.6, 0.4], 0)? - 0.6 / 0.52_f64.sqrt()).abs() < 1e-15);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`](crate::Error) if `q` is no distribution or has no outcome `y`.
///
/// # Sources
/// T. Gneiting and A. E. Raftery, Strictly proper scoring rules, prediction, and estimation, 2007,
/// section 3.
pub fn spherical(q: &[f64], y: usize) -> Result<f64> {
    Spherical.score(q, y)
}
