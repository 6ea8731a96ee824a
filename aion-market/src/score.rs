//! Proper scores of one forecast against what happened.
//!
//! Log scores are rewards in nats (0 is best); Brier, ranked probability and CRPS are losses (0 is
//! best). Nothing is clipped: a forecast of 0 for what happened scores minus infinity. Whoever wants
//! a floor makes a [`crate::clip::Clipped`] first, which carries its epsilon. See `docs/math/scoring.md`.

use crate::error::{Error, Result, check, check_dist, check_entries, check_finite, check_outcome};

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
/// [`Error`] if `q` is no distribution or has no outcome `y`.
pub fn log_score(q: &[f64], y: usize) -> Result<f64> {
    check_dist("a forecast", q)?;
    check_outcome(y, q.len())?;
    Ok(q[y].ln())
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
/// [`Error`] if `q` is no distribution or has no outcome `y`.
///
/// # Sources
/// G. W. Brier, Verification of forecasts expressed in terms of probability, 1950.
pub fn brier(q: &[f64], y: usize) -> Result<f64> {
    check_dist("a forecast", q)?;
    check_outcome(y, q.len())?;
    Ok(q.iter()
        .enumerate()
        .map(|(k, p)| (p - indicator(k, y)).powi(2))
        .sum())
}

/// The one-sided Brier score `(p - o)^2` in `[0, 1]`, for an event that happened (`o = 1`), did not
/// (0), or in part.
///
/// # Errors
/// [`Error::OutOfRange`] outside `[0, 1]`.
pub fn brier_binary(p: f64, o: f64) -> Result<f64> {
    check("a probability", "in [0, 1]", p, (0.0..=1.0).contains(&p))?;
    check("an outcome", "in [0, 1]", o, (0.0..=1.0).contains(&o))?;
    Ok((p - o).powi(2))
}

/// The ranked probability score `sum_k (Q_k - [y <= k])^2` over ordered outcomes, with `Q` the
/// cumulative forecast: a miss by one place costs less than a miss by two.
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
/// [`Error`] if `q` is no distribution or has no outcome `y`.
///
/// # Sources
/// E. S. Epstein, A scoring system for probability forecasts of ranked categories, 1969 (without
/// the division by `K - 1` that some authors add).
pub fn rps(q: &[f64], y: usize) -> Result<f64> {
    check_dist("a forecast", q)?;
    check_outcome(y, q.len())?;
    let mut cumulative = 0.0;
    let mut sum = 0.0;
    for (k, p) in q.iter().enumerate().take(q.len() - 1) {
        cumulative += p;
        let happened = if y <= k { 1.0 } else { 0.0 };
        sum += f64::powi(cumulative - happened, 2);
    }
    Ok(sum)
}

/// The spherical score `q(y) / |q|` in `[0, 1]`, larger is better.
///
/// # Errors
/// [`Error`] if `q` is no distribution or has no outcome `y`.
pub fn spherical(q: &[f64], y: usize) -> Result<f64> {
    check_dist("a forecast", q)?;
    check_outcome(y, q.len())?;
    Ok(q[y] / q.iter().map(|p| p * p).sum::<f64>().sqrt())
}

/// The continuous ranked probability score of an ensemble:
/// `mean |x_i - y| - sum |x_i - x_j| / (2 m^2)`, at least 0, in the unit of `y`.
///
/// Sorts a copy; [`crps_sorted`] is the form without allocation.
///
/// ```
/// use aion_market::score::crps_ensemble;
///
/// assert!((crps_ensemble(&[3.0, 1.0, 2.0], 2.5)? - 0.388_888_888_888_888_9).abs() < 1e-15);
/// assert_eq!(crps_ensemble(&[2.0], 5.0)?, 3.0);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] for no member, or one that is not finite.
pub fn crps_ensemble(members: &[f64], y: f64) -> Result<f64> {
    check_finite("an ensemble", members)?;
    let mut sorted = members.to_vec();
    sorted.sort_by(f64::total_cmp);
    crps_sorted(&sorted, y)
}

/// [`crps_ensemble`] of members in ascending order.
///
/// With the members sorted, `sum |x_i - x_j| = 2 sum_i (2 i + 1 - m) x_i`.
///
/// # Errors
/// [`Error`] for no member, one that is not finite, or members out of order.
pub fn crps_sorted(members: &[f64], y: f64) -> Result<f64> {
    check_finite("an ensemble", members)?;
    check("an observation", "finite", y, y.is_finite())?;
    if members.is_empty() {
        return Err(Error::Shape {
            what: "an ensemble",
            found: 0,
            expected: 1,
        });
    }
    if let Some(i) = members.windows(2).position(|pair| pair[0] > pair[1]) {
        let (index, value) = (i + 1, members[i + 1]);
        return Err(Error::BadEntry {
            what: "an ensemble",
            index,
            range: "in ascending order",
            value,
        });
    }
    let m = members.len() as f64;
    // Distances from y keep the sums small.
    let error: f64 = members.iter().map(|x| (x - y).abs()).sum();
    let ranked = members
        .iter()
        .enumerate()
        .map(|(i, x)| (2.0 * i as f64 + 1.0 - m) * (x - y));
    Ok((error / m - ranked.sum::<f64>() / (m * m)).max(0.0))
}

/// The baseline score of Metaculus without its time average: `100 ln(q(y) K) / ln K`; 0 for the
/// uniform forecast, 100 for a sure and right one.
///
/// ```
/// use aion_market::score::metaculus_baseline;
///
/// assert!((metaculus_baseline(&[0.8, 0.2], 0)? - 67.807_190_511_263_77).abs() < 1e-12);
/// assert_eq!(metaculus_baseline(&[0.25; 4], 2)?, 0.0);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] if `q` is no distribution or has no outcome `y`.
///
/// # Sources
/// Metaculus, Scores FAQ, "What is the Baseline score?".
pub fn metaculus_baseline(q: &[f64], y: usize) -> Result<f64> {
    let outcomes = q.len() as f64;
    log_score(q, y).map(|score| 100.0 * (score + outcomes.ln()) / outcomes.ln())
}

/// The peer score of Metaculus without its time average: `100 N/(N-1) (ln p_i - mean ln p)` for each
/// of `N >= 2` forecasters, from what each gave to the outcome that happened. The scores sum to 0.
///
/// # Errors
/// [`Error`] for fewer than two, or a probability outside `(0, 1]`.
///
/// # Sources
/// Metaculus, Scores FAQ, "What is the Peer score?".
pub fn metaculus_peer(p_of_outcome: &[f64]) -> Result<Vec<f64>> {
    let n = p_of_outcome.len();
    if n < 2 {
        return Err(Error::Shape {
            what: "peers",
            found: n,
            expected: 2,
        });
    }
    check_entries("peers", "in (0, 1]", p_of_outcome, |p| p > 0.0 && p <= 1.0)?;
    let mean = p_of_outcome.iter().map(|p| p.ln()).sum::<f64>() / n as f64;
    let scale = 100.0 * n as f64 / (n - 1) as f64;
    Ok(p_of_outcome.iter().map(|p| scale * (p.ln() - mean)).collect())
}

fn indicator(k: usize, y: usize) -> f64 {
    if k == y { 1.0 } else { 0.0 }
}
