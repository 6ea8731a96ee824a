//! Comparing forecasters on the same tasks: losses in bits, and how sure a difference is.

use aion_types::ForecasterId;
use serde::Serialize;

use crate::Result;
use crate::error::{Error, check, check_finite, check_len};
use crate::predict::logistic::{LogisticModel, LogisticOptions, ModelError, TrainingRow};
use crate::predict::splitmix64;
use crate::report::Report;

/// The most resamples of a bootstrap.
const MAX_RESAMPLES: usize = 1_000_000;

/// What a forecaster's last forecast in each market lost, in bits: `-log2 p(y)`.
///
/// One entry a report; `None` where it said nothing or the market was void.
pub fn losses_bits(forecaster: &ForecasterId, reports: &[Report]) -> Vec<Option<f64>> {
    let of = |report: &Report| {
        let said = report.forecaster(forecaster)?;
        loss_of(said.last.parts(), report)
    };
    reports.iter().map(of).collect()
}

/// What the last price of each market lost, in bits.
pub fn price_losses_bits(reports: &[Report]) -> Vec<Option<f64>> {
    let of = |report: &Report| loss_of(report.p_last.parts(), report);
    reports.iter().map(of).collect()
}

/// The cross-entropy of the target against a price, in bits.
fn loss_of(price: &[u32], report: &Report) -> Option<f64> {
    let target = report.target.as_ref()?.dist().parts();
    let share = |parts: &u32| f64::from(*parts) / 1e6;
    let terms = target.iter().zip(price).filter(|(t, _)| **t > 0);
    Some(terms.map(|(t, p)| -share(t) * share(p).log2()).sum())
}

/// The mean of a paired difference with the interval that a bootstrap gives it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PairedInterval {
    /// How many pairs.
    pub n: usize,
    /// The mean of `a - b`.
    pub mean: f64,
    /// The 2.5% quantile of the resampled means.
    pub lower: f64,
    /// The 97.5% quantile.
    pub upper: f64,
}

/// The mean of `a - b` over pairs, and the middle 95% of the means of `resamples` samples of the pairs
/// with replacement, drawn from `seed`.
///
/// ```
/// use aion_market::evaluate::paired_bootstrap;
///
/// let (a, b) = ([1.0, 1.2, 0.9, 1.1], [0.5, 0.8, 0.6, 0.5]);
/// let gain = paired_bootstrap(&a, &b, 2_000, 7)?;
/// assert!((gain.mean - 0.45).abs() < 1e-12);
/// assert!(gain.lower > 0.3 && gain.upper < 0.6);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`Error`] for lists of different lengths, no pair, entries that are not finite, or no or too many
/// resamples.
///
/// # Sources
/// B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993 (the percentile interval).
pub fn paired_bootstrap(a: &[f64], b: &[f64], resamples: usize, seed: u64) -> Result<PairedInterval> {
    check_len("b", b.len(), a.len())?;
    check_finite("a", a)?;
    check_finite("b", b)?;
    let in_range = (1..=MAX_RESAMPLES).contains(&resamples);
    check("resamples", "from 1 to 1,000,000", resamples as f64, in_range)?;
    if a.is_empty() {
        return Err(Error::Shape {
            what: "pairs",
            found: 0,
            expected: 1,
        });
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let n = differences.len();
    let mut means: Vec<f64> = (0..resamples)
        .map(|sample| resampled_mean(&differences, seed.wrapping_add(sample as u64)))
        .collect();
    means.sort_by(f64::total_cmp);
    let quantile = |q: f64| means[((resamples - 1) as f64 * q).round() as usize];
    Ok(PairedInterval {
        n,
        mean: differences.iter().sum::<f64>() / n as f64,
        lower: quantile(0.025),
        upper: quantile(0.975),
    })
}

fn resampled_mean(values: &[f64], seed: u64) -> f64 {
    let n = values.len();
    let mut state = splitmix64(seed);
    let mut sum = 0.0;
    for _ in 0..n {
        state = splitmix64(state);
        // The high half times n, shifted back: uniform but for one part in 2^32 / n.
        let at = ((state >> 32) * n as u64) >> 32;
        sum += values[at as usize];
    }
    sum / n as f64
}

/// The probability that a model, fitted on the rows before, gave to each row from `start` on; rows must be
/// in the order of time.
///
/// The model is fitted anew for every row. A row whose id is among the earlier ones, another view of the
/// same task, is refused: no model scores what it was trained on.
///
/// # Errors
/// [`ModelError::TrainedOn`] for such a row, [`ModelError::NoRows`] for a start of 0, and those of
/// [`LogisticModel::fit`].
pub fn prequential(rows: &[TrainingRow], start: usize, options: &LogisticOptions) -> Result<Vec<f64>> {
    if start == 0 {
        return Err(ModelError::NoRows.into());
    }
    let predicted = |at: usize| {
        let model = LogisticModel::fit(&rows[..at], options)?;
        Ok(model.predict(rows[at].id, &rows[at].features)?.get())
    };
    (start..rows.len()).map(predicted).collect()
}
