//! The best monotone fit, by pooling adjacent violators.

use super::examples::Examples;
use super::map::{Knot, Map};
use crate::Result;
use crate::error::{check_entries, check_finite, check_len};

/// Values pooled into one: their weighted mean, their weight, how many they are.
#[derive(Clone, Copy)]
struct Block {
    mean: f64,
    weight: f64,
    len: usize,
}

/// The nondecreasing sequence that is closest to `y`: minimises `sum w (fit - y)^2`, and with it every
/// Bregman loss of means, the log loss among them.
///
/// `weights` is empty if each entry counts for 1.
///
/// ```
/// use aion_market::calibration::isotonic;
///
/// assert_eq!(isotonic(&[1.0, 3.0, 2.0, 4.0], &[])?, [1.0, 2.5, 2.5, 4.0]);
/// assert_eq!(isotonic(&[3.0, 0.0], &[1.0, 2.0])?, [1.0, 1.0]);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error`] if the lengths differ, an entry is not finite, or a weight is not above 0.
///
/// # Sources
/// M. Ayer et al., An empirical distribution function for sampling with incomplete information, 1955;
/// R. E. Barlow and H. D. Brunk, The isotonic regression problem and its dual, 1972.
pub fn isotonic(y: &[f64], weights: &[f64]) -> Result<Vec<f64>> {
    let mut fit = vec![0.0; y.len()];
    isotonic_into(y, weights, &mut fit)?;
    Ok(fit)
}

/// [`isotonic`] into a slice as long as `y`; linear in its length.
///
/// ```
/// use aion_market::calibration::isotonic_into;
///
/// let mut fit = [0.0; 3];
/// isotonic_into(&[2.0, 1.0, 5.0], &[], &mut fit)?;
/// assert_eq!(fit, [1.5, 1.5, 5.0]);
/// # Ok::<(), aion_market::Error>(())
/// ```
///
/// # Errors
/// As [`isotonic`]; `fit` is as it was.
pub fn isotonic_into(y: &[f64], weights: &[f64], fit: &mut [f64]) -> Result<()> {
    check_finite("values", y)?;
    check_len("a fit", fit.len(), y.len())?;
    if !weights.is_empty() {
        check_len("weights", weights.len(), y.len())?;
        check_entries("weights", "finite and above 0", weights, |w| {
            w.is_finite() && w > 0.0
        })?;
    }
    let mut rest = fit;
    for block in pool(y, weights) {
        let (now, after) = rest.split_at_mut(block.len);
        now.fill(block.mean);
        rest = after;
    }
    Ok(())
}

fn pool(y: &[f64], weights: &[f64]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let weights = weights.iter().copied().chain(std::iter::repeat(1.0));
    for (mean, weight) in y.iter().copied().zip(weights) {
        let mut block = Block { mean, weight, len: 1 };
        while let Some(before) = blocks.pop_if(|before| before.mean >= block.mean) {
            let weight = before.weight + block.weight;
            block = Block {
                mean: before.mean + (block.mean - before.mean) * (block.weight / weight),
                weight,
                len: before.len + block.len,
            };
        }
        blocks.push(block);
    }
    blocks
}

/// The map from forecasts to the monotone fit of what happened: equal forecasts are one point, each
/// block has its first and last forecast as knots, and values between knots are interpolated.
pub(super) fn map(examples: &Examples<'_>, targets: &[f64]) -> Map {
    let mut rows: Vec<(f64, f64, f64)> = (0..examples.len())
        .map(|i| (examples.p[i], targets[i], examples.weight(i)))
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let points: Vec<(f64, f64, f64)> = rows.chunk_by(|a, b| a.0 == b.0).map(merge).collect();
    let means: Vec<f64> = points.iter().map(|(_, mean, _)| *mean).collect();
    let weights: Vec<f64> = points.iter().map(|(_, _, weight)| *weight).collect();
    let (mut knots, mut next) = (Vec::new(), 0);
    for block in pool(&means, &weights) {
        let (first, last) = (points[next].0, points[next + block.len - 1].0);
        let q = block.mean.clamp(0.0, 1.0);
        knots.push(Knot { p: first, q });
        if last > first {
            knots.push(Knot { p: last, q });
        }
        next += block.len;
    }
    Map::Isotonic { knots }
}

/// Equal forecasts as one: the forecast, the mean of what happened, the weight.
fn merge(equal: &[(f64, f64, f64)]) -> (f64, f64, f64) {
    let weight: f64 = equal.iter().map(|(_, _, w)| w).sum();
    let mean = equal.iter().map(|(_, t, w)| t * w).sum::<f64>() / weight;
    (equal[0].0, mean, weight)
}
