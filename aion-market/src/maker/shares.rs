//! What makers that sell shares have in common: checked sums of micro-shares, and prices.
//!
//! Nothing here allocates but [`price_of_logits`], which makes a price.

use aion_types::{PPM_ONE, PpmDist};

use super::MICRO;
use crate::Result;
use crate::error::{Error, check_len};

/// The most micro-shares of one outcome: 10^9 shares.
pub const MAX_SHARES_MICRO: i64 = 1_000_000_000 * MICRO;

/// The largest `q_k + d_k`.
///
/// # Errors
/// [`Error::Shape`] for another length, [`Error::Overflow`] for a sum out of range.
pub(super) fn most_after(shares: &[i64], d: &[i64]) -> Result<i64> {
    check_len("shares", d.len(), shares.len())?;
    let mut most = i64::MIN;
    let mut fits = true;
    for (q, d) in shares.iter().zip(d) {
        let (sum, wrapped) = q.overflowing_add(*d);
        fits &= !wrapped && (-MAX_SHARES_MICRO..=MAX_SHARES_MICRO).contains(&sum);
        most = most.max(sum);
    }
    if fits {
        return Ok(most);
    }
    Err(Error::Overflow("the shares of an outcome"))
}

/// Adds `d`, whose sums were checked before.
pub(super) fn add(shares: &mut [i64], d: &[i64]) {
    for (q, d) in shares.iter_mut().zip(d) {
        *q += d;
    }
}

/// `softmax(q / b)` in parts per million, at least one for each outcome.
pub(super) fn price_of_logits(shares: &[i64], b: f64) -> Result<PpmDist> {
    let most = shares.iter().copied().max().unwrap_or(0);
    let weights: Vec<f64> = shares.iter().map(|q| ((q - most) as f64 / b).exp()).collect();
    let price = match weights[..] {
        // Two outcomes need no sorting: what one gains in rounding is what the other loses.
        [first, second] => pair(first / (first + second))?,
        _ => PpmDist::from_weights(&weights)?,
    };
    crate::clip::raise_to_floor(&price, aion_types::Ppm::new(1)?)
}

/// `[p, 1 - p]` rounded to the nearest parts, ties to the first.
fn pair(p: f64) -> Result<PpmDist> {
    let exact = p * f64::from(PPM_ONE);
    let (down, rest) = (exact.floor(), exact.fract());
    let first = down as u32 + u32::from(rest >= 0.5);
    Ok(PpmDist::new(vec![first, PPM_ONE - first])?)
}

/// Checks a price to move to: of as many outcomes, none of them impossible.
pub(super) fn check_target(target: &PpmDist, outcomes: usize) -> Result<()> {
    check_len("a target price", target.outcomes(), outcomes)?;
    match target.parts().iter().position(|part| *part == 0) {
        None => Ok(()),
        Some(index) => Err(Error::BadEntry {
            what: "a target price",
            index,
            range: "above 0",
            value: 0.0,
        }),
    }
}
