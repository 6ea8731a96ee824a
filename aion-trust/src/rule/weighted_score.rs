//! Weighted-score wagering: everybody stakes a share of his trust and wins or loses in proportion to
//! how much better than the mean he scored.
//!
//! `delta_v = w_v (s_v - sum_u w_u s_u / sum_u w_u)` with `w_v = kappa t_v` and `s_v` the log score of
//! what happened, clipped at 1% and scaled to `[0, 1]`. Laws, each with a property test: it conserves
//! trust exactly; nobody falls below 0; the belief is the best report (within the clip); splitting an
//! account gains at most 1 millitrust of rounding for each part.
//!
//! # Sources
//! N. S. Lambert, J. Langford, J. Wortman, Y. Chen, D. Reeves, Y. Shoham, D. M. Pennock, Self-financed
//! wagering mechanisms for forecasting, 2008.

use aion_market::Target;
use aion_types::PPM_ONE;

use super::{Kappa, Voter, round_conserving};
use crate::error::{Error, Result};
use crate::fixed::ln;

/// Votes below this count as this: 1%.
pub const CLIP_PPM: u32 = 10_000;

/// Fractional bits of a [`score`].
pub const SCORE_BITS: u32 = 30;

/// `(ln max(q, 0.01) - ln 0.01) / (-ln 0.01)` in units of `2^-30`, from 0 to `2^30`.
///
/// ```
/// use aion_trust::rule::weighted_score::{SCORE_BITS, score};
///
/// assert_eq!(score(0), 0);
/// assert_eq!(score(10_000), 0);
/// assert_eq!(score(100_000), 1 << (SCORE_BITS - 1));
/// assert_eq!(score(1_000_000), 1 << SCORE_BITS);
/// ```
pub fn score(part_ppm: u32) -> u64 {
    let level = |ppm: u32| u128::from(ln(u128::from(ppm)).unwrap_or(0).unsigned_abs());
    let (least, most) = (level(CLIP_PPM), level(PPM_ONE));
    let above = level(part_ppm.clamp(CLIP_PPM, PPM_ONE)) - least;
    // Half a unit up: 0.1 lies exactly between 0.01 and 1.
    let range = most - least;
    (((above << SCORE_BITS) + range / 2) / range) as u64
}

/// The changes in millitrust; they sum to 0.
///
/// # Errors
/// [`Error::Overflow`] if a change leaves its range.
pub fn deltas(kappa: Kappa, voters: &[Voter<'_>], target: &Target) -> Result<Vec<i64>> {
    let scores: Vec<i128> = voters.iter().map(|voter| score_against(voter, target)).collect();
    let trust = |voter: &Voter<'_>| i128::from(voter.trust.get());
    let total: i128 = voters.iter().map(trust).sum();
    if total == 0 {
        return Ok(vec![0; voters.len()]);
    }
    let weighted: i128 = voters
        .iter()
        .zip(&scores)
        .map(|(voter, score)| trust(voter) * score)
        .sum();
    // delta = kappa t (s T - sum t s) / T: whole numerators that sum to 0 over one denominator.
    let shares: Option<Vec<i128>> = voters
        .iter()
        .zip(&scores)
        .map(|(voter, score)| {
            let apart = score.checked_mul(total)?.checked_sub(weighted)?;
            apart
                .checked_mul(trust(voter))?
                .checked_mul(i128::from(kappa.permille()))
        })
        .collect();
    let shares = shares.ok_or(Error::Overflow("a stake"))?;
    round_conserving(&shares, (total << SCORE_BITS) * 1_000)
}

/// The mean score over what happened: of the one outcome, or of a mixture in its shares.
fn score_against(voter: &Voter<'_>, target: &Target) -> i128 {
    let parts = voter.dist.parts().iter().zip(target.dist().parts());
    let happened = parts.filter(|(_, share)| **share > 0);
    let sum: u128 = happened
        .map(|(part, share)| u128::from(score(*part)) * u128::from(*share))
        .sum();
    (sum / u128::from(PPM_ONE)) as i128
}
